"""What is known of items is brought up to date by adding."""

import numpy as np
import pytest

from training.learning.item_statistics import ItemStatistics, no_statistics
from training.learning.sequences import ClickColumns
from training.learning.validation import popularity_weights

N_ITEMS, HOUR_MS = 7, 3_600_000


def some_clicks(count: int = 600) -> ClickColumns:
    """Users who click now and then, in 40 days."""
    rng = np.random.default_rng(0)
    time_ms = np.sort(rng.integers(0, 40 * 24 * HOUR_MS, size=count))
    ids = [str(number) for number in range(N_ITEMS)]
    item = rng.integers(N_ITEMS, size=count)
    return ClickColumns(rng.integers(30, size=count), item, time_ms, item * 0, ids)


def counted(clicks: ClickColumns, borders: list[int]) -> ItemStatistics:
    """Count in several parts; each sees all clicks before it."""
    statistics, n_old = no_statistics(N_ITEMS), 0
    for end in borders:
        some = clicks.take(slice(end))
        statistics = statistics.later(some, n_old, np.arange(N_ITEMS), half_life=100.0, popularity_half_life_s=1e6)
        n_old = end
    return statistics


def test_adding_is_counting_anew() -> None:
    """Exact but for rounding, however the clicks are cut into rounds."""
    clicks = some_clicks()

    whole, parts = counted(clicks, [600]), counted(clicks, [50, 51, 300, 600])

    np.testing.assert_allclose(whole.n_clicks, parts.n_clicks)
    assert whole.last_click.tolist() == parts.last_click.tolist()
    assert whole.n_log_clicks == parts.n_log_clicks
    age = 600 - np.arange(600)
    expected = np.bincount(clicks.item_index, np.exp2(-age / 100.0), N_ITEMS)
    np.testing.assert_allclose(whole.n_clicks, expected)


def test_popularity_is_that_of_a_bundle_made_anew() -> None:
    """But for a factor that all items share."""
    clicks = some_clicks()

    found = counted(clicks, [200, 600]).popularity

    expected = popularity_weights(clicks, 600, 1e6)
    np.testing.assert_allclose(found / found.sum(), expected / expected.sum(), rtol=1e-9)


def test_a_user_who_clicks_on_and_on_counts_once_an_hour_across_rounds() -> None:
    """What was counted in the round before is seen in what is looked back on."""
    clicks = ClickColumns(
        np.zeros(4, np.int64), np.zeros(4, np.int64), np.arange(4) * 1_000, np.zeros(4, np.int64), ["a"]
    )

    statistics = no_statistics(1)
    for n_old in range(4):
        statistics = statistics.later(clicks.take(slice(n_old + 1)), n_old, np.zeros(1, np.int64), 100.0, 1e6)

    assert statistics.popularity[0] == pytest.approx(1.0, rel=1e-3)
    assert statistics.last_click[0] == 3


def test_items_move_with_their_rows() -> None:
    """What left is forgotten, of a new one nothing is known."""
    before = counted(some_clicks(), [600])

    after = before.renumbered(np.array([1, -1, 0, -1, -1, -1, -1]), 3)

    assert after.n_clicks.tolist() == [before.n_clicks[2], before.n_clicks[0], 0.0]
    assert after.last_click.tolist() == [before.last_click[2], before.last_click[0], 0]
    assert after.popularity.tolist() == [before.popularity[2], before.popularity[0], 0.0]
    assert after.n_log_clicks == 600
