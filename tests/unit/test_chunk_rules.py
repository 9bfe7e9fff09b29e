"""Where chunks end, how long clicks are gathered for, and what is computed where."""

import pytest

from stream.protocol.chunk_rules import (
    GATHERED_CHUNKS,
    MAX_UNFINISHED_CHUNKS,
    MAX_UNFINISHED_RECORDS,
    QUICK_S,
    SLICE_RECORDS,
    Cut,
    Pace,
    Room,
)

MOST_S = 0.1


def cut_chunk(cut: Cut, waiting: dict[str, int], record_bytes: int = 100) -> dict[str, int]:
    """Take a chunk of records that wait, by partition, as a client does; gives how many of each."""
    taken: dict[str, int] = {}
    for partition in cut.begin(waiting):
        while wanted := cut.wanted():
            count = min(wanted, waiting[partition])
            cut.took(count, count * record_bytes)
            waiting[partition] -= count
            taken[partition] = taken.get(partition, 0) + count
            if count < wanted:
                break
        if cut.is_full(partition):
            break
    return taken


def test_what_is_there_is_one_chunk_while_it_is_little() -> None:
    assert cut_chunk(Cut(2_000), {"a": 3, "b": 0, "c": 5}) == {"a": 3, "b": 0, "c": 5}


def test_a_chunk_ends_at_the_most_records() -> None:
    cut, waiting = Cut(2_000), {"a": 5_000, "b": 5_000}

    assert sum(cut_chunk(cut, waiting).values()) == 2_000


def test_a_partition_that_was_cut_short_comes_last() -> None:
    """Whoever is in another one would else wait until its backlog is done."""
    cut, waiting = Cut(2_000), {"backlog": 100_000, "quiet": 0}
    cut_chunk(cut, waiting)
    waiting["quiet"] = 1

    taken = cut_chunk(cut, waiting)

    assert list(taken) == ["quiet", "backlog"]
    assert taken["quiet"] == 1


def test_two_backlogs_take_turns() -> None:
    cut, waiting = Cut(1_000), {"a": 100_000, "b": 100_000}

    assert [list(cut_chunk(cut, waiting)) for _ in range(4)] == [["a"], ["b"], ["a"], ["b"]]


@pytest.mark.parametrize("record_bytes", [1, 100, 10_000, 600_000])
def test_a_chunk_ends_at_the_most_bytes(record_bytes: int) -> None:
    """But for the last record."""
    cut, waiting = Cut(100_000, max_bytes=512_000), {"a": 1_000_000}
    sizes = [cut_chunk(cut, waiting, record_bytes)["a"] * record_bytes for _ in range(5)]

    assert max(sizes) < 512_000 + record_bytes


def test_records_that_become_large_are_counted_before_many_are_taken() -> None:
    cut = Cut(2_000, max_bytes=512_000)
    cut.begin(["a"])
    cut.took(SLICE_RECORDS, 100 * SLICE_RECORDS)
    cut.took(1, 300_000)

    assert cut.wanted() == 1


def test_clicks_are_gathered_for_as_long_as_a_few_chunks_take_and_never_longer_than_allowed() -> None:
    pace = Pace()
    assert pace.gather_s(MOST_S) == 0.0  # a click that finds the worker idle
    for _ in range(50):
        pace.chunk_took(0.001)
    assert pace.gather_s(MOST_S) == pytest.approx(GATHERED_CHUNKS * 0.001, rel=0.01)
    for _ in range(50):
        pace.chunk_took(0.5)
    assert pace.gather_s(MOST_S) == MOST_S


def test_the_first_quick_chunk_after_a_backlog_is_believed() -> None:
    pace = Pace()
    for _ in range(50):
        pace.chunk_took(0.5)
    pace.chunk_took(0.001)

    assert pace.gather_s(1.0) == pytest.approx(GATHERED_CHUNKS * 0.001)


def test_only_what_was_quick_is_computed_on_the_event_loop() -> None:
    pace = Pace()
    assert not pace.is_quick("a", 1, 1)  # nobody knows yet
    pace.computed("a", 20, 20, QUICK_S * 0.9)
    pace.computed("a", 40, 40, QUICK_S * 1.1)

    assert pace.is_quick("a", 20, 20)
    assert pace.is_quick("a", 31, 31)  # of the same size
    assert not pace.is_quick("a", 40, 40)
    assert not pace.is_quick("a", 1, 1)  # a single one costs more than one of many
    assert not pace.is_quick("a", 20, 1_000)  # whose clicks take time, too


def test_of_another_bundle_nothing_is_known() -> None:
    """It can be a hundred times as large."""
    pace = Pace()
    pace.computed("a", 1, 1, 0.0001)

    assert not pace.is_quick("b", 1, 1)
    pace.computed("b", 1, 1, 1.0)
    assert not pace.is_quick("b", 1, 1)


def test_one_slow_chunk_does_not_decide_and_many_do() -> None:
    pace = Pace()
    for _ in range(20):
        pace.computed("a", 1, 1, QUICK_S / 10)
    pace.computed("a", 1, 1, QUICK_S * 2)
    assert pace.is_quick("a", 1, 1)
    for _ in range(20):
        pace.computed("a", 1, 1, QUICK_S * 2)

    assert not pace.is_quick("a", 1, 1)


def test_there_is_room_for_some_chunks_and_for_some_records() -> None:
    room = Room()
    assert room.has(10 * MAX_UNFINISHED_RECORDS)  # alone
    room.take(MAX_UNFINISHED_RECORDS - 1)
    assert room.has(1)
    assert not room.has(2)
    room.leave(MAX_UNFINISHED_RECORDS - 1)
    for _ in range(MAX_UNFINISHED_CHUNKS):
        assert room.has(1)
        room.take(1)
    assert not room.has(1)
