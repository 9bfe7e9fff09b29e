"""Ctrl-C and its like: they end what waits, where that is allowed, and never cut short what cleans up."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Notes SIGINT, SIGTERM and SIGHUP while it is entered; only in the main thread.

    Attributes:
        requested: whether one has come.
    """

    def __init__(self) -> None:
        self.requested = False
        self._may_interrupt = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let the first signal raise KeyboardInterrupt in the body, wherever it is, for it may wait for long.

        What the body makes must be known to who cleans up before it is made. One that came before raises at once.
        """
        try:
            self._may_interrupt = True
            if self.requested:
                raise KeyboardInterrupt
            yield
        finally:
            self._may_interrupt = False

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._may_interrupt:
            self._may_interrupt = False
            raise KeyboardInterrupt
