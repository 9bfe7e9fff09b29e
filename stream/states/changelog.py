"""Reads the changelog of the table `user-state` into the local store: to its end, for a recovery, or along with it,
for a standby. Per user the state with the highest fence wins, whatever its place in the changelog: a late write of a
worker that was evicted loses.

Has a consumer of its own and blocks: meant for a thread of its own.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from nextclick.errors import CorruptStateError
from nextclick.settings import Settings
from nextclick.user_state import decode_state
from stream.faust_adapter.table import StateTable
from stream.states.changelog_offsets import (
    NO_FENCE,
    Interrupted,
    Span,
    check_fence,
    find_offsets,
    find_spans,
    is_passing,
)
from stream.topics.identity import is_note
from tools.client_config import consumer_config, librdkafka_config

_log = logging.getLogger(__name__)

MAX_RECORDS = 5_000  # applied as one batch: 3 MB of states
POLL_S = 0.2  # how soon a reader hears that it shall stop
PROGRESS_S = 5.0  # between two lines about progress


class StalledError(Exception):
    """The broker answers, but the changelog's end is not reached.

    Attributes:
        partition: of the changelog.
    """

    def __init__(self, partition: int, reason: str) -> None:
        super().__init__(reason)
        self.partition = partition


@dataclass(frozen=True, slots=True)
class Restored:
    """What a recovery did to a partition.

    Attributes:
        complete_to: the changelog offset up to which, not including, the local store has all.
        outdated: keys whose newest state is not what the changelog ends with: to be written again.
    """

    complete_to: int
    outdated: Collection[bytes]


class ChangelogReader:
    """Restores partitions and keeps standbys up to date, one job at a time."""

    def __init__(self, settings: Settings, table: StateTable, on_progress: Callable[[int], None]) -> None:
        """Make a reader; nothing is opened yet.

        Args:
            settings: where the changelog is.
            table: gets the states.
            on_progress: told how many records a recovery still has to read.
        """
        self._settings = settings
        self._table = table
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
            spans = find_spans(self._settings, self._table, partitions, stop)
            total = sum(span.left for span in spans.values())
            for partition, span in spans.items():
                check_fence(self._settings, partition, span.highest_fence, span.clicks_end)
            self._read(consumer, spans, total, stop)
        return {partition: Restored(span.next_offset, span.outdated) for partition, span in spans.items()}

    def follow(self, partitions: Collection[int], stop: threading.Event) -> None:
        """Keep standby partitions up to date until `stop` is set.

        Raises:
            CorruptStateError, OSError, DamagedError, KafkaException: as in `restore`.
        """
        with _consumer(self._settings) as consumer:
            try:
                spans = find_spans(self._settings, self._table, partitions, stop)
            except Interrupted:
                return
            self._assign(consumer, spans)
            while not stop.is_set():
                self._apply(spans, consumer.consume(MAX_RECORDS, POLL_S), with_check=False)  # clicks go on meanwhile

    def _assign(self, consumer: Consumer, spans: Mapping[int, Span]) -> None:
        topic = self._settings.changelog_topic
        consumer.assign([TopicPartition(topic, p, span.next_offset) for p, span in spans.items()])

    def _read(self, consumer: Consumer, spans: Mapping[int, Span], total: int, stop: threading.Event) -> None:
        self._assign(consumer, {partition: span for partition, span in spans.items() if span.left})
        started_s = moved_s = time.monotonic()
        said_s = started_s
        while left := sum(span.left for span in spans.values()):
            if stop.is_set():
                raise Interrupted
            self._on_progress(left)
            moved = self._apply(spans, consumer.consume(MAX_RECORDS, POLL_S), with_check=True)
            now_s = time.monotonic()
            moved_s = now_s if moved else self._judge(spans, moved_s)
            if now_s > said_s + PROGRESS_S:
                said_s = now_s
                _log.info("restoring states", extra={"fields": {"records": total, "left": left}})
        self._on_progress(0)
        if total:
            fields = {"records": total, "seconds": round(time.monotonic() - started_s, 2)}
            _log.info("states restored", extra={"fields": fields})

    def _judge(self, spans: Mapping[int, Span], moved_s: float) -> float:
        """Tell a stalled changelog from a broker that is away; gives since when the wait counts."""
        waited_s = time.monotonic() - moved_s
        if waited_s < self._settings.stall_s:
            return moved_s
        partition, span = next((partition, span) for partition, span in spans.items() if span.left)
        try:
            client = AdminClient(librdkafka_config(self._settings))
            find_offsets(client, self._settings.changelog_topic, [partition], OffsetSpec.latest())
        except KafkaException as error:
            if not is_passing(error.args[0]):
                raise
            _log.warning("the broker does not answer: states are restored when it does")
            return time.monotonic()
        raise StalledError(
            partition,
            f"changelog {self._settings.changelog_topic}: expected partition {partition} to be readable up to "
            f"{span.end}, found nothing after {span.next_offset} for {waited_s:.0f} s (is there a transaction "
            "that was never finished?)",
        )

    def _apply(self, spans: Mapping[int, Span], messages: Sequence[Message], *, with_check: bool) -> bool:
        """Write what was read to the store; tells whether any partition came forward."""
        runs: dict[int, list[Message]] = {}
        ends: dict[int, int] = {}  # what is read without leaving a state: markers of transactions, and notes
        for message in messages:
            error = message.error()
            if error is None and is_note(message.key()):
                ends[message.partition()] = message.offset() + 1  # no state, but read
            elif error is None:
                runs.setdefault(message.partition(), []).append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                ends[message.partition()] = message.offset()
            elif not is_passing(error):
                raise KafkaException(error)
        before = sum(span.next_offset for span in spans.values())
        for partition, run in runs.items():
            self._apply_run(partition, spans[partition], run, with_check=with_check)
        for partition, end in ends.items():
            spans[partition].next_offset = max(spans[partition].next_offset, end)
        return sum(span.next_offset for span in spans.values()) > before

    def _apply_run(self, partition: int, span: Span, run: Sequence[Message], *, with_check: bool) -> None:
        keys = list({message.key() for message in run})
        stored = self._table.stored(partition, keys)
        fences = {
            key: decode_state(data).offset if data is not None else NO_FENCE
            for key, data in zip(keys, stored, strict=True)
        }
        newest: dict[bytes, bytes | None] = {}
        for message in run:
            key, data = message.key(), message.value()
            fence = _fence(message)
            if fence is not None and fence < fences[key]:
                span.outdated[key] = message.offset()
                continue
            newest[key] = data
            fences[key] = NO_FENCE if fence is None else fence
            span.highest_fence = max(span.highest_fence, fences[key])
            span.outdated.pop(key, None)
        if with_check:
            check_fence(self._settings, partition, span.highest_fence, span.clicks_end)
        last = run[-1].offset()
        # What has to be written again is read again until it is, whoever recovers the partition next.
        self._table.restore(
            partition, newest, min([last, *(at - 1 for at in span.outdated.values())]), span.highest_fence
        )
        span.next_offset = last + 1


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
        "fetch.wait.max.ms": int(POLL_S * 1000),
        "max.partition.fetch.bytes": 4 * 1024**2,
    }
    consumer = Consumer(config)
    try:
        yield consumer
    finally:
        consumer.close()
