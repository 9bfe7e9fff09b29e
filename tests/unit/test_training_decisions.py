"""The pure decisions of the trainer: when to train, where to begin reading."""

import pytest

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from tools.kafka import OffsetRange
from training.service.decisions import (
    LostClicks,
    Progress,
    check_same_topic,
    lost_clicks,
    lost_clicks_error,
    n_not_logged,
    start_positions,
    training_is_due,
)


@pytest.mark.parametrize(
    ("progress", "due"),
    [
        (Progress(2_999, 0, 1e6), False),
        (Progress(3_000, 0, 0.0), True),
        (Progress(50_000, 40_000, 599.0), False),
        (Progress(50_000, 40_000, 600.0), True),
        (Progress(40_000, 40_000, 1e6), False),
        (Progress(40_499, 40_000, 86_459.0), False),  # the last training's process may have begun so much later
        (Progress(40_500, 40_000, 600.0), True),
        (Progress(40_001, 40_000, 86_460.0), True),
        (Progress(5_999, 3_000, 1.0), False),
        (Progress(6_000, 3_000, 1.0), True),
        (Progress(5_999_999, 5_000_000, 1.0), False),
        (Progress(6_000_000, 5_000_000, 1.0), True),
        (Progress(2_999, 1_000, 1e6), False),
        (Progress(3_000, 2_999, 1e6), True),
    ],
)
def test_training_is_due_by_clicks_by_time_and_when_the_log_has_doubled(progress: Progress, due: bool) -> None:
    """First at min_clicks; never without a new click, and never on fewer than min_clicks: old ones may be removed.

    Later on after train_every_s with train_least_clicks new ones, or after train_anew_every_s with any.
    """
    assert training_is_due(progress, Settings()) is due


def test_reading_goes_on_where_the_log_ends_and_other_partitions_begin_at_one_of_their_ends() -> None:
    """The log's position counts in any case."""
    ranges = {0: OffsetRange(5, 20), 1: OffsetRange(4, 8)}

    assert start_positions({0: 10}, ranges, from_end=False) == {0: 10, 1: 4}
    assert start_positions({0: 10}, ranges, from_end=True) == {0: 10, 1: 8}


def test_what_waits_to_be_logged_is_counted_from_the_end_of_the_log() -> None:
    """A partition can be ahead of the last look at its end, or be new."""
    assert n_not_logged({0: 20, 1: 8, 2: 5}, {0: 12, 1: 9}) == 8


def test_clicks_that_were_removed_before_they_were_logged_are_found_in_every_partition() -> None:
    """Also where a partition is empty now; not in one that the log does not know, or that has what comes next."""
    ranges = {
        0: OffsetRange(10, 20),
        1: OffsetRange(0, 9),
        2: OffsetRange(15, 20),
        3: OffsetRange(30, 30),
        4: OffsetRange(7, 9),
    }

    assert lost_clicks({0: 10, 1: 9, 2: 10, 3: 29}, ranges) == [LostClicks(2, 10, 14), LostClicks(3, 29, 29)]


def test_the_error_names_every_range_and_what_to_do() -> None:
    """One line for all partitions."""
    text = str(lost_clicks_error("clicks", [LostClicks(2, 10, 14), LostClicks(3, 29, 29)]))

    assert "10 to 14 of partition 2, 29 to 29 of partition 3" in text
    assert "--skip-lost" in text
    assert "retention.ms" in text


@pytest.mark.parametrize(
    ("ranges", "expected"),
    [
        (
            {0: OffsetRange(0, 10), 1: OffsetRange(0, 3)},
            "reaches offset 4 of partition 1 of the topic clicks, which ends at 3",
        ),
        ({0: OffsetRange(0, 10)}, "partition 1 of the topic clicks, which has only the partitions 0;"),
    ],
)
def test_a_topic_that_ends_before_the_log_does_is_another_topic(ranges: dict[int, OffsetRange], expected: str) -> None:
    """Offsets that count anew would be taken for clicks that are known."""
    with pytest.raises(PermanentError, match=f"{expected}.*created anew. Move the click log away"):
        check_same_topic("clicks", {0: 10, 1: 4}, ranges)


def test_a_topic_that_ends_where_the_log_does_is_the_same() -> None:
    """More partitions are no new topic."""
    check_same_topic("clicks", {0: 10}, {0: OffsetRange(10, 10), 1: OffsetRange(0, 0)})
