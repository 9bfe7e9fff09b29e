"""How clicks arrive: chunks of records, a run per partition. A run begins where the last one of its partition ended."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from nextclick.errors import PermanentError, TemporaryError
from nextclick.newer import BEGIN_ANEW
from nextclick.settings import Settings
from stream.protocol.assignment import Assignment, Assignments
from stream.protocol.port import Place, Port, Run
from stream.protocol.topic_check import TopicCheck

_log = logging.getLogger(__name__)

COMMITTED_S = 0.1  # between two looks whether everything is committed


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one fetch brought.

    Attributes:
        assignment: that it was fetched under.
        runs: partition to its run.
    """

    assignment: Assignment
    runs: Mapping[int, Run]


class ClickReader:
    """Reads the clicks of whatever is assigned.

    Attributes:
        assignments: what is assigned.
    """

    def __init__(
        self,
        port: Port,
        assignments: Assignments,
        topic_check: TopicCheck,
        clicks_topic: str,
        on_lost: Callable[[int], None],
    ) -> None:
        """Make a reader.

        Args:
            port: where the clicks come from.
            assignments: what is assigned.
            topic_check: is asked where the port doubts that clicks are of the topic that they were of.
            clicks_topic: for messages.
            on_lost: told how many offsets retention has taken before they were read.
        """
        self._port = port
        self._topic_check = topic_check
        self.assignments = assignments
        self._clicks_topic = clicks_topic
        self._on_lost = on_lost

    async def chunks(self) -> AsyncIterator[Chunk]:
        """Give chunks for ever; waits while nothing is served, or while the agent has enough to do.

        Raises:
            TemporaryError: the broker has lost clicks, or gives them out of order.
            PermanentError: the topic has grown, was created anew, or has clicks that cannot be read.
        """
        while True:
            assignment = self.assignments.current
            await assignment.wait_for_room()
            if not assignment.serves:
                continue
            fetched = await self._fetch(assignment)
            if self._port.doubts_topic():
                await self._topic_check.wait()
            runs = {number: await self._joined(assignment, number, run) for number, run in fetched.items()}
            # The wait was long: what was fetched for an assignment that is being given back comes again to its next
            # owner.
            if not assignment.serves:
                continue
            runs = {number: run for number, run in runs.items() if run.end > run.first}
            if runs:
                for number, run in runs.items():
                    partition = assignment.partitions[number]
                    partition.position = run.end
                    if run.records:
                        partition.backlog.note_run(run.end, run.records[0].timestamp, run.records[-1].timestamp)
                assignment.chunk_delivered()
                yield Chunk(assignment, runs)

    async def _fetch(self, assignment: Assignment) -> Mapping[int, Run]:
        """Fetch. At clicks that cannot be read, wait until those before are committed: the next start begins there.

        Raises:
            PermanentError: they are.
        """
        try:
            return await self._port.fetch(assignment)
        except PermanentError:
            while assignment.serves:
                if all(partition.committed == partition.position for partition in assignment.partitions.values()):
                    raise
                await self._port.sleep(COMMITTED_S)
            return {}

    async def _joined(self, assignment: Assignment, number: int, run: Run) -> Run:
        """Let a run begin where the last one of its partition ended: what retention took is named and passed over.

        Raises:
            TemporaryError: it is not retention that lies between.
        """
        position = assignment.partitions[number].position
        if run.first > position:
            place = (await self._port.places(assignment, [number])).get(number)
            if place is not None and place.first >= run.first:
                self.report_lost(number, position, run.first)
                return Run(position, run.records, run.end)
        if run.first != position and assignment.serves:
            raise TemporaryError(
                f"{self._clicks_topic}, partition {number}, is read up to {position}, and goes on at {run.first}: the "
                "broker has lost clicks, or is not the one that it was; start the worker again"
            )
        return run

    def report_lost(self, number: int, first: int, end: int) -> None:
        """Say that the offsets [first, end) of a partition were removed before they were read."""
        self._on_lost(end - first)
        log_lost(self._clicks_topic, number, first, end)


def start_position(settings: Settings, number: int, place: Place, on_lost: Callable[[int, int, int], None]) -> int:
    """Give the offset at which an application goes on in a partition; before its first commit, as `start` says.

    Args:
        settings: of the application.
        number: of the partition.
        place: where it stands.
        on_lost: told of the offsets [first, end) of the partition that retention has removed before they were read.

    Raises:
        PermanentError: the partition ends before what was read of it.
    """
    if place.committed is None:
        return place.first if settings.start == "earliest" else place.end
    if place.committed > place.end:
        raise PermanentError(
            f"application {settings.app} has read {settings.clicks_topic}, partition {number}, up to "
            f"{place.committed}, but it ends at {place.end}: the broker has lost clicks, and new ones would be taken "
            f"for known; {BEGIN_ANEW}: it reads what is left from the beginning"
        )
    if place.committed < place.first:
        on_lost(number, place.committed, place.first)
    return max(place.committed, place.first)


def log_lost(topic: str, number: int, first: int, end: int) -> None:
    """Say that the offsets [first, end) of a partition were removed before they were read."""
    _log.error(
        "clicks are lost: retention removed offsets %d to %d of %s, partition %d, before they were read; "
        "raise retention.ms of the topic, or run more workers",
        first,
        end - 1,
        topic,
        number,
        extra={"fields": {"partition": number, "first": first, "last": end - 1}},
    )
