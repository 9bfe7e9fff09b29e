"""How a long piece of work is ended early, and how it shows on a terminal how far it is."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn


class TrainingCancelled(Exception):
    """The work was asked to end. Nothing of it is kept."""


class Cancellation:
    """A request to end, which the work asks about often: after every batch, so that it ends soon."""

    def __init__(self, requested: Event) -> None:
        """Listen to a request.

        Args:
            requested: set by whoever wants the work to end, from any thread.
        """
        self._requested = requested

    def check(self) -> None:
        """Go on unless the end was requested. Never blocks.

        Raises:
            TrainingCancelled: the end was requested.
        """
        if self._requested.is_set():
            raise TrainingCancelled


NEVER_CANCELLED = Cancellation(Event())  # for work that ends with its program


@contextmanager
def progress_bar(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a progress bar if standard error is a terminal. Elsewhere nothing is shown: the log lines tell enough.

    Args:
        title: stands before the bar.
        total: what the steps add up to.

    Yields:
        A function that moves the bar on by some steps.
    """
    if not sys.stderr.isatty():
        yield lambda n_steps: None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=total)
        yield lambda n_steps: progress.advance(task, n_steps)
