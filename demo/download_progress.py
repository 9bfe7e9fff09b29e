"""How far a download is: a bar on a terminal, plain lines elsewhere, always on standard error."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

_LINE_EVERY_S = 5.0
_MEGABYTE = 1_000_000


class DownloadProgress:
    """Counts the bytes of several files that are fetched at the same time. Safe to use from several threads."""

    def __init__(self, what: str, total_bytes: int) -> None:
        self._what = what
        self._total_bytes = total_bytes
        self._n_bytes = 0
        self._guard = threading.Lock()
        self._said_at_s = time.monotonic()
        console = Console(stderr=True)
        self._console = console
        self._bar = (
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(),
                TransferSpeedColumn(),
                console=console,
                transient=True,
            )
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(f"Downloading {self._what}", total=self._total_bytes)
        else:
            self._say(f"Downloading {self._what}, {self._total_bytes / _MEGABYTE:.0f} MB, once")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()
        if error is None:
            self._say(f"Downloaded {self._what}, {self._n_bytes / _MEGABYTE:.0f} MB")

    @contextlib.contextmanager
    def of_file(self, name: str, n_bytes: int) -> Iterator[Callable[[int], None]]:
        """Give a function that is told how many bytes of one file have just arrived."""
        yield self._arrived

    def _arrived(self, n_bytes: int) -> None:
        with self._guard:
            self._n_bytes += n_bytes
            if self._bar:
                self._bar.update(self._task, completed=self._n_bytes)
            elif time.monotonic() - self._said_at_s > _LINE_EVERY_S:
                self._said_at_s = time.monotonic()
                self._say(f"Downloading: {self._n_bytes / _MEGABYTE:.0f} of {self._total_bytes / _MEGABYTE:.0f} MB")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)
