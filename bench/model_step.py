"""Times steps of serving, a click per user: the state advanced, every item scored, the best ones listed.

In turn with the product of all users' and all items' vectors in float32, in one process and on one thread: every step
that scores all items has at least that to do, if it does it in float32. The ratio is what counts.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.settings import Settings
from nextclick.updates import RankedList
from nextclick.user_state import UserState, encode_state, with_recent
from nextclick.vocabulary import Vocabulary

LIST_LENGTH = 20


class Step(NamedTuple):
    """What a step takes.

    Attributes:
        product_ms: the product alone, in float32.
        step_ms: all of the step, with the default model.
        explained_ms: the same, and what each item is listed for.
        state_bytes: of a user.
        model_bytes: of the vectors, neighbours and texts that a step can read.
        list_bytes: of a list, on average.
        explained_bytes: of a list with what each item is listed for.
    """

    product_ms: float
    step_ms: float
    explained_ms: float
    state_bytes: int
    model_bytes: int
    list_bytes: float
    explained_bytes: float


class Bench:
    """A model of some size, with as much work as a trained one."""

    def __init__(self, n_items: int) -> None:
        torch.set_num_threads(1)
        self._settings, self._rng = Settings(), np.random.default_rng(0)
        vocabulary = Vocabulary([f"item-{number}" for number in range(n_items)], np.ones(n_items))
        network = full_network(n_items)
        self._n_items = n_items
        self._vectors = network.item_embedding.weight.detach()
        self._model = ServedModel("1".zfill(16), network.config, network.arrays(), vocabulary)

    def step(self, n_users: int, rounds: int) -> Step:
        """Time steps of so many users; medians of alternating rounds."""
        clicks = [[(int(index), 30, 0)] for index in self._rng.integers(self._n_items, size=n_users)]
        length = self._settings.recent_clicks
        recent = [recent_of(self._rng.integers(self._n_items, size=length), [30] * length) for _ in range(n_users)]
        hidden = self._model.run([b""] * n_users, clicks)
        queries, scores = torch.randn(n_users, self._settings.hidden_size), torch.empty(n_users, self._n_items)

        def product() -> None:
            torch.mm(queries, self._vectors.T, out=scores)

        def step(explain: bool = False) -> list[RankedList]:
            return self._model.rank(self._model.run(hidden, clicks), recent, LIST_LENGTH, explain)

        product_ms, step_ms, explained_ms = _in_turn(rounds, product, step, partial(step, explain=True))
        list_bytes, explained_bytes = _mean_bytes(step()), _mean_bytes(step(explain=True))
        state = UserState(1, 100, 0, 100, 1, hidden[0], recent[0], bytes(4 * LIST_LENGTH), 1)
        state_bytes, model_bytes = len(encode_state(state)), self._model.n_bytes
        return Step(product_ms, step_ms, explained_ms, state_bytes, model_bytes, list_bytes, explained_bytes)


def full_network(n_items: int) -> Network:
    """Make a network of the default shape that nobody trained, and that is as much work as a trained one."""
    size, n_neighbours = Settings().hidden_size, Settings().neighbours
    network = Network(NetworkConfig(n_items, size, skip=True, normalised=True, n_neighbours=n_neighbours))
    assert network.mixture is not None
    network.mixture.neighbours.random_(n_items)
    falling = 1.0 / torch.arange(1.0, n_neighbours + 1)
    network.mixture.shares.copy_(0.9 * falling / falling.sum())
    network.mixture.support.fill_(1.0)
    return network


def _mean_bytes(lists: list[RankedList]) -> float:
    return statistics.mean(len(bytes(ranked.items)) for ranked in lists)


def _in_turn(rounds: int, *works: Callable[[], object]) -> list[float]:
    """Give the median time of each work in ms of the thread's CPU time: beside other programs it is the same."""
    taken: list[list[float]] = [[] for _ in works]
    for number in range(rounds + 1):
        for work, times_ms in zip(works, taken, strict=True):
            began_s = time.thread_time()
            work()
            if number:  # the first time compiles, and touches memory
                times_ms.append((time.thread_time() - began_s) * 1000.0)
    return [statistics.median(times_ms) for times_ms in taken]


def recent_of(items: npt.NDArray[np.int64], gaps_s: Sequence[int]) -> bytes:
    """Pack clicks as a user's state remembers them, each so long after the one before."""
    recent = b""
    for index, gap_s in zip(items.tolist(), gaps_s, strict=True):
        recent = with_recent(recent, item_hash(f"item-{index}"), gap_s, 0, len(items))
    return recent
