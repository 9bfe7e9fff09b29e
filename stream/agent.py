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
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, NamedTuple

from nextclick.advance import (
    MAX_GROUP_USERS,
    Limits,
    LoggedClick,
    Model,
    Outcome,
    Skipped,
    UserKey,
    advance,
    rank_again,
)
from nextclick.clicks import APPLIED_HEADER, Click, Decoded, Ignored, Rejected
from nextclick.errors import PermanentError
from nextclick.experiment import CANARY_VARIANT, CHAMPION_VARIANT, Place
from nextclick.hashing import item_hash
from nextclick.popular_lists import PopularLists
from nextclick.popularity import Popularity
from nextclick.quick_tuples import quick
from nextclick.rules import rules_in_words, rules_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.placement import is_home, misplaced
from nextclick.schema.times import MILLISECONDS_BELOW, SECONDS_BELOW, record_time_ms
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from nextclick.trace_context import TRACEPARENT, trace_of
from nextclick.updates import JSON_FORMAT, POPULAR, RNN, AnsweredClick, RankedList, ServedBy, UpdateFormat
from nextclick.user_state import UserState, decode_state, encode_state
from stream.click_times import ClickTimes
from stream.live_items import LiveCounting
from stream.live_quality import LiveQuality
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Assignment, Partition, Superseded
from stream.protocol.chunk_rules import Pace
from stream.protocol.port import ClickRecord, Dropped, StateStore
from stream.protocol.publisher import Publisher, RunResults
from stream.protocol.reader import Chunk
from stream.protocol.topic_check import TopicCheck
from stream.schema_loader import SchemaLoader
from stream.served_bundle import ServedBundle
from stream.shadow import Shadow
from stream.shop_view import ShopView
from stream.trial import Trial
from tools.dead_letters import Origin, dead_letter
from tools.records import Header

if TYPE_CHECKING:  # brings Avro, JSON Schema and an HTTP client: only with a registry
    from tools.schema_registry.decoder import RegistryDecoder
if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

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
        shop: what is said of items; None: nothing ever is.
    """

    bundle: ServedBundle
    popularity: Popularity
    metrics: WorkerMetrics
    usage: Usage
    registry: "RegistryDecoder | None" = None
    output: UpdateFormat = JSON_FORMAT
    shop: ShopView | None = None


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
        begun_s: when its lists began to be computed, in s since 1970.
        produced_ms: when they were made.
        is_counted: of each click whether it counts: what a user does again and again does not.
        traces: of clicks that belong to one, by their places.
    """

    read_ms: int
    clicks: list[LoggedClick] = field(default_factory=list)
    states: dict[UserKey, UserState] = field(default_factory=dict)
    results: dict[int, RunResults] = field(default_factory=dict)
    n_misplaced: int = 0
    n_used: int = 0
    begun_s: float = 0.0
    produced_ms: int = 0
    is_counted: list[bool] = field(default_factory=list)
    traces: dict[int, bytes] = field(default_factory=dict)


class Server(NamedTuple):
    """What a user is served with.

    Attributes:
        model: the bundle, or None.
        served: what updates say of it.
    """

    model: "ServedModel | None"
    served: ServedBy


class Computed(NamedTuple):
    """A chunk whose lists are made, and what they were made with.

    Attributes:
        outcomes: of its clicks.
        servers: with what each was made.
    """

    outcomes: Sequence[Outcome]
    servers: Sequence[Server]


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
        self._served, self._popularity, self._metrics, self._usage, registry, self._output, self._shop = serving
        self._decode = click_decoder(ClickSchema.of(settings), registry)
        self._schemas = SchemaLoader(registry, settings) if registry is not None else None
        self._limits = Limits(settings.recent_clicks, settings.list_length, settings.explain, rules_of(settings))
        self._metrics.rules.info(rules_in_words(self._limits.rules))
        self._inference = ThreadPoolExecutor(1, "inference")
        n_threads = inference_threads(settings.inference_threads)
        self._groups = ThreadPoolExecutor(n_threads, "inference-group") if n_threads > 1 else None
        self._live = LiveCounting(settings.live_items, self._metrics, self._shop)
        self._quality = LiveQuality(self._metrics, self._limits)
        self._quality.show(lambda: len(self._served.current.item_ids) if self._served.current is not None else 0)
        self._seen_records = self._rejected_records = 0
        self._shadow: Shadow | None = None
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
                computed = await self._compute(chunk, runs, read)
                await self._handing_on.acquire()
                try:
                    computed = await self._settle(assignment, read, computed)
                except BaseException:
                    self._handing_on.release()
                    raise
            finally:
                self._computing.release()
            try:
                if not self._publisher.has_failed:  # the chunk before, whose states this one was computed with
                    await self._hand_on(assignment, read, computed)
            finally:
                self._handing_on.release()
            assignment.pace.chunk_took(time.perf_counter() - started)
        except Exception as error:
            if assignment.serves or not isinstance(error, (Superseded, Dropped)):
                self._publisher.fail(error)

    async def _compute(self, chunk: Chunk, runs: Mapping[int, DecodedRun], read: ReadChunk) -> Computed:
        """Compute what a chunk leads to, once it is known which items may be listed.

        Raises:
            Superseded: the assignment has ended, or is being given back.
            PermanentError: the topic has grown.
        """
        assignment = chunk.assignment
        if not assignment.serves or self._publisher.has_failed:
            raise Superseded
        if self._shop is not None:
            await self._shop.wait(assignment)
            self._shop.take_lost()  # known to whatever is ranked from now on
        started, read.begun_s = time.perf_counter(), time.time()
        model, trial = self._served.current, self._served.trial
        popular_before = self._popularity.lists(self._limits.list_length)
        self._read(chunk, runs, read)
        if read.n_misplaced:  # does the topic still have as many partitions?
            await self._topic_check.wait()
        popular = self._popularity.lists(self._limits.list_length)
        computed = await self._advance_all(assignment.pace, model, trial, popular, read)
        self._live.count([model, *_answering(trial)], read.clicks, computed.outcomes, read.is_counted)
        self._leave_states(assignment, read, computed.outcomes)
        took_s = time.perf_counter() - started
        n_applied = self._quality.count(read.clicks, read.states, computed.outcomes, model, popular_before)
        self._measure(computed.outcomes, n_applied, took_s)
        return computed

    async def _advance_all(
        self, pace: Pace, model: "ServedModel | None", trial: Trial | None, popular: PopularLists, read: ReadChunk
    ) -> Computed:
        """Advance each user with the bundle that is for him."""
        champion = ServedBy(model.bundle_id if model is not None else "")
        if self._shadow is not None and self._shadow.trial is not trial:
            self._shadow.stop()
            self._shadow = None
        if trial is None or not trial.answers:
            outcomes = await self._advance(pace, model, popular, read)
            if trial is not None and trial.model is not None:
                self._follow(trial, trial.model, trial.places(read.clicks), popular, read)
            return Computed(outcomes, [Server(model, champion)] * len(outcomes))
        places = trial.places(read.clicks)
        found: dict[int, tuple[Outcome, Server]] = {}
        for is_chosen, server in (
            (False, Server(model, champion._replace(variant=CHAMPION_VARIANT))),
            (True, Server(trial.model, ServedBy(trial.experiment.bundle_id, CANARY_VARIANT))),
        ):
            rows = [row for row, logged in enumerate(read.clicks) if places[logged.user].is_chosen == is_chosen]
            part = ReadChunk(read.read_ms, [read.clicks[row] for row in rows])
            part.states = {user: state for user, state in read.states.items() if places[user].is_chosen == is_chosen}
            outcomes = await self._advance(pace, server.model, popular, part) if rows else ()
            found.update((row, (outcome, server)) for row, outcome in zip(rows, outcomes, strict=True))
        in_order = [found[row] for row in range(len(read.clicks))]
        computed = Computed([outcome for outcome, _ in in_order], [server for _, server in in_order])
        trial.note(read.clicks, places, read.states, computed.outcomes)
        if model is not None:
            self._follow(trial, model, places, popular, read)
        return computed

    def _follow(
        self,
        trial: Trial,
        model: "ServedModel",
        places: Mapping[UserKey, Place],
        popular: PopularLists,
        read: ReadChunk,
    ) -> None:
        """Let a bundle follow the trial's users whom it does not answer, beside the stream."""
        if self._shadow is None or self._shadow.model is not model:
            if self._shadow is not None:
                self._shadow.stop()
            self._shadow = Shadow(trial, model, self._limits)
        self._shadow.take(read.clicks, places, read.states, popular)

    async def _settle(self, assignment: Assignment, read: ReadChunk, computed: Computed) -> Computed:
        """Let the lists be those of now: the ones with an item that may not be listed any more are made again.

        Nothing is computed meanwhile, and the chunk is the next one to be handed on.

        Raises:
            Superseded: the assignment has ended, or is being given back, while lists had to wait.
        """
        read.produced_ms, shop = int(time.time() * 1000), self._shop
        if shop is None:
            return computed
        while not shop.is_new_enough():
            await shop.wait(assignment)
            read.produced_ms = int(time.time() * 1000)
        lost = shop.take_lost()
        places = _places_with(computed.outcomes, lost)
        if not places:
            return computed
        outcomes = self._made_again(read, computed, places)
        self._leave_states(assignment, read, outcomes)
        return computed._replace(outcomes=outcomes)

    def _made_again(self, read: ReadChunk, computed: Computed, places: Sequence[int]) -> Sequence[Outcome]:
        """Rank the users of some outcomes once more."""
        outcomes = list(computed.outcomes)
        states = {read.clicks[place].user: outcomes[place].state for place in places}
        popular = self._popularity.lists(self._limits.list_length)
        by_user: dict[UserKey, tuple[UserState, RankedList]] = {}
        for server in {computed.servers[place] for place in places}:
            users = {read.clicks[place].user for place in places if computed.servers[place] == server}
            own = {user: states[user] for user in users}
            self._live.follow_shop(server.model)
            by_user |= rank_again(server.model, popular, own, self._limits)
        for place in places:
            state, listed = by_user[read.clicks[place].user]
            outcomes[place] = outcomes[place]._replace(state=state, ranked=listed)
        return outcomes

    async def _hand_on(self, assignment: Assignment, read: ReadChunk, computed: Computed) -> None:
        """Publish; acknowledged in the background.

        Raises:
            Superseded, Dropped: the assignment has ended, or is being given back.
            PermanentError: too many clicks cannot be used.
        """
        self._write(read, computed)
        outcomes = computed.outcomes
        error = self._judge_rejects(read)
        times = ClickTimes.until_now(read.clicks, read.traces, read.begun_s)
        n_network = sum(outcome.ranked.strategy == RNN for outcome in outcomes)
        await self._publisher.publish(
            assignment, list(read.results.values()), partial(self._measure_durable, n_network, times)
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
                    self._take(read, (number, user), record, clicks, now_ms)
                    n_used += 1
                else:
                    read.n_misplaced += 1
                    self._pass_over(read, record, misplaced(partitioner, number))
            self._usage.note_used(n_used)
            read.n_used += n_used

    def _take(
        self, read: ReadChunk, user: UserKey, record: ClickRecord, clicks: tuple[Click, ...], now_ms: int
    ) -> None:
        """Add a record's clicks to those that are applied. Called for nearly every record: no call too many."""
        offset, record_ms = record.offset, record.timestamp
        if not SECONDS_BELOW <= record_ms < MILLISECONDS_BELOW:
            record_ms = record_time_ms(record_ms, now_ms)
        is_applied, trace = False, None
        if record.headers:
            is_applied, trace = _is_applied(record), trace_of(record.headers)
        for place, click in enumerate(clicks):
            if trace is not None:
                read.traces[len(read.clicks)] = trace
            _, item_id, time_ms, _, _ = click
            counts = self._popularity.add(user[1], item_id, time_ms if time_ms < now_ms else now_ms)
            read.is_counted.append(counts)
            read.clicks.append(_logged((user, offset, record_ms, click, item_hash(item_id), is_applied, place)))

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
        self, pace: Pace, model: "ServedModel | None", popular: PopularLists, read: ReadChunk
    ) -> Sequence[Outcome]:
        if model is None:  # microseconds per click: a thread would only add its hand-over
            return advance(model, popular, read.states, read.clicks, self._limits)
        each = self._groups.map if self._groups is not None else map
        n_users, n_clicks = len({logged.user for logged in read.clicks}), len(read.clicks)
        # Others are computed in several threads, or their states anew: what that takes says nothing of the next chunk.
        is_usual = n_users <= MAX_GROUP_USERS and not _has_stale(read.states.values(), model)

        def work() -> Sequence[Outcome]:
            started = time.thread_time()
            self._live.begin(model)
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

    def _write(self, read: ReadChunk, computed: Computed) -> None:
        """Turn outcomes into updates, in the order of the clicks."""
        encode_update, produced_ms = self._output.encode_update, read.produced_ms
        all_headers = _headers_with(self._output.headers, read.traces, len(read.clicks))
        for logged, outcome, (_, served), headers in zip(read.clicks, *computed, all_headers, strict=True):
            ((partition, key), offset, record_ms, click, _, _, _), sequence = logged, outcome.sequence
            answered = _answered((partition, offset, record_ms))
            update = encode_update(click.user_id, outcome.ranked, served, sequence, answered, produced_ms)
            read.results[partition].updates.append((key, update, headers))

    def _measure(self, outcomes: Sequence[Outcome], n_applied: int, seconds: float) -> None:
        """Count what became of the clicks."""
        n_repeated = 0
        if n_applied < len(outcomes):
            n_repeated = sum(isinstance(outcome, Skipped) and outcome.is_repeat for outcome in outcomes)
        n_skipped = len(outcomes) - n_applied - n_repeated
        self._usage.note_repeated(n_repeated, n_applied + n_repeated)
        for outcome_name, number in (("applied", n_applied), ("skipped", n_skipped), ("repeated", n_repeated)):
            if number:
                self._metrics.clicks.labels(outcome_name).inc(number)
        self._metrics.chunk.observe(len(outcomes))
        self._metrics.advance.observe(seconds)

    def _measure_durable(self, n_network: int, times: ClickTimes) -> None:
        for strategy, count in ((RNN, n_network), (POPULAR, len(times.recorded) - n_network)):
            if count:
                self._metrics.updates.labels(strategy).inc(count)
        times.note_durable(self._metrics)


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


def _places_with(outcomes: Sequence[Outcome], lost: Set[int] | None) -> Sequence[int]:
    """Give the places of the outcomes whose lists have one of the items, by the low bits of its hash; None: of any."""
    if lost is None:
        return range(len(outcomes))
    if not lost:
        return ()
    lists = {id(ranked): ranked.shown for ranked in (outcome.ranked for outcome in outcomes)}
    hit = {key for key, shown in lists.items() if shown and not lost.isdisjoint(memoryview(shown).cast("I"))}
    return [place for place, outcome in enumerate(outcomes) if id(outcome.ranked) in hit]


def _answering(trial: Trial | None) -> "Sequence[ServedModel | None]":
    """Give the bundle on trial, if it makes lists that users get."""
    return [trial.model] if trial is not None and trial.answers else []


def _headers_with(headers: Sequence[Header], traces: Mapping[int, bytes], n_clicks: int) -> Iterable[Sequence[Header]]:
    """Give the headers of each click's update: those of all, and its trace."""
    if not traces:
        return repeat(headers, n_clicks)
    return [[*headers, (TRACEPARENT, traces[row])] if row in traces else headers for row in range(n_clicks)]


def _is_applied(record: ClickRecord) -> bool:
    """Tell whether a click is a copy of one that is in its user's state already."""
    return any(name == APPLIED_HEADER for name, _ in record.headers)
