"""The evaluator: which clicks are predicted, how they are ranked, and the figures that are made of it, by hand."""

import math

import numpy as np
import pytest

from training.evaluation import runs
from training.evaluation.figures import (
    METRICS,
    Position,
    by_position,
    coverage,
    gains,
    popularity_of_lists,
    session_sums,
)
from training.evaluation.offline_data import OfflineData
from training.evaluation.recommender import Floats
from training.evaluation.runs import run
from training.learning.sequences import ClickColumns, Ints, Sequences, group_by_user

N_ITEMS = 30


def sessions(*items: list[int]) -> Sequences:
    """One session after another, in log order."""
    item = np.concatenate([np.array(session, np.int64) for session in items])
    user = np.repeat(np.arange(len(items)), [len(session) for session in items])
    return group_by_user(ClickColumns(user, item, np.arange(len(item)) * 1_000, item * 0, []))


class Numbers:
    """Scores an item by its index; everything below 25 is not to be recommended."""

    passes = 3

    def __init__(self) -> None:
        self.asked: list[int] = []

    def fit(self, train: Sequences, n_items: int) -> None:
        """Learn nothing."""

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Score."""
        self.asked += rows.tolist()
        row = np.where(np.arange(N_ITEMS) < 25, -np.inf, np.arange(N_ITEMS))
        return np.tile(row, (len(rows), 1)).astype(np.float32)


DATA = OfflineData(
    train=sessions(list(range(N_ITEMS)), [29, 29, 28]),
    test=sessions([1, 29, 26], [2, 5]),
    item_ids=[str(item) for item in range(N_ITEMS)],
    train_ms=np.zeros(N_ITEMS, np.int64),
    test_ms=np.zeros(5, np.int64),
)


@pytest.mark.parametrize("batch_scores", [1, 2 * N_ITEMS, 10_000])
def test_every_click_but_the_first_of_a_session_is_ranked(monkeypatch: pytest.MonkeyPatch, batch_scores: int) -> None:
    """Item 29 is first, 26 fourth; 5 ties with all that are not recommended, which counts against the model."""
    monkeypatch.setattr(runs, "_BATCH_SCORES", batch_scores)
    numbers = Numbers()

    found = run(numbers, DATA, "numbers")

    assert numbers.asked == [1, 2, 4]
    assert found.rank.tolist() == [1, 4, 30]
    assert found.session.tolist() == [0, 0, 1]
    assert found.clicks_before.tolist() == [1, 2, 1]
    assert found.passes == 3


def test_only_what_is_recommended_is_shown() -> None:
    """Three lists of the five items 25 to 29: each is 3 x 1/5."""
    found = run(Numbers(), DATA, "numbers")

    assert found.shown[:25].tolist() == [0] * 25
    assert found.shown[25:].tolist() == pytest.approx([0.6] * 5)
    assert coverage(found.shown) == pytest.approx(5 / 30)


def test_a_list_is_at_most_twenty_items_long() -> None:
    """The twenty best of thirty, each 1/20 of a list."""

    class All(Numbers):
        def scores(self, clicks: Sequences, rows: Ints) -> Floats:
            return np.tile(np.arange(N_ITEMS), (len(rows), 1)).astype(np.float32)

    found = run(All(), DATA, "all")

    assert found.shown[:10].tolist() == [0] * 10
    assert found.shown[10:].tolist() == pytest.approx([3 / 20] * 20)


def test_popularity_of_lists_by_hand() -> None:
    """Items 25 to 27 have 1 training click, 28 has 2, 29 has 3: a mean of 8/5, as a share of 3."""
    found = run(Numbers(), DATA, "numbers")

    assert popularity_of_lists(found.shown, DATA.train.item_index) == pytest.approx(8 / 5 / 3)


def test_session_sums_by_hand() -> None:
    """Session 0 has ranks 1 and 4, session 1 has rank 30."""
    sums = session_sums(run(Numbers(), DATA, "numbers"), 2)
    first = dict(zip(METRICS, sums[0].tolist(), strict=True))

    assert first["recall@1"] == 1
    assert first["recall@5"] == 2
    assert first["mrr@20"] == pytest.approx(1 + 1 / 4)
    assert first["ndcg@5"] == pytest.approx(1 + 1 / math.log2(5))
    assert sums[1].tolist() == [0] * len(METRICS)


def test_gains_stand_in_the_order_of_their_names() -> None:
    """Rank 7: within 10 and 20 only."""
    (row,) = gains(np.array([7])).tolist()

    assert METRICS[:5] == ("recall@1", "recall@5", "recall@10", "recall@20", "mrr@1")
    assert row[:4] == [0, 0, 1, 1]
    assert row[4:8] == pytest.approx([0, 0, 1 / 7, 1 / 7])
    assert row[8:] == pytest.approx([0, 0, 1 / 3, 1 / 3])


def test_figures_by_position_by_hand() -> None:
    """Two runs over three predictions: after 1 click hit, miss; after 25 (with all from 20 on) hit."""
    rank, clicks_before = np.array([1, 21, 20, 2, 30, 1]), np.array([1, 1, 25, 1, 1, 25])

    made = by_position(rank, clicks_before, n_runs=2)

    assert made == [Position(1, 2, 0.5, 0.375), Position(20, 1, 1.0, 0.525)]
