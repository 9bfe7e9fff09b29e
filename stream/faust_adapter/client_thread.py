"""The thread of the group's aiokafka client: fetches, offsets and commits for the port, options that Faust does not
pass on, and leases that follow what the group's coordinator answers.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from aiokafka import TopicPartition
from aiokafka.errors import (
    CommitFailedError,
    IllegalStateError,
    KafkaError,
    KafkaTimeoutError,
    NotCoordinatorForGroupError,
    for_code,
)
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.group import SyncGroupRequest
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.utils.futures import maybe_set_exception

from stream.faust_adapter.clock import now_s
from stream.faust_adapter.second_reader import SecondReader, is_unpacking
from stream.protocol.assignment import Assignment, Assignments, Lease
from stream.protocol.chunk_rules import Cut
from stream.protocol.port import BrokerAway, Place, Run

faust_log = logging.getLogger("faust")  # services log their life under it, at the level of a library

_Result = TypeVar("_Result")

IDLE_WAIT_S = 1.0  # a fetch waits so long for its first record
ENDS_S = 5.0  # for an answer to the question where the partitions end
RETRY_S = 0.5  # between two questions that no broker answered
GROUP_CHECK_S = 1.0  # how soon it is noticed that the group does not take this worker
GATHER_BYTES = 64 * 1024  # with so much at the broker there is nothing to gather: a backlog is fetched at once


def is_passing(error: KafkaError) -> bool:
    """Tell whether asking again is enough: of a broker that is away aiokafka's patience ends at some time."""
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)


async def run_in(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Do some work in an event loop; in the one of another thread it is only begun, for that may wait for this one."""
    if asyncio.get_running_loop() is loop:
        await work
    else:
        asyncio.run_coroutine_threadsafe(work, loop)


class ClientThread(driver.AIOKafkaConsumerThread):
    """The thread of the aiokafka client."""

    logger = faust_log

    assignments: Assignments  # set by `connect`
    clicks_topic: str  # set by `connect`
    gather_ms: float  # set by `connect`
    max_records: int  # in one fetch; set by `connect`
    second_reader: SecondReader  # set by `connect`

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._sought_for: Assignment | None = None
        self._positions: dict[TopicPartition, int] = {}  # where the last fetch ended, or what was sought since
        self._gathering: asyncio.TimerHandle | None = None
        self._cut = Cut(self.max_records)
        self._doubts_topic = False

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # a backend may produce its clicks in transactions
        consumer._fetch_max_wait_ms = int(IDLE_WAIT_S * 1000)
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        consumer = self._ensure_consumer()
        client, coordinator = consumer._client, consumer._coordinator
        client.force_metadata_update = partial(self._doubt_topic, client.force_metadata_update)
        self._synced_s = float("-inf")
        coordinator._send_req = partial(self._send, coordinator, coordinator._send_req)
        coordinator._do_heartbeat = partial(self._heartbeat, coordinator, coordinator._do_heartbeat)
        coordinator._do_rejoin_group = partial(self._rejoin, coordinator._do_rejoin_group)
        self.add_future(self._watch_group(coordinator))

    def close(self) -> None:
        """Do nothing: the client is closed when the thread stops.

        Faust calls it when partitions come or go while the app stops, and would close the connections of this thread
        in the worker's event loop: that ends the process with a segmentation fault.
        """

    async def crash(self, exc: BaseException) -> None:
        """Tell the worker's services that this one has failed, in their own event loop.

        mode would set all their events from one thread, which the event loop of another need not survive.
        """
        self._crash(exc)
        self.parent_loop.call_soon_threadsafe(maybe_set_exception, self._thread_running, exc)
        await run_in(self.parent_loop, self.app.crash(exc))

    def _crash(self, reason: BaseException) -> None:
        """Mark this service and its children, in their own event loop; the app's services call it, too."""
        self.thread_loop.call_soon_threadsafe(super()._crash, reason)

    # What the port asks for. Called from the event loop.

    async def fetch(self, assignment: Assignment) -> Mapping[int, Run]:
        """Give what has come since the last fetch, waiting for a while."""
        return await self._in_thread(self._fetch(assignment))

    async def seek(self, assignment: Assignment, positions: Mapping[int, int]) -> None:
        """Let the next fetch begin at these offsets."""
        await self._in_thread(self._seek(assignment, positions))

    async def places(self, assignment: Assignment, partitions: Collection[int]) -> Mapping[int, Place]:
        """Ask for what is committed and what is there, for as long as no broker answers."""
        return await self._in_thread(self._places(assignment, partitions))

    async def ends(self, assignment: Assignment) -> Mapping[int, int]:
        """Ask for the ends of the clicks, as far as they are readable."""
        return await self._in_thread(self._ends(assignment))

    async def commit_offsets(self, assignment: Assignment, offsets: Mapping[int, int]) -> bool:
        """Commit; tells whether the broker has taken it."""
        return await self._in_thread(self._commit_offsets(assignment, offsets))

    def doubts_topic(self) -> bool:
        """Tell, once, whether the topic may be another one than at the last question."""
        doubts, self._doubts_topic = self._doubts_topic, False
        return doubts

    def leave_group_on_stop(self) -> None:
        """Let the broker know at the stop that this worker goes for good.

        aiokafka never does it for a static member, because that is meant to come back soon.
        """
        self._ensure_consumer()._coordinator._group_instance_id = None

    def leave_out(self, partitions: Collection[TP]) -> None:
        """Fetch nothing of these partitions: the changelog is assigned with the clicks, but read by another client."""
        self._ensure_consumer().pause(*(TopicPartition(tp.topic, tp.partition) for tp in partitions))

    async def _in_thread(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Run something in the thread. Faust's own queue has two workers: two waits would hold up everything else."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.thread_loop))

    # The same, in the thread.

    async def _fetch(self, assignment: Assignment) -> Mapping[int, Run]:
        consumer = self._ensure_consumer()
        if not assignment.active:
            await asyncio.sleep(IDLE_WAIT_S)
            return {}
        end_s = self.thread_loop.time() + IDLE_WAIT_S
        runs: Mapping[int, Run] = {}
        while not runs and (left_s := end_s - self.thread_loop.time()) > 0:
            if assignment.is_over or self._sought_for is not assignment:
                return {}
            runs = await self._drain(consumer, assignment)
            if not runs:
                waiter = consumer._fetcher._create_fetch_waiter()
                with consumer._subscription.fetch_context():
                    done, _ = await asyncio.wait([waiter], timeout=left_s)
                if done:
                    waiter.result()  # raises what the client cannot go on with
                else:
                    waiter.cancel()
        if any(run.records for run in runs.values()):
            self._gather(assignment.pace.gather_s(self.gather_ms / 1000))
        return runs

    async def _drain(self, consumer: Any, assignment: Assignment) -> Mapping[int, Run]:
        """Take what the client has fetched. Nothing else runs in the thread meanwhile: `getmany` has no wait."""
        subscription = consumer._subscription
        if subscription.reassignment_in_progress:
            return {}
        states = {tp: subscription.subscription.assignment.state_value(tp) for tp in self._partitions(assignment)}
        before = {tp: state.position for tp, state in states.items() if state.has_valid_position}
        try:
            records = await self._take_in_turn(consumer, list(states))
        except Exception as error:
            if not is_unpacking(error):
                raise
            return await self._drain_otherwise(consumer, assignment, before, error)
        runs = {}
        for tp, first in before.items():
            end = states[tp].position
            # A client that was sent back or on by the broker has moved without a record.
            if tp in records or end != self._positions[tp]:
                runs[tp.partition] = Run(first, records.get(tp, ()), end)
                self._positions[tp] = end
        return runs

    async def _take_in_turn(
        self, consumer: Any, partitions: Sequence[TopicPartition]
    ) -> Mapping[TopicPartition, Sequence[Any]]:
        """Take a chunk at most."""
        taken: dict[TopicPartition, list[Any]] = {}
        fetched = consumer._fetcher._records  # of others there is nothing to take, and asking costs 50 us
        for tp in self._cut.begin(tp for tp in partitions if tp in fetched):
            while wanted := self._cut.wanted():
                records = (await consumer.getmany(tp, timeout_ms=0, max_records=wanted)).get(tp, [])
                if records:
                    self._cut.took(len(records), sum([record.serialized_value_size for record in records]))
                    taken.setdefault(tp, []).extend(records)
                if len(records) < wanted:
                    break
            if self._cut.is_full(tp):
                break
        return taken

    async def _drain_otherwise(
        self, consumer: Any, assignment: Assignment, positions: Mapping[TopicPartition, int], error: Exception
    ) -> Mapping[int, Run]:
        """Let another client read on from positions. What this one has taken meanwhile is forgotten, and comes again.

        Raises:
            PermanentError: neither can.
        """
        runs = await self.second_reader.read({tp.partition: first for tp, first in positions.items()}, error)
        if assignment.is_over or self._sought_for is not assignment:
            return {}
        for tp, first in positions.items():
            self._positions[tp] = runs[tp.partition].end if tp.partition in runs else first
            consumer.seek(tp, self._positions[tp])
        return runs

    async def _seek(self, assignment: Assignment, positions: Mapping[int, int]) -> None:
        if assignment.is_over:
            return
        consumer = self._ensure_consumer()
        self._sought_for = assignment
        self._positions = {TopicPartition(self.clicks_topic, n): position for n, position in positions.items()}
        for tp, position in self._positions.items():
            consumer.seek(tp, position)

    async def _places(self, assignment: Assignment, numbers: Collection[int]) -> Mapping[int, Place]:
        consumer = self._ensure_consumer()
        partitions = [TopicPartition(self.clicks_topic, number) for number in numbers]
        while not assignment.is_over:
            try:
                committed = await consumer._coordinator.fetch_committed_offsets(partitions)
                # Together: a broker answers them behind the fetch that waits there, and one by one behind two of them.
                firsts, ends = await asyncio.gather(
                    consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
                )
            except KafkaError as error:
                if not is_passing(error):
                    raise
                await asyncio.sleep(RETRY_S)
                continue
            offsets = {tp: committed[tp].offset if tp in committed else -1 for tp in partitions}
            return {
                tp.partition: Place(offset if offset >= 0 else None, firsts[tp], ends[tp])
                for tp, offset in offsets.items()
            }
        return {}

    async def _ends(self, assignment: Assignment) -> Mapping[int, int]:
        # One by one: a partition without a leader keeps its question waiting, and would those about all others.
        asking = {tp.partition: asyncio.ensure_future(self._end(tp)) for tp in self._partitions(assignment)}
        if not asking:
            return {}
        _, unanswered = await asyncio.wait(asking.values(), timeout=ENDS_S)
        for question in unanswered:
            question.cancel()
        found = {number: end.result() for number, end in asking.items() if end not in unanswered}
        ends = {number: end for number, end in found.items() if end is not None}
        if not ends:
            raise BrokerAway
        return ends

    async def _end(self, tp: TopicPartition) -> int | None:
        try:
            end: int = (await self._ensure_consumer().end_offsets([tp]))[tp]
        except KafkaError as error:
            if not is_passing(error):
                raise
            return None
        return end

    async def _commit_offsets(self, assignment: Assignment, offsets: Mapping[int, int]) -> bool:
        consumer = self._ensure_consumer()
        # Without a generation the client was evicted, and the broker takes a commit of it as of somebody outside of
        # any group, if the group has no member left.
        if assignment.is_over or consumer._coordinator.generation < 0:
            return False
        wanted = {TopicPartition(self.clicks_topic, n): OffsetAndMetadata(offset, "") for n, offset in offsets.items()}
        try:
            await consumer.commit(wanted)
        except (CommitFailedError, IllegalStateError):  # the broker, or the client, knows of another assignment
            return False
        return True

    def _partitions(self, assignment: Assignment) -> list[TopicPartition]:
        return [TopicPartition(self.clicks_topic, number) for number in assignment.active]

    def _gather(self, seconds: float) -> None:
        """Let the broker gather clicks while the worker is busy with those that have just been fetched.

        Every fetch costs the same whether it brings one click or fifty, and nobody could take them sooner. Afterwards
        the broker answers with the first one again: a click that finds the worker idle never waits.
        """
        if self._gathering is not None:
            self._gathering.cancel()
        self._answer(GATHER_BYTES, seconds)
        self._gathering = self.thread_loop.call_later(seconds, self._answer, 1, IDLE_WAIT_S)

    def _answer(self, n_bytes: int, seconds: float) -> None:
        """Say when the broker shall answer the fetches that are sent from now on: with so much, or after so long."""
        fetcher = self._ensure_consumer()._fetcher
        fetcher._fetch_min_bytes, fetcher._fetch_max_wait_ms = n_bytes, int(seconds * 1000)

    def _doubt_topic(self, update_metadata: Callable[[], Any]) -> Any:
        """aiokafka asks for metadata out of turn when a partition is not where it was or is gone, among others."""
        self._doubts_topic = True
        return update_metadata()

    # The group.

    async def _watch_group(self, coordinator: Any) -> None:
        """End the worker when the group does not take it: aiokafka tells only who fetches, and that needs partitions.

        Raises:
            KafkaError: trying again will not help.
        """
        while not self.should_stop:
            await self.sleep(GROUP_CHECK_S)
            try:
                coordinator.check_errors()
            except KafkaError as error:
                if not error.retriable:
                    raise

    async def _heartbeat(self, coordinator: Any, beat: Callable[[], Awaitable[bool]]) -> bool:
        """Send aiokafka's heartbeat, and let the lease follow the answer."""
        sent_s = now_s()
        lease = self._lease()
        answered = await beat()
        if coordinator.generation < 0:  # the broker does not know this member
            lease.void(now_s())
        elif answered and (lease.is_held(sent_s) or await self._is_member(coordinator)):
            lease.renew(sent_s)
        return answered

    async def _rejoin(self, join: Callable[[Any], Awaitable[bool]], subscription: Any) -> bool:
        joined = await join(subscription)
        if joined:  # that waited for the other members: the broker counts from the last request of it
            self._lease().renew(self._synced_s)
        return joined

    def _lease(self) -> Lease:
        return self.assignments.current.lease

    async def _send(self, coordinator: Any, send: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        if isinstance(request, SyncGroupRequest):
            self._synced_s = now_s()
        response = await send(request)
        if isinstance(request, OffsetFetchRequest) and response.error_code:
            # A coordinator that still reads its groups, or is none any more, names no partitions. aiokafka looks only
            # at those, and would take the group for one that has committed nothing; of an error it asks again.
            error = for_code(response.error_code)
            if error is NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
            raise error(coordinator.group_id)
        return response

    async def _is_member(self, coordinator: Any) -> bool:
        """Ask for the assignment of this generation, which only a member gets.

        A coordinator that has just started and still reads its groups answers every heartbeat with yes. While the
        lease is held that does no harm: it then begins to count anew. Afterwards another may own the partitions.
        """
        request = SyncGroupRequest(
            coordinator.group_id, coordinator.generation, coordinator.member_id, coordinator._group_instance_id, []
        )
        try:
            response = await coordinator._send_req(request)
        except KafkaError:
            return False
        return bool(response.error_code == 0)
