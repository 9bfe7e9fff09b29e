"""Parts of nextclick as processes of their own, which end with their parent; supervised ones are started again."""

import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

from nextclick.errors import PermanentError
from tools.processes import dying_with_parent

COMMAND_LINE = "from cli.main import main; main()"
TAIL_LINES = 12
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
HEALTHY_S = 60.0  # what ran so long begins again at the first delay
QUICK_S = 10.0  # what ends sooner has not got to work: a start takes 2 to 5 s
QUICK_FAILURES = 5  # in a row: starting again will not help


class Child:
    """A part of nextclick that runs as a process of its own, its log in a file.

    Attributes:
        name: of the part, for messages.
        output: what it prints on standard output, line by line; None unless asked for.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        log: Path,
        *,
        read_output: bool = False,
        program: str = COMMAND_LINE,
    ) -> None:
        """Start `nextclick` with arguments, or another program of it.

        Args:
            name: of the part.
            arguments: after `nextclick`.
            environment: replaces this process's.
            log: gets its standard error, and its standard output unless that is read.
            read_output: whether `output` is wanted.
            program: what Python runs.
        """
        self.name = name
        self._log = log
        with log.open("wb") as log_file:
            self._process = subprocess.Popen(
                dying_with_parent([sys.executable, "-c", program, *arguments]),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE if read_output else log_file,
                stderr=log_file,
                start_new_session=True,  # Ctrl-C on the terminal is the parent's to pass on, in the right order
            )
        self.output: IO[bytes] | None = self._process.stdout

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        """How it ended; None while it runs."""
        return self._process.poll()

    @property
    def log_tail(self) -> str:
        """The last lines that it logged."""
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-TAIL_LINES:])

    def wait(self, patience_s: float) -> None:
        """Wait until it ends by itself.

        Raises:
            subprocess.TimeoutExpired: it did not.
        """
        self._process.wait(patience_s)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def stop(self, patience_s: float) -> None:
        """Ask it to end, wait, and kill it if it does not."""
        if self.exit_status is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
        if self.output is not None:
            self.output.close()


class Restarts:
    """Decides when a part that ended by itself is started again. Looks at no clock."""

    def __init__(self) -> None:
        self._delay_s = FIRST_DELAY_S
        self._quick = 0

    def ended(self, ran_s: float) -> float | None:
        """Note an end.

        Args:
            ran_s: since the start.

        Returns:
            How long to wait before the next start; None: do not start it again.
        """
        self._quick = self._quick + 1 if ran_s < QUICK_S else 0
        if self._quick >= QUICK_FAILURES:
            return None
        if ran_s >= HEALTHY_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s


class SupervisedChild:
    """A child that is started again when it ends by itself.

    Attributes:
        child: the running one, or the one that ended last.
    """

    def __init__(self, start: Callable[[], Child], now_s: float) -> None:
        """Start it.

        Args:
            start: makes a running child.
            now_s: of any clock that only goes forward; the same as in `tend`.
        """
        self._start = start
        self._restarts = Restarts()
        self._started_s = now_s
        self._again_s: float | None = None
        self.child = start()

    def tend(self, now_s: float) -> str | None:
        """Look after it; to be called a few times a second.

        Returns:
            What happened, in one line; None if nothing did.

        Raises:
            PermanentError: it fails again and again.
        """
        if self._again_s is not None:
            if now_s >= self._again_s:
                self._again_s, self._started_s = None, now_s
                self.child = self._start()
            return None
        status = self.child.exit_status
        if status is None:
            return None
        delay_s = self._restarts.ended(now_s - self._started_s)
        if delay_s is None:
            raise PermanentError(
                f"the {self.child.name} ended {QUICK_FAILURES} times within {QUICK_S:.0f} s of its start, now with "
                f"{_described(status)}; mend what its log says:\n{self.child.log_tail}"
            )
        self._again_s = now_s + delay_s
        return (
            f"the {self.child.name} ended with {_described(status)} and is started again in {delay_s:g} s; "
            f"its last line: {_message(self.child.log_tail)}"
        )

    def stop(self, patience_s: float) -> None:
        """Ask it to end, wait, and kill it if it does not; it is not started again."""
        self.child.stop(patience_s)


def _described(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _message(log: str) -> str:
    """Give the last line of a log, without what a machine needs around it."""
    line = log.rstrip().rpartition("\n")[2]
    try:
        return str(msgspec.json.decode(line)["message"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return line or "none"
