"""Counts which items are clicked near each other: the neighbour lists of a bundle.

A pair of clicks in one session counts 1/distance for the later item as neighbour of the earlier one, and less for the
other direction; clicks more than MAX_DISTANCE apart do not count, nor does an item beside itself. Counts fade with age,
which is measured in clicks of the log, so that it needs no clock. A row is divided by its sum and a little more: what
was seen once is not yet known.

Source: Ludewig & Jannach 2018, arXiv:1803.09587 (association and sequential rules); the constants were measured on
diginetica's validation part.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.network_config import SESSION_GAP_S
from training.learning.sequences import Ints, Sequences

Doubles = npt.NDArray[np.float64]

MAX_DISTANCE = 10  # clicks
_BACKWARD = 0.7  # weight of an earlier click as neighbour of a later one
_SHRINKAGE = 5.0  # added to a row's sum
_HALF_LIFE_SHARE = 0.3  # of the log; then a pair counts half


class NeighbourLists(NamedTuple):
    """What a bundle keeps of the counts (see `nextclick.mixture.Mixture`).

    Attributes:
        neighbours: int32 (n_items, n_neighbours).
        shares: float32 (n_items, n_neighbours).
        support: float32 (n_items,).
    """

    neighbours: npt.NDArray[np.int32]
    shares: npt.NDArray[np.float32]
    support: npt.NDArray[np.float32]


class _Pairs(NamedTuple):
    """Pairs of clicks of a session at one distance, in one direction.

    Attributes:
        item_index: int64 (n_pairs,), whose neighbour is counted.
        neighbour: int64 (n_pairs,).
        age_rank: int64 (n_pairs,), of the later click.
        weight: of a pair of now.
    """

    item_index: Ints
    neighbour: Ints
    age_rank: Ints
    weight: float


class AssociationCounts:
    """Counts of some sequences, as they stand at the end.

    Attributes:
        n_items: rows.
        item_index: int64 (n_pairs,), rising; with `neighbour` and `count` the counts at the end, pair by pair.
        neighbour: int64 (n_pairs,).
        count: float64 (n_pairs,), faded.
        total: float64 (n_items,), sum of an item's counts.
    """

    def __init__(self, sequences: Sequences, n_items: int, n_clicks: int) -> None:
        """Count.

        Args:
            sequences: the clicks. Those without an item (-1) are passed over.
            n_items: of the vocabulary.
            n_clicks: only clicks with an `age_rank` below it are counted.
        """
        self.n_items = n_items
        half_life = max(_HALF_LIFE_SHARE * n_clicks, 1.0)
        fading = np.exp2(-n_clicks / half_life)
        self._codes: Ints = np.zeros(0, dtype=np.int64)
        self.count: Doubles = np.zeros(0)
        # Distance by distance: all pairs at once take 2 kB a click where histories are long.
        for pairs in _pairs(sequences.masked_from(n_clicks)):
            # Old counts do not shrink: new ones weigh more, and what is read is divided by the weight of the time.
            weight = pairs.weight * np.exp2(pairs.age_rank / half_life) * fading
            self._add(pairs.item_index * n_items + pairs.neighbour, weight)
        self.item_index, self.neighbour = self._codes // n_items, self._codes % n_items
        self.total: Doubles = np.bincount(self.item_index, self.count, minlength=n_items).astype(np.float64)

    def _add(self, codes: Ints, weight: Doubles) -> None:
        self._codes, place = np.unique(np.concatenate([self._codes, codes]), return_inverse=True)
        self.count = np.bincount(place, np.concatenate([self.count, weight])).astype(np.float64)

    def known(self, item_index: Ints, neighbour: Ints) -> tuple[Doubles, Doubles]:
        """Give what is known of pairs at the end.

        Args:
            item_index: int64 (n,).
            neighbour: int64 (n,).

        Returns:
            The share of `neighbour` in the row of `item_index`, and the row's support, float64 (n,) each.
        """
        total, count = self.total[item_index], np.zeros(len(item_index))
        if len(self._codes):
            code = item_index * self.n_items + neighbour
            place = np.searchsorted(self._codes, code).clip(max=len(self._codes) - 1)
            count = np.where(self._codes[place] == code, self.count[place], 0.0)
        return count / (total + _SHRINKAGE), np.log1p(total)

    def neighbour_lists(self, n_neighbours: int) -> NeighbourLists:
        """Give each item's best neighbours, as they stand at the end."""
        order = np.lexsort((-self.count, self.item_index))
        item = self.item_index[order]
        first = np.searchsorted(item, np.arange(self.n_items))
        place = np.arange(len(item)) - first[item]
        kept = place < n_neighbours
        rows, columns = item[kept], place[kept]
        neighbours = np.zeros((self.n_items, n_neighbours), dtype=np.int32)
        shares = np.zeros((self.n_items, n_neighbours), dtype=np.float32)
        neighbours[rows, columns] = self.neighbour[order][kept]
        shares[rows, columns] = self.count[order][kept] / (self.total[rows] + _SHRINKAGE)
        return NeighbourLists(neighbours, shares, np.log1p(self.total).astype(np.float32))


def session_starts(sequences: Sequences) -> Ints:
    """For every row, the first row of the same session: a user's clicks without a pause of over half an hour."""
    begins = sequences.gap_s > SESSION_GAP_S
    begins[sequences.user_starts[:-1]] = True
    return np.maximum.accumulate(np.where(begins, np.arange(len(sequences)), 0))


def _pairs(sequences: Sequences) -> Iterator[_Pairs]:
    """Pair clicks that are near each other; those without an item are passed over, as everywhere."""
    rows = np.flatnonzero(sequences.item_index >= 0)
    item_index, age_rank = sequences.item_index[rows], sequences.age_rank[rows]
    session = session_starts(sequences)[rows]
    for distance in range(1, min(MAX_DISTANCE + 1, max(len(rows), 1))):
        earlier, later = slice(None, -distance), slice(distance, None)
        near = (session[earlier] == session[later]) & (item_index[earlier] != item_index[later])
        earlier_item, later_item, counted_at = item_index[earlier][near], item_index[later][near], age_rank[later][near]
        yield _Pairs(earlier_item, later_item, counted_at, 1.0 / distance)
        yield _Pairs(later_item, earlier_item, counted_at, _BACKWARD / distance)
