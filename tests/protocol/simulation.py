"""A few workers on Kafka in memory, under a clock that only moves when a test moves it, and the laws that must hold."""

import asyncio
import contextlib
import json
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from nextclick.advance import Limits, LoggedClick
from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.hashing import partition_of
from nextclick.popularity import Popularity
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from nextclick.updates import decode_update
from nextclick.user_state import decode_state
from stream.agent import ClickAgent, Serving
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Assignments
from stream.protocol.membership import Membership
from stream.protocol.publisher import Publisher
from stream.protocol.reader import ClickReader
from stream.protocol.topic_check import TopicCheck
from stream.protocol.watchdog import Watchdog
from stream.served_bundle import ServedBundle
from tests.chaos.evidence import Evidence, Place, logged_clicks
from tests.chaos.report import Report
from tests.chaos.verifier import verify_without_network
from tests.protocol.memory_kafka import MemoryKafka, MemoryRecord
from tests.protocol.memory_port import MemoryPort, MemoryStore
from tests.protocol.virtual_time import Clock, VirtualLoop
from tools.kafka import TopicIdentity
from tools.records import Header

SETTINGS = Settings(
    app="memory",
    session_timeout_s=10.0,
    stall_s=20.0,
    commit_interval_s=2.0,
    max_chunk_records=4,
    recent_clicks=3,
    list_length=2,
    id_field="event_id",
    data_dir=Path("memory"),
)
LIMITS = Limits(SETTINGS.recent_clicks, SETTINGS.list_length)
CLICKED_MS = 1_700_000_000_000  # event time of the clicks
RESTART_S = 1.0
STOP_S = 4.0  # a stop that takes longer is cut short


class GrownTopic(PermanentError):
    """What a worker ends with when the clicks topic has more partitions than its states."""


class OtherTopic(PermanentError):
    """What a worker ends with when the clicks topic was created anew."""


class Stopped(TemporaryError):
    """The worker was asked to end, and did."""


class MemoryWorker:
    """One process: everything of a worker but Faust. Its failure ends it."""

    def __init__(
        self, name: str, kafka: MemoryKafka, store: MemoryStore, identity: TopicIdentity, settings: Settings
    ) -> None:
        self.name = name
        self.store = store
        self.kafka = kafka
        self.is_paused = False
        self.failure: BaseException | None = None
        self.loop = VirtualLoop(kafka.clock)
        self._identity = identity
        self._settings = settings
        self._in_loop(self._build)

    def _in_loop(self, what: Callable[[], None]) -> None:
        self.loop.call_soon(what)
        self.loop.turn()
        assert not self.loop.failures, self.loop.failures

    def _build(self) -> None:
        settings, kafka, store = self._settings, self.kafka, self.store
        self.metrics = _metrics()
        self.lost = 0
        self.assignments = Assignments(settings.session_timeout_s, kafka.clock.now_s)
        self.port = MemoryPort(self.name, kafka, settings, store, self.assignments)
        topic_check = TopicCheck(self.port, self._judge)
        self.reader = ClickReader(self.port, self.assignments, topic_check, settings.clicks_topic, self._count_lost)
        self.publisher = Publisher(self.port, store, settings, self.fail)
        self.membership = Membership(self.port, store, settings, self.reader, self.publisher, topic_check)
        serving = Serving(_no_bundle(), Popularity(3_600.0), self.metrics, Usage("clicks", 1))
        self.agent = ClickAgent(settings, self._identity.partitions, store, self.publisher, topic_check, serving)
        self.watchdog = Watchdog(self.port, self.assignments, topic_check, settings)
        self.tasks = [
            self.loop.create_task(work)
            for work in (
                self.port.take_part(self.membership),
                self._process(),
                self.membership.commit_regularly(),
                self.watchdog.watch(),
            )
        ]
        for task in self.tasks:
            task.add_done_callback(self._ended)

    async def _process(self) -> None:
        async for chunk in self.reader.chunks():
            await self.agent.process(chunk)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled():
            self.fail(task.exception() or RuntimeError("a task of the worker ended by itself"))

    def _count_lost(self, n_offsets: int) -> None:
        self.lost += n_offsets

    def _judge(self, now: TopicIdentity) -> None:
        if not now.is_same_topic(self._identity):
            raise OtherTopic(f"id {now.topic_id}")
        if now.partitions != self._identity.partitions:
            raise GrownTopic(f"{now.partitions} partitions")

    def fail(self, error: BaseException) -> None:
        """End the process: nothing of it runs any more after the present callback."""
        if self.failure is None:
            self.failure = error
            self.loop.has_ended = True

    @property
    def runs(self) -> bool:
        """Whether the process is there and not paused."""
        return self.failure is None and not self.is_paused

    def close(self) -> None:
        """Let nothing of it complain about its end."""
        self.fail(KeyboardInterrupt())
        self.loop.close()


class Simulation:
    """Workers, a cluster and a clock."""

    def __init__(self, n_partitions: int = 2, settings: Settings = SETTINGS) -> None:
        self.clock = Clock()
        self.settings = settings
        self.n_partitions = n_partitions  # that the states are made with
        self.kafka = MemoryKafka(self.clock, settings.clicks_topic, n_partitions, settings.session_timeout_s)
        self.identity = TopicIdentity(settings.clicks_topic, self.kafka.topic_id, n_partitions)  # noted with the states
        self.workers: dict[str, MemoryWorker] = {}
        self.failures: list[BaseException] = []
        self.restarts = True

    # What a test does.

    def start(self, name: str, store: MemoryStore | None = None) -> MemoryWorker:
        """Start a worker; with a store that another one left behind, or a new one."""
        worker = MemoryWorker(name, self.kafka, store or MemoryStore(), self.identity, self.settings)
        self.workers[name] = worker
        return worker

    def kill(self, name: str, *, with_disk: bool = False) -> None:
        """End a process at once, and start it again a little later."""
        worker = self.workers.pop(name)
        worker.close()
        self._restart(name, MemoryStore() if with_disk else worker.store)

    def stop(self, name: str) -> None:
        """Ask a process to end, as SIGTERM does, and start it again a little later."""
        worker = self.workers[name]

        async def end() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_S):
                    await worker.membership.close(finish=True)
            worker.fail(Stopped())

        worker.loop.call_soon(lambda: worker.tasks.append(worker.loop.create_task(end())))

    def click(self, user: str, item: str = "i", timestamp_ms: int = CLICKED_MS) -> Place:
        """Send a click, as a producer that knows the topic's partitions; gives where it stands."""
        return self._send(user, {"user_id": user, "item_id": item, "timestamp_ms": timestamp_ms})

    def record(self, user: str, event_ids: Sequence[str | None]) -> Place:
        """Send a record of several clicks, one for each id of an event; gives where it stands."""
        return self._send(
            user,
            [{"user_id": user, "item_id": "i", "timestamp_ms": CLICKED_MS, "event_id": each} for each in event_ids],
        )

    def send(self, user: str, headers: Sequence[Header]) -> Place:
        """Send a click with headers; gives where it stands."""
        return self._send(user, {"user_id": user, "item_id": "i", "timestamp_ms": CLICKED_MS}, headers)

    def _send(self, user: str, document: object, headers: Sequence[Header] = ()) -> Place:
        settings, key, value = self.settings, user.encode(), json.dumps(document).encode()
        partition = partition_of(key, self.kafka.n_partitions, settings.partitioner)
        offsets = self.kafka.append(settings.clicks_topic, partition, [(key, value, headers)])
        return partition, offsets.start

    def send_garbage(self, partition: int) -> None:
        """Send what is no click."""
        self.kafka.append(self.settings.clicks_topic, partition, [(b"u", b"{", ())])

    # Time.

    def advance(self, seconds: float) -> None:
        """Let time pass, with everything that happens in it."""
        end_s = self.clock.now_s + seconds
        while True:
            self._settle()
            timers = [worker.loop.next_timer_s for worker in self.workers.values() if worker.runs]
            next_s = min([*timers, self.kafka.next_event_s])
            if next_s > end_s:
                break
            self.clock.now_s = max(self.clock.now_s, next_s)
            self.kafka.happen()
        self.clock.now_s = end_s

    def _settle(self) -> None:
        while busy := [worker for worker in self.workers.values() if worker.runs and not worker.loop.is_idle]:
            for worker in busy:
                worker.loop.turn()
                if worker.failure is not None:
                    self._bury(worker)

    def _bury(self, worker: MemoryWorker) -> None:
        if self.workers.get(worker.name) is worker:
            del self.workers[worker.name]
            assert worker.failure is not None
            self.failures.append(worker.failure)
            worker.close()
            if not isinstance(worker.failure, PermanentError):
                self._restart(worker.name, worker.store)

    def _restart(self, name: str, store: MemoryStore) -> None:
        if self.restarts:
            self.kafka.later(RESTART_S, lambda: self.start(name, store) and None)

    # Laws.

    def unanswered(self) -> list[Place]:
        """Give the clicks that are below a committed offset and were not answered: there must never be one."""
        evidence = self.evidence()
        answered: dict[tuple[int, bytes], int] = {}
        for update in evidence.updates:
            user = (update.source.partition, update.user_id.encode())
            answered[user] = max(answered.get(user, -1), update.source.offset)
        return [
            (click.user[0], click.offset)
            for click in evidence.clicks
            if click.offset < self.kafka.committed.get(click.user[0], 0) and answered.get(click.user, -1) < click.offset
        ]

    @property
    def is_at_rest(self) -> bool:
        """Whether every process serves and every record of the clicks topic is committed."""
        logs = [self.kafka.log(self.settings.clicks_topic, p) for p in range(self.n_partitions)]
        return all(worker.assignments.current.serves for worker in self.workers.values()) and all(
            self.kafka.committed.get(p, 0) == log.end for p, log in enumerate(logs)
        )

    def report(self) -> Report:
        """Judge everything that has happened, as the chaos suite does."""
        return verify_without_network(self.evidence(), LIMITS)

    def evidence(self) -> Evidence:
        """Gather what the topics hold."""
        clicks, bad = self._clicks()
        settings = self.settings
        states = []
        for record in self.records(settings.changelog_topic):
            assert record.key is not None
            if record.value is not None:
                states.append(((record.partition, record.key), decode_state(record.value)))
        updates = [decode_update(record.value) for record in self.records(settings.recommendations_topic)]
        rejected = []
        for record in self.records(settings.rejected_topic):
            headers = dict(record.headers)
            rejected.append((int(headers["partition"]), int(headers["offset"])))
        return Evidence(clicks, bad, updates, states, [], rejected)

    def _clicks(self) -> tuple[list[LoggedClick], list[Place]]:
        decode, now_ms = click_decoder(ClickSchema.of(self.settings)), int(time.time() * 1000)
        clicks, bad = [], []
        for record in self.records(self.settings.clicks_topic):
            decoded = decode(record.key, record.value, None, record.timestamp, now_ms)
            place = (record.partition, record.offset)
            if not isinstance(decoded, tuple):
                bad.append(place)
            else:
                assert record.key is not None
                clicks += logged_clicks((record.partition, record.key), record.offset, record.timestamp, decoded)
        return clicks, bad

    def records(self, topic: str) -> list[MemoryRecord]:
        """Give all records of a topic."""
        logs = [self.kafka.log(topic, p) for p in range(self.kafka.n_partitions)]
        return [record for log in logs for record in log.records(0, log.end)]

    def close(self) -> None:
        """End every process."""
        for worker in list(self.workers.values()):
            worker.close()

    @property
    def unexpected(self) -> list[BaseException]:
        """Give the failures that no user should see: those without a sentence of ours."""
        return [error for error in self.failures if not isinstance(error, NextclickError)]


@cache
def _metrics() -> WorkerMetrics:
    return WorkerMetrics(CollectorRegistry())


@cache
def _no_bundle() -> Any:
    return ServedBundle(SETTINGS, _metrics(), lambda model: None)
