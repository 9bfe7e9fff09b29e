"""From the log's clicks to windows: order, gaps, batches."""

import numpy as np

from training.learning.sequences import (
    ClickColumns,
    Windows,
    batches_in_time_order,
    group_by_user,
    padded_rows,
    training_windows,
)


def columns(clicks: list[tuple[int, int, int]]) -> ClickColumns:
    """Clicks (user, item, time in s), oldest first in the log."""
    user, item, time_s = (np.array(column, dtype=np.int64) for column in zip(*clicks, strict=True))
    ids = [f"item-{number}" for number in range(item.max() + 1)]
    return ClickColumns(user, item, time_s * 1000, np.zeros(len(clicks), dtype=np.int64), ids)


def test_a_users_clicks_lie_together_in_log_order() -> None:
    """Grouping keeps each user's order and remembers each click's age."""
    sequences = group_by_user(columns([(7, 0, 0), (3, 1, 1), (7, 2, 2), (3, 3, 3), (7, 4, 4)]))

    assert sequences.item_index.tolist() == [1, 3, 0, 2, 4]
    assert sequences.age_rank.tolist() == [1, 3, 0, 2, 4]
    assert sequences.user_starts.tolist() == [0, 2, 5]
    assert sequences.first_row_of_user().tolist() == [0, 0, 2, 2, 2]


def test_gaps_are_whole_seconds_and_the_clock_never_goes_back() -> None:
    """A click that is late in event time has gap 0, and the next gap counts from the highest time so far."""
    sequences = group_by_user(columns([(0, 0, 100), (0, 1, 130), (0, 2, 90), (0, 3, 135), (1, 0, 5)]))

    assert sequences.gap_s.tolist() == [0, 30, 0, 5, 0]


def test_windows_share_their_border_click_so_that_every_click_is_a_target_once() -> None:
    """Seven clicks in windows of three: 0-2, 2-4, 4-6."""
    sequences = group_by_user(columns([(0, number, number) for number in range(7)]))

    windows = training_windows(sequences, before_rank=7, max_clicks=3)

    assert list(zip(windows.first.tolist(), windows.end.tolist(), strict=True)) == [(0, 3), (2, 5), (4, 7)]


def test_clicks_of_the_validation_part_are_in_no_window() -> None:
    """Only clicks that are older than the cut are learnt; who has one of these gives no window."""
    sequences = group_by_user(columns([(0, 0, 0), (1, 1, 1), (0, 2, 2), (0, 3, 3), (1, 4, 4)]))

    windows = training_windows(sequences, before_rank=3, max_clicks=21)

    assert list(zip(windows.first.tolist(), windows.end.tolist(), strict=True)) == [(0, 2)]


def test_no_clicks_give_no_windows() -> None:
    """Nothing in, nothing out."""
    empty = np.zeros(0, dtype=np.int64)

    sequences = group_by_user(ClickColumns(empty, empty, empty, empty, []))

    assert len(training_windows(sequences, 0, 5)) == 0


def test_batches_take_every_window_once_and_mix_only_within_a_block() -> None:
    """Time order holds between blocks."""
    windows = Windows(np.arange(1_000), np.arange(1_000) + 2)

    batches = list(batches_in_time_order(windows, 10, 4, np.random.default_rng(0)))

    firsts = np.concatenate([batch.first for batch in batches])
    assert sorted(firsts.tolist()) == list(range(1_000))
    assert (firsts // 40 == np.arange(1_000) // 40).all()
    assert firsts.tolist() != list(range(1_000))


def test_padding_repeats_the_last_row_and_is_masked() -> None:
    """Padded places are valid rows, and marked as not real."""
    rows, is_real = padded_rows(np.array([3, 10]), np.array([1, 3]))

    assert rows.tolist() == [[3, 3, 3], [10, 11, 12]]
    assert is_real.tolist() == [[True, False, False], [True, True, True]]
