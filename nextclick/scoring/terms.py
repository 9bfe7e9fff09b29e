"""What items are ranked by, and what comes of it: counts, the terms of the mixture, priors, and the best items."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import read_only
from nextclick.scoring.live_neighbours import NOTHING_NEAR, Near
from nextclick.scoring.packed_items import Doubles, Floats, Ints
from nextclick.scoring.sweep import NO_BLOCKS

Longs = npt.NDArray[np.int64]


class Counts(NamedTuple):
    """What counts say of items, one item behind the other; see `nextclick.mixture`.

    Attributes:
        starts: int64 (n_items + 1,), where each item's neighbours begin.
        neighbours: int32 (n,).
        shares: float32 (n,), each more than 0.
        most: how many neighbours an item has at most.
    """

    starts: Longs
    neighbours: Ints
    shares: Floats
    most: int


class Terms(NamedTuple):
    """How much each term of the mixture counts for each user.

    Attributes:
        clicked: int64 (users, ages), items, the newest first; -1 where there is none.
        weights: float64 (users, 1 + 2 * ages): of the network, of neighbours by age, of re-clicks by age.
        near: what no bundle knows of the clicked items' neighbours.
    """

    clicked: Longs
    weights: Doubles
    near: Near = NOTHING_NEAR


NOT_PLACED = np.zeros((0, 0), np.uint8)


class Best(NamedTuple):
    """The best items of users.

    Attributes:
        items: int32 (users, k), the best first; -1 behind the last one, where there are fewer.
        probabilities: float64 (users, k).
        placed: uint8 (users, k), why each item has its place (see `nextclick.scoring.placing`); (0, 0) where all are
            there for their probability.
    """

    items: Ints
    probabilities: Doubles
    placed: npt.NDArray[np.uint8] = NOT_PLACED


class Prior(NamedTuple):
    """How much items count, whatever the sources say of them; empty arrays where all count the same.

    The items' biases have the factors already (see `packed_items.with_factors`); the counts have them from here.

    Attributes:
        factors: float32 (n_items + n_live,), what each item's probability is multiplied with; 0: it may not be listed.
        first: blocks that say about how large the scores of the others are.
    """

    factors: Floats
    first: Ints


class Named(NamedTuple):
    """What is asked of certain items, and of each user's probabilities.

    Attributes:
        rows: int32 (n,), the items.
        probabilities: float64 (users, n), of each; -1 where it may not be listed.
        norms: float64 (users,), what all probabilities of a user were divided by, so that they sum to 1 under a prior.
    """

    rows: Ints
    probabilities: Doubles
    norms: Doubles


NO_ITEMS = np.zeros(0, np.int32)
NO_PRIOR = Prior(np.zeros(0, np.float32), NO_BLOCKS)
NO_COUNTS = Counts(
    read_only(np.zeros(1, np.int64)), read_only(np.zeros(0, np.int32)), read_only(np.zeros(0, np.float32)), 0
)


def pack_counts(neighbours: Ints, shares: Floats) -> Counts:
    """Leave out what has no share: most items of a large catalogue are clicked too rarely to have all neighbours.

    Args:
        neighbours: int32 (n_items, n_neighbours).
        shares: float32 (n_items, n_neighbours), not negative; 0 where there are fewer.
    """
    is_there = shares > 0.0
    n_of_items = is_there.sum(axis=1)
    starts = np.zeros(len(shares) + 1, np.int64)
    np.cumsum(n_of_items, out=starts[1:])
    rows, of_rows = neighbours[is_there].astype(np.int32), shares[is_there]
    return Counts(read_only(starts), read_only(rows), read_only(of_rows), int(n_of_items.max()))
