"""Notices what no exception tells: a partition that stands still though it has clicks, and a broker that is away.

Doubt stops the process: a worker that does not move while the broker answers exits, and starts afresh. While the
broker does not answer there is nothing to doubt: the worker waits and says so.
"""

import asyncio
import faulthandler
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nextclick.errors import TemporaryError
from stream.protocol.lease import now_s

_log = logging.getLogger(__name__)

LOOK_S = 1.0
ASK_S = 5.0  # the broker is asked how far it is not more often than so
ASK_TIMEOUT_S = 5.0


class Progress(NamedTuple):
    """How far a partition is.

    Attributes:
        committed: the offset that is committed; None before the first.
        delivered: the offset after the last click that was handed on; None before the first.
        position: what the client reads next; markers of transactions count as read.
        end: of the partition, as far as it is readable.
    """

    committed: int | None
    delivered: int | None
    position: int
    end: int

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.position >= self.end and (self.delivered is None or self.delivered == self.committed)


class Standstill:
    """Tells which partition has not moved for too long. Pure: the time is handed in."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._moved_s: dict[int, float] = {}
        self._last: dict[int, Progress] = {}

    def forget(self) -> None:
        """Begin anew: while partitions move or the broker is away, standing still means nothing."""
        self._moved_s.clear()
        self._last.clear()

    def look(self, now_s: float, partitions: Mapping[int, Progress]) -> int | None:
        """Give a partition that has clicks and has committed none for longer than the patience, if there is one."""
        for partition, progress in partitions.items():
            last = self._last.get(partition)
            if last is None or progress.is_idle or progress.committed != last.committed:
                self._moved_s[partition] = now_s
            self._last[partition] = progress
        return next((p for p in partitions if now_s - self._moved_s[p] > self._patience_s), None)


class Watchdog:
    """Watches one worker."""

    def __init__(self, app: Any, clicks_topic: str, stall_s: float, on_failure: Callable[[Exception], None]) -> None:
        """Make a watchdog; `watch` runs it.

        Args:
            app: the worker's app.
            clicks_topic: what it reads.
            stall_s: standing still for longer is a failure; so is an event loop that is blocked for longer.
            on_failure: told of what does not move.
        """
        self._app = app
        self._clicks_topic = clicks_topic
        self._stall_s = stall_s
        self._on_failure = on_failure
        self._standstill = Standstill(stall_s)
        self._broker = _BrokerNews()
        self._moved_s = self._asked_s = time.monotonic()

    async def watch(self) -> None:
        """Look once a second, until the task is cancelled or something has failed."""
        failure = None
        try:
            while failure is None:
                # Ends the process with a stack trace if this loop does not come round in time.
                faulthandler.dump_traceback_later(self._stall_s + ASK_TIMEOUT_S, exit=True)
                await asyncio.sleep(LOOK_S)
                app = self._app
                if app.started and not app.rebalancing and not app.in_recovery:
                    self._moved_s = time.monotonic()
                    failure = await self._look_at_partitions()
                else:
                    self._standstill.forget()
                    failure = self._look_at_start()
        finally:
            faulthandler.cancel_dump_traceback_later()
        self._on_failure(failure)

    async def _look_at_partitions(self) -> TemporaryError | None:
        is_there = self._app.lease.is_held(now_s())
        self._broker.tell(is_there)
        if is_there and time.monotonic() < self._asked_s + min(ASK_S, self._stall_s / 4):
            return None
        self._asked_s = time.monotonic()
        progress = await _progress(self._app, self._clicks_topic) if is_there else None
        if progress is None:
            self._standstill.forget()
            return None
        partition = self._standstill.look(time.monotonic(), progress)
        if partition is None:
            return None
        return TemporaryError(
            f"partition {partition} of {self._clicks_topic} stands still: expected its clicks to be answered within "
            f"{self._stall_s:.0f} s, found {progress[partition]}; start the worker again"
        )

    def _look_at_start(self) -> TemporaryError | None:
        if self._app.recovery.is_reading:  # it has a patience of its own
            self._moved_s = time.monotonic()
        # Twice: other members of the group may take their time to join.
        if time.monotonic() < self._moved_s + 2 * self._stall_s:
            return None
        return TemporaryError(
            f"expected partitions to be ready within {2 * self._stall_s:.0f} s, found that they are not; "
            "start the worker again"
        )


async def _progress(app: Any, clicks_topic: str) -> dict[int, Progress] | None:
    """Ask how far the partitions are; None when the broker does not answer or the assignment changes meanwhile."""
    consumer = app.consumer
    partitions = [tp for tp in consumer.assignment() if tp.topic == clicks_topic]
    try:
        async with asyncio.timeout(ASK_TIMEOUT_S):
            ends = await consumer.highwaters(*partitions) if partitions else {}
            positions = {tp: await consumer.position(tp) for tp in partitions}
    except Exception:  # whatever it is: the lease and the standstill tell what it means
        return None
    return {
        tp.partition: Progress(
            consumer.committed_offset(tp.partition),
            consumer.delivered_offset(tp.partition),
            positions[tp] or 0,
            ends[tp],
        )
        for tp in partitions
    }


class _BrokerNews:
    def __init__(self) -> None:
        self._was_there: bool | None = None

    def tell(self, is_there: bool) -> None:
        if self._was_there and not is_there:
            _log.warning("the broker does not answer: waiting for it, nothing is lost")
        elif self._was_there is False and is_there:
            _log.warning("the broker answers again: going on")
        if is_there or self._was_there is not None:  # before it was there once, the worker is still joining
            self._was_there = is_there
