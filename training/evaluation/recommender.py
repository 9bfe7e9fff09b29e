"""What the evaluator asks of a model."""

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from training.learning.sequences import Ints, Sequences

Floats = npt.NDArray[np.float32]


class Recommender(Protocol):
    """Learns from sessions once, then scores all items as the next click."""

    def fit(self, train: Sequences, n_items: int) -> None:
        """Learn.

        Args:
            train: the clicks; `item` is an item_index in [0, n_items).
            n_items: how many items there are.
        """

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Score every item for some clicks, each from the same session's clicks before it and from nothing else.

        Args:
            clicks: sessions that were not learnt from.
            rows: int64 (n,), rising: the clicks to predict; none is the first of its session.

        Returns:
            float32 (n, n_items), higher is better; minus infinity for what is not to be recommended.
        """


@runtime_checkable
class SeveralPasses(Protocol):
    """A recommender that reads the training clicks more than once says how often, after `fit`."""

    passes: int
