"""Times steps of serving under a shop's rules beside the same steps without any, in turn, on one thread."""

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from bench.model_step import LIST_LENGTH, full_network, recent_of
from nextclick.item_traits import ItemTraits
from nextclick.model import ServedModel
from nextclick.rules import NO_RULES, Rules
from nextclick.updates import RankedList
from nextclick.vocabulary import Vocabulary

N_USERS = 256
_N_CATEGORIES, MOST = 200, 5
_WITHDRAWN, _BOOSTED = 0.05, 0.05
_N_RECENT, _N_SESSION = 20, 5  # clicks that are remembered, and those of the running session
_SESSION_GAP_S = 7_200
PINNED = ("item-3", "item-5")


class Cost(NamedTuple):
    """What a step takes under a rule.

    Attributes:
        rule: in words.
        step_ms: all of a step.
        ratio: to the step without rules; the median of the rounds' ratios.
    """

    rule: str
    step_ms: float
    ratio: float


def costs(n_items: int, rounds: int) -> list[Cost]:
    """Time a step of `N_USERS` users under each rule, and under all of them."""
    torch.set_num_threads(1)
    rng, network = np.random.default_rng(0), full_network(n_items)
    vocabulary = Vocabulary([f"item-{number}" for number in range(n_items)], np.ones(n_items))
    models = [ServedModel("1".zfill(16), network.config, network.arrays(), vocabulary) for _ in range(2)]
    models[1].set_traits(traits(network.item_embedding.weight.detach().numpy(), rng))
    clicks = [[(int(index), 30, 0)] for index in rng.integers(n_items, size=N_USERS)]
    gaps_s = [30] * (_N_RECENT - _N_SESSION) + [_SESSION_GAP_S] + [30] * (_N_SESSION - 1)
    recent = [recent_of(rng.integers(n_items, size=_N_RECENT), gaps_s) for _ in range(N_USERS)]
    hidden, offsets = models[0].run([b""] * N_USERS, clicks), rng.random(N_USERS).tolist()

    def step(model: ServedModel, rules: Rules) -> list[RankedList]:
        return model.rank(model.run(hidden, clicks), recent, LIST_LENGTH, rules=rules, offsets=offsets)

    without, with_traits = models
    works = {
        "none": partial(step, without, NO_RULES),
        "none, again": partial(step, without, NO_RULES),
        "withdrawn and boosted items": partial(step, with_traits, NO_RULES),
        "exclude=last": partial(step, without, Rules("last")),
        "exclude=session": partial(step, without, Rules("session")),
        "exclude=recent": partial(step, without, Rules("recent")),
        "exclude=purchased": partial(step, without, Rules("purchased")),
        "two pinned items": partial(step, without, Rules(pinned=PINNED)),
        f"max_per_category={MOST}": partial(step, with_traits, Rules(max_per_category=MOST)),
        "explore=0.05": partial(step, without, Rules(explore=0.05)),
        "items, exclude=session, pinned": partial(step, with_traits, Rules("session", 0, PINNED)),
        "all of them": partial(step, with_traits, Rules("session", MOST, PINNED, 0.05)),
    }
    return _paired(works, rounds)


def traits(vectors: "np.ndarray[tuple[int, int], np.dtype[np.float32]]", rng: np.random.Generator) -> ItemTraits:
    """Say of some items that they are withdrawn or boosted, and put what is alike into one category."""
    n_items, size = vectors.shape
    chance = rng.random(n_items)
    factors = np.where(chance < _WITHDRAWN, 0.0, np.where(chance < _WITHDRAWN + _BOOSTED, 1.5, 1.0)).astype("f4")
    centres = rng.standard_normal((_N_CATEGORIES, size)).astype("f4")
    categories = (vectors @ centres.T).argmax(axis=1).astype(np.int32)
    return ItemTraits(factors, np.arange(n_items + 1), categories)


def _paired(works: Mapping[str, Callable[[], object]], rounds: int) -> list[Cost]:
    """Give medians of the thread's CPU time, and of the ratios to the first work in the same round."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            began_s = time.thread_time()
            work()
            if number:  # the first time compiles, and touches memory
                taken[name].append((time.thread_time() - began_s) * 1000.0)
    base = next(iter(taken.values()))
    return [
        Cost(name, statistics.median(times), statistics.median(x / y for x, y in zip(times, base, strict=True)))
        for name, times in taken.items()
    ]
