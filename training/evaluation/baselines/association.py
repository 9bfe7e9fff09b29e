"""Item-to-item association: what is clicked in the same sessions as the last item.

Source: Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms", arXiv:1803.09587, section 3.1
(AR, association rules of size two).
"""

import itertools
from dataclasses import dataclass, field

import numpy as np

from training.evaluation.baselines.item_pairs import ItemPairs
from training.evaluation.baselines.ranges import flat_ranges
from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences

# Clicks that lie further apart are not counted: without a limit a session of n clicks would give n * n pairs.
_MAX_DISTANCE = 20
_BLOCK_CLICKS = 100_000  # so many clicks, with all that is near them, are counted at once: about 100 MB


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
