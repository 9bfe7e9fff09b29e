"""The protocol's port on Kafka in memory: one for each worker, on the event loop that is the worker's process."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from nextclick.settings import Settings
from stream.protocol.assignment import Assignment, Assignments
from stream.protocol.membership import Membership
from stream.protocol.port import (
    BrokerAway,
    Delivery,
    Dropped,
    Place,
    Record,
    Restored,
    Run,
    StalledChangelog,
    StateStore,
)
from stream.protocol.restoration import ChangelogRecord, RestoredPartition, apply_records, check_fence, first_offset
from tests.protocol.memory_kafka import MemoryKafka
from tools.kafka import TopicIdentity

IDLE_WAIT_S = 5.0
ANSWER_S = 5.0
HEARTBEAT_S = 2.5
RESTORE_RECORDS = 3  # read at once
MAX_BATCH_RECORDS = 3
MAX_FETCH_BYTES = 1024**2


_Batch = tuple[Assignment, list[Record], Delivery]


class MemoryStore:
    """The local states of a worker: what outlives its process."""

    def __init__(self) -> None:
        self._values: dict[int, dict[bytes, bytes]] = {}
        self._changelog_offset: dict[int, int] = {}
        self._fence: dict[int, int] = {}

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        values = self._values.get(partition, {})
        return [values.get(key) for key in keys]

    def put_many(
        self, partition: int, values: Mapping[bytes, bytes | None], changelog_offset: int | None, fence: int
    ) -> None:
        kept = self._values.setdefault(partition, {})
        for key, value in values.items():
            if value is None:
                kept.pop(key, None)
            else:
                kept[key] = value
        if changelog_offset is not None:
            self._changelog_offset[partition] = changelog_offset
        self._fence[partition] = fence

    def changelog_offset(self, partition: int) -> int | None:
        return self._changelog_offset.get(partition)

    def highest_fence(self, partition: int) -> int:
        return self._fence.get(partition, -1)

    def remove(self, partition: int) -> None:
        for kept in (self._values, self._changelog_offset, self._fence):
            kept.pop(partition, None)  # type: ignore[attr-defined]


class MemoryPort:
    """Implements `stream.protocol.port.Port`; what each method does and waits for is said there.

    Attributes:
        delay_s: how long a batch is on its way to the broker, and its acknowledgement on its way back.
        hanging: names of methods that never come back.
        failing_commits: how many commits the broker still refuses.
    """

    def __init__(
        self, name: str, kafka: MemoryKafka, settings: Settings, store: StateStore, assignments: Assignments
    ) -> None:
        self.name = name
        self.delay_s = 0.01
        self.hanging: set[str] = set()
        self.failing_commits = 0
        self._kafka = kafka
        self._settings = settings
        self._store = store
        self._assignments = assignments
        self._loop = asyncio.get_running_loop()
        self._generation = -1
        self._topic_id = kafka.topic_id
        self._sought_for: Assignment | None = None
        self._positions: dict[int, int] = {}
        self._queues: dict[tuple[str, int], list[_Batch]] = {}
        self._on_wire: set[tuple[str, int]] = set()
        self._following: asyncio.Task[None] | None = None
        self._join_answer: asyncio.Future[tuple[Collection[int], Collection[int]]] | None = None

    def now_s(self) -> float:
        return self._kafka.clock.now_s

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    # The group.

    async def take_part(self, membership: Membership) -> None:
        """Be a member for ever: join, send heartbeats, give back and join again when the coordinator says so."""
        while True:
            active, standby = await self._join()
            membership.assigned(active, standby)
            while True:
                await asyncio.sleep(HEARTBEAT_S)
                sent_s = self.now_s()
                await self._hang("heartbeat")
                await self._answered(self._settings.clicks_topic, ())
                answer = self._kafka.heartbeat(self.name, self._generation)
                if answer == "ok":
                    self._assignments.current.lease.renew(sent_s)
                    continue
                if answer == "unknown":
                    self._assignments.current.lease.void(self.now_s())
                with suppress(Exception):  # aiokafka logs what a listener raises, and goes on
                    await membership.revoked()
                break

    async def _join(self) -> tuple[Collection[int], Collection[int]]:
        await self._answered(self._settings.clicks_topic, ())
        self._join_answer = self._loop.create_future()
        self._kafka.join(self.name, self)
        return await self._join_answer

    def joined(self, generation: int, active: Collection[int], standby: Collection[int]) -> None:
        answer = self._join_answer
        formed_s = self.now_s()

        def tell() -> None:
            if answer is not None and not answer.done():
                self._generation = generation
                self._assignments.current.lease.renew(formed_s)
                answer.set_result((active, standby))

        self._tell(tell)

    async def leave(self) -> None:
        self._kafka.leave(self.name)

    async def resume(self, assignment: Assignment) -> None:
        await self._hang("resume")

    # Clicks.

    async def fetch(self, assignment: Assignment) -> Mapping[int, Run]:
        await self._hang("fetch")
        end_s = self.now_s() + IDLE_WAIT_S
        while True:
            if assignment.is_over or self._sought_for is not assignment:
                return {}
            runs = self._drain(assignment)
            if runs or self.now_s() >= end_s:
                return runs
            await self._something_or(end_s)

    def _drain(self, assignment: Assignment) -> Mapping[int, Run]:
        runs = {}
        for partition in sorted(assignment.active):
            if not self._kafka.answers(self._kafka.clicks_topic, [partition]):
                continue
            log, position = self._kafka.log(self._kafka.clicks_topic, partition), self._positions[partition]
            first = position if log.first <= position <= log.end else log.first  # as a client that is sent on
            end = max(first, min(log.readable_end, first + self._settings.max_chunk_records))
            while sum(len(record.value or b"") for record in log.records(first, end)) > MAX_FETCH_BYTES:
                end = first + (end - first + 1) // 2
            if end > first or first != position:
                runs[partition] = Run(first, log.records(first, end), end)
                self._positions[partition] = end
        return runs

    async def places(self, assignment: Assignment, partitions: Collection[int]) -> Mapping[int, Place]:
        await self._hang("places")
        await self._answered(self._kafka.clicks_topic, partitions)
        if assignment.is_over:
            return {}
        logs = {p: self._kafka.log(self._kafka.clicks_topic, p) for p in partitions}
        return {p: Place(self._kafka.committed.get(p), log.first, log.readable_end) for p, log in logs.items()}

    async def seek(self, assignment: Assignment, positions: Mapping[int, int]) -> None:
        await self._hang("seek")
        if not assignment.is_over:
            self._sought_for, self._positions = assignment, dict(positions)

    async def commit(self, assignment: Assignment, offsets: Mapping[int, int]) -> bool:
        if "commit" in self.hanging:
            await assignment.ended.wait()
        await asyncio.sleep(self.delay_s)
        while not assignment.is_over and not self._kafka.answers(self._kafka.clicks_topic, ()):
            await self._something_or(self.now_s() + IDLE_WAIT_S)
        if assignment.is_over:
            return False
        if self.failing_commits:
            self.failing_commits -= 1
            return False
        return self._kafka.commit(self.name, self._generation, offsets)

    async def ends(self, assignment: Assignment) -> Mapping[int, int]:
        if "ends" in self.hanging:  # bounded all the same
            await asyncio.sleep(ANSWER_S)
            raise BrokerAway
        await asyncio.sleep(self.delay_s)
        answered = [p for p in assignment.active if self._kafka.answers(self._kafka.clicks_topic, [p])]
        if len(answered) < len(assignment.active):
            await asyncio.sleep(ANSWER_S)
        if assignment.active and not answered:
            raise BrokerAway
        return {p: self._kafka.log(self._kafka.clicks_topic, p).readable_end for p in answered}

    def doubts_topic(self) -> bool:
        doubts, self._topic_id = self._topic_id != self._kafka.topic_id, self._kafka.topic_id
        return doubts

    async def identity(self) -> TopicIdentity:
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._answered(self._kafka.clicks_topic, ())
        except TimeoutError as error:
            raise BrokerAway from error
        return TopicIdentity(self._kafka.clicks_topic, self._kafka.topic_id, self._kafka.n_partitions)

    # Results.

    async def send(
        self, assignment: Assignment, topic: str, partition: int, records: Iterable[Record]
    ) -> Sequence[Delivery]:
        rest, deliveries = list(records), []
        while rest:
            batch, rest = rest[:MAX_BATCH_RECORDS], rest[MAX_BATCH_RECORDS:]
            if assignment.is_over:
                raise Dropped
            delivery: Delivery = self._loop.create_future()
            delivery.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._queues.setdefault((topic, partition), []).append((assignment, batch, delivery))
            self._send_next(topic, partition)
            deliveries.append(delivery)
        return deliveries

    def drop_unsent(self) -> None:
        for queue in self._queues.values():
            for _, _, delivery in queue:
                if not delivery.done():
                    delivery.set_exception(Dropped())
        self._queues.clear()

    def _send_next(self, topic: str, partition: int) -> None:
        """Put the next batch of a partition on the wire, if none is and the lease is held."""
        queue = self._queues.get((topic, partition))
        if not queue or (topic, partition) in self._on_wire:
            return
        if not self._assignments.current.lease.is_held(self.now_s()):
            self._loop.call_later(0.5, self._send_next, topic, partition)
            return
        assignment, records, delivery = queue.pop(0)
        self._on_wire.add((topic, partition))
        self._kafka.later(self.delay_s, lambda: self._arrive(topic, partition, (assignment, records, delivery)))

    def _arrive(self, topic: str, partition: int, batch: "_Batch") -> None:
        """At the broker, whatever has become of the worker meanwhile."""
        _, records, delivery = batch
        if not self._kafka.answers(topic, [partition]):
            self._tell(lambda: self._loop.call_later(0.5, self._retry, topic, partition, batch))
            return
        offsets = self._kafka.append(topic, partition, records)

        def acknowledged() -> None:
            self._on_wire.discard((topic, partition))
            if not delivery.done():
                delivery.set_result(offsets)
            self._send_next(topic, partition)

        self._kafka.later(self.delay_s, lambda: self._tell(acknowledged))

    def _retry(self, topic: str, partition: int, batch: "_Batch") -> None:
        assignment, _, delivery = batch
        self._on_wire.discard((topic, partition))
        if not assignment.is_over:
            self._queues.setdefault((topic, partition), []).insert(0, batch)
        elif not delivery.done():
            delivery.set_exception(Dropped())
        self._send_next(topic, partition)

    # States.

    async def restore(self, partitions: Collection[int], on_progress: Callable[[int], None]) -> Mapping[int, Restored]:
        await self._hang("restore")
        await self._answered(self._settings.changelog_topic, partitions)
        progress = {p: self._begin(p) for p in partitions}
        for partition, restored in progress.items():
            check_fence(self._settings, partition, restored)
        moved_s = self.now_s()
        while left := sum(restored.left for restored in progress.values()):
            on_progress(left)
            await self._answered(self._settings.changelog_topic, partitions)
            for partition, restored in progress.items():
                self._read(partition, restored, min(restored.end, restored.next_offset + RESTORE_RECORDS))
            await asyncio.sleep(0.01)
            if left != sum(restored.left for restored in progress.values()):
                moved_s = self.now_s()
            elif self.now_s() > moved_s + self._settings.stall_s:
                raise StalledChangelog(next(p for p, r in progress.items() if r.left), "nothing came")
        on_progress(0)
        return {p: Restored(restored.next_offset, restored.outdated) for p, restored in progress.items()}

    def _begin(self, partition: int) -> RestoredPartition:
        changelog = self._kafka.log(self._settings.changelog_topic, partition)
        stored = self._store.changelog_offset(partition)
        return RestoredPartition(
            next_offset=first_offset(self._settings, partition, stored, (changelog.first, changelog.end)),
            end=changelog.end,
            clicks_end=self._kafka.log(self._kafka.clicks_topic, partition).end,
            highest_fence=self._store.highest_fence(partition),
        )

    def _read(self, partition: int, restored: RestoredPartition, end: int) -> None:
        log = self._kafka.log(self._settings.changelog_topic, partition)
        end = min(end, log.readable_end)
        records = [
            ChangelogRecord(record.offset, record.key, record.value)
            for record in log.records(restored.next_offset, end)
            if record.key is not None
        ]
        if records:
            apply_records(self._settings, self._store, partition, restored, records)
        restored.next_offset = max(restored.next_offset, end)

    def follow(self, partitions: Collection[int], on_failure: Callable[[Exception], None]) -> None:
        def ended(following: "asyncio.Task[None]") -> None:
            if not following.cancelled() and isinstance(error := following.exception(), Exception):
                on_failure(error)

        self._following = asyncio.create_task(self._follow(partitions))
        self._following.add_done_callback(ended)

    async def _follow(self, partitions: Collection[int]) -> None:
        progress = {p: self._begin(p) for p in partitions}
        for restored in progress.values():
            restored.clicks_end = None
        while True:
            for partition, restored in progress.items():
                if self._kafka.answers(self._settings.changelog_topic, [partition]):
                    self._read(partition, restored, self._kafka.log(self._settings.changelog_topic, partition).end)
            await self._something_or(self.now_s() + IDLE_WAIT_S)

    async def stop_reading(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.wait([self._following])
            self._following = None

    # Waiting.

    async def _answered(self, topic: str, partitions: Collection[int]) -> None:
        """Wait until the broker answers."""
        await asyncio.sleep(self.delay_s)
        while not self._kafka.answers(topic, partitions):
            await self._something_or(self.now_s() + IDLE_WAIT_S)

    async def _something_or(self, end_s: float) -> None:
        waiter = self._loop.create_future()
        self._kafka.when_something_comes(
            lambda: self._tell(lambda: waiter.done() or waiter.set_result(None))  # type: ignore[func-returns-value]
        )
        await asyncio.wait([waiter], timeout=max(0.0, end_s - self.now_s()))

    def _tell(self, what: Callable[[], object]) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon(what)

    async def _hang(self, name: str) -> None:
        if name in self.hanging:
            await self._loop.create_future()
