"""Counts which items are clicked near each other: the neighbour lists of a bundle.

A pair of clicks in one session counts 1/distance for the later item as neighbour of the earlier one, and less for the
other direction; clicks more than MAX_DISTANCE apart do not count, nor does an item beside itself. Counts fade with age,
which is measured in clicks of the log, so that it needs no clock. A row is divided by its sum and a little more: what
was seen once is not yet known.

Source: Ludewig & Jannach 2018, arXiv:1803.09587 (association and sequential rules); the constants were measured on
diginetica's validation part.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.network_config import MAX_DISTANCE, PAIR_BACKWARD, PAIR_SHRINKAGE, SESSION_GAP_S
from training.learning.count_kernels import add_sorted, best_of_rows, rows_times
from training.learning.sequences import Ints, Sequences

Doubles = npt.NDArray[np.float64]

_HALF_LIFE_SHARE = 0.3  # of the log; then a pair counts half
MOST_PAIRS = 30_000_000  # that are kept, at 16 bytes; three times as many for a moment
_KEPT_SHARE = 0.8  # of these, when there are more
_BLOCK_CLICKS = 250_000  # are paired at a time, at up to 20 pairs of 100 bytes for each


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

    Of long logs not every pair is kept: beyond MOST_PAIRS the smallest counts go, so that memory is bounded however
    many clicks there are. What is left out still counts in the rows' sums.

    Counts are never changed: what is counted later makes others of them (`later`).

    Attributes:
        n_items: rows.
        code: int64 (n_pairs,), rising: `item_index * n_items + neighbour` of each pair that is kept.
        count: float64 (n_pairs,), of each of them, faded.
        total: float64 (n_items,), sum of an item's counts.
    """

    def __init__(self, n_items: int, code: Ints, count: Doubles, total: Doubles) -> None:
        """Hold counts that were made (`count_pairs` makes them)."""
        self.n_items, self.code, self.count, self.total = n_items, code, count, total

    def later(
        self, sequences: Sequences, ranks: range, half_life: float, most_pairs: int = MOST_PAIRS
    ) -> "AssociationCounts":
        """Count on: fade what was counted, and add the pairs whose later click is new.

        Args:
            sequences: the new clicks, and before them those that they are paired with. What has no item (-1) is passed
                over.
            ranks: the `age_rank` of the new clicks; all that were counted so far are older.
            half_life: clicks after which a pair counts half.
            most_pairs: that are kept.
        """
        fading = np.exp2((ranks.start - ranks.stop) / half_life)
        counts = AssociationCounts(self.n_items, self.code, self.count * fading, self.total * fading)
        # Some users at a time: all pairs at once take 2 kB a click where histories are long.
        for some in _blocks_of_users(sequences, _BLOCK_CLICKS):
            codes, weights = [], []
            for pairs in _pairs(some.masked_from(ranks.stop)):
                is_new = pairs.age_rank >= ranks.start
                codes.append((pairs.item_index * self.n_items + pairs.neighbour)[is_new])
                weights.append(pairs.weight * np.exp2((pairs.age_rank[is_new] - ranks.stop) / half_life))
            if codes:
                counts._add(np.concatenate(codes), np.concatenate(weights), most_pairs)
        return counts

    def renumbered(self, new_row: Ints, n_items: int) -> "AssociationCounts":
        """Let items leave, and give the others new rows.

        What is left out of a row leaves its sum, too: the shares of the other neighbours grow.

        Args:
            new_row: int64 (n_items,), for each present row the new one, or -1; rows that stay keep their order.
            n_items: of the new vocabulary.
        """
        item, neighbour = new_row[self.item_index], new_row[self.neighbour]
        stays, row_stays = (item >= 0) & (neighbour >= 0), new_row >= 0
        total = np.zeros(n_items)
        total[new_row[row_stays]] = self.total[row_stays]
        leaves = (item >= 0) & (neighbour < 0)
        total -= np.bincount(item[leaves], self.count[leaves], minlength=n_items)
        code = item[stays] * n_items + neighbour[stays]
        return AssociationCounts(n_items, code, self.count[stays], np.maximum(total, 0.0))

    def _add(self, codes: Ints, weight: Doubles, most_pairs: int) -> None:
        order = np.argsort(codes, kind="stable")
        codes, weight = codes[order], weight[order]
        first = np.flatnonzero(np.diff(codes, prepend=-1))
        codes, counts = codes[first], np.add.reduceat(weight, first) if len(first) else weight
        self.total += np.bincount(codes // self.n_items, counts, minlength=self.n_items)
        n_at_most = len(self.code) + len(codes)
        all_codes, all_counts = np.empty(n_at_most, dtype=np.int64), np.empty(n_at_most)
        n_all = add_sorted(self.code, self.count, codes, counts, all_codes, all_counts)
        self.code, self.count = all_codes[:n_all], all_counts[:n_all]
        if n_all > most_pairs:
            n_kept = int(_KEPT_SHARE * most_pairs)  # room for what comes next
            is_kept = self.count > np.partition(self.count, n_all - n_kept - 1)[n_all - n_kept - 1]
            self.code, self.count = self.code[is_kept], self.count[is_kept]

    @property
    def item_index(self) -> Ints:
        """The first item of each pair: int64 (n_pairs,), rising."""
        return self.code // self.n_items

    @property
    def neighbour(self) -> Ints:
        """The second item of each pair: int64 (n_pairs,)."""
        return self.code % self.n_items

    def _row_starts(self) -> Ints:
        """Where each item's pairs begin: int64 (n_items + 1,)."""
        starts: Ints = np.searchsorted(self.code, np.arange(self.n_items + 1) * self.n_items)
        return starts

    def known(self, item_index: Ints, neighbour: Ints) -> tuple[Doubles, Doubles]:
        """Give what is known of pairs at the end.

        Args:
            item_index: int64 (n,).
            neighbour: int64 (n,).

        Returns:
            The share of `neighbour` in the row of `item_index`, and the row's support, float64 (n,) each.
        """
        total, count = self.total[item_index], np.zeros(len(item_index))
        if len(self.code):
            code = item_index * self.n_items + neighbour
            place = np.searchsorted(self.code, code).clip(max=len(self.code) - 1)
            count = np.where(self.code[place] == code, self.count[place], 0.0)
        return count / (total + PAIR_SHRINKAGE), np.log1p(total)

    def neighbour_lists(self, n_neighbours: int) -> NeighbourLists:
        """Give each item's best neighbours, as they stand at the end."""
        neighbours = np.zeros((self.n_items, n_neighbours), dtype=np.int32)
        best = np.zeros((self.n_items, n_neighbours))
        best_of_rows(self.code, self.count, self.n_items, self._row_starts(), neighbours, best)
        best /= self.total[:, None] + PAIR_SHRINKAGE
        return NeighbourLists(neighbours, best.astype(np.float32), np.log1p(self.total).astype(np.float32))

    def normalised_times(self, matrix: npt.NDArray[np.float32], support: float) -> npt.NDArray[np.float32]:
        """Multiply the counts, divided by the roots of both items' sums, with a matrix.

        Args:
            matrix: float32 (n_items, width).
            support: added to the sums: what is rarely clicked weighs little.

        Returns:
            float32 (n_items, width).
        """
        matrix = np.ascontiguousarray(matrix)  # torch's are often column by column: rows are read, six times as slowly
        products = np.empty_like(matrix)
        weights = (1.0 / np.sqrt(self.total + support)).astype(np.float32)
        rows_times(self.code, self.count, self.n_items, self._row_starts(), weights, matrix, products)
        return products


def count_pairs(sequences: Sequences, n_items: int, n_clicks: int, most_pairs: int = MOST_PAIRS) -> AssociationCounts:
    """Count the pairs of a log.

    Args:
        sequences: the clicks. Those without an item (-1) are passed over.
        n_items: of the vocabulary.
        n_clicks: only clicks with an `age_rank` below it are counted.
        most_pairs: that are kept.
    """
    nothing = AssociationCounts(n_items, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(n_items))
    return nothing.later(sequences, range(n_clicks), half_life_of(n_clicks), most_pairs)


def half_life_of(n_clicks: int) -> float:
    """Give the clicks after which a pair counts half, in a log of so many."""
    return max(_HALF_LIFE_SHARE * n_clicks, 1.0)


def _blocks_of_users(sequences: Sequences, n_clicks: int) -> Iterator[Sequences]:
    """Cut sequences between users into blocks of about so many clicks; ages stay as they are."""
    starts = sequences.user_starts
    borders = np.unique(
        np.searchsorted(starts, np.arange(0, len(sequences) + n_clicks, n_clicks)).clip(max=len(starts) - 1)
    )
    for first, end in pairwise(borders.tolist()):
        rows = slice(starts[first], starts[end])
        yield Sequences(
            sequences.item_index[rows],
            sequences.event_type[rows],
            sequences.gap_s[rows],
            sequences.age_rank[rows],
            starts[first : end + 1] - starts[first],
        )


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
        yield _Pairs(later_item, earlier_item, counted_at, PAIR_BACKWARD / distance)
