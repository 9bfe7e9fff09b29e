"""What a log may hold and a training does not take: times of years to come, retries, and more than one user's share."""

import numpy as np
import pyarrow as pa
import pytest

from training.learning.log_rows import MAX_USER_CLICKS, bounded, in_time_order, without_retries
from training.learning.sequences import now_of

DAY_MS = 86_400_000
NOW_MS = 1_700_000_000_000
CLOCK_MS = NOW_MS + 30 * DAY_MS
YEAR_2099_MS = 4_070_908_800_000


def table(
    user: list[str] | None = None,
    time_ms: list[int] | None = None,
    partition: list[int] | None = None,
    event: list[int] | None = None,
) -> pa.Table:
    """Clicks by rising offset; the item is the place in the table."""
    count = len(next(column for column in (user, time_ms, partition, event) if column is not None))
    return pa.table(
        {
            "user_id": pa.array(user or ["u"] * count),
            "item_id": pa.array([str(number) for number in range(count)]),
            "timestamp_ms": pa.array(time_ms or [NOW_MS + number for number in range(count)], pa.int64()),
            "event_type": pa.array([0] * count, pa.uint8()),
            "partition": pa.array(partition or [0] * count, pa.int32()),
            "offset": pa.array(range(count), pa.int64()),
            "event_hash": pa.array(event or [0] * count, pa.uint32()),
        }
    )


def places(rows: pa.Table) -> list[int]:
    return [int(item) for item in rows["item_id"].to_pylist()]


def test_clicks_of_all_partitions_are_sorted_and_late_ones_stay_in_log_order() -> None:
    """The second click of partition 0 is late in event time."""
    rows = in_time_order(table(time_ms=[10, 5, 20, 8, 15], partition=[0, 0, 0, 1, 1]), CLOCK_MS)

    assert places(rows) == [3, 0, 1, 4, 2]
    assert rows["timestamp_ms"].to_pylist() == [8, 10, 5, 15, 20]


@pytest.mark.parametrize("wrong_ms", [YEAR_2099_MS, CLOCK_MS])
@pytest.mark.parametrize("wrong", [0, 3, 98])
def test_a_click_ahead_of_all_others_takes_the_time_of_the_one_before_it(wrong: int, wrong_ms: int) -> None:
    """Of 2099, or of today in a log of years ago: it does not move those that come after it behind all others."""
    time_ms = [NOW_MS + number * 1_000 for number in range(200)]
    partition = [number % 2 for number in range(200)]
    time_ms[wrong] = wrong_ms

    rows = in_time_order(table(time_ms=time_ms, partition=partition), CLOCK_MS)

    assert np.abs(np.array(places(rows)) - np.arange(200)).max() <= 2
    assert max(rows["timestamp_ms"].to_pylist()) == NOW_MS + 199_000
    expected = max(NOW_MS + (wrong - 2) * 1_000, NOW_MS + (1_000 if wrong == 0 else 0))
    assert rows["timestamp_ms"].to_pylist()[places(rows).index(wrong)] == expected


def test_clicks_of_years_to_come_are_wrong_however_many() -> None:
    """Half of the clients have a wrong clock; the trainer's own one says so."""
    time_ms = [YEAR_2099_MS if number % 2 else NOW_MS + number for number in range(100)]

    rows = in_time_order(table(time_ms=time_ms), NOW_MS)

    assert places(rows) == list(range(100))
    assert rows["timestamp_ms"].to_pylist() == [NOW_MS + number - number % 2 for number in range(100)]


def test_a_day_ahead_is_no_wrong_clock() -> None:
    """Rare clicks of a small shop keep their times."""
    time_ms = [NOW_MS + number * DAY_MS for number in range(10)]

    assert in_time_order(table(time_ms=time_ms), CLOCK_MS)["timestamp_ms"].to_pylist() == time_ms


def test_now_is_no_single_click() -> None:
    """Not the newest, nor one of a hundred; of few clicks it is the one before the newest."""
    times = np.arange(NOW_MS, NOW_MS + 1_000)
    times[[7, 500, 999]] = YEAR_2099_MS

    assert NOW_MS + 980 <= now_of(times) <= NOW_MS + 999
    assert now_of(np.array([NOW_MS, YEAR_2099_MS])) == NOW_MS
    assert now_of(np.array([], dtype=np.int64)) == 0


@pytest.mark.parametrize(
    ("event", "kept"),
    [
        ([7, 7, 8, 7], [0, 2]),
        ([0, 0, 0, 0], [0, 1, 2, 3]),
        ([7, 1, 2, 7], [0, 1, 2]),  # among 3 clicks
        ([7, 1, 2, 3, 7], [0, 1, 2, 3, 4]),  # after 3 others it is not found any more
        ([7, 1, 7, 2, 7, 3, 7], [0, 1, 3, 5, 6]),  # a retry takes no place among the 3
        ([7, 0, 0, 0, 7], [0, 1, 2, 3, 4]),  # a click without an id does
    ],
    ids=["twice", "no ids", "in time", "too late", "retries take no place", "clicks without ids take one"],
)
def test_a_clients_retry_is_passed_over(event: list[int], kept: list[int]) -> None:
    """As the worker does with the ids in a user's state."""
    assert places(without_retries(table(event=event), among_clicks=3)) == kept


def test_another_users_event_is_no_retry() -> None:
    """32 bits are few for all users together."""
    rows = without_retries(table(user=["a", "b", "a", "b"], event=[7, 7, 8, 7]), among_clicks=20)

    assert places(rows) == [0, 1, 2]


def test_a_user_weighs_a_bounded_number_of_clicks() -> None:
    """5,000 of 7,000 are a crawler's: what is left of it is spread over its time, in sequences as they were."""
    user = [f"visitor-{number % 400}" if number % 7 < 2 else "crawler" for number in range(7_000)]

    rows = bounded(table(user=user))

    users = np.array(rows["user_id"].to_pylist())
    crawled = np.array(places(rows))[users == "crawler"]
    assert 0.9 * MAX_USER_CLICKS <= len(crawled) <= MAX_USER_CLICKS
    assert (users != "crawler").sum() == 2_000
    by_time = np.histogram(crawled, bins=5, range=(0, 7_000))[0]
    assert by_time.min() >= 0.5 * by_time.max()
    assert (np.diff(crawled) <= 3).mean() > 0.9  # the next click of the crawler


def test_a_crawler_does_not_raise_its_own_bound() -> None:
    """Of 30 visitors each has 10 clicks; what it has too much is no part of what users have on average."""
    user = ["crawler", "crawler", *[f"visitor-{number}" for number in range(30)]] * 10 + ["crawler"] * 4_980

    assert np.unique(bounded(table(user=user))["user_id"].to_numpy(), return_counts=True)[1].max() <= MAX_USER_CLICKS


def test_users_who_click_alike_are_all_kept() -> None:
    """However much: ten people who listen all day are no crawlers."""
    user = [f"listener-{number % 10}" for number in range(10_000)]

    assert len(bounded(table(user=user))) == 10_000
    assert len(bounded(table(user=["alone"] * 1_000))) == 1_000
    assert len(bounded(table(user=["a"]).slice(0, 0))) == 0


def test_the_newest_days_of_a_small_shop_keep_their_times() -> None:
    """A hundredth of its clicks can be days; none of them is ahead of the others."""
    day_ms = 86_400_000
    time_ms = [CLOCK_MS - 300 * day_ms + number * day_ms // 10 for number in range(3_000)]

    rows = in_time_order(table(time_ms=time_ms, partition=[0] * 3_000), CLOCK_MS)

    assert rows["timestamp_ms"].to_pylist() == time_ms
