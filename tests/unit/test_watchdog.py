"""The watchdog's judgement: what stands still, and what only has nothing to do."""

import pytest

from stream.protocol.watchdog import Progress, Standstill

WAITING = Progress(committed=10, position=20, end=30)


def test_a_partition_that_commits_nothing_is_named_after_the_patience() -> None:
    """The other partition moves."""
    standstill = Standstill(patience_s=5)
    found = [standstill.look(second, {0: WAITING._replace(committed=second), 1: WAITING}) for second in range(7)]

    assert found == [None] * 6 + [1]


def test_a_partition_without_work_may_stand_still() -> None:
    """Everything readable has been read and is committed."""
    standstill = Standstill(patience_s=5)
    progress = Progress(committed=30, position=30, end=30)

    assert [standstill.look(second, {0: progress}) for second in (0, 100)] == [None, None]


@pytest.mark.parametrize(
    "progress",
    [
        Progress(committed=None, position=0, end=30),  # nothing is fetched
        Progress(committed=10, position=10, end=30),
        Progress(committed=10, position=30, end=30),  # a chunk hangs
        Progress(committed=None, position=30, end=30),
    ],
)
def test_each_kind_of_standstill_is_found(progress: Progress) -> None:
    """Not fetched, not answered, not committed."""
    standstill = Standstill(patience_s=5)

    assert [standstill.look(second, {0: progress}) for second in (0, 6)] == [None, 0]


def test_the_wait_begins_anew_after_a_broker_was_away() -> None:
    """`forget` is called while the broker does not answer."""
    standstill = Standstill(patience_s=5)
    standstill.look(0, {0: WAITING})
    standstill.forget()

    assert standstill.look(6, {0: WAITING}) is None
    assert standstill.look(12, {0: WAITING}) == 0


def test_the_wait_of_a_partition_that_was_left_out_begins_anew() -> None:
    """Nobody led it for a while: then its clicks could not be read."""
    standstill = Standstill(patience_s=5)
    found = [
        standstill.look(now_s, partitions) for now_s, partitions in ((0, {0: WAITING}), (4, {}), (8, {0: WAITING}))
    ]

    assert found == [None, None, None]
    assert standstill.look(14, {0: WAITING}) == 0
