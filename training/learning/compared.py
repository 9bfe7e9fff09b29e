"""Recall@20 and MRR@20 of models on the same predictions: their differences, and how much of these may be chance."""

from collections.abc import Mapping

import numpy as np

from nextclick.ranking_metrics import Ranks, mrr_gains, recall_gains
from training.learning.comparison import Values, interval, resampled_means, sums_of_users
from training.learning.judgement import Comparison, Difference
from training.learning.lead import Lead
from training.learning.sequences import Ints
from training.learning.validation import K

_MIN_USERS = 10  # with fewer, drawing them again says nothing of others, and predictions are drawn
_LEAST_ERROR = 1e-3  # of a lead: of equal ranks the bootstrap says 0
_LEAST_SCORE = 1e-3  # of Recall@20 + MRR@20, in a ratio


class Compared:
    """Recall@20 and MRR@20 of models on the same predictions, and what they would be with other users."""

    def __init__(self, ranks: Mapping[str, Ranks], user: Ints, seed: int) -> None:
        """Draw users.

        Args:
            ranks: of each model, by its name.
            user: int64 (n_predictions,).
            seed: of the draws.
        """
        gains = np.concatenate([gain(each, K)[None] for each in ranks.values() for gain in (recall_gains, mrr_gains)])
        self._column = {name: 2 * place for place, name in enumerate(ranks)} if len(user) else {}
        if len(user):
            if len(np.unique(user)) < _MIN_USERS:
                user = np.arange(len(user))
            _, number, n_predictions = np.unique(user, return_inverse=True, return_counts=True)
            sums = sums_of_users(number, gains.T, len(n_predictions))
            self._means = sums.sum(axis=0) / n_predictions.sum()
            self._drawn = resampled_means(sums, n_predictions.astype(np.float64), seed)

    def over(self, other: str) -> Comparison | None:
        """Compare the new network with another model; None where there is none, or no prediction."""
        if other not in self._column:
            return None
        return Comparison(*(self._difference(column, self._column[other] + column) for column in range(2)))

    def lead(self) -> Lead | None:
        """Give the new network's lead over counts; None where it has none."""
        if "counts" not in self._column:
            return None
        new, counts = (np.log(np.maximum(self._sum_of(name), _LEAST_SCORE)) for name in ("new", "counts"))
        value = (new - counts)[0]
        return Lead(float(value), max(float((new - counts)[1:].std()), _LEAST_ERROR))

    def _difference(self, column: int, other: int) -> Difference:
        drawn = interval(self._drawn[:, column] - self._drawn[:, other])
        return Difference(float(self._means[column] - self._means[other]), *drawn)

    def _sum_of(self, name: str) -> Values:
        """Recall@20 + MRR@20 of a model: of the predictions, then of every draw."""
        columns = slice(self._column[name], self._column[name] + 2)
        sums: Values = np.concatenate([self._means[None, columns], self._drawn[:, columns]]).sum(axis=1)
        return sums
