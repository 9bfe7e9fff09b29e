"""What the worker does with a chunk of clicks, from arrival to publication, in three steps.

1. Its records are decoded (`process`).
2. The pure function `nextclick.advance.advance` computes the states and lists that follow, with the states that the
   chunk before has left (`_compute`).
3. They become records and are handed on (`_hand_on`).

Each step takes one chunk at a time, in the order of arrival; while one is computed, outside of the interpreter's lock
for the most part, the next is decoded and the one before is handed on. Errors are not handled here: a chunk that raises
stops the process with nothing of it acknowledged, and is read again.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from nextclick.advance import MAX_GROUP_USERS, Limits, LoggedClick, Model, Outcome, Skipped, UserKey, advance
from nextclick.clicks import APPLIED_HEADER, Click, Decoded, Ignored, Rejected
from nextclick.errors import PermanentError
from nextclick.hashing import item_hash
from nextclick.popularity import Popularity
from nextclick.quick_tuples import quick
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.placement import is_home, misplaced
from nextclick.schema.times import MILLISECONDS_BELOW, SECONDS_BELOW, record_time_ms
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from nextclick.updates import JSON_FORMAT, POPULAR, RNN, AnsweredClick, RankedList, UpdateFormat
from nextclick.user_state import UserState, decode_state, encode_state
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Assignment, Partition, Superseded
from stream.protocol.chunk_rules import Pace
from stream.protocol.port import ClickRecord, Dropped, StateStore
from stream.protocol.publisher import Publisher, RunResults
from stream.protocol.reader import Chunk
from stream.protocol.topic_check import TopicCheck
from stream.schema_loader import SchemaLoader
from stream.served_bundle import ServedBundle
from tools.dead_letters import Origin, dead_letter

if TYPE_CHECKING:  # brings Avro, JSON Schema and an HTTP client: only with a registry
    from tools.schema_registry.decoder import RegistryDecoder

_logged, _answered = quick(LoggedClick), quick(AnsweredClick)
REJECT_SHARE_RECORDS = 1_000  # a share is judged over at least so many records


class Serving(NamedTuple):
    """What lists are made from, and what is counted.

    Attributes:
        bundle: that is served.
        popularity: what is served without one.
        metrics: of the worker.
        usage: what becomes of the records of the clicks topic.
        registry: of their schemas; None: there is none.
        output: how updates are written; lists of `bundle` and `popularity` are written in the same way.
    """

    bundle: ServedBundle
    popularity: Popularity
    metrics: WorkerMetrics
    usage: Usage
    registry: "RegistryDecoder | None" = None
    output: UpdateFormat = JSON_FORMAT


class DecodedRun(NamedTuple):
    """A run of records, and what they say.

    Attributes:
        records: of one partition, in order.
        decoded: of each its clicks, or why it has none.
        users: the keys of their users' states; empty where a record has no clicks.
    """

    records: Sequence[ClickRecord]
    decoded: Sequence[Decoded]
    users: Sequence[bytes]


@dataclass(slots=True)
class ReadChunk:
    """A chunk, sorted into what can be used and what cannot.

    Attributes:
        read_ms: when its records were decoded.
        clicks: that can be used, in order.
        states: of their users, as they were before; without those that have none.
        results: by partition, so far with the records that cannot be used.
        n_misplaced: how many of these are in a wrong partition.
        n_used: how many records can be used.
    """

    read_ms: int
    clicks: list[LoggedClick] = field(default_factory=list)
    states: dict[UserKey, UserState] = field(default_factory=dict)
    results: dict[int, RunResults] = field(default_factory=dict)
    n_misplaced: int = 0
    n_used: int = 0


class ClickAgent:
    """Turns chunks into published results."""

    def __init__(
        self,
        settings: Settings,
        n_partitions: int,
        store: StateStore,
        publisher: Publisher,
        topic_check: TopicCheck,
        serving: Serving,
    ) -> None:
        """Make an agent.

        Args:
            settings: of the worker.
            n_partitions: of the clicks topic, as the states were made with.
            store: the local states.
            publisher: gets the results.
            topic_check: is asked before a click is rejected for its partition.
            serving: what lists are made from, and what is counted.
        """
        self._settings = settings
        self._n_partitions = n_partitions
        self._store = store
        self._publisher = publisher
        self._topic_check = topic_check
        self._served, self._popularity, self._metrics, self._usage, registry, self._output = serving
        self._decode = click_decoder(ClickSchema.of(settings), registry)
        self._schemas = SchemaLoader(registry, settings) if registry is not None else None
        self._limits = Limits(settings.recent_clicks, settings.list_length, settings.explain)
        self._inference = ThreadPoolExecutor(1, "inference")
        n_threads = inference_threads(settings.inference_threads)
        self._groups = ThreadPoolExecutor(n_threads, "inference-group") if n_threads > 1 else None
        self._seen_records = self._rejected_records = 0
        self._computing, self._handing_on = asyncio.Lock(), asyncio.Lock()
        self._unfinished: set[asyncio.Task[None]] = set()

    async def process(self, chunk: Chunk) -> None:
        """Decode a chunk, and return when it begins to be computed; what follows is done in the background.

        Partitions can be taken away at every await. What is computed then is dropped with its assignment, and whoever
        has the partitions reads the clicks again.
        """
        assignment = chunk.assignment
        assignment.chunk_taken()
        if not assignment.serves or self._publisher.has_failed:
            return
        if self._schemas is not None:
            await self._schemas.load(chunk)
            if not assignment.serves:
                return
        read_ms = int(time.time() * 1000)
        runs = {number: self._decoded(run.records, read_ms) for number, run in chunk.runs.items()}
        await self._computing.acquire()  # until the chunk before has left its states
        task = asyncio.create_task(self._finish(chunk, runs, ReadChunk(read_ms)))
        self._unfinished.add(task)
        task.add_done_callback(self._unfinished.discard)

    async def _finish(self, chunk: Chunk, runs: Mapping[int, DecodedRun], read: ReadChunk) -> None:
        """Compute and hand on. The next chunk is computed as soon as this one stands first to be handed on."""
        assignment = chunk.assignment
        started = time.perf_counter()
        try:
            try:
                hand_on = await self._compute(chunk, runs, read)
                await self._handing_on.acquire()
            finally:
                self._computing.release()
            try:
                if not self._publisher.has_failed:  # the chunk before, whose states this one was computed with
                    await hand_on()
            finally:
                self._handing_on.release()
            assignment.pace.chunk_took(time.perf_counter() - started)
        except Exception as error:
            if assignment.serves or not isinstance(error, (Superseded, Dropped)):
                self._publisher.fail(error)

    async def _compute(
        self, chunk: Chunk, runs: Mapping[int, DecodedRun], read: ReadChunk
    ) -> Callable[[], Awaitable[None]]:
        """Compute what a chunk leads to; gives what hands it on.

        Raises:
            Superseded: the assignment has ended, or is being given back.
            PermanentError: the topic has grown.
        """
        assignment = chunk.assignment
        if not assignment.serves or self._publisher.has_failed:
            raise Superseded
        started = time.perf_counter()
        model = self._served.current
        popular_before = self._popularity.ranked(self._limits.list_length)
        self._read(chunk, runs, read)
        if read.n_misplaced:  # does the topic still have as many partitions?
            await self._topic_check.wait()
        popular = self._popularity.ranked(self._limits.list_length)
        outcomes = await self._advance(assignment.pace, model, popular, read)
        self._leave_states(assignment, read, outcomes)
        bundle_id, seconds = model.bundle_id if model is not None else "", time.perf_counter() - started
        self._measure(read, outcomes, popular_before, seconds)
        return partial(self._hand_on, assignment, read, outcomes, bundle_id)

    async def _hand_on(
        self, assignment: Assignment, read: ReadChunk, outcomes: Sequence[Outcome], bundle_id: str
    ) -> None:
        """Publish; acknowledged in the background.

        Raises:
            Superseded, Dropped: the assignment has ended, or is being given back.
            PermanentError: too many clicks cannot be used.
        """
        self._write(read, outcomes, bundle_id)
        error = self._judge_rejects(read)
        oldest_ms = min((logged.record_timestamp_ms for logged in read.clicks), default=None)
        n_network = sum(outcome.ranked.strategy == RNN for outcome in outcomes)
        await self._publisher.publish(
            assignment, list(read.results.values()), partial(self._measure_durable, n_network, len(outcomes), oldest_ms)
        )
        if error is not None:
            await self._publisher.drain(assignment)  # the dead letters, which the error points to
            assignment.check()
            raise error

    def _decoded(self, records: Sequence[ClickRecord], now_ms: int) -> DecodedRun:
        decode = self._decode
        decoded = [decode(each.key, each.value, each.headers, each.timestamp, now_ms) for each in records]
        users = [clicks[0].user_id.encode() if type(clicks) is tuple else b"" for clicks in decoded]
        return DecodedRun(records, decoded, users)

    def _read(self, chunk: Chunk, runs: Mapping[int, DecodedRun], read: ReadChunk) -> None:
        """Load the users' states, and sort out what cannot be used."""
        partitioner, now_ms = self._settings.partitioner, read.read_ms
        for number, run in chunk.runs.items():
            read.results[number] = RunResults(number, run.first, run.end)
            records, decoded, users = runs[number]
            states = self._states(number, chunk.assignment.partitions[number], {user for user in users if user})
            read.states.update(((number, user), state) for user, state in states.items())
            n_used = 0
            for record, clicks, user in zip(records, decoded, users, strict=True):
                if not isinstance(clicks, tuple):
                    self._pass_over(read, record, clicks)
                elif user in states or self._is_home(record):
                    self._take(read.clicks, (number, user), record, clicks, now_ms)
                    n_used += 1
                else:
                    read.n_misplaced += 1
                    self._pass_over(read, record, misplaced(partitioner, number))
            self._usage.note_used(n_used)
            read.n_used += n_used

    def _take(
        self, taken: list[LoggedClick], user: UserKey, record: ClickRecord, clicks: tuple[Click, ...], now_ms: int
    ) -> None:
        """Add a record's clicks to those that are applied. Called for nearly every record: no call too many."""
        offset, record_ms = record.offset, record.timestamp
        if not SECONDS_BELOW <= record_ms < MILLISECONDS_BELOW:
            record_ms = record_time_ms(record_ms, now_ms)
        is_applied = bool(record.headers) and _is_applied(record)
        for place, click in enumerate(clicks):
            _, item_id, time_ms, _, _ = click
            self._popularity.add(user[1], item_id, time_ms if time_ms < now_ms else now_ms)
            taken.append(_logged((user, offset, record_ms, click, item_hash(item_id), is_applied, place)))

    def _pass_over(self, read: ReadChunk, record: ClickRecord, why: Rejected | Ignored) -> None:
        """Count a record that is not used; one that should have been is kept as a dead letter."""
        self._usage.note_dropped(why, record.key, record.partition, record.offset)
        if isinstance(why, Ignored):
            self._metrics.ignored.labels(why.reason.value).inc()
            return
        origin = Origin(record.topic, int(record.partition), record.offset, record.timestamp)
        read.results[origin.partition].rejected.append(dead_letter(why, record.key, record.value, origin))
        self._metrics.rejected.labels(why.reason.value).inc()

    def _states(self, number: int, partition: Partition, keys: Collection[bytes]) -> dict[bytes, UserState]:
        """Give the newest states of users, without those that have none.

        Raises:
            CorruptStateError: the store holds bytes that are no state.
        """
        pending = partition.pending
        states = {key: decode_state(pending[key]) for key in keys if key in pending}
        rest = [key for key in keys if key not in pending]
        if rest:
            stored = self._store.get_many(number, rest)
            states.update((key, decode_state(data)) for key, data in zip(rest, stored, strict=True) if data is not None)
        return states

    def _is_home(self, record: ClickRecord) -> bool:
        return is_home(record.key, int(record.partition), self._settings.partitioner, (self._n_partitions,))

    def _judge_rejects(self, read: ReadChunk) -> PermanentError | None:
        rejected = sum(len(results.rejected) for results in read.results.values())
        self._seen_records += rejected + read.n_used
        self._rejected_records += rejected
        if self._seen_records < REJECT_SHARE_RECORDS:
            return None
        share = self._rejected_records / self._seen_records
        self._seen_records = self._rejected_records = 0
        if share <= self._settings.max_reject_share:
            return None
        return PermanentError(
            f"{share:.1%} of the clicks could not be used, and max_reject_share allows "
            f"{self._settings.max_reject_share:.1%}; look at the reasons in the topic of rejected clicks, "
            f"{self._settings.rejected_topic}, or raise max_reject_share"
        )

    async def _advance(
        self, pace: Pace, model: Model | None, popular: RankedList, read: ReadChunk
    ) -> Sequence[Outcome]:
        if model is None:  # microseconds per click: a thread would only add its hand-over
            return advance(model, popular, read.states, read.clicks, self._limits)
        each = self._groups.map if self._groups is not None else map
        n_users, n_clicks = len({logged.user for logged in read.clicks}), len(read.clicks)
        # Others are computed in several threads, or their states anew: what that takes says nothing of the next chunk.
        is_usual = n_users <= MAX_GROUP_USERS and not _has_stale(read.states.values(), model)

        def work() -> Sequence[Outcome]:
            started = time.thread_time()
            outcomes = advance(model, popular, read.states, read.clicks, self._limits, each)
            if is_usual:
                pace.computed(model.bundle_id, n_users, n_clicks, time.thread_time() - started)
            return outcomes

        if is_usual and pace.is_quick(model.bundle_id, n_users, n_clicks):
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._inference, work)

    def _leave_states(self, assignment: Assignment, read: ReadChunk, outcomes: Sequence[Outcome]) -> None:
        """Leave the newest states to the next chunk."""
        newest: dict[int, dict[bytes, UserState]] = {number: {} for number in read.results}
        for logged, outcome in zip(read.clicks, outcomes, strict=True):
            partition, key = logged.user
            newest[partition][key] = outcome.state
        for number, states in newest.items():
            encoded = {key: encode_state(state) for key, state in states.items()}
            read.results[number].states.update(encoded)
            assignment.partitions[number].pending.update(encoded)

    def _write(self, read: ReadChunk, outcomes: Sequence[Outcome], bundle_id: str) -> None:
        """Turn outcomes into updates, in the order of the clicks."""
        now_ms, encode_update, headers = int(time.time() * 1000), self._output.encode_update, self._output.headers
        for logged, outcome in zip(read.clicks, outcomes, strict=True):
            ((partition, key), offset, record_ms, click, _, _, _), sequence = logged, outcome.sequence
            answered = _answered((partition, offset, record_ms))
            update = encode_update(click.user_id, outcome.ranked, bundle_id, sequence, answered, now_ms)
            read.results[partition].updates.append((key, update, headers))

    def _measure(
        self, read: ReadChunk, outcomes: Sequence[Outcome], popular_before: RankedList, seconds: float
    ) -> None:
        metrics = self._metrics
        popular_items = set(memoryview(popular_before.shown).cast("I")) if popular_before.shown else set()
        tallies = {POPULAR: [0, 0, 0], RNN: [0, 0, 0]}  # clicks that are judged, hits, popularity's hits
        n_skipped = n_repeated = 0
        for logged, outcome in zip(read.clicks, outcomes, strict=True):
            if isinstance(outcome, Skipped):
                n_skipped += not outcome.is_repeat
                n_repeated += outcome.is_repeat
            elif outcome.hit is not None:
                tally = tallies[RNN if outcome.hit_by_network else POPULAR]
                tally[0] += 1
                tally[1] += outcome.hit
                tally[2] += (logged.item_hash & 0xFFFFFFFF) in popular_items
        n_applied = len(outcomes) - n_skipped - n_repeated
        self._usage.note_repeated(n_repeated, n_applied + n_repeated)
        for outcome_name, number in (("applied", n_applied), ("skipped", n_skipped), ("repeated", n_repeated)):
            if number:
                metrics.clicks.labels(outcome_name).inc(number)
        for strategy, (judged, hits, popularity_hits) in tallies.items():
            if judged:
                metrics.judged.labels(strategy).inc(judged)
                metrics.hits.labels(strategy).inc(hits)
                metrics.popularity_hits.labels(strategy).inc(popularity_hits)
        metrics.chunk.observe(len(outcomes))
        metrics.advance.observe(seconds)

    def _measure_durable(self, n_network: int, n_updates: int, oldest_ms: int | None) -> None:
        for strategy, count in ((RNN, n_network), (POPULAR, n_updates - n_network)):
            if count:
                self._metrics.updates.labels(strategy).inc(count)
        if oldest_ms is not None:
            self._metrics.latency.observe(max(0.0, time.time() - oldest_ms / 1000))


def inference_threads(wanted: int) -> int:
    """Give how many threads compute a chunk; of 0 wanted one for each core.

    On two cores that broker and load share, two of them gave 1.25 times the events/s of one at 10,000 items, and 1.5
    times at 50,000.
    """
    return wanted or len(os.sched_getaffinity(0))


def _has_stale(states: Iterable[UserState], model: Model) -> bool:
    """Tell whether a state must be computed anew because another bundle made it."""
    bundle = model.bundle
    return any(state.bundle != bundle and state.sequence for state in states)


def _is_applied(record: ClickRecord) -> bool:
    """Tell whether a click is a copy of one that is in its user's state already."""
    return any(name == APPLIED_HEADER for name, _ in record.headers)
