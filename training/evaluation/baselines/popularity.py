"""Popularity: the most clicked items, the same for everyone; all clicks count alike, or newer ones more.

Source of the second form: Ji et al. 2020, "A re-visit of the popularity baseline in recommender systems",
arXiv:2005.13829.
"""

from dataclasses import dataclass, field

import numpy as np

from training.evaluation.baselines.ranges import ages
from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences


@dataclass(slots=True)
class Popularity:
    """Scores an item by its clicks.

    Attributes:
        half_life: a click of this age, as a share of the training log, counts half; None: all count alike.
    """

    half_life: float | None = None
    _weight: Floats = field(init=False, repr=False)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Count, as `Recommender`."""
        weight = None if self.half_life is None else np.exp2(-ages(train) / self.half_life)
        self._weight = np.bincount(train.item_index, weight, minlength=n_items).astype(np.float32)

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Give the same scores to all, as `Recommender`."""
        return np.broadcast_to(self._weight, (len(rows), len(self._weight)))
