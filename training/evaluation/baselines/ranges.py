"""Ranges of rows, written out, and how old a row is."""

import numpy as np
import numpy.typing as npt

from training.learning.sequences import Ints, Sequences


def flat_ranges(first: Ints, length: Ints) -> Ints:
    """Write ranges out one after another: first (5, 0) and length (2, 3) give 5 6 0 1 2."""
    before = np.cumsum(length) - length
    rows: Ints = np.arange(length.sum(), dtype=np.int64) + np.repeat(first - before, length)
    return rows


def ages(train: Sequences) -> npt.NDArray[np.float64]:
    """Give each click's age as a share of the log: 0 for the newest, almost 1 for the oldest.

    Counted in clicks, not in seconds, so that a log without times has ages too.
    """
    newest, oldest = train.age_rank.max(initial=0), train.age_rank.min(initial=0)
    shares: npt.NDArray[np.float64] = (newest - train.age_rank) / (newest - oldest + 1)
    return shares
