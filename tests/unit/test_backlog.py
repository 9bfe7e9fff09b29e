"""What of a partition's clicks waits: how much, and for how long, also of clicks that nobody has read yet."""

from stream.protocol.assignment import Partition
from stream.protocol.backlog import Backlog

WALL_MS = 1_800_000_000_000


def test_the_lag_is_up_to_the_end_that_is_known_or_what_was_read_beyond_it() -> None:
    backlog = Backlog()

    assert backlog.lag(position=5, acknowledged=5) == 0
    backlog.note_end(20, position=5, now_s=1.0)
    assert backlog.lag(position=5, acknowledged=5) == 15
    assert backlog.lag(position=30, acknowledged=12) == 18
    assert backlog.lag(position=30, acknowledged=30) == 0


def test_the_oldest_click_is_the_first_of_the_runs_that_are_not_answered() -> None:
    """A partition forgets a run when it is acknowledged."""
    partition = Partition(0)
    partition.backlog.note_run(10, WALL_MS - 9_000, WALL_MS - 5_000)
    partition.backlog.note_run(20, WALL_MS - 4_000, WALL_MS - 3_000)
    partition.position = 20

    assert partition.backlog.oldest_age_s(20, 0.0, WALL_MS) == 9.0
    partition.acknowledge(0, 10)
    assert partition.backlog.oldest_age_s(20, 0.0, WALL_MS) == 4.0
    partition.acknowledge(10, 20)
    assert partition.backlog.oldest_age_s(20, 0.0, WALL_MS) == 0.0


def test_clicks_that_nobody_reads_are_as_old_as_the_standstill() -> None:
    """Of a worker that has just come it is not known how old they are; where it has read all, there is nothing old."""
    backlog = Backlog()
    backlog.note_end(50, position=40, now_s=100.0)
    backlog.note_end(60, position=40, now_s=105.0)

    assert backlog.oldest_age_s(40, 130.0, WALL_MS) == 30.0
    assert backlog.oldest_age_s(41, 130.0, WALL_MS) == 0.0
    backlog.note_end(60, position=55, now_s=131.0)
    assert backlog.oldest_age_s(55, 132.0, WALL_MS) == 1.0
    backlog.note_end(60, position=60, now_s=135.0)
    assert backlog.oldest_age_s(60, 200.0, WALL_MS) == 0.0


def test_clicks_that_are_not_read_yet_are_younger_than_the_last_that_was_answered() -> None:
    """The worker moves, through a backlog, and holds nothing of the partition at this moment."""
    partition = Partition(0)
    partition.backlog.note_end(100, position=0, now_s=10.0)
    partition.backlog.note_run(40, WALL_MS - 90_000, WALL_MS - 60_000)
    partition.position = 40
    partition.acknowledge(0, 40)

    assert partition.backlog.oldest_age_s(40, 11.0, WALL_MS) == 60.0
    partition.backlog.note_end(100, position=40, now_s=15.0)
    assert partition.backlog.oldest_age_s(40, 15.0, WALL_MS) == 60.0


def test_after_a_pause_clicks_are_no_older_than_the_last_moment_at_which_all_were_read() -> None:
    """Nobody clicked for an hour."""
    partition = Partition(0)
    partition.backlog.note_run(40, WALL_MS - 3_600_000, WALL_MS - 3_600_000)
    partition.position = 40
    partition.acknowledge(0, 40)
    partition.backlog.note_end(40, position=40, now_s=3_600.0)
    partition.backlog.note_end(41, position=40, now_s=3_605.0)

    assert partition.backlog.oldest_age_s(40, 3_607.0, WALL_MS) == 7.0


def test_records_say_their_time_in_seconds_or_not_at_all_or_that_of_tomorrow() -> None:
    for timestamp, age_s in ((WALL_MS // 1000 - 7, 7.0), (-1, 0.0), (WALL_MS + 5_000, 0.0)):
        backlog = Backlog()
        backlog.note_run(1, timestamp, timestamp)
        assert backlog.oldest_age_s(1, 0.0, WALL_MS) == age_s
