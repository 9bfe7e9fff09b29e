"""Runs a program that is measured: what it prints is kept, what it uses is counted, and if it dies that is said."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

from nextclick.settings import Settings
from tools.processes import dying_with_parent

_TAIL_LINES = 15
_END_PATIENCE_S = 10.0


class ProgramDiedError(Exception):
    """A program ended while it was measured: there is no figure of it. The message has its last lines."""


class ProgramStuckError(Exception):
    """A program did not answer all clicks in time: there is no figure of it."""


class RunningProgram:
    """A program and its children."""

    def __init__(self, process: "subprocess.Popen[bytes]", output: Path) -> None:
        self._process, self._output = process, output

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """Return while the program runs.

        Raises:
            ProgramDiedError: it has ended.
        """
        status = self._process.poll()
        if status is not None:
            raise ProgramDiedError(f"ended with status {status}; the last that it printed:\n{self.tail()}")

    def wait(self) -> None:
        """Return when it has ended by itself.

        Raises:
            ProgramDiedError: it has failed.
        """
        if self._process.wait():
            self.check()

    def output(self) -> str:
        """Give all that it printed so far."""
        return self._output.read_text(errors="replace")

    def tail(self) -> str:
        """Give the last lines that it printed."""
        lines = self.output().splitlines()
        return "\n".join(f"    {line:.300}" for line in lines[-_TAIL_LINES:]) or "    (nothing)"

    def cpu_s(self) -> float:
        """Give the CPU seconds that it has used, with all its threads and children."""
        total_s = 0.0
        for process in self._family():
            try:
                times = process.cpu_times()
            except psutil.NoSuchProcess:
                continue
            total_s += times.user + times.system + times.children_user + times.children_system
        return total_s

    def max_rss_bytes(self) -> int:
        """Give the most memory that it has held so far; of several processes the sum of their own."""
        return sum(_peak_bytes(process.pid) for process in self._family())

    def _family(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@contextmanager
def running(
    settings: Settings, command: Sequence[str], more_environment: Mapping[str, str] | None = None
) -> Iterator[RunningProgram]:
    """Run a program with these settings, from its start to the end of the block.

    Args:
        settings: reach it through its environment.
        command: its first word is the path of a program.
        more_environment: beside the settings.
    """
    environment = dict(os.environ) | settings.as_environment() | dict(more_environment or {})
    with tempfile.TemporaryDirectory(prefix="nextclick-bench-") as folder:
        output = Path(folder) / "output"
        with output.open("wb") as file:
            process = subprocess.Popen(
                dying_with_parent(command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
            )
        try:
            yield RunningProgram(process, output)
        finally:
            _end(process)


def python(*arguments: str) -> list[str]:
    """Give the command of a Python program of this tree."""
    return [sys.executable, *arguments]


def _peak_bytes(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:  # it has just ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(_END_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
