"""The order of a commit. The safety of states and updates rests on it, and it is kept here and nowhere else.

For the run of clicks of a partition, in log order:

1. The agent computes states, updates and dead letters from the clicks. Nothing outside the process has changed. It
   keeps the states in `Partition.pending`, so that the next chunk computes with them; should this one not be published,
   no later one of the assignment is either.
2. The updates and the dead letters go to their topics, and the broker has acknowledged them. So a click whose state is
   durable has been answered.
3. The states of a few chunks, of each user the newest, go to the changelog together: in a moment, at once under a
   backlog. Nobody waits for them. The order in each topic and partition is that of the clicks.
4. The broker has acknowledged them, too, and all that belongs to earlier chunks is past step 6.
5. The states are written to the local store, with the changelog offset up to which it is complete, in one atomic batch.
   So the local store never knows more than the changelog.
6. The clicks are acknowledged: `Partition.acknowledged` moves to the run's end. A run that does not begin where the
   last one ended is an error.
7. What is acknowledged is committed to the consumer group, once in a while and before partitions are given back
   (`stream.protocol.membership`).

A crash between any two steps repeats clicks; what of them is in a state, its fence skips; it loses none. When the
assignment ends before step 5, the steps that are left do not happen: the clicks are the next owner's. When a step
fails, nothing is acknowledged any more and the worker ends.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from nextclick.settings import Settings
from stream.protocol.assignment import Assignment, Superseded
from stream.protocol.chunk_rules import SAVE_S, saved_together, saving_is_due
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

    async def publish(self, assignment: Assignment, results: Sequence[RunResults], on_sent: Callable[[], None]) -> None:
        """Hand a chunk's results to the broker; they are acknowledged in the background, after all earlier ones.

        Waits while many chunks are unfinished.

        Args:
            assignment: of the chunk.
            results: of one chunk, at most one per partition.
            on_sent: called when the broker has all updates and dead letters.

        Raises:
            Superseded, Dropped: the assignment has ended, or is being given back; the next owner does it again.
        """
        n_records = sum(len(result.updates) + len(result.rejected) for result in results)
        async with assignment.publishing:
            await assignment.take_room(n_records)  # nothing is begun that could end half sent
            try:
                deliveries = [delivery for result in results for delivery in await self._send(assignment, result)]
            except BaseException:
                assignment.leave_room(n_records)
                raise
            runs = [_Save(result.partition, result.first, result.end, result.states) for result in results]
            assignment.unsaved.append(_Published(runs, n_records, _all_of(deliveries, on_sent)))
            if assignment.saving is None or assignment.saving.done():
                assignment.saving = asyncio.create_task(self._save_soon(assignment))
            if saving_is_due(_n_states(assignment.unsaved)):
                assignment.hurry.set()

    async def drain(self, assignment: Assignment) -> None:
        """Wait until everything whose publication has begun is acknowledged or has failed."""
        async with assignment.publishing:
            pass
        if assignment.saving is not None:
            assignment.hurry.set()
            await asyncio.wait([assignment.saving])
        if assignment.last_save is not None:
            await asyncio.wait([assignment.last_save])

    async def write_again(self, assignment: Assignment, partition: int, states: Mapping[bytes, bytes]) -> None:
        """Write states to the changelog that the local store has already, and return when the broker has them.

        Raises:
            Superseded, Dropped: the assignment has ended.
        """
        batches = await asyncio.gather(*await self._send_states(assignment, partition, states))
        assignment.check()
        assignment.partitions[partition].note_own_records(batches)

    def fail(self, error: Exception) -> None:
        """Stop the worker for a reason; only the first one is told, and nothing is acknowledged any more."""
        if not self._failed:
            self._failed = True
            self._on_failure(error)

    async def _send(self, assignment: Assignment, result: RunResults) -> Sequence[Delivery]:
        assignment.check()
        sent: list[Delivery] = []
        for topic, records in (
            (self._settings.recommendations_topic, result.updates),
            (self._settings.rejected_topic, result.rejected),
        ):
            if records:
                sent += await self._port.send(assignment, topic, result.partition, records)
        return sent

    async def _send_states(
        self, assignment: Assignment, partition: int, states: Mapping[bytes, bytes]
    ) -> Sequence[Delivery]:
        records: list[Record] = [(key, data, NO_HEADERS) for key, data in states.items()]
        return await self._port.send(assignment, self._settings.changelog_topic, partition, records)

    async def _save_soon(self, assignment: Assignment) -> None:
        """Save what was published, as long as there is any: in a moment each time, or when there is a hurry."""
        try:
            while assignment.unsaved:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(SAVE_S):
                        await assignment.hurry.wait()
                count = saved_together(_n_states(assignment.unsaved))
                chunks, assignment.unsaved = assignment.unsaved[:count], assignment.unsaved[count:]
                if not assignment.unsaved:
                    assignment.hurry.clear()
                await self._save(assignment, chunks)
        except Exception as error:
            if not assignment.is_over:
                self.fail(error)
            _leave_room(assignment, assignment.unsaved)  # whoever waits for it finds out by itself
            assignment.unsaved = []

    async def _save(self, assignment: Assignment, chunks: "Sequence[_Published]") -> None:
        """Send the states of chunks when their updates have arrived, and let their clicks be acknowledged afterwards.

        Raises:
            Superseded, Dropped: the assignment has ended; the next owner does it again.
        """
        try:
            saves = _merged(chunks)
            for chunk in chunks:
                await chunk.sent
            for save in saves:
                assignment.check()
                if self._failed:
                    raise Superseded
                if save.states:
                    save.deliveries = await self._send_states(assignment, save.partition, save.states)
        except BaseException:
            _leave_room(assignment, chunks)
            raise
        assignment.last_save = asyncio.create_task(self._finish(assignment, chunks, saves, assignment.last_save))

    async def _finish(
        self,
        assignment: Assignment,
        chunks: "Sequence[_Published]",
        saves: "Sequence[_Save]",
        previous: "asyncio.Task[None] | None",
    ) -> None:
        try:
            batches = [await asyncio.gather(*save.deliveries) for save in saves]
            if previous is not None:
                await asyncio.wait([previous])
            if self._failed:
                return
            assignment.check()
            for save, of_save in zip(saves, batches, strict=True):
                if of_save:
                    self._store_states(assignment, save, of_save)
                assignment.partitions[save.partition].acknowledge(save.first, save.end)
        except Exception as error:
            if not assignment.is_over:
                self.fail(error)
        finally:
            _leave_room(assignment, chunks)

    def _store_states(self, assignment: Assignment, save: "_Save", batches: Sequence[range]) -> None:
        partition = assignment.partitions[save.partition]
        partition.note_own_records(batches)
        changelog_offset = partition.changelog_end - 1 if partition.changelog_end is not None else None
        self._store.put_many(save.partition, save.states, changelog_offset, fence=save.end - 1)
        for key, data in save.states.items():
            if partition.pending.get(key) is data:  # else a newer state of the user is on its way
                del partition.pending[key]


@dataclass(slots=True)
class _Save:
    """What a chunk, or a few of them, lead to in one partition.

    Attributes:
        partition: of the clicks.
        first, end: the offsets of all their runs.
        states: key to the newest state.
        deliveries: of the states.
    """

    partition: int
    first: int
    end: int
    states: dict[bytes, bytes]
    deliveries: Sequence[Delivery] = ()


class _Published(NamedTuple):
    """A chunk whose updates and dead letters are on their way, and which they are no part of any more.

    Attributes:
        runs: of the chunk.
        n_records: updates and dead letters.
        sent: done when the broker has them.
    """

    runs: Sequence[_Save]
    n_records: int
    sent: "asyncio.Future[Any]"


def _leave_room(assignment: Assignment, chunks: Sequence[_Published]) -> None:
    for chunk in chunks:
        assignment.leave_room(chunk.n_records)


def _n_states(chunks: Sequence[_Published]) -> list[int]:
    return [sum(len(run.states) for run in chunk.runs) for chunk in chunks]


def _merged(chunks: Sequence[_Published]) -> list[_Save]:
    """Put the runs of each partition together; of each user the newest state counts.

    Raises:
        RuntimeError: a run does not begin where the one before ended: a commit would jump over clicks.
    """
    saves: dict[int, _Save] = {}
    for run in (run for chunk in chunks for run in chunk.runs):
        save = saves.get(run.partition)
        if save is None:
            saves[run.partition] = run
            continue
        if run.first != save.end:
            raise RuntimeError(f"clicks up to {save.end} were published, and then a run from {run.first}")
        save.end = run.end
        save.states.update(run.states)
    return list(saves.values())


def _all_of(deliveries: Sequence[Delivery], on_sent: Callable[[], None]) -> "asyncio.Future[Any]":
    """Give what is done when all of them are; then something is called, if none has failed."""

    def done(sent: "asyncio.Future[Any]") -> None:
        if not sent.cancelled() and sent.exception() is None:  # of one whose assignment has ended nobody else asks
            on_sent()

    sent = asyncio.gather(*deliveries)
    sent.add_done_callback(done)
    return sent
