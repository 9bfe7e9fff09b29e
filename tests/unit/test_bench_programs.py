"""Programs that are measured: one that dies is said, and what it used is counted."""

import time
from collections.abc import Callable

import pytest

from bench.pairs import UnknownCommitError, check_commit
from bench.programs import ProgramDiedError, RunningProgram, python, running
from nextclick.settings import Settings

DEADLINE_S = 30.0


def wait_for(condition: Callable[[], bool]) -> None:
    """Return when a condition holds."""
    end_s = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def has_ended(program: RunningProgram) -> bool:
    """Tell whether a program has ended."""
    try:
        program.check()
    except ProgramDiedError:
        return True
    return False


def test_a_program_that_dies_is_reported_with_its_last_lines() -> None:
    """Whoever reads the benchmark sees why there is no figure."""
    with running(Settings(), python("-c", "print('on the way'); raise SystemExit('no such topic')")) as program:
        wait_for(lambda: has_ended(program))
        with pytest.raises(ProgramDiedError, match=r"(?s)status 1.*on the way.*no such topic"):
            program.check()


def test_children_count_as_their_program() -> None:
    """A program that leaves its work to another process must not look cheap."""
    work = "import time\nend = time.monotonic() + 60\nwhile time.monotonic() < end: pass"
    with running(
        Settings(), python("-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {work!r}])")
    ) as program:
        wait_for(lambda: program.cpu_s() > 0.5)

        assert program.max_rss_bytes() > 8_000_000  # two interpreters


def test_a_commit_that_is_not_there_is_one_clear_line() -> None:
    """A user's mistake is no stack trace."""
    check_commit("HEAD")
    with pytest.raises(UnknownCommitError, match="nosuch is no commit"):
        check_commit("nosuch")
    with pytest.raises(UnknownCommitError, match="is no commit"):
        check_commit("--help")
