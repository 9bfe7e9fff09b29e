"""How clicks arrive and are acknowledged: chunks of records instead of one record at a time. Uses Faust and aiokafka.

A chunk is what one fetch brought, a run of records per partition. It travels through Faust as a single message. A run
is acknowledged with the offset after its last record, strictly in order; only that is ever committed.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import faust
import uvloop
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings
from stream.faust_adapter.client_thread import IDLE_WAIT_S, ClientThread, faust_log
from stream.faust_adapter.producer import LeasedProducer
from stream.protocol.lease import Lease

_log = logging.getLogger(__name__)

MAX_WAITING_CHUNKS = 2  # delivered but not yet taken by the agent: enough to never let it wait
QUIET_S = 0.2  # without a record for so long there is no traffic


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one fetch brought.

    Attributes:
        runs: partition to its records, in log order (aiokafka's ConsumerRecord).
        generation: of the consumer group, when it was fetched: an older chunk must not be published.
    """

    runs: Mapping[int, list[Any]]
    generation: int


class ChunkConsumer(driver.Consumer):
    """Faust's consumer, delivering the clicks topic in chunks; `stream.states.changelog` reads the changelog."""

    logger = faust_log

    settings: Settings  # set by `use_chunks`
    lease: Lease  # set by `use_chunks`
    _thread: "ClientThread"

    def __init__(self, *args: Any, **options: Any) -> None:
        self._delivered: dict[TP, int] = {}  # offset after the last record that was handed on
        self._acknowledged: dict[TP, int] = {}  # offset after the last durable record
        self._waiting_chunks = 0
        self._chunk_taken = asyncio.Event()
        self._revocations = self._seeks = 0
        self._seeking = asyncio.Lock()
        super().__init__(*args, **options)

    def acknowledge(self, partition: int, next_offset: int) -> None:
        """Allow a commit up to, not including, `next_offset`. Must be called in order per partition."""
        self._acknowledged[TP(self.settings.clicks_topic, partition)] = next_offset

    def committed_offset(self, partition: int) -> int | None:
        """Give the offset that is committed; None before the first."""
        committed: int | None = self._committed_offset.get(TP(self.settings.clicks_topic, partition))
        return committed

    async def commit_all(self) -> None:
        """Commit all that is acknowledged, also when a commit of less is on its way."""
        await self.maybe_wait_for_commit_to_finish()
        await self.commit()

    def delivered_offset(self, partition: int) -> int | None:
        """Give the offset after the last click that was handed on; None before the first."""
        return self._delivered.get(TP(self.settings.clicks_topic, partition))

    def leave_group_on_stop(self) -> None:
        """Let the broker know at the stop that this worker goes for good, so that its partitions are free at once.

        aiokafka never does it for a static member, because that is meant to come back soon.
        """
        self._thread.leave_group_on_stop()

    def chunk_taken(self) -> None:
        """Make room for the next chunk."""
        self._waiting_chunks = max(0, self._waiting_chunks - 1)
        self._chunk_taken.set()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Do nothing: Faust's check counts single events and would raise false alarms about chunks."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._revocations += 1  # Faust forgets what was read before the waits below, and commits after them
        await super().on_partitions_revoked(revoked)
        self._revocations += 1
        self._delivered.clear()
        self._acknowledged.clear()
        self._read_offset.clear()  # what was delivered and not committed comes again
        self._forget_waiting()

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._thread.leave_out([tp for tp in assigned if tp.topic != self.settings.clicks_topic])
        await super().on_partitions_assigned(assigned, generation_id)

    async def perform_seek(self) -> None:
        """Go back to what was committed; where nothing was yet, to where this application begins.

        Raises:
            IllegalStateError: the assignment is changing: nothing may flow before the next recovery.
            PermanentError: more is committed than there is.
        """
        async with self._seeking:  # a recovery and the loop that delivers can both want it
            self._seeks += 1
            self._forget_waiting()
            revocations, clicks = self._revocations, self._assigned_clicks()
            if not clicks:
                return
            await super().perform_seek()
            firsts, ends = await self._thread.earliest_offsets(*clicks), await self._thread.highwaters(*clicks)
            # What was known of them is gone, or nothing is known yet of those that came: the next recovery seeks.
            if revocations != self._revocations or clicks != self._assigned_clicks():
                raise IllegalStateError("the assignment changed during the seek")
            places: dict[TP, int] = {}
            is_new = False
            for tp in clicks:
                # What is acknowledged is committed soon: a place to come back to, also when what follows is dropped.
                place = self._acknowledged.get(tp, self._read_offset[tp])
                if place is None:
                    is_new = True
                    place = firsts[tp] if self.settings.start == "earliest" else ends[tp]
                places[tp] = self._acknowledged[tp] = self._existing(tp, place, firsts[tp], ends[tp])
            await self.seek_wait(places)
            if is_new:  # before any click is read: `latest` would be another place after a crash
                await self.commit_all()

    def _assigned_clicks(self) -> set[TP]:
        return {tp for tp in self.assignment() if tp.topic == self.settings.clicks_topic}

    def _existing(self, tp: TP, place: int, first: int, end: int) -> int:
        """Give the place to go on from, in the log as it is."""
        if place > end:
            raise PermanentError(
                f"application {self.settings.app} has read {tp.topic}, partition {tp.partition}, up to {place}, found "
                f"that it ends at {end}: the broker has lost clicks, and new ones would be taken for known. Start a "
                "new application with --set app=NAME, which reads what is left from the beginning"
            )
        if place < first:
            _log.error(
                "clicks are lost: retention removed them before they were read",
                extra={"fields": {"partition": tp.partition, "first": place, "last": first - 1}},
            )
        return max(place, first)

    def _forget_waiting(self) -> None:
        self._waiting_chunks = 0
        self._chunk_taken.set()

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter([tp for tp in self._acknowledged if topics is None or tp in topics or tp.topic in topics])

    def _new_offset(self, tp: TP) -> int | None:
        return self._acknowledged.get(tp)

    def _new_consumer_thread(self) -> "ClientThread":
        return ClientThread(self, loop=self.loop, beacon=self.beacon, thread_loop=uvloop.new_event_loop())

    async def _drain_messages(self, fetcher: Any) -> None:
        gathering = False
        try:
            while not (self._stopped.is_set() or fetcher._stopped.is_set()):
                async with self._seeking:  # one that is on its way comes first; one that comes later is seen
                    seeks = self._seeks
                records, active = await self._wait_next_records(QUIET_S if gathering else IDLE_WAIT_S)
                if records is None or self.should_stop:
                    return
                # Records fetched before a seek may lie beyond it: taken now, they would hide those in between.
                if not self.flow_active or seeks != self._seeks:
                    with suppress(IllegalStateError):  # the assignment is changing: the next one is sought to
                        await self.perform_seek()
                    continue
                gathering = await self._deliver(records, active, seeks) > 0
                self._thread.gather(self.settings.gather_ms if gathering else None)
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise

    async def _deliver(self, records: Mapping[TP, list[Any]], active: set[TP] | None, seeks: int) -> int:
        """Hand fetched clicks on as one chunk.

        Args:
            records: what was fetched.
            active: the partitions that are not paused; None for all.
            seeks: how many there had been when the fetch began.

        Returns:
            The number of clicks.
        """
        generation = self.app.consumer_generation_id
        runs: dict[int, list[Any]] = {}
        for fetched_tp, run in records.items():
            tp = TP(fetched_tp.topic, fetched_tp.partition)
            if tp.topic != self.settings.clicks_topic or (active is not None and tp not in active):
                continue
            read_offset = self._read_offset[tp]
            fresh = run if read_offset is None else [record for record in run if record.offset >= read_offset]
            if not fresh:
                raise TemporaryError(
                    f"{tp.topic}, partition {tp.partition}, is read up to {read_offset}, found records up to "
                    f"{run[-1].offset}: the broker has lost some, or is not the one that it was; start the worker again"
                )
            runs[tp.partition] = fresh
        if runs:
            await self._deliver_chunk(Chunk(runs, generation), seeks)
        return sum(map(len, runs.values()))

    async def _deliver_chunk(self, chunk: Chunk, seeks: int) -> None:
        while self._waiting_chunks >= MAX_WAITING_CHUNKS:
            self._chunk_taken.clear()
            await self._chunk_taken.wait()
        if not self.flow_active or self.app.consumer_generation_id != chunk.generation or seeks != self._seeks:
            return
        self._waiting_chunks += 1
        partition, run = next(iter(chunk.runs.items()))  # Faust routes by a message's partition: any of them will do
        last = run[-1]
        tp = TP(last.topic, partition)
        for run_partition, records in chunk.runs.items():
            run_tp = TP(last.topic, run_partition)
            self._read_offset[run_tp] = self._delivered[run_tp] = records[-1].offset + 1
        message = ConsumerMessage(
            last.topic,
            partition,
            last.offset,
            last.timestamp / 1000,
            last.timestamp_type,
            None,
            None,
            chunk,
            None,
            0,
            0,
            tp,
            generation_id=chunk.generation,
        )
        await self.callback(message)


class DurableProducer(driver.Producer):
    """Faust's producer, made to lose nothing: every replica acknowledges, and a retry cannot double a record."""

    logger = faust_log

    lease: Lease  # set by `use_chunks`

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True, "lease": self.lease}

    async def flush(self) -> None:
        """Do nothing: Faust flushes before it tells that partitions are taken away, and without the lease that ends
        only afterwards. What is unfinished is waited for, and dropped, by `stream.protocol.publisher`.
        """

    @property
    def _producer_type(self) -> type[LeasedProducer]:
        return LeasedProducer


class ChunkSchema(faust.Schema):
    """Passes a chunk through Faust as it is."""

    def compile(self, app: Any, **options: Any) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, None, message)

        return decode


def use_chunks(app: Any, settings: Settings, lease: Lease) -> None:
    """Make an app consume the clicks topic in chunks, and send only while it holds the lease.

    Must be called before anything touches `app.consumer`.
    """
    consumer = type("ChunkConsumer", (ChunkConsumer,), {"settings": settings, "lease": lease})
    producer = type("DurableProducer", (DurableProducer,), {"lease": lease})
    transport = type("ChunkTransport", (driver.Transport,), {"Consumer": consumer, "Producer": producer})
    app.transport = transport(app.conf.broker_consumer, app)
    app.producer_transport = transport(app.conf.broker_producer, app)


async def chunks(stream: Any) -> AsyncIterator[Chunk]:
    """Iterate over the chunks of an agent's stream; none is acknowledged by the iteration."""
    async for event in stream.noack().events():
        stream.app.consumer.chunk_taken()
        yield event.value
