"""Notices what no exception tells: an assignment that stays in a phase for too long, a partition that stands still
though it has clicks, and a broker that is away.

Doubt stops the process: a worker that does not move while the broker answers exits, and starts afresh. While the
broker does not answer there is nothing to doubt: the worker waits and says so.
"""

import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from stream.protocol.assignment import Assignment, Assignments, Phase
from stream.protocol.port import BrokerAway, Port
from stream.protocol.topic_check import TopicCheck

_log = logging.getLogger(__name__)

LOOK_S = 1.0
ASK_S = 5.0  # the broker is asked how far it is not more often than so
# Of `stall_s`: how long an assignment may stay in a phase without a move. Other members of the group may take their
# time to join; a recovery has a patience of its own, and begins again once; who serves may be without a lease for so
# long, for a coordinator that has moved.
PATIENCE = {
    Phase.JOINING: 2.0,
    Phase.RESTORING: 2.0,
    Phase.SEEKING: 1.0,
    Phase.SERVING: 2.0,
    Phase.DRAINING: 1.0,
}


class Progress(NamedTuple):
    """How far a partition is.

    Attributes:
        committed: the offset that is committed; None before the first.
        position: where the next run begins.
        end: of the partition, as far as it is readable.
    """

    committed: int | None
    position: int
    end: int

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to do."""
        return self.position >= self.end and self.position == self.committed


class Standstill:
    """Tells which partition of an assignment has not moved for too long. Pure: the time is handed in."""

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._moved_s: dict[int, float] = {}
        self._last: dict[int, Progress] = {}

    def forget(self) -> None:
        """Begin anew: while partitions move or the broker is away, standing still means nothing."""
        self._moved_s.clear()
        self._last.clear()

    def look(self, now_s: float, partitions: Mapping[int, Progress]) -> int | None:
        """Give a partition that has clicks and has committed none for longer than the patience, if there is one.

        One that is left out, because nobody leads it now, begins anew.
        """
        for partition in self._last.keys() - partitions.keys():
            del self._last[partition]
        for partition, progress in partitions.items():
            last = self._last.get(partition)
            if last is None or progress.is_idle or progress.committed != last.committed:
                self._moved_s[partition] = now_s
            self._last[partition] = progress
        return next((p for p in partitions if now_s - self._moved_s[p] > self._patience_s), None)


class Watchdog:
    """Watches one worker.

    Attributes:
        n_leases_lost: how often no heartbeat of a worker that serves was answered in time.
    """

    def __init__(
        self,
        port: Port,
        assignments: Assignments,
        topic_check: TopicCheck,
        settings: Settings,
        is_waiting: Callable[[], bool] = lambda: False,
    ) -> None:
        """Make a watchdog; `watch` runs it.

        Args:
            port: for the clock, and to ask how far the partitions are.
            assignments: what is watched.
            topic_check: asks whether the broker is there, and whether the topic is what it was.
            settings: standing still for longer than `stall_s` is a failure.
            is_waiting: whether lists wait for something else than clicks: then standing still means nothing.
        """
        self._is_waiting = is_waiting
        self._port = port
        self._assignments = assignments
        self._topic_check = topic_check
        self._clicks_topic = settings.clicks_topic
        self._stall_s = settings.stall_s
        self._standstill = Standstill(settings.stall_s)
        self._watched: Assignment | None = None
        self._asked_s = float("-inf")
        self._broker_was_there: bool | None = None
        self.n_leases_lost = 0

    @property
    def hears_broker(self) -> bool:
        """Whether the broker answers, as far as it was noticed. From any thread."""
        return self._broker_was_there is not False

    async def watch(self) -> None:
        """Look once a second, until something stands still.

        Raises:
            TemporaryError: it does.
            PermanentError: the clicks topic is another one.
        """
        while True:
            slept_s = self._port.now_s()
            await self._port.sleep(LOOK_S)
            slept_s = self._port.now_s() - slept_s
            assignment = self._assignments.current
            if assignment is not self._watched or not assignment.serves:
                self._standstill.forget()
                self._watched = assignment
            if slept_s > LOOK_S + self._stall_s / 2:  # the whole worker was paused: nothing could move
                self._standstill.forget()
                assignment.moved(self._port.now_s())
            if assignment.serves:
                await self._look_at_partitions(assignment)
            else:
                await self._look_at_phase(assignment)

    async def _look_at_phase(self, assignment: Assignment) -> None:
        phase = assignment.phase
        patience_s = PATIENCE[phase] * self._stall_s
        is_still = assignment.still_for_s(self._port.now_s()) > patience_s
        if not (self._is_time_to_ask() or is_still):
            return
        is_there = await self._broker_answers()
        self._tell_broker(is_there)
        if not is_there:
            if is_still:
                assignment.moved(self._port.now_s())
            return
        if assignment is self._assignments.current and assignment.phase is phase:
            still_s = assignment.still_for_s(self._port.now_s())
            if still_s > patience_s:
                raise TemporaryError(
                    f"the worker has been {phase.value} for {still_s:.0f} s without a move, though the broker answers; "
                    "start it again"
                )

    async def _look_at_lease(self, assignment: Assignment) -> None:
        """Without a lease nothing leaves: the broker is away, or its coordinator does not answer."""
        self._standstill.forget()
        patience_s = PATIENCE[Phase.SERVING] * self._stall_s
        if (
            min(assignment.lease.lost_for_s(self._port.now_s()), assignment.still_for_s(self._port.now_s()))
            < patience_s
        ):
            return
        if not await self._broker_answers():
            assignment.moved(self._port.now_s())
        elif assignment.serves and not assignment.lease.is_held(self._port.now_s()):
            raise TemporaryError(
                f"no heartbeat of the worker was answered for {patience_s:.0f} s, though the broker answers: its "
                "partitions may be another one's; start it again"
            )

    def _is_time_to_ask(self) -> bool:
        """Tell whether the broker was not asked for a while, and count it as asked now if so."""
        now_s = self._port.now_s()
        is_time = now_s >= self._asked_s + min(ASK_S, self._stall_s / 4)
        if is_time:
            self._asked_s = now_s
        return is_time

    async def _broker_answers(self) -> bool:
        try:
            await self._topic_check.ask()
        except BrokerAway:
            return False
        return True

    async def _look_at_partitions(self, assignment: Assignment) -> None:
        is_there = assignment.lease.is_held(self._port.now_s())
        self.n_leases_lost += self._broker_was_there is True and not is_there
        self._tell_broker(is_there)
        if not is_there:
            await self._look_at_lease(assignment)
            return
        if not self._is_time_to_ask():
            return
        try:
            await self._topic_check.ask()
            ends = await self._port.ends(assignment)
        except BrokerAway:
            self._standstill.forget()
            return
        if not assignment.serves:
            return
        for number, end in ends.items():
            partition = assignment.partitions[number]
            partition.backlog.note_end(end, partition.position, self._port.now_s())
        if self._is_waiting():
            self._standstill.forget()
            return
        progress = {
            number: Progress(partition.committed, partition.position, ends[number])
            for number, partition in assignment.partitions.items()
            if number in ends
        }
        still = self._standstill.look(self._port.now_s(), progress)
        if still is not None:
            raise TemporaryError(
                f"partition {still} of {self._clicks_topic} stands still: none of its clicks was answered for "
                f"{self._stall_s:.0f} s, with {progress[still]}; start the worker again"
            )

    def _tell_broker(self, is_there: bool) -> None:
        if self._broker_was_there and not is_there:
            _log.warning("the broker does not answer: waiting for it, nothing is lost")
        elif self._broker_was_there is False and is_there:
            _log.warning("the broker answers again: going on")
        self._broker_was_there = is_there
