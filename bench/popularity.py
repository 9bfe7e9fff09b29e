"""Times popularity as the worker's event loop calls it, on a catalogue of a given size: the worst call counts.

Measures the thread's own CPU time, so that other programs on the machine do not show.
"""

import random
import time
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np

from nextclick.popularity import Popularity, prepare_seed

_HALF_LIFE_S = 86_400.0
_LIST_LENGTH = 20
_CHUNK_CLICKS = 500
_USERS = 20_000
_BEGAN_MS = 1_700_000_000_000
_T = TypeVar("_T")


class Worst(NamedTuple):
    """The longest call of each kind in ms, and the mean time of a click in us.

    Attributes:
        prepare_ms: `prepare_seed`, the part of a bundle swap that runs in a thread.
        seed_ms: the part of a bundle swap on the event loop, with the list after it.
        add_ms: counting a click.
        rank_ms: giving the list.
        click_us: mean of a click, its share of the lists included.
    """

    prepare_ms: float
    seed_ms: float
    add_ms: float
    rank_ms: float
    click_us: float


def worst(n_items: int, n_clicks: int) -> Worst:
    """Seed from a bundle of `n_items`, then click any of them, or a new one, in chunks."""
    draw = random.Random(0)
    item_ids = tuple(f"item-{number}" for number in range(n_items))  # no list: the garbage collector would go over it
    weights = (1.0 / (1.0 + np.random.default_rng(0).permutation(n_items))).astype(np.float64)
    popularity = Popularity(_HALF_LIFE_S)
    prepare_ms, seed = _timed_ms(partial(prepare_seed, item_ids, weights))

    def swap() -> None:
        popularity.seed(seed)
        popularity.ranked(_LIST_LENGTH)

    seed_ms, _ = _timed_ms(swap)
    add_ms, rank_ms = [], []
    for number in range(n_clicks):
        item_id = f"item-{int(n_items * 1.2 * draw.random() ** 2)}"
        add_ms.append(_timed_ms(partial(popularity.add, number % _USERS, item_id, _BEGAN_MS + number))[0])
        if number % _CHUNK_CLICKS == 0:
            rank_ms.append(_timed_ms(partial(popularity.ranked, _LIST_LENGTH))[0])
    began_s = time.thread_time()
    for number in range(n_clicks):
        item_id = f"item-{int(n_items * 1.2 * draw.random() ** 2)}"
        popularity.add(number % _USERS, item_id, _BEGAN_MS + n_clicks + number)
        if number % _CHUNK_CLICKS == 0:
            popularity.ranked(_LIST_LENGTH)
    click_us = (time.thread_time() - began_s) / n_clicks * 1e6
    return Worst(prepare_ms, seed_ms, max(add_ms), max(rank_ms), click_us)


def _timed_ms(call: Callable[[], _T]) -> tuple[float, _T]:
    began_s = time.thread_time()
    value = call()
    return (time.thread_time() - began_s) * 1000.0, value
