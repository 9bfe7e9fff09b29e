"""Times training at equal width: one core, all cores, and a GPU where there is one; a step part by part; a long log."""

import dataclasses
import os
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from typing import Any, Literal, NamedTuple
from unittest import mock

import numpy as np
import torch

from nextclick.network import Network
from nextclick.settings import Settings
from training.learning import optimizer, step_in_parts
from training.learning.associations import count_pairs
from training.learning.fit import network_config, spectral_item_vectors
from training.learning.losses import CandidateSampler
from training.learning.sequences import Sequences, batches_in_time_order, training_windows
from training.learning.step import Learner
from training.learning.step_in_parts import StepInParts

N_ITEMS = 43_000  # as Diginetica's catalogue; so are the sessions
_CLICKS_PER_SESSION = 5
_BLOCK_BATCHES = 8
_GPU_PASSES = 10  # times the clicks, or it would be over in a fraction of a second


def clicks_per_s(n_clicks: int) -> dict[str, float]:
    """Give predicted clicks per second of the network alone, by what it was computed on."""
    n_cores = len(os.sched_getaffinity(0))
    found = {"1 core": _pass(n_clicks, 1, "cpu")}
    if n_cores > 1:
        found[f"{n_cores} cores"] = _pass(n_clicks, n_cores, "cpu")
    if torch.cuda.is_available():
        found["GPU, without graphs"] = _pass(n_clicks, n_cores, "cuda", at_once=True)
        found["GPU"] = _pass(_GPU_PASSES * n_clicks, n_cores, "cuda")
    return found


def parts_against_whole(n_clicks: int) -> tuple[float, float]:
    """Give clicks per second of steps in parts, and operation by operation, as other losses do them: in turn, the
    median step of each, on all cores.
    """
    with _threads(len(os.sched_getaffinity(0))):
        learners = [_Learning(n_clicks, "cpu", at_once=at_once) for at_once in (False, True)]
        us_per_click: list[list[float]] = [[], []]
        for batch in learners[0].batches:
            for each, times in zip(learners, us_per_click, strict=True):
                began_s = time.perf_counter()
                learnt = each.learner.step(batch)
                times.append((time.perf_counter() - began_s) / learnt)
    in_parts, whole = (1.0 / statistics.median(times) for times in us_per_click)
    return in_parts, whole


def step_table(n_clicks: int) -> dict[str, float]:
    """Give where a step's time goes on one core: milliseconds of its thread's CPU time, which other programs on the
    machine stretch less than they do the clock's.
    """
    spent_s: dict[str, float] = defaultdict(float)

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            began_s = time.thread_time()
            found = function(*arguments, **named)
            spent_s[name] += time.thread_time() - began_s
            return found

        return call

    with _threads(1), ExitStack() as patches:
        learning = _Learning(n_clicks, "cpu")
        for name, owner, function in _TIMED:
            patches.enter_context(mock.patch.object(owner, function, timed(name, getattr(owner, function))))
        began_s = time.thread_time()
        for batch in learning.batches:
            learning.learner.step(batch)
        total_s = time.thread_time() - began_s
    spent_s["the products with the score matrix"] -= spent_s["softmax"] + spent_s["the network backward"]
    spent_s["the products with the score matrix"] += spent_s.pop("items") - spent_s["Adagrad on rows"]
    spent_s["vectors of the candidates"] -= spent_s["drawing the candidates"]
    spent_s["everything else"] = total_s - sum(spent_s.values())
    return {name: 1_000 * seconds / len(learning.batches) for name, seconds in spent_s.items()}


_TIMED: tuple[tuple[str, Any, str], ...] = (
    ("the products with the score matrix", StepInParts, "_back"),  # with what is in it, which is taken off again
    ("items", StepInParts, "_move_items"),  # the third product, and Adagrad
    ("softmax", step_in_parts, "softmax_gradients"),
    ("the network backward", torch.autograd, "grad"),
    ("the network forward", StepInParts, "_query"),
    ("Adagrad on rows", optimizer, "adagrad_rows"),
    ("vectors of the candidates", StepInParts, "_draw"),
    ("drawing the candidates", CandidateSampler, "candidates"),
)


class _Learning:
    """A learner that has begun: memory is touched, libraries are loaded."""

    def __init__(self, n_clicks: int, device: Literal["cpu", "cuda"], *, at_once: bool = False) -> None:
        settings = dataclasses.replace(Settings(), neighbours=0, device=device)
        sequences = _sessions(n_clicks)
        network = Network(network_config(settings, N_ITEMS))
        self.learner = Learner(network, sequences, settings)
        if at_once:
            self.learner._parts = self.learner._on_gpu = None
        windows = training_windows(sequences, n_clicks, settings.recent_clicks + 1)
        rng = np.random.default_rng(0)
        self.batches = list(batches_in_time_order(windows, settings.batch_windows, _BLOCK_BATCHES, rng))
        # A GPU sees all shapes of batches, so that there is a graph of each.
        n_first = len(self.batches) // 10 + 1 if device == "cpu" else len(self.batches)
        for batch in self.batches[:n_first]:
            self.learner.step(batch)
        self.learner.take_loss_sum()  # waits for what is queued


def _pass(n_clicks: int, n_threads: int, device: Literal["cpu", "cuda"], *, at_once: bool = False) -> float:
    with _threads(n_threads):
        learning = _Learning(n_clicks, device, at_once=at_once)
        began_s = time.perf_counter()
        learnt = sum(learning.learner.step(batch) for batch in learning.batches)
        learning.learner.take_loss_sum()
        return learnt / (time.perf_counter() - began_s)


@contextmanager
def _threads(n_threads: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class LongLog(NamedTuple):
    """What the start of a training costs.

    Attributes:
        counts_s: to count pairs, of CPU time.
        lists_s: to find the neighbours.
        vectors_s: to find the first vectors.
        memory_mb: at most, all along, with the clicks themselves.
    """

    counts_s: float
    lists_s: float
    vectors_s: float
    memory_mb: float


def long_log(n_clicks: int, n_items: int) -> LongLog:
    """Start a training on a long log: counts, neighbour lists and the first vectors. Runs in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_long_log, n_clicks, n_items).result()


def _long_log(n_clicks: int, n_items: int) -> LongLog:
    sequences = _sessions(n_clicks, n_items)
    with _threads(1):
        marks_s = [time.process_time()]
        counts = count_pairs(sequences, n_items, n_clicks)
        marks_s.append(time.process_time())
        counts.neighbour_lists(Settings().neighbours)
        marks_s.append(time.process_time())
        spectral_item_vectors(counts, Settings().hidden_size, seed=0)
        marks_s.append(time.process_time())
    memory_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    counts_s, lists_s, vectors_s = np.diff(marks_s).tolist()
    return LongLog(counts_s, lists_s, vectors_s, memory_mb)


def _sessions(n_clicks: int, n_items: int = N_ITEMS) -> Sequences:
    """Make sessions of random length on items of which few are popular."""
    rng = np.random.default_rng(0)
    length = rng.geometric(1.0 / (_CLICKS_PER_SESSION - 1), size=n_clicks) + 1  # of 2 clicks or more
    starts = np.concatenate([[0], np.cumsum(length)])
    starts = np.append(starts[starts < n_clicks], n_clicks)
    item = np.minimum(n_items * rng.random(n_clicks) ** 3, n_items - 1).astype(np.int64)
    nothing = np.zeros(n_clicks, dtype=np.int64)
    return Sequences(item, nothing, nothing, np.arange(n_clicks), starts)
