"""Baselines that count pairs of items and look the last clicked item up: association, and a Markov chain.

Source: Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms", arXiv:1803.09587, section 3.1
(AR, association rules of size two; MC, a Markov chain of the first order).
"""

import itertools
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences, flat_ranges

# Clicks that lie further apart are not counted: without a limit a session of n clicks would give n * n pairs.
_MAX_DISTANCE = 20
_BLOCK_CLICKS = 100_000  # so many clicks, with all that is near them, are counted at once: about 100 MB


class ItemPairs(NamedTuple):
    """What belongs to each item, in one array; 8 bytes per pair.

    Attributes:
        starts: int64 (n_items + 1,), where each item's entries begin.
        item_index: int32 (n_pairs,).
        weight: float32 (n_pairs,), how often the pair was seen.
    """

    starts: Ints
    item_index: npt.NDArray[np.int32]
    weight: Floats

    @classmethod
    def of(cls, keys: Ints, counts: Ints, n_items: int) -> Self:
        """Make the table of pairs that were counted.

        Args:
            keys: int64 (n,), left * n_items + right; rising, each once.
            counts: int64 (n,).
            n_items: how many items there are.
        """
        starts = np.searchsorted(keys, np.arange(n_items + 1) * n_items)
        return cls(starts, (keys % n_items).astype(np.int32), counts.astype(np.float32))

    def scores(self, items: Ints) -> Floats:
        """Score what belongs to each of some items: int64 (n,) -> float32 (n, n_items)."""
        scores = np.full((len(items), len(self.starts) - 1), -np.inf, dtype=np.float32)
        first, length = self.starts[items], self.starts[items + 1] - self.starts[items]
        entries = flat_ranges(first, length)
        scores[np.repeat(np.arange(len(items)), length), self.item_index[entries]] = self.weight[entries]
        return scores


@dataclass(slots=True)
class Association:
    """Scores an item by how often it was clicked in one session with the last one, before or after it."""

    _pairs: ItemPairs = field(init=False, repr=False)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Count, as `Recommender`."""
        first, end = train.first_row_of_user(), np.repeat(train.user_starts[1:], np.diff(train.user_starts))
        by_item = np.argsort(train.item_index, kind="stable")
        of_item = train.item_index[by_item]
        # Blocks end between items, so that each pair is counted in one block.
        edges = np.append(np.searchsorted(of_item, np.unique(of_item[::_BLOCK_CLICKS])), len(of_item))
        keys, counts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for begin, stop in itertools.pairwise(edges):
            row = by_item[begin:stop]
            near_first, near_end = (
                np.maximum(row - _MAX_DISTANCE, first[row]),
                np.minimum(row + _MAX_DISTANCE + 1, end[row]),
            )
            near, centre = flat_ranges(near_first, near_end - near_first), np.repeat(row, near_end - near_first)
            near, centre = near[near != centre], centre[near != centre]
            pairs = np.unique(train.item_index[centre] * n_items + train.item_index[near], return_counts=True)
            keys.append(pairs[0])
            counts.append(pairs[1])
        self._pairs = ItemPairs.of(np.concatenate(keys), np.concatenate(counts), n_items)

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Look the last item up, as `Recommender`."""
        return self._pairs.scores(clicks.item_index[rows - 1])


@dataclass(slots=True)
class MarkovChain:
    """Scores an item by how often it came right after the session's last one."""

    _pairs: ItemPairs = field(init=False, repr=False)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Count, as `Recommender`."""
        after = np.setdiff1d(np.arange(len(train)), train.user_starts[:-1], assume_unique=True)
        keys, counts = np.unique(train.item_index[after - 1] * n_items + train.item_index[after], return_counts=True)
        self._pairs = ItemPairs.of(keys, counts, n_items)

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Look the last item up, as `Recommender`."""
        return self._pairs.scores(clicks.item_index[rows - 1])
