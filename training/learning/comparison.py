"""How sure a mean over predictions is, and a difference of two: the bootstrap over whole users.

Predictions of one user go together, so users (of recorded data: sessions) are drawn again and again, with all their
predictions. Two models that are compared see the same draws.

Source: Efron & Tibshirani 1993, "An introduction to the bootstrap"; for comparing two systems by the same draws, Sakai
2006, "Evaluating evaluation metrics based on the bootstrap", doi:10.1145/1148170.1148261.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

N_RESAMPLES = 2_000
_BLOCK_NUMBERS = 5_000_000  # drawn at once (float64: 40 MB)


class Interval(NamedTuple):
    """The middle 95% of the resamples."""

    low: float
    high: float


def sums_of_users(user: npt.NDArray[np.int64], columns: Values, n_users: int) -> Values:
    """Add predictions up per user.

    Args:
        user: int64 (n,), in [0, n_users).
        columns: float64 (n, n_columns), of each prediction.
        n_users: how many.

    Returns:
        float64 (n_users, n_columns).
    """
    return np.stack([np.bincount(user, column, minlength=n_users) for column in columns.T], axis=1)


def resampled_means(sums: Values, n_predictions: Values, seed: int) -> Values:
    """Draw users with replacement, many times, and take the means over their predictions.

    All columns see the same draws, so that columns of two models can be subtracted.

    Args:
        sums: float64 (n_users, n_columns), sums over a user's predictions.
        n_predictions: float64 (n_users,), at least 1 each.
        seed: of the draws.

    Returns:
        float64 (N_RESAMPLES, n_columns).
    """
    rng = np.random.default_rng(seed)
    n_users = len(sums)
    block = max(1, _BLOCK_NUMBERS // n_users)
    blocks = []
    for begin in range(0, N_RESAMPLES, block):
        drawn = rng.integers(n_users, size=(min(block, N_RESAMPLES - begin), n_users))
        times_drawn = np.stack([np.bincount(one, minlength=n_users) for one in drawn]).astype(np.float64)
        blocks.append((times_drawn @ sums) / (times_drawn @ n_predictions)[:, None])
    return np.concatenate(blocks)


def interval(means: Values) -> Interval:
    """Give the 95% interval of resampled means, or of their differences: (N_RESAMPLES,)."""
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(float(low), float(high))


def p_value(differences: Values) -> float:
    """Give the two-sided probability of such a difference between equal models: (N_RESAMPLES,).

    Twice the share of resamples on the rarer side of zero, zeros counting for both; never below 2 / (n + 1), as no
    number of resamples can show that a thing is impossible (Davison & Hinkley 1997, section 4.2).
    """
    rarer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(differences) + 1))
