"""What a training is watched by: the request to stop, and a progress bar on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


class TrainingStopped(Exception):
    """The trainer is to end: nothing of the training is kept."""


class Watch:
    """Asked once per batch, so that a training ends soon after the request."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop

    def check(self) -> None:
        """Go on, or not.

        Raises:
            TrainingStopped: a stop was requested.
        """
        if self._stop.is_set():
            raise TrainingStopped

    @contextmanager
    def bar(self, title: str, total: int) -> Iterator["Bar"]:
        """Show a progress bar where standard error is a terminal; elsewhere nothing, the log lines tell enough."""
        if not sys.stderr.isatty():
            yield Bar(self, None)
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            progress.add_task(title, total=total)
            yield Bar(self, progress)


class Bar:
    """Counts clicks, and asks the watch."""

    def __init__(self, watch: Watch, progress: Progress | None) -> None:
        self._watch = watch
        self._progress = progress

    def advance(self, n_clicks: int) -> None:
        """Count some clicks.

        Raises:
            TrainingStopped: a stop was requested.
        """
        if self._progress is not None:
            self._progress.advance(self._progress.task_ids[0], n_clicks)
        self._watch.check()
