"""What happens when the consumer group gives partitions to this worker, and takes them away again.

Given: states are restored from the changelog; those that an evicted worker overwrote late are written again; the
client goes back to the committed clicks; clicks flow. Taken: what is unfinished is finished and committed if that is
quickly done and the worker is still a member; then the assignment ends, and with it all work that carries it.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping

from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from stream.protocol.assignment import Assignment, Assignments, Partition, Phase, Superseded
from stream.protocol.port import DamagedStore, Dropped, Port, Restored, StalledChangelog, StateStore
from stream.protocol.publisher import Publisher
from stream.protocol.reader import ClickReader, start_position
from stream.protocol.restoration import outdated_states
from stream.protocol.topic_check import TopicCheck

_log = logging.getLogger(__name__)

COMMIT_AGAIN_S = 0.5
DRAIN_S = 3.0  # how long the unfinished chunks of partitions that are taken away are waited for


class Membership:
    """Follows the worker's place in the group.

    Attributes:
        on_restored: told how many seconds the states of an assignment took.
    """

    def __init__(
        self,
        port: Port,
        store: StateStore,
        settings: Settings,
        reader: ClickReader,
        publisher: Publisher,
        topic_check: TopicCheck,
    ) -> None:
        """Make one; `revoked` and `assigned` tell it what the group decides.

        Args:
            port: Kafka.
            store: the local states.
            settings: of the worker.
            reader: names what retention took while nobody read.
            publisher: is drained before partitions are given back, and writes states again.
            topic_check: refuses a topic that has grown or was created anew.
        """
        self._port = port
        self._store = store
        self._settings = settings
        self._publisher = publisher
        self._reader = reader
        self._topic_check = topic_check
        self.on_restored: Callable[[float], None] = lambda seconds: None
        self._assignments: Assignments = reader.assignments
        self._taking_over: asyncio.Task[None] | None = None
        self._closed = False
        self._giving_back = asyncio.Lock()

    async def revoked(self) -> None:
        """Give back whatever is assigned. On return nothing of it is read, written, sent or committed any more."""
        async with self._giving_back:  # the stop gives them back, too
            assignment = self._assignments.current
            was_served = assignment.serves
            if assignment.phase is not Phase.JOINING:
                assignment.enter(Phase.DRAINING, self._port.now_s())
            try:
                await self._stop_taking_over()
                if was_served:
                    await self._finish(assignment)
            except Exception as error:  # the clients' library would only log it
                self._fail(assignment, error)
            finally:
                self._end(assignment)

    async def close(self, *, finish: bool) -> None:
        """End for good.

        Args:
            finish: whether to finish and commit what is unfinished, without a deadline, and to leave the group.
        """
        self._closed = True
        async with self._giving_back:
            assignment = self._assignments.current
            was_served = assignment.serves
            if was_served:
                assignment.enter(Phase.DRAINING, self._port.now_s())
            try:
                await self._stop_taking_over()
                if finish and was_served and assignment.lease.is_held(self._port.now_s()):
                    await self._publisher.drain(assignment)
                    await self.commit(assignment)
            finally:
                if finish:
                    await self._port.leave()
                self._end(assignment)

    def assigned(self, active: Collection[int], standby: Collection[int]) -> None:
        """Take partitions over, in the background.

        Args:
            active: partitions of the clicks topic that are this worker's from now on.
            standby: partitions whose states it keeps a copy of.
        """
        assignment = self._assignments.current
        if self._closed:
            return
        if assignment.phase is not Phase.JOINING:
            self._fail(assignment, RuntimeError(f"partitions came in the phase {assignment.phase.name}"))
            return
        self._assignments.n_given += 1
        assignment.active, assignment.standby = frozenset(active), frozenset(standby)
        assignment.enter(Phase.RESTORING, self._port.now_s())
        _log.info("partitions assigned", extra={"fields": {"partitions": sorted(active), "standby": sorted(standby)}})
        self._taking_over = asyncio.create_task(self._take_over(assignment))

    async def commit(self, assignment: Assignment) -> None:
        """Commit what is acknowledged; waits for a commit that is under way first."""
        async with assignment.committing:
            offsets = assignment.committable()
            if offsets and not assignment.is_over and await self._port.commit(assignment, offsets):
                assignment.was_committed(offsets)

    async def commit_regularly(self) -> None:
        """Commit for ever, once in `commit_interval_s`."""
        while True:
            await self._port.sleep(self._settings.commit_interval_s)
            assignment = self._assignments.current
            if assignment.serves:
                await self.commit(assignment)

    async def _finish(self, assignment: Assignment) -> None:
        if not assignment.lease.is_held(self._port.now_s()):
            return  # the broker may have given the partitions away already
        try:
            async with asyncio.timeout(DRAIN_S):
                await self._publisher.drain(assignment)
                await self.commit(assignment)
        except TimeoutError:
            _log.warning("unfinished clicks are left to the next owner of their partitions")

    def _end(self, assignment: Assignment) -> None:
        if assignment is self._assignments.current:
            self._assignments.end_current(self._port.now_s())
        self._port.drop_unsent()

    async def _stop_taking_over(self) -> None:
        if self._taking_over is not None:
            self._taking_over.cancel()
            await asyncio.wait([self._taking_over])
            self._taking_over = None
        await self._port.stop_reading()

    async def _take_over(self, assignment: Assignment) -> None:
        try:
            await self._topic_check.wait()  # a topic that has grown brings a new assignment
            await self._restore(assignment)
            assignment.enter(Phase.SEEKING, self._port.now_s())
            await self._seek(assignment)
            if assignment.standby:
                self._port.follow(assignment.standby, lambda error: self._fail(assignment, error))
            await self._port.resume(assignment)
            assignment.enter(Phase.SERVING, self._port.now_s())
        except (Superseded, Dropped):
            if not assignment.is_over:
                raise
        except Exception as error:
            self._fail(assignment, error)

    def _fail(self, assignment: Assignment, error: Exception) -> None:
        if not assignment.is_over:
            self._publisher.fail(error)

    async def _restore(self, assignment: Assignment) -> None:
        began_s = self._port.now_s()
        restored = await self._restore_again(assignment)
        self.on_restored(self._port.now_s() - began_s)
        assignment.partitions = {
            number: Partition(changelog_end=result.changelog_end) for number, result in restored.items()
        }
        for number, result in restored.items():
            if result.outdated:
                states = outdated_states(self._store, number, list(result.outdated))
                # So that the changelog ends with every user's newest state, and compaction keeps that one.
                await self._publisher.write_again(assignment, number, states)
                _log.warning(
                    "an evicted worker had written late: newer states are written again",
                    extra={"fields": {"partition": number, "states": len(states)}},
                )

    async def _restore_again(self, assignment: Assignment) -> Mapping[int, Restored]:
        """Restore partitions; one that fails for a reason in its local store is built again, once."""

        def progress(left: int) -> None:
            if left != assignment.restore_left:
                assignment.restore_left = left
                assignment.moved(self._port.now_s())

        built_again: set[int] = set()
        while True:
            try:
                return await self._port.restore(assignment.active, progress)
            except (DamagedStore, StalledChangelog) as error:
                if error.partition in built_again:
                    raise TemporaryError(
                        f"user states could not be restored: {error}; start the worker again"
                    ) from error
                _log.warning("local states are built again from the changelog: %s", error)
                self._store.remove(error.partition)
                built_again.add(error.partition)
                assignment.moved(self._port.now_s())  # the second attempt has a patience of its own

    async def _seek(self, assignment: Assignment) -> None:
        """Go back to what was committed; where nothing was yet, to where this application begins."""
        if not assignment.active:
            return
        places = await self._port.places(assignment, assignment.active)
        for number, partition in assignment.partitions.items():
            place = places[number]
            position = start_position(self._settings, number, place, self._reader.report_lost)
            partition.position = partition.acknowledged = position
            partition.committed = place.committed
            partition.backlog.note_end(place.end, position, self._port.now_s())
        await self._port.seek(assignment, {n: partition.position for n, partition in assignment.partitions.items()})
        while assignment.has_nothing_committed:  # before any click is read: `latest` is another place after a crash
            await self.commit(assignment)
            if assignment.has_nothing_committed:  # the group forms anew, and this assignment ends, or the next is taken
                await self._port.sleep(COMMIT_AGAIN_S)
