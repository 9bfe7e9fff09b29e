"""How clicks arrive: chunks of records, a run per partition. A run begins where the last one of its partition ended."""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from nextclick.errors import TemporaryError
from stream.protocol.assignment import Assignment, Assignments
from stream.protocol.port import Port, Run

_log = logging.getLogger(__name__)


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

    def __init__(self, port: Port, assignments: Assignments, clicks_topic: str, on_lost: Callable[[int], None]) -> None:
        """Make a reader.

        Args:
            port: where the clicks come from.
            assignments: what is assigned.
            clicks_topic: for messages.
            on_lost: told how many offsets retention has taken before they were read.
        """
        self._port = port
        self.assignments = assignments
        self._clicks_topic = clicks_topic
        self._on_lost = on_lost

    async def chunks(self) -> AsyncIterator[Chunk]:
        """Give chunks for ever; waits while nothing is served, or while the agent has enough to do.

        Raises:
            TemporaryError: the broker has lost clicks, or gives them out of order.
        """
        while True:
            assignment = self.assignments.current
            await assignment.wait_for_room()
            if not assignment.serves:
                continue
            runs = {number: run for number, run in (await self._port.fetch(assignment)).items()}
            for number, run in runs.items():
                runs[number] = await self._joined(assignment, number, run)
            # The wait was long: what was fetched for an assignment that is being given back comes again to its next
            # owner.
            if not assignment.serves:
                continue
            runs = {number: run for number, run in runs.items() if run.end > run.first}
            if runs:
                for number, run in runs.items():
                    assignment.partitions[number].position = run.end
                assignment.chunk_delivered()
                yield Chunk(assignment, runs)

    async def _joined(self, assignment: Assignment, number: int, run: Run) -> Run:
        """Let a run begin where the last one of its partition ended: what retention took is named and passed over.

        Raises:
            TemporaryError: it is not retention that lies between.
        """
        position = assignment.partitions[number].position
        if run.first > position:
            place = (await self._port.places(assignment)).get(number)
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
        _log.error(
            "clicks are lost: retention removed offsets %d to %d of %s, partition %d, before they were read; "
            "raise retention.ms of the topic, or run more workers",
            first,
            end - 1,
            self._clicks_topic,
            number,
            extra={"fields": {"partition": number, "first": first, "last": end - 1}},
        )
