"""Baselines that count clicks: the most clicked items, the same for everyone, or those of the session first."""

from dataclasses import dataclass, field

import numpy as np

from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences, flat_ranges


@dataclass(slots=True)
class Popularity:
    """Scores an item by its clicks: the same scores for everyone.

    Source of the second form, in which newer clicks count more: Ji et al. 2020, "A re-visit of the popularity baseline
    in recommender systems", arXiv:2005.13829.

    Attributes:
        half_life: a click of this age, as a share of the training log, counts half; None: all count alike.
    """

    half_life: float | None = None
    _weight: Floats = field(init=False, repr=False)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Count, as `Recommender`."""
        weight = None if self.half_life is None else np.exp2(-train.age_shares() / self.half_life)
        self._weight = np.bincount(train.item_index, weight, minlength=n_items).astype(np.float32)

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Give the same scores to all, as `Recommender`."""
        return np.broadcast_to(self._weight, (len(rows), len(self._weight)))


@dataclass(slots=True)
class SessionPopularity:
    """Scores the items of the session above all others; those, and equals, by their clicks in the training data.

    Source: Hidasi et al. 2016, arXiv:1511.06939, section 4 (S-POP).

    Attributes:
        newest_first: the session's items stand in the order of their last clicks instead of by their clicks.
    """

    newest_first: bool = False
    _popularity: Floats = field(init=False, repr=False)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Count, as `Recommender`."""
        count = np.bincount(train.item_index, minlength=n_items)
        self._popularity = (count / (count.max(initial=0) + 1)).astype(np.float32)  # below one click of the session

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Look at the session's clicks, as `Recommender`."""
        scores = np.tile(self._popularity, (len(rows), 1))
        first = clicks.user_starts[np.searchsorted(clicks.user_starts, rows, side="right") - 1]
        length = rows - first
        earlier = flat_ranges(first, length)
        place = np.repeat(np.arange(len(rows)), length)
        if self.newest_first:
            in_session = (earlier - np.repeat(first, length) + 1).astype(np.float32)
            np.maximum.at(scores, (place, clicks.item_index[earlier]), in_session)
        else:
            np.add.at(scores, (place, clicks.item_index[earlier]), np.float32(1.0))
        return scores
