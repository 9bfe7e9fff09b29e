"""Recall@k, MRR@k and NDCG@k of next-click prediction: one relevant item per prediction, ties against the model."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.int64]
Gains = npt.NDArray[np.float64]


class Quality(NamedTuple):
    """How good predictions were; each figure is a mean over predictions, from 0 to 1."""

    recall: float
    mrr: float
    ndcg: float
    n_predictions: int


def ranks_of_targets(scores: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> Ranks:
    """Rank each row's clicked item among all items.

    Args:
        scores: float32 (batch, n_items), higher is better.
        targets: int64 (batch,), the item_index that was clicked.

    Returns:
        int64 (batch,), from 1. Items that score the same as the clicked one are counted as ranked above it, and so
        is everything when its score is not a number.
    """
    own = scores[np.arange(len(targets)), targets][:, None]  # (batch, 1)
    ranks: Ranks = (~(scores < own)).sum(axis=1)  # the clicked item itself makes the ranks start at 1
    return ranks


def recall_gains(ranks: Ranks, k: int) -> Gains:
    """Give 1 to each prediction whose clicked item is among the first k, else 0."""
    return (ranks <= k).astype(np.float64)


def mrr_gains(ranks: Ranks, k: int) -> Gains:
    """Give each prediction 1/rank, 0 beyond k."""
    return np.where(ranks <= k, 1.0 / ranks, 0.0)


def ndcg_gains(ranks: Ranks, k: int) -> Gains:
    """Give each prediction 1/log2(rank + 1), 0 beyond k: with one relevant item the ideal gain is 1."""
    return np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)


def recall_at(ranks: Ranks, k: int) -> float:
    """Mean of `recall_gains`; 0 without predictions."""
    return float(recall_gains(ranks, k).mean()) if len(ranks) else 0.0


def mrr_at(ranks: Ranks, k: int) -> float:
    """Mean of `mrr_gains`; 0 without predictions."""
    return float(mrr_gains(ranks, k).mean()) if len(ranks) else 0.0


def ndcg_at(ranks: Ranks, k: int) -> float:
    """Mean of `ndcg_gains`; 0 without predictions."""
    return float(ndcg_gains(ranks, k).mean()) if len(ranks) else 0.0
