"""A part of nextclick as a process of its own, which ends with its parent."""

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from tools.processes import dying_with_parent

TAIL_LINES = 12


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
    ) -> None:
        """Start `nextclick` with arguments.

        Args:
            name: of the part.
            arguments: after `nextclick`.
            environment: replaces this process's.
            log: gets its standard error, and its standard output unless that is read.
            read_output: whether `output` is wanted.
        """
        self.name = name
        self._log = log
        with log.open("wb") as log_file:
            self._process = subprocess.Popen(
                dying_with_parent([sys.executable, "-c", "from cli.main import main; main()", *arguments]),
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
