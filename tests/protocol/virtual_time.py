"""Event loops that share a clock which only moves when a test moves it.

Each loop is a process: one that is not turned is paused, and one that is thrown away is killed.
"""

import asyncio
import heapq
import inspect
from typing import Any

MAX_TURNS = 10_000  # at one moment


class Clock:
    """A time in seconds, the same for every loop."""

    def __init__(self) -> None:
        self.now_s = 0.0


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop without input and output, whose time is a clock's."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock
        self._selector = _NothingToSelect()
        self.has_ended = False
        self._turns = 0
        self.failures: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.failures.append(context))

    def time(self) -> float:
        return self._clock.now_s

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to be done at the present time."""
        return not self._ready and self.next_timer_s > self._clock.now_s

    @property
    def next_timer_s(self) -> float:
        """When a timer goes off next; infinity without one."""
        while self._scheduled and self._scheduled[0]._cancelled:
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False
        return self._scheduled[0]._when if self._scheduled else float("inf")

    def turn(self) -> None:
        """Do all that can be done at the present time, or until the process has ended."""
        self._turns = 0
        self.run_forever()

    def close(self) -> None:
        """Kill the process; what it was about to begin never begins."""
        for task in asyncio.all_tasks(self):
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                coroutine.close()
        super().close()

    def _check_closed(self) -> None:
        """Let what a killed process has left be collected: what its coroutines begin then is never done."""

    def _run_once(self) -> None:
        super()._run_once()
        self._turns += 1
        assert self._turns < MAX_TURNS, "the process does not come to rest"
        if self.has_ended or self.is_idle:
            self._stopping = True

    def _process_events(self, event_list: Any) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps that would have to be woken."""


class _NothingToSelect:
    def select(self, timeout: float | None) -> list[Any]:
        return []

    def close(self) -> None:
        """Nothing is open."""
