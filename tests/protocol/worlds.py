"""What the contract of a port is tested in: a cluster, a member of its group, and a test where its Membership would be.

There are two: Kafka in memory under a virtual clock, and a real Apache Kafka with the Faust app of a worker.
"""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import uvloop
from aiokafka.protocol.group import LeaveGroupRequest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic
from prometheus_client import CollectorRegistry

from demo.local_kafka import LocalKafka
from nextclick.popularity import Popularity
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from stream.agent import Serving
from stream.faust_adapter.app import Topic, build_worker
from stream.faust_adapter.consumer import connect
from stream.faust_adapter.port import FaustPort
from stream.faust_adapter.tables import TABLE_NAME
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Assignment, Assignments, Lease, Phase
from stream.protocol.port import Port, Record, StateStore
from stream.protocol.reader import ClickReader
from stream.protocol.topic_check import TopicCheck
from stream.served_bundle import ServedBundle
from tests.chaos.evidence import read_topic
from tests.decided import wait_until_decided
from tests.protocol.memory_kafka import MemoryKafka
from tests.protocol.memory_port import MemoryPort, MemoryStore
from tests.protocol.virtual_time import Clock, VirtualLoop
from tools.client_config import librdkafka_config
from tools.kafka import describe_topic

N_PARTITIONS = 2
DEADLINE_S = 30.0  # for whatever has to happen
ANSWER_S = 10.0  # for one answer of the broker
_BROKER_LOOK_S = 0.05

Ending = Literal["commit", "abort"]


class Written(NamedTuple):
    """A record of a topic, as it was read."""

    offset: int
    key: bytes | None
    value: bytes | None


class Listener:
    """Stands where a Membership stands, and does the least that one has to do: assignments begin and end.

    Attributes:
        may_give_back: partitions that are taken away are held on to until it is set.
        asked_to_give_back: set when they are taken away.
        is_member: set with the first assignment.
    """

    def __init__(self, port: Port, assignments: Assignments) -> None:
        self._port = port
        self._assignments = assignments
        self._given: asyncio.Queue[Assignment] = asyncio.Queue()
        self.may_give_back = asyncio.Event()
        self.may_give_back.set()
        self.asked_to_give_back = asyncio.Event()
        self.is_member = asyncio.Event()

    def assigned(self, active: Collection[int], standby: Collection[int]) -> None:
        """Begin the assignment."""
        assignment = self._assignments.current
        assignment.active, assignment.standby = frozenset(active), frozenset(standby)
        assignment.enter(Phase.SEEKING, self._port.now_s())
        self._given.put_nowait(assignment)
        self.is_member.set()

    async def revoked(self) -> None:
        """End it."""
        self.asked_to_give_back.set()
        await self.may_give_back.wait()
        self._assignments.end_current(self._port.now_s())
        self._port.drop_unsent()

    async def given(self) -> Assignment:
        """Return the next assignment that the group has given."""
        return await self._given.get()


class HandHeldLease(Lease):
    """A lease that does not hear of heartbeats: it is held when a test says so."""

    def __init__(self, *, is_held: bool) -> None:
        super().__init__(0.0)
        self.held = is_held

    def is_held(self, now_s: float) -> bool:
        return self.held


class World(ABC):
    """A cluster with the topics of one application, and the port of one worker.

    Attributes:
        settings: name the topics.
        port: what is tested.
        store: the worker's local states.
        assignments: what is assigned to the worker; the listener follows the group.
        listener: stands where a Membership stands.
    """

    settings: Settings
    port: Port
    store: StateStore
    assignments: Assignments
    listener: Listener

    @abstractmethod
    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        """Run a scenario to its end, in the event loop of the worker, while it is a member of the group."""

    async def assignment(self) -> Assignment:
        """Give the next assignment of the group; all partitions are the worker's."""
        assignment = await self.listener.given()
        assert assignment.active == frozenset(range(N_PARTITIONS))
        return assignment

    async def serving(self, positions: Mapping[int, int]) -> Assignment:
        """Give the next assignment, with its clicks flowing from these offsets."""
        assignment = await self.assignment()
        await self.port.seek(assignment, positions)
        await self.port.resume(assignment)
        return assignment

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str) -> None:
        """Wait until something is true."""
        end_s = self.port.now_s() + DEADLINE_S
        while not await condition():
            assert self.port.now_s() < end_s, what
            await self.port.sleep(0.02)

    async def leave_behind(self, records: Sequence[Record]) -> None:
        """Write to the changelog of partition 0 as an earlier worker would have."""
        await self.produce(self.settings.changelog_topic, 0, records)

    @abstractmethod
    async def produce(self, topic: str, partition: int, records: Sequence[Record], end: Ending | None = None) -> None:
        """Let a backend produce records; in a transaction that ends as told, if so."""

    @abstractmethod
    async def produce_open(
        self, topic: str, partition: int, records: Sequence[Record]
    ) -> "Callable[[], Awaitable[None]]":
        """Begin a transaction with these records; gives what commits it."""

    @abstractmethod
    async def read(self, topic: str, partition: int = 0) -> list[Written]:
        """Read a partition to its present end."""

    @abstractmethod
    async def delete_records(self, partition: int, first: int) -> None:
        """Let retention remove the clicks before an offset."""

    @abstractmethod
    async def grow(self, n_partitions: int) -> None:
        """Add partitions to the clicks topic."""

    @abstractmethod
    async def rebalance(self) -> None:
        """Let the group form anew; the assignment ends, and another one comes."""

    @abstractmethod
    async def evict(self) -> None:
        """Let the coordinator forget the worker, which does not hear of it before its next heartbeat."""

    @abstractmethod
    async def pass_without_a_fetch(self, hours: float) -> None:
        """Let time pass in which the worker asks for no clicks; its heartbeats go on."""

    @contextmanager
    @abstractmethod
    def broker_away(self) -> Iterator[None]:
        """Let the broker hang; its connections stay open."""


class MemoryWorld(World):
    """Kafka in memory."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._clock = Clock()
        self._kafka = MemoryKafka(self._clock, settings.clicks_topic, N_PARTITIONS, settings.session_timeout_s)
        self._loop = VirtualLoop(self._clock)

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        running = self._loop.create_task(self._run(scenario))
        while not running.done():
            self._loop.turn()
            if self._loop.is_idle and not running.done():
                next_s = min(self._loop.next_timer_s, self._kafka.next_event_s)
                assert next_s < 1e6, "nothing happens any more"
                self._clock.now_s = max(self._clock.now_s, next_s)
                self._kafka.happen()
        self._loop.close()
        assert self._loop.failures == []
        running.result()

    async def _run(self, scenario: Coroutine[Any, Any, None]) -> None:
        self.store = MemoryStore()
        self.assignments = Assignments(self.settings.session_timeout_s, self._clock.now_s)
        self.port = port = MemoryPort("worker", self._kafka, self.settings, self.store, self.assignments)
        self.listener = Listener(port, self.assignments)
        member = asyncio.create_task(port.take_part(self.listener))  # type: ignore[arg-type]
        await scenario
        member.cancel()
        await asyncio.wait([member])

    async def produce(self, topic: str, partition: int, records: Sequence[Record], end: Ending | None = None) -> None:
        if end == "abort":
            for _ in records:
                self._kafka.append_marker(topic, partition)
        else:
            self._kafka.append(topic, partition, records)
        if end is not None:
            self._kafka.append_marker(topic, partition)

    async def produce_open(
        self, topic: str, partition: int, records: Sequence[Record]
    ) -> "Callable[[], Awaitable[None]]":
        log = self._kafka.log(topic, partition)
        log.open_from = log.end
        self._kafka.append(topic, partition, records)

        async def commit() -> None:
            log.open_from = None
            self._kafka.append_marker(topic, partition)

        return commit

    async def read(self, topic: str, partition: int = 0) -> list[Written]:
        log = self._kafka.log(topic, partition)
        return [Written(record.offset, record.key, record.value) for record in log.records(0, log.end)]

    async def delete_records(self, partition: int, first: int) -> None:
        self._kafka.log(self.settings.clicks_topic, partition).first = first
        self._kafka.wake()

    async def grow(self, n_partitions: int) -> None:
        self._kafka.grow(n_partitions)

    async def rebalance(self) -> None:
        self._kafka.notice_growth()

    async def evict(self) -> None:
        self._kafka.leave("worker")

    async def pass_without_a_fetch(self, hours: float) -> None:
        await self.port.sleep(hours * 3600)

    @contextmanager
    def broker_away(self) -> Iterator[None]:
        self._kafka.is_away = True
        try:
            yield
        finally:
            self._kafka.is_away = False
            self._kafka.wake()


class KafkaWorld(World):
    """An Apache Kafka, and the Faust app of a worker in the process of the test."""

    def __init__(self, settings: Settings, kafka: LocalKafka | None = None) -> None:
        """Make topics.

        Args:
            settings: where the broker is, and names that are this test's alone.
            kafka: the broker, if it is this test's to be paused.
        """
        self.settings = settings
        self._kafka = kafka
        self._admin = AdminClient(librdkafka_config(settings))
        self._failures: list[Exception] = []
        topics = [NewTopic(t, N_PARTITIONS) for t in (settings.clicks_topic, settings.recommendations_topic)]
        topics.append(NewTopic(settings.changelog_topic, N_PARTITIONS, config={"cleanup.policy": "compact"}))
        for created in self._admin.create_topics(topics).values():
            created.result(ANSWER_S)
        end_s = time.monotonic() + DEADLINE_S
        while not self._are_known([topic.topic for topic in topics]):  # else the group would share out nothing
            assert time.monotonic() < end_s, "the topics are known"
            time.sleep(0.02)

    def _are_known(self, names: Sequence[str]) -> bool:
        topics = self._admin.list_topics(timeout=ANSWER_S).topics
        return all(
            name in topics and [p.leader >= 0 for p in topics[name].partitions.values()] == [True] * N_PARTITIONS
            for name in names
        )

    def run(self, scenario: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._run(scenario))
        assert self._failures == []

    async def _run(self, scenario: Coroutine[Any, Any, None]) -> None:
        settings, caught_up = self.settings, asyncio.Event()
        metrics = WorkerMetrics(CollectorRegistry())
        popularity = Popularity(settings.popularity_half_life_s)
        serving = Serving(ServedBundle(settings, metrics, popularity.seed), popularity, metrics, Usage("clicks", 1))
        topic = Topic(N_PARTITIONS, lambda identity: None)
        parts = build_worker(settings, topic, settings.app, serving, caught_up, self._failures.append)
        self._app, self.assignments = parts.app, parts.assignments
        self.store = parts.app.tables[TABLE_NAME].data
        self.port = FaustPort(parts.app, settings, self.store)
        self.listener = Listener(self.port, self.assignments)
        check = TopicCheck(self.port, lambda identity: None)
        reader = ClickReader(self.port, self.assignments, check, settings.clicks_topic, lambda n_offsets: None)
        connect(parts.app, settings, self.listener, reader)  # type: ignore[arg-type]
        parts.app.finalize()
        await parts.app.start()
        try:
            async with asyncio.timeout(2 * DEADLINE_S):
                await self.listener.is_member.wait()  # Faust does not close what it stops in the middle of a join
                await scenario
            assert parts.app.crash_reason is None
        finally:
            self.listener.may_give_back.set()
            await self.port.stop_reading()
            await self.port.leave()
            await parts.app.stop()

    async def produce(self, topic: str, partition: int, records: Sequence[Record], end: Ending | None = None) -> None:
        await asyncio.to_thread(self._produce, topic, partition, records, end)

    async def produce_open(
        self, topic: str, partition: int, records: Sequence[Record]
    ) -> "Callable[[], Awaitable[None]]":
        await asyncio.to_thread(self._begin, topic, partition, records)

        async def commit() -> None:
            await asyncio.to_thread(self._transactions.commit_transaction, ANSWER_S)

        return commit

    def _produce(self, topic: str, partition: int, records: Sequence[Record], end: Ending | None) -> None:
        if end is None:
            self._send(self._plain, topic, partition, records)
            return
        self._begin(topic, partition, records)
        if end == "commit":
            self._transactions.commit_transaction(ANSWER_S)
        else:
            self._transactions.abort_transaction(ANSWER_S)
        wait_until_decided(self.settings, topic)

    def _begin(self, topic: str, partition: int, records: Sequence[Record]) -> None:
        self._transactions.begin_transaction()
        self._send(self._transactions, topic, partition, records)

    @staticmethod
    def _send(producer: Producer, topic: str, partition: int, records: Sequence[Record]) -> None:
        for key, value, headers in records:
            producer.produce(topic, value, key, partition, headers=list(headers))
        assert producer.flush(ANSWER_S) == 0

    @cached_property
    def _plain(self) -> Producer:
        return Producer(librdkafka_config(self.settings) | {"acks": "all", "linger.ms": 0})

    @cached_property
    def _transactions(self) -> Producer:
        producer = Producer(librdkafka_config(self.settings) | {"transactional.id": self.settings.app})
        producer.init_transactions(ANSWER_S)
        return producer

    async def read(self, topic: str, partition: int = 0) -> list[Written]:
        messages = await asyncio.to_thread(read_topic, self.settings, topic)
        return [Written(m.offset(), m.key(), m.value()) for m in messages if m.partition() == partition]

    async def delete_records(self, partition: int, first: int) -> None:
        deleted = self._admin.delete_records([TopicPartition(self.settings.clicks_topic, partition, first)])
        for future in deleted.values():
            await asyncio.to_thread(future.result, ANSWER_S)

    async def grow(self, n_partitions: int) -> None:
        wanted = [NewPartitions(self.settings.clicks_topic, n_partitions)]
        for future in self._admin.create_partitions(wanted, operation_timeout=ANSWER_S).values():
            await asyncio.to_thread(future.result, ANSWER_S)
        # The controller has them; a broker hears of it a moment later.
        while (
            await asyncio.to_thread(describe_topic, self._admin, self.settings.clicks_topic)
        ).partitions < n_partitions:
            await asyncio.sleep(_BROKER_LOOK_S)

    async def rebalance(self) -> None:
        self._in_client_thread(self._coordinator.request_rejoin)

    async def evict(self) -> None:
        coordinator = self._coordinator
        request = LeaveGroupRequest(coordinator.group_id, coordinator.member_id)
        sending = asyncio.run_coroutine_threadsafe(coordinator._send_req(request), self._client_thread.thread_loop)
        response = await asyncio.wrap_future(sending)
        assert response.error_code == 0

    async def pass_without_a_fetch(self, hours: float) -> None:
        self._client_thread._ensure_consumer()._subscription._last_fetch_ended -= hours * 3600
        await self.port.sleep(3 * self._app.conf.broker_heartbeat_interval)

    @contextmanager
    def broker_away(self) -> Iterator[None]:
        assert self._kafka is not None
        # The client's own patience, which is 90 s: whoever waits for a broker goes on behind it. It must be longer than
        # a fetch without traffic, because the broker answers the questions of a connection one after the other.
        self._client_thread._ensure_consumer()._request_timeout_ms = 1_500
        self._app.producer._producer.client._request_timeout_ms = 1_500
        self._kafka.pause()
        try:
            yield
        finally:
            self._kafka.resume()

    @property
    def _client_thread(self) -> Any:
        return self._app.consumer.client

    @property
    def _coordinator(self) -> Any:
        return self._client_thread._ensure_consumer()._coordinator

    def _in_client_thread(self, what: Callable[[], None]) -> None:
        self._client_thread.thread_loop.call_soon_threadsafe(what)


def settings_for(name: str, broker: str, folder: Path, session_timeout_s: float) -> Settings:
    """Give settings with names that are a test's alone."""
    return Settings(
        broker=broker,
        app=name,
        clicks_topic=f"{name}-clicks",
        recommendations_topic=f"{name}-recommendations",
        rejected_topic=f"{name}-rejected",
        models_topic=f"{name}-models",
        items_topic=f"{name}-items",
        data_dir=folder,
        session_timeout_s=session_timeout_s,
        stall_s=3.0,
        max_chunk_records=4,
    )
