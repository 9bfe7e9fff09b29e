"""Recall@k, MRR@k and NDCG@k of next-click prediction: one relevant item per prediction, ties against the model."""

import numpy as np
import numpy.typing as npt

Ranks = npt.NDArray[np.int64]


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


def recall_at(ranks: Ranks, k: int) -> float:
    """Share of predictions whose clicked item is among the first k; 0 without predictions."""
    return float((ranks <= k).mean()) if len(ranks) else 0.0


def mrr_at(ranks: Ranks, k: int) -> float:
    """Mean of 1/rank, counted as 0 beyond k."""
    return float(np.where(ranks <= k, 1.0 / ranks, 0.0).mean()) if len(ranks) else 0.0


def ndcg_at(ranks: Ranks, k: int) -> float:
    """Mean of 1/log2(rank + 1), counted as 0 beyond k: with one relevant item the ideal gain is 1."""
    return float(np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0).mean()) if len(ranks) else 0.0
