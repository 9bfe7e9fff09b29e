"""Markov chain of the first order: what was clicked next after the last item.

Source: Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms", arXiv:1803.09587, section 3.1.
"""

from dataclasses import dataclass, field

import numpy as np

from training.evaluation.baselines.item_pairs import ItemPairs
from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences


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
