"""Times passes of training at equal width: one core, all cores, and a GPU where there is one."""

import dataclasses
import os
import time
from typing import Literal

import numpy as np
import torch

from nextclick.network import Network
from nextclick.settings import Settings
from training.learning.fit import network_config
from training.learning.sequences import Sequences, TrainingSet, batches_in_time_order, training_windows
from training.learning.step import Learner

N_ITEMS = 43_000  # as Diginetica's catalogue; so are the sessions
_CLICKS_PER_SESSION = 5
_BLOCK_BATCHES = 8


def clicks_per_s(n_clicks: int) -> dict[str, float]:
    """Give predicted clicks per second of the network alone, by what it was computed on."""
    n_cores = len(os.sched_getaffinity(0))
    found = {"1 core": _pass(n_clicks, 1, "cpu")}
    if n_cores > 1:
        found[f"{n_cores} cores"] = _pass(n_clicks, n_cores, "cpu")
    if torch.cuda.is_available():
        found["GPU"] = _pass(n_clicks, n_cores, "cuda")
    return found


def _pass(n_clicks: int, n_threads: int, device: Literal["cpu", "cuda"]) -> float:
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        settings = dataclasses.replace(Settings(), neighbours=0, device=device)
        sequences = _sessions(n_clicks)
        network = Network(network_config(settings, N_ITEMS))
        learner = Learner(network, TrainingSet(sequences, n_clicks, n_known=0), settings)
        windows = training_windows(sequences, n_clicks, settings.recent_clicks + 1)
        rng = np.random.default_rng(0)
        batches = list(batches_in_time_order(windows, settings.batch_windows, _BLOCK_BATCHES, rng))
        for batch in batches[: len(batches) // 10]:  # memory is touched, libraries are loaded
            learner.step(batch)
        began_s = time.perf_counter()
        learnt = sum(learner.step(batch)[1] for batch in batches)
        return learnt / (time.perf_counter() - began_s)
    finally:
        torch.set_num_threads(before)


def _sessions(n_clicks: int) -> Sequences:
    """Make sessions of random length on items of which few are popular."""
    rng = np.random.default_rng(0)
    length = rng.geometric(1.0 / (_CLICKS_PER_SESSION - 1), size=n_clicks) + 1  # of 2 clicks or more
    starts = np.concatenate([[0], np.cumsum(length)])
    starts = np.append(starts[starts < n_clicks], n_clicks)
    item = np.minimum(N_ITEMS * rng.random(n_clicks) ** 3, N_ITEMS - 1).astype(np.int64)
    nothing = np.zeros(n_clicks, dtype=np.int64)
    return Sequences(item, nothing, nothing, np.arange(n_clicks), starts)
