"""Reads the changelog of the table `user-state` into the local store: to its end, for a recovery, or along with it,
for a standby. Per user the state with the highest fence wins, whatever its place in the changelog: a late write of a
worker that was evicted loses.

Has a consumer of its own and blocks: meant for a thread of its own. Knows nothing of Faust.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from nextclick.client_config import consumer_config, librdkafka_config
from nextclick.errors import CorruptStateError, PermanentError
from nextclick.settings import Settings
from nextclick.user_state import decode_state
from stream.origin import ORIGIN_KEY

_log = logging.getLogger(__name__)

MAX_RECORDS = 5_000  # applied as one batch: 3 MB of states
POLL_S = 0.2  # how soon a reader hears that it shall stop
BROKER_TIMEOUT_S = 5.0
PROGRESS_S = 5.0  # between two lines about progress
NO_FENCE = -1
# A broker that is away: the client tries again by itself.
_PASSING = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TIMED_OUT, KafkaError._RESOLVE)


class StalledError(Exception):
    """The broker answers, but the changelog's end is not reached."""


class Interrupted(Exception):
    """The reader was asked to stop before it had finished."""


class LocalStore(Protocol):
    """What the reader needs of the table."""

    def stored_offset(self, partition: int) -> int | None:
        """Give the changelog offset up to which the local store is complete."""

    def stored(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give the stored bytes of some keys."""

    def restore(self, partition: int, states: Mapping[bytes, bytes | None], changelog_offset: int) -> None:
        """Write states (None removes), with the changelog offset, in one atomic batch."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What a recovery did to a partition.

    Attributes:
        complete_to: the changelog offset up to which, not including, the local store has all.
        outdated: keys whose newest state is not what the changelog ends with: to be written again.
    """

    complete_to: int
    outdated: Collection[bytes]


@dataclass(slots=True)
class _Position:
    """Where the reader is in one partition.

    Attributes:
        next_offset: what it reads next.
        end: what it has to reach.
        clicks_end: where the clicks of the partition end.
        highest_fence: of the states that were read.
        outdated: keys whose last record so far lost to an earlier one with a higher fence.
    """

    next_offset: int
    end: int
    clicks_end: int
    highest_fence: int = NO_FENCE
    outdated: set[bytes] = field(default_factory=set)


class ChangelogReader:
    """Restores partitions and keeps standbys up to date, one job at a time."""

    def __init__(self, settings: Settings, store: LocalStore, on_progress: Callable[[int], None]) -> None:
        """Make a reader; nothing is opened yet.

        Args:
            settings: where the changelog is.
            store: gets the states.
            on_progress: told how many records a recovery still has to read.
        """
        self._settings = settings
        self._store = store
        self._on_progress = on_progress

    def restore(self, partitions: Collection[int], stop: threading.Event) -> dict[int, Restored]:
        """Read partitions up to their present end.

        Raises:
            Interrupted: `stop` was set.
            StalledError: nothing came for `stall_s` although the broker answers.
            PermanentError: the changelog ends before what the store has.
            CorruptStateError: a record is no state of this partition.
            OSError: the store cannot be read or written.
            DamagedError: the store cannot be trusted.
            KafkaException: the broker refuses.
        """
        with _consumer(self._settings) as consumer:
            positions = self._start(partitions, stop)
            total = sum(position.end - position.next_offset for position in positions.values())
            self._read(consumer, positions, total, stop)
        self._check_fences(positions)
        return {p: Restored(position.next_offset, position.outdated) for p, position in positions.items()}

    def follow(self, partitions: Collection[int], stop: threading.Event) -> None:
        """Keep standby partitions up to date until `stop` is set.

        Raises:
            CorruptStateError, OSError, DamagedError, KafkaException: as in `restore`.
        """
        with _consumer(self._settings) as consumer:
            try:
                positions = self._start(partitions, stop)
            except Interrupted:
                return
            self._assign(consumer, positions)
            while not stop.is_set():
                self._apply(positions, consumer.consume(MAX_RECORDS, POLL_S))

    def _start(self, partitions: Collection[int], stop: threading.Event) -> dict[int, _Position]:
        """Find out what there is to read."""
        changelog = self._settings.changelog_topic
        while not stop.is_set():
            try:
                lows = self._offsets(changelog, partitions, OffsetSpec.earliest())
                ends = self._offsets(changelog, partitions, OffsetSpec.latest())
                clicks_ends = self._offsets(self._settings.clicks_topic, partitions, OffsetSpec.latest())
            except KafkaException as error:
                if not _is_passing(error.args[0]):
                    raise
                _log.warning("the broker does not answer: states are restored when it does")
            else:
                firsts = {p: self._first_offset(p, lows[p], ends[p]) for p in partitions}
                return {p: _Position(firsts[p], ends[p], clicks_ends[p]) for p in partitions}
        raise Interrupted

    def _first_offset(self, partition: int, low: int, end: int) -> int:
        stored = self._store.stored_offset(partition)
        if stored is not None and stored >= end:
            raise PermanentError(
                f"data_dir {self._settings.data_dir} expects the changelog {self._settings.changelog_topic} it was "
                f"written with, found one at {self._settings.broker} that ends earlier (partition {partition}, at "
                f"{end} of {stored + 1}): were the topics created anew? "
                "Delete the folder, or choose another with --set data_dir=PATH"
            )
        return max(low, stored + 1 if stored is not None else 0)

    def _check_fences(self, positions: Mapping[int, _Position]) -> None:
        """Refuse states that know clicks which the clicks topic does not have: the next ones would be skipped."""
        for partition, position in positions.items():
            if position.highest_fence >= position.clicks_end:
                raise PermanentError(
                    f"the states of application {self._settings.app} know the click at offset "
                    f"{position.highest_fence} of {self._settings.clicks_topic}, partition {partition}, found that it "
                    f"ends at {position.clicks_end}: the broker has lost clicks, and new ones would be taken for "
                    "known. Start a new application with --set app=NAME, which reads what is left from the beginning"
                )

    def _offsets(self, topic: str, partitions: Collection[int], which: OffsetSpec) -> dict[int, int]:
        """Ask for the ends of partitions, with what unfinished transactions hold back: it must be waited for."""
        wanted = {TopicPartition(topic, partition): which for partition in partitions}
        client = AdminClient(librdkafka_config(self._settings))
        asked = client.list_offsets(
            wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=BROKER_TIMEOUT_S
        )
        return {tp.partition: answer.result().offset for tp, answer in asked.items()}

    def _assign(self, consumer: Consumer, positions: Mapping[int, _Position]) -> None:
        topic = self._settings.changelog_topic
        consumer.assign([TopicPartition(topic, p, position.next_offset) for p, position in positions.items()])

    def _read(self, consumer: Consumer, positions: Mapping[int, _Position], total: int, stop: threading.Event) -> None:
        self._assign(
            consumer, {p: position for p, position in positions.items() if position.next_offset < position.end}
        )
        started_s = moved_s = time.monotonic()
        said_s = started_s
        while left := sum(max(0, position.end - position.next_offset) for position in positions.values()):
            if stop.is_set():
                raise Interrupted
            self._on_progress(left)
            moved = self._apply(positions, consumer.consume(MAX_RECORDS, POLL_S))
            now_s = time.monotonic()
            moved_s = now_s if moved else self._judge(positions, moved_s)
            if now_s > said_s + PROGRESS_S:
                said_s = now_s
                _log.info("restoring states", extra={"fields": {"records": total, "left": left}})
        self._on_progress(0)
        if total:
            fields = {"records": total, "seconds": round(time.monotonic() - started_s, 2)}
            _log.info("states restored", extra={"fields": fields})

    def _judge(self, positions: Mapping[int, _Position], moved_s: float) -> float:
        """Tell a stalled changelog from a broker that is away; gives since when the wait counts."""
        waited_s = time.monotonic() - moved_s
        if waited_s < self._settings.stall_s:
            return moved_s
        partition, position = next(
            (p, position) for p, position in positions.items() if position.next_offset < position.end
        )
        try:
            self._offsets(self._settings.changelog_topic, [partition], OffsetSpec.latest())
        except KafkaException:
            _log.warning("the broker does not answer: states are restored when it does")
            return time.monotonic()
        raise StalledError(
            f"changelog {self._settings.changelog_topic}: expected partition {partition} to be readable up to "
            f"{position.end}, found nothing after {position.next_offset} for {waited_s:.0f} s (is there a transaction "
            "that was never finished?)"
        )

    def _apply(self, positions: Mapping[int, _Position], messages: Sequence[Message]) -> bool:
        """Write what was read to the store; tells whether any partition came forward."""
        runs: dict[int, list[Message]] = {}
        ends: dict[int, int] = {}  # what is read without leaving a state: markers of transactions, and the origin
        for message in messages:
            error = message.error()
            if error is None and message.key() == ORIGIN_KEY:
                ends[message.partition()] = message.offset() + 1  # no state, but read
            elif error is None:
                runs.setdefault(message.partition(), []).append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[message.partition()] = message.offset()
            elif not _is_passing(error):
                raise KafkaException(error)
        before = sum(position.next_offset for position in positions.values())
        for partition, run in runs.items():
            self._apply_run(partition, positions[partition], run)
        for partition, end in ends.items():
            positions[partition].next_offset = max(positions[partition].next_offset, end)
        return sum(position.next_offset for position in positions.values()) > before

    def _apply_run(self, partition: int, position: _Position, run: Sequence[Message]) -> None:
        keys = list({message.key() for message in run})
        stored = self._store.stored(partition, keys)
        fences = {
            key: decode_state(data).offset if data is not None else NO_FENCE
            for key, data in zip(keys, stored, strict=True)
        }
        newest: dict[bytes, bytes | None] = {}
        for message in run:
            key, data = message.key(), message.value()
            fence = _fence(message)
            if fence is not None and fence < fences[key]:
                position.outdated.add(key)
                continue
            newest[key] = data
            fences[key] = NO_FENCE if fence is None else fence
            position.highest_fence = max(position.highest_fence, fences[key])
            position.outdated.discard(key)
        last = run[-1].offset()
        self._store.restore(partition, newest, last)
        position.next_offset = last + 1


def _is_passing(error: KafkaError) -> bool:
    return error.retriable() or error.code() in _PASSING


def _fence(message: Message) -> int | None:
    """Give the offset of the last click that a state knows; None for a state that was removed."""
    data = message.value()
    if data is None:
        return None
    where = f"changelog {message.topic()}, partition {message.partition()}, offset {message.offset()}"
    try:
        state = decode_state(data)
    except CorruptStateError as error:
        raise CorruptStateError(f"{where}: {error}") from error
    if state.partition != message.partition():
        raise CorruptStateError(f"{where}: expected a state of that partition, found one of {state.partition}")
    return state.offset


@contextmanager
def _consumer(settings: Settings) -> Iterator[Consumer]:
    config = consumer_config(settings, f"{settings.app}-changelog") | {
        "auto.offset.reset": "error",  # a gap in the changelog is an error, never skipped
        "enable.partition.eof": True,
        "check.crcs": True,
        "fetch.wait.max.ms": int(POLL_S * 1000),
        "max.partition.fetch.bytes": 4 * 1024**2,
    }
    consumer = Consumer(config)
    try:
        yield consumer
    finally:
        consumer.close()
