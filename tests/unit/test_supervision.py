"""When a part of the demo that ended by itself is started again; the parts here are real processes that fail."""

import os
from pathlib import Path

import pytest

from demo.children import Child, Restarts, SupervisedChild
from nextclick.errors import PermanentError


def test_every_wait_is_twice_the_one_before_up_to_a_longest() -> None:
    """A part that gets to work each time, but never for a minute, is never given up."""
    restarts = Restarts()

    assert [restarts.ended(20) for _ in range(9)] == [0.5, 1, 2, 4, 8, 16, 30, 30, 30]


def test_a_minute_of_health_makes_the_next_wait_the_first_one() -> None:
    """What failed an hour ago says nothing of now."""
    restarts = Restarts()

    assert [restarts.ended(ran_s) for ran_s in (20, 20, 60, 20)] == [0.5, 1, 0.5, 1]


def test_five_quick_ends_in_a_row_are_given_up() -> None:
    """One that got to work in between begins the count anew."""
    restarts = Restarts()

    assert [restarts.ended(1) is None for _ in range(4)] == [False] * 4
    assert restarts.ended(11) is not None
    assert [restarts.ended(1) is None for _ in range(5)] == [False] * 4 + [True]


def test_an_end_is_said_once_with_its_reason_and_the_part_starts_again_in_time(tmp_path: Path) -> None:
    """Not before its time; the clock is the caller's."""
    part = SupervisedChild(lambda: wrong_command(tmp_path), now_s=0)
    first = part.child
    first.wait(30)
    said, early, again = part.tend(5), part.tend(5.4), part.tend(5.5)
    part.stop(10)

    assert said is not None
    assert said.startswith("the worker ended with status 2 and is started again in 0.5 s; its last line: ")
    assert "no-such-command" in said
    assert "\n" not in said
    assert (early, again) == (None, None)
    assert part.child is not first


def test_a_part_that_cannot_start_is_given_up_with_the_end_of_its_log(tmp_path: Path) -> None:
    """After five times: the message says why, and what to do."""
    part = SupervisedChild(lambda: wrong_command(tmp_path), now_s=0)

    def fail(now_s: float) -> None:
        part.child.wait(30)
        part.tend(now_s)
        part.tend(now_s + 100)

    for number in range(4):
        fail(101 * number + 1)
    with pytest.raises(PermanentError) as given_up:
        fail(405)

    assert "the worker ended 5 times within 10 s of its start" in str(given_up.value)
    assert "No such command 'no-such-command'" in str(given_up.value)


def test_a_kill_and_the_last_line_of_a_log_for_machines_are_said_for_people(tmp_path: Path) -> None:
    """The signal by its name, of a line in JSON its message."""
    part = SupervisedChild(lambda: Child("worker", ["kafka", "--help"], os.environ, tmp_path / "log"), now_s=0)
    part.child.kill()
    (tmp_path / "log").write_text('{"level":"info","message":"partitions assigned","partitions":[0]}\n')

    assert part.tend(30) == (
        "the worker ended with SIGKILL and is started again in 0.5 s; its last line: partitions assigned"
    )


def wrong_command(folder: Path) -> Child:
    return Child("worker", ["no-such-command"], os.environ, folder / "log")
