"""Reads the changelog of the user states into the local store: to its end for a recovery, along with it for a standby.

Has a consumer of its own and blocks: meant for a thread of its own, which a flag stops.
"""

import logging
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.settings import Settings
from stream.protocol.port import Restored, StalledChangelog, StateStore
from stream.protocol.restoration import ChangelogRecord, RestoredPartition, apply_records, check_fence, first_offset
from stream.topics.identity import is_note
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import Failure, failure_of, is_partition_end, offset_ranges
from tools.records import refuse_unreadable

_log = logging.getLogger(__name__)

MAX_RECORDS = 5_000  # applied as one batch: 3 MB of states
POLL_S = 0.2  # how soon a reader hears that it shall stop
RETRY_S = 0.5
PROGRESS_S = 5.0  # between two lines about progress
_AWAY = "the broker does not answer: states are restored when it does"


class Interrupted(Exception):
    """The reader was asked to stop before it had finished."""


class ChangelogReader:
    """Restores partitions and keeps standbys up to date, one job at a time.

    Attributes:
        behind: of each standby partition, how many offsets of the changelog its copy does not have yet.
    """

    def __init__(self, settings: Settings, store: StateStore) -> None:
        """Make a reader of the settings' changelog into a local store; nothing is opened yet."""
        self._settings = settings
        self._store = store
        self.behind: Mapping[int, int] = {}

    def restore(
        self, partitions: Collection[int], on_progress: Callable[[int], None], stop: threading.Event
    ) -> dict[int, Restored]:
        """Read partitions up to their present end.

        Raises:
            Interrupted: `stop` was set.
            StalledChangelog: nothing came for `stall_s` although the broker answers.
            PermanentError: the changelog ends before what the store has, or has a batch that cannot be read.
            CorruptStateError: a record is no state of this partition.
            OSError: the store cannot be read or written.
            DamagedStore: the store cannot be trusted.
            KafkaException: the broker refuses.
        """
        with _consumer(self._settings) as consumer:
            progress = self._begin(partitions, stop)
            for number, partition in progress.items():
                check_fence(self._settings, number, partition)
            self._read_to_end(consumer, progress, on_progress, stop)
        return {n: Restored(partition.next_offset, partition.outdated) for n, partition in progress.items()}

    def follow(self, partitions: Collection[int], stop: threading.Event) -> None:
        """Keep standby partitions up to date until `stop` is set.

        Raises:
            PermanentError, OSError, DamagedStore, KafkaException: as in `restore`.
        """
        with _consumer(self._settings) as consumer:
            try:
                progress = self._begin(partitions, stop)
            except Interrupted:
                return
            for partition in progress.values():
                partition.clicks_end = None
            self._assign(consumer, progress)
            while not stop.is_set():
                self._apply(progress, consumer.consume(MAX_RECORDS, POLL_S))
                self.behind = {n: self._left(consumer, n, partition) for n, partition in progress.items()}
        self.behind = {}

    def _left(self, consumer: Consumer, number: int, partition: RestoredPartition) -> int:
        """Give how far the changelog goes on, as far as the client knows; does not ask."""
        place = TopicPartition(self._settings.changelog_topic, number)
        _, end = consumer.get_watermark_offsets(place, cached=True)
        return max(0, int(end) - partition.next_offset)

    def _begin(self, partitions: Collection[int], stop: threading.Event) -> dict[int, RestoredPartition]:
        """Find out what there is to read, however long the broker is away."""
        settings, store = self._settings, self._store
        client = AdminClient(librdkafka_config(settings))  # held: without it its answers never come
        while not stop.is_set():
            try:
                changelog = offset_ranges(client, settings.changelog_topic, partitions)
                clicks = offset_ranges(client, settings.clicks_topic, partitions)
            except KafkaException as error:
                if failure_of(error.args[0]) is not Failure.PASSING:
                    raise
                _log.warning(_AWAY)
                stop.wait(RETRY_S)
                continue
            return {
                n: RestoredPartition(
                    next_offset=first_offset(settings, n, store.changelog_offset(n), changelog[n]),
                    end=changelog[n].end,
                    clicks_end=clicks[n].end,
                    highest_fence=store.highest_fence(n),
                )
                for n in partitions
            }
        raise Interrupted

    def _assign(self, consumer: Consumer, progress: Mapping[int, RestoredPartition]) -> None:
        topic = self._settings.changelog_topic
        consumer.assign([TopicPartition(topic, n, partition.next_offset) for n, partition in progress.items()])

    def _read_to_end(
        self,
        consumer: Consumer,
        progress: Mapping[int, RestoredPartition],
        on_progress: Callable[[int], None],
        stop: threading.Event,
    ) -> None:
        total = sum(partition.left for partition in progress.values())
        self._assign(consumer, {n: partition for n, partition in progress.items() if partition.left})
        started_s = moved_s = logged_s = time.monotonic()
        while left := sum(partition.left for partition in progress.values()):
            if stop.is_set():
                raise Interrupted
            on_progress(left)
            has_moved = self._apply(progress, consumer.consume(MAX_RECORDS, POLL_S))
            now_s = time.monotonic()
            moved_s = now_s if has_moved else self._judge(progress, moved_s)
            if now_s > logged_s + PROGRESS_S:
                logged_s = now_s
                _log.info("restoring states", extra={"fields": {"records": total, "left": left}})
        on_progress(0)
        if total:
            fields = {"records": total, "seconds": round(time.monotonic() - started_s, 2)}
            _log.info("states restored", extra={"fields": fields})

    def _judge(self, progress: Mapping[int, RestoredPartition], moved_s: float) -> float:
        """Tell a stalled changelog from a broker that is away; gives since when the wait counts."""
        waited_s = time.monotonic() - moved_s
        if waited_s < self._settings.stall_s:
            return moved_s
        number, partition = next((n, partition) for n, partition in progress.items() if partition.left)
        client = AdminClient(librdkafka_config(self._settings))
        try:
            offset_ranges(client, self._settings.changelog_topic, [number])
        except KafkaException as error:
            if failure_of(error.args[0]) is not Failure.PASSING:
                raise
            _log.warning(_AWAY)
            return time.monotonic()
        raise StalledChangelog(
            number,
            f"changelog {self._settings.changelog_topic}, partition {number}, has records up to {partition.end}, but "
            f"nothing after {partition.next_offset} came for {waited_s:.0f} s, though the broker answers (is there a "
            "transaction that was never finished?)",
        )

    def _apply(self, progress: Mapping[int, RestoredPartition], messages: Sequence[Message]) -> bool:
        """Write what was read to the store; tells whether any partition came forward."""
        records: dict[int, list[ChangelogRecord]] = {}
        ends: dict[int, int] = {}  # what is read without leaving a state: markers of transactions, and the note
        for message in messages:
            error, number, offset = message.error(), message.partition(), message.offset()
            assert number is not None
            assert offset is not None
            if is_partition_end(error):
                ends[number] = offset
            elif error is not None:
                refuse_unreadable(message)
                if failure_of(error) is not Failure.PASSING:
                    raise KafkaException(error)
            elif is_note(key := message.key()):
                ends[number] = offset + 1
            else:
                assert key is not None
                records.setdefault(number, []).append(ChangelogRecord(offset, key, message.value()))
        before = sum(partition.next_offset for partition in progress.values())
        for number, run in records.items():
            apply_records(self._settings, self._store, number, progress[number], run)
        for number, end in ends.items():
            progress[number].next_offset = max(progress[number].next_offset, end)
        return sum(partition.next_offset for partition in progress.values()) > before


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
