"""Ranking metrics, computed by hand."""

import math

import numpy as np
import pytest

from nextclick.ranking_metrics import mrr_at, ndcg_at, ranks_of_targets, recall_at

NAN = math.nan


@pytest.mark.parametrize(
    ("scores", "target", "rank"),
    [
        ([0.1, 0.9, 0.5, 0.2], 1, 1),
        ([0.1, 0.9, 0.5, 0.2], 2, 2),
        ([0.1, 0.9, 0.5, 0.2], 0, 4),
        ([0.5, 0.5, 0.5, 0.2], 0, 3),  # a tie counts against the model, wherever the item stands
        ([0.5, 0.5, 0.5, 0.2], 2, 3),
        ([0.0, 0.0, 0.0, 0.0], 1, 4),  # a model that says nothing is ranked last, not first
        ([NAN, 0.9, 0.5, 0.2], 0, 4),  # no score: behind everything
        ([NAN, 0.9, 0.5, 0.2], 1, 2),  # and what has no score is not below anything either
        ([NAN, NAN, NAN, NAN], 2, 4),
        ([math.inf, 0.9, -math.inf, 0.2], 0, 1),
        ([math.inf, 0.9, -math.inf, 0.2], 2, 4),
    ],
)
def test_a_rank_counts_everything_that_is_not_below(scores: list[float], target: int, rank: int) -> None:
    """From 1; doubts count against the model."""
    ranks = ranks_of_targets(np.array([scores], np.float32), np.array([target]))

    assert ranks.tolist() == [rank]


def test_each_row_has_its_own_target() -> None:
    """One prediction per row."""
    scores = np.array([[1, 2, 3], [3, 2, 1], [1, 3, 2]], np.float32)

    assert ranks_of_targets(scores, np.array([0, 0, 2])).tolist() == [3, 1, 2]


def test_metrics_by_hand() -> None:
    """Ranks 1, 2, 4 and 30, cut at 3 and at 20."""
    ranks = np.array([1, 2, 4, 30])

    assert recall_at(ranks, 3) == pytest.approx(2 / 4)
    assert recall_at(ranks, 20) == pytest.approx(3 / 4)
    assert mrr_at(ranks, 3) == pytest.approx((1 + 1 / 2) / 4)
    assert mrr_at(ranks, 20) == pytest.approx((1 + 1 / 2 + 1 / 4) / 4)
    assert ndcg_at(ranks, 3) == pytest.approx((1 + 1 / math.log2(3)) / 4)
    assert ndcg_at(ranks, 20) == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(5)) / 4)


@pytest.mark.parametrize("metric", [recall_at, mrr_at, ndcg_at])
def test_the_edges_of_a_metric(metric: object) -> None:
    """1 when everything is first, 0 when nothing is among the first k, 0 without predictions."""
    assert callable(metric)

    assert metric(np.array([1, 1]), 1) == 1.0
    assert metric(np.array([21, 22]), 20) == 0.0
    assert metric(np.array([], np.int64), 20) == 0.0
