"""The order of a commit. The safety of states and updates rests on it, and it is kept here and nowhere else.

For the run of clicks of a partition, in log order:

1. The agent computes states, updates and dead letters from the clicks. Nothing outside the process has changed. It
   keeps the states in `Partition.pending`, so that the next chunk computes with them; should this one not be published,
   no later one of the assignment is either.
2. The states go to the changelog; the updates and the dead letters go to their topics. The order in each topic and
   partition is that of the clicks.
3. The broker has acknowledged all of them, and all that belongs to earlier runs is past step 5.
4. The states are written to the local store, with the changelog offset up to which it is complete, in one atomic batch.
   So the local store never knows more than the changelog.
5. The clicks are acknowledged: `Partition.acknowledged` moves to the run's end. A run that does not begin where the
   last one ended is an error.
6. What is acknowledged is committed to the consumer group, once in a while and before partitions are given back
   (`stream.protocol.membership`).

A crash between any two steps repeats clicks, which the fences of the states then skip; it loses none. When the
assignment ends before step 4, the steps that are left do not happen: the clicks are the next owner's. When a step
fails, nothing is acknowledged any more and the worker ends.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nextclick.settings import Settings
from stream.protocol.assignment import Assignment
from stream.protocol.port import Delivery, Port, Record, StateStore
from tools.records import Header

NO_HEADERS: list[Header] = []  # shared by all records without: never changed


@dataclass(slots=True)
class RunResults:
    """What a run of clicks of one partition leads to.

    Attributes:
        partition: of the clicks, and so of everything that follows from them.
        first: the offset at which the run begins.
        end: the offset after its last one.
        states: key to the bytes of the user's newest state.
        updates: records for `recommendations`, in order.
        rejected: records for `clicks-rejected`.
    """

    partition: int
    first: int
    end: int
    states: dict[bytes, bytes] = field(default_factory=dict)
    updates: list[Record] = field(default_factory=list)
    rejected: list[Record] = field(default_factory=list)


class Publisher:
    """Publishes results, in order, a few chunks at a time."""

    def __init__(
        self, port: Port, store: StateStore, settings: Settings, on_failure: Callable[[Exception], None]
    ) -> None:
        """Make a publisher.

        Args:
            port: where results are sent to.
            store: where states are written in the end.
            settings: for topic names.
            on_failure: called once with what went wrong; nothing is acknowledged from then on.
        """
        self._port = port
        self._store = store
        self._settings = settings
        self._on_failure = on_failure
        self._failed = False

    @property
    def has_failed(self) -> bool:
        """Whether the worker is being stopped, for whatever reason: nothing may be begun any more."""
        return self._failed

    async def publish(
        self, assignment: Assignment, results: Sequence[RunResults], on_durable: Callable[[], None]
    ) -> None:
        """Hand a chunk's results to the broker; they are acknowledged in the background, after all earlier ones.

        Waits while many chunks are unfinished.

        Args:
            assignment: of the chunk.
            results: of one chunk, at most one per partition; updates and dead letters are taken out of them.
            on_durable: called when the broker has them all and the clicks are acknowledged.

        Raises:
            Superseded, Dropped: the assignment has ended, or is being given back; the next owner does it again.
        """
        n_records = sum(len(result.updates) + len(result.rejected) for result in results)
        async with assignment.publishing:
            await assignment.take_room(n_records)  # nothing is begun that could end half sent
            deliveries: list[_Deliveries] = []
            try:
                for result in results:
                    assignment.check()
                    deliveries.append(await self._send(assignment, result))
            except BaseException:
                assignment.leave_room(n_records)
                raise
            for result in results:  # the client has copied them
                result.updates.clear()
                result.rejected.clear()
            chunk = _Published(list(zip(results, deliveries, strict=True)), n_records, on_durable)
            assignment.last_publication = asyncio.create_task(
                self._finish(assignment, chunk, assignment.last_publication)
            )

    async def drain(self, assignment: Assignment) -> None:
        """Wait until everything whose publication has begun is acknowledged or has failed."""
        async with assignment.publishing:
            pass
        if assignment.last_publication is not None:
            await asyncio.wait([assignment.last_publication])

    async def write_again(self, assignment: Assignment, partition: int, states: Mapping[bytes, bytes]) -> None:
        """Write states to the changelog that the local store has already, and return when the broker has them.

        Raises:
            Superseded, Dropped: the assignment has ended.
        """
        records: list[Record] = [(key, data, NO_HEADERS) for key, data in states.items()]
        sent = await self._port.send(assignment, self._settings.changelog_topic, partition, records)
        batches = await asyncio.gather(*sent)
        assignment.check()
        assignment.partitions[partition].note_own_records(batches)

    def fail(self, error: Exception) -> None:
        """Stop the worker for a reason; only the first one is told, and nothing is acknowledged any more."""
        if not self._failed:
            self._failed = True
            self._on_failure(error)

    async def _send(self, assignment: Assignment, result: RunResults) -> "_Deliveries":
        async def send(topic: str, records: Sequence[Record]) -> Sequence[Delivery]:
            return await self._port.send(assignment, topic, result.partition, records) if records else ()

        states = [(key, data, NO_HEADERS) for key, data in result.states.items()]
        return _Deliveries(
            await send(self._settings.changelog_topic, states),
            [
                *await send(self._settings.recommendations_topic, result.updates),
                *await send(self._settings.rejected_topic, result.rejected),
            ],
        )

    async def _finish(self, assignment: Assignment, chunk: "_Published", previous: "asyncio.Task[None] | None") -> None:
        try:
            changelog = [await asyncio.gather(*sent.changelog) for _, sent in chunk.sent]
            await asyncio.gather(*(delivery for _, sent in chunk.sent for delivery in sent.others))
            if previous is not None:
                await asyncio.wait([previous])
            if self._failed:
                return
            assignment.check()
            for (result, _), batches in zip(chunk.sent, changelog, strict=True):
                if batches:
                    self._store_states(assignment, result, batches)
                assignment.partitions[result.partition].acknowledge(result.first, result.end)
            chunk.on_durable()
        except Exception as error:
            if not assignment.is_over:
                self.fail(error)
        finally:
            assignment.leave_room(chunk.n_records)

    def _store_states(self, assignment: Assignment, result: RunResults, batches: Sequence[range]) -> None:
        partition = assignment.partitions[result.partition]
        partition.note_own_records(batches)
        changelog_offset = partition.changelog_end - 1 if partition.changelog_end is not None else None
        self._store.put_many(result.partition, result.states, changelog_offset, fence=result.end - 1)
        for key, data in result.states.items():
            if partition.pending.get(key) is data:  # else a newer state of the user is on its way
                del partition.pending[key]


@dataclass(frozen=True, slots=True)
class _Deliveries:
    changelog: Sequence[Delivery]
    others: Sequence[Delivery]


class _Published(NamedTuple):
    """A chunk that is on its way."""

    sent: Sequence[tuple[RunResults, _Deliveries]]
    n_records: int
    on_durable: Callable[[], None]
