"""Times one step of serving, a click per user: the state advanced, every item scored, the best ones listed.

The plain network and the one with everything that is mixed in take turns in one process, on one thread as the worker
does it. The ratio is what counts.
"""

import statistics
import time
from typing import NamedTuple

import numpy as np
import torch

from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.settings import Settings
from nextclick.user_state import UserState, encode_state, with_recent
from nextclick.vocabulary import Vocabulary

USERS = 256  # a wave of a full chunk
_LIST_LENGTH = 20


class Step(NamedTuple):
    """What a step takes.

    Attributes:
        plain_ms: with the network alone, as first published (GRU4Rec).
        mixed_ms: with the default model.
        state_bytes: of a user under the default model.
    """

    plain_ms: float
    mixed_ms: float
    state_bytes: int


def step(n_items: int, rounds: int) -> Step:
    """Time both networks on a batch of users; medians of alternating rounds."""
    torch.set_num_threads(1)
    settings, rng = Settings(), np.random.default_rng(0)
    vocabulary = Vocabulary([f"item-{number}" for number in range(n_items)], np.ones(n_items))
    size = settings.hidden_size
    plain_network = Network(NetworkConfig(n_items, size))
    plain = ServedModel("1".zfill(16), plain_network.config, plain_network.arrays(), vocabulary)
    network = Network(NetworkConfig(n_items, size, skip=True, normalised=True, n_neighbours=settings.neighbours))
    assert network.mixture is not None
    network.mixture.neighbours.random_(n_items)
    network.mixture.shares.fill_(1.0 / (2 * settings.neighbours))
    network.mixture.support.fill_(1.0)
    mixed = ServedModel("2".zfill(16), network.config, network.arrays(), vocabulary)
    clicks = [[(int(index), 30, 0)] for index in rng.integers(n_items, size=USERS)]
    recent = [_recent(rng.integers(n_items, size=settings.recent_clicks)) for _ in range(USERS)]
    taken: dict[ServedModel, list[float]] = {plain: [], mixed: []}
    for _ in range(rounds):
        for model, times_ms in taken.items():
            began_s = time.perf_counter()
            hidden = model.run([b""] * USERS, clicks)
            model.rank(hidden, recent, _LIST_LENGTH)
            times_ms.append((time.perf_counter() - began_s) * 1000.0)
    state = UserState(1, 100, 0, 100, 1, hidden[0], recent[0], bytes(4 * _LIST_LENGTH), 1)
    return Step(statistics.median(taken[plain]), statistics.median(taken[mixed]), len(encode_state(state)))


def _recent(items: "np.typing.NDArray[np.int64]") -> bytes:
    recent = b""
    for index in items.tolist():
        recent = with_recent(recent, item_hash(f"item-{index}"), 30, 0, len(items))
    return recent
