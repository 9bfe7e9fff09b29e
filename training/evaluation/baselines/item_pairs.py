"""A table from item to item, with counts, and what it says of the next click."""

from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

from training.evaluation.baselines.ranges import flat_ranges
from training.evaluation.recommender import Floats
from training.learning.sequences import Ints


class ItemPairs(NamedTuple):
    """What belongs to each item, in one array; 8 bytes per pair.

    Attributes:
        starts: int64 (n_items + 1,), where each item's entries begin.
        item: int32 (n_pairs,).
        weight: float32 (n_pairs,), how often the pair was seen.
    """

    starts: Ints
    item: npt.NDArray[np.int32]
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
        scores[np.repeat(np.arange(len(items)), length), self.item[entries]] = self.weight[entries]
        return scores
