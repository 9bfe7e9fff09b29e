"""Reads ranges of a topic to their ends, and writes under a name that only the newest run holds. Blocks."""

import heapq
import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from tools.client_config import consumer_config, producer_config
from tools.kafka import Failure, OffsetRange, failure_of, is_partition_end
from tools.records import Header, refuse_unreadable

_log = logging.getLogger(__name__)

BATCH = 5_000  # records: of states 3 MB
MAX_WAITING = 20_000  # records of one partition that wait for those of another: 20 MB at most in a usual topic
FETCHED_KB = 8 * 1024  # of a partition, ahead of what is read
FULL_MS = 20  # the client looks again so soon whether there is room to fetch more
POLL_S = 0.2
PROGRESS_S = 5.0  # between two lines about progress
TRANSACTION_S = 60.0  # a transaction that a killed run leaves open hides what follows for so long at most
ANSWER_S = 30.0  # for one answer to the producer: a transaction's end waits for its records


class Progress:
    """Says now and then how far a step is."""

    def __init__(self, step: str, total: int) -> None:
        self._step = step
        self._total = total
        self._done = 0
        self._said_s = time.monotonic()

    def add(self, count: int) -> None:
        """Count what is done."""
        self._done += count
        if time.monotonic() > self._said_s + PROGRESS_S:
            self._said_s = time.monotonic()
            share = min(1.0, self._done / max(1, self._total))
            _log.info(self._step, extra={"fields": {"done": self._done, "of": self._total, "share": f"{share:.0%}"}})


class RangeReader:
    """Reads partitions from given offsets to given ends; what unfinished transactions hold back is waited for."""

    def __init__(self, settings: Settings, topic: str, ranges: Mapping[int, OffsetRange]) -> None:
        self._settings = settings
        self._topic = topic
        self._ends = {partition: found.end for partition, found in ranges.items() if found.first < found.end}
        self._waited_s = 0.0
        self.open = set(self._ends)
        config = consumer_config(settings, f"{settings.app}-repartition") | {
            "auto.offset.reset": "error",  # a gap is an error, never skipped
            "enable.partition.eof": True,
            "fetch.wait.max.ms": int(POLL_S * 1000),
            "queued.max.messages.kbytes": FETCHED_KB,
            "fetch.queue.backoff.ms": FULL_MS,
        }
        self._consumer = Consumer(config)
        self._consumer.assign([TopicPartition(topic, partition, ranges[partition].first) for partition in self._ends])

    def read(self) -> list[Message]:
        """Give some of what comes next; may be nothing.

        Raises:
            TemporaryError: nothing comes though the ends are not reached.
            PermanentError: a batch cannot be read.
            KafkaException: the broker refuses, or no longer has what is asked for.
        """
        records = []
        began_s = time.monotonic()
        messages = self._consumer.consume(BATCH, POLL_S)
        self._waited_s += time.monotonic() - began_s
        for message in messages:
            partition, offset, error = message.partition(), message.offset(), message.error()
            if partition not in self.open:
                continue
            if error is not None and not is_partition_end(error):
                refuse_unreadable(message)
                if failure_of(error) is not Failure.PASSING:
                    raise KafkaException(error)
                continue
            self._waited_s = 0.0
            if error is None and offset < self._ends[partition]:
                records.append(message)
            if offset + (error is None) >= self._ends[partition]:
                self.open.discard(partition)
                self.pause(partition)
        if self.open and self._waited_s > self._settings.stall_s:
            raise TemporaryError(
                f"topic {self._topic}: the ends of partitions {sorted(self.open)} did not come within "
                f"{self._settings.stall_s:.0f} s; look at the brokers (or is there a transaction that was never "
                "finished?), and run it again"
            )
        return records

    def pause(self, partition: int) -> None:
        """Read nothing more of a partition for now."""
        self._consumer.pause([TopicPartition(self._topic, partition)])

    def resume(self, partition: int) -> None:
        """Go on with a partition that was paused."""
        self._consumer.resume([TopicPartition(self._topic, partition)])

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()


def read_batches(settings: Settings, topic: str, ranges: Mapping[int, OffsetRange]) -> Iterator[list[Message]]:
    """Give the records of ranges in batches, in log order per partition.

    Raises:
        TemporaryError, PermanentError, KafkaException: as `RangeReader.read` does.
    """
    reader = RangeReader(settings, topic, ranges)
    try:
        while reader.open:
            if records := reader.read():
                yield records
    finally:
        reader.close()


def read_merged(settings: Settings, topic: str, ranges: Mapping[int, OffsetRange]) -> Iterator[Message]:
    """Give the records of ranges in the order of their timestamps, and in log order per partition; a few in memory.

    Raises:
        TemporaryError, PermanentError, KafkaException: as `RangeReader.read` does.
    """
    reader = RangeReader(settings, topic, ranges)
    waiting: dict[int, deque[Message]] = {partition: deque() for partition in ranges}
    paused: set[int] = set()

    def fill() -> None:
        for message in reader.read():
            waiting[message.partition()].append(message)
        for partition in reader.open - paused:
            if len(waiting[partition]) > MAX_WAITING:
                reader.pause(partition)
                paused.add(partition)

    def records(partition: int) -> Iterator[Message]:
        while waiting[partition] or partition in reader.open:
            if waiting[partition]:
                yield waiting[partition].popleft()
                continue
            if partition in paused:
                paused.discard(partition)
                reader.resume(partition)
            fill()

    try:
        yield from heapq.merge(*map(records, ranges), key=lambda message: message.timestamp()[1])
    finally:
        reader.close()


class FencedWriter:
    """Writes in transactions, under a name of the application's: whoever held it before can write no more.

    So a run that was paused, and wakes up behind another, changes nothing; and a transaction that a killed run has left
    open is over when the next one begins.
    """

    def __init__(self, settings: Settings) -> None:
        """Take the name; blocks until the broker has ended what was open under it.

        Raises:
            KafkaException: the broker does not answer, or refuses.
        """
        options = {
            "transactional.id": f"{settings.app}-repartition",
            "transaction.timeout.ms": int(TRANSACTION_S * 1000),
        }
        self._producer = Producer(producer_config(settings) | options)
        self._producer.init_transactions(ANSWER_S)
        self._group = Consumer(consumer_config(settings, settings.app))

    def wait_for_partitions(self, topic: str, partitions: int) -> None:
        """Return when the writer knows of so many partitions: it would not write into one that is news to it.

        Raises:
            TemporaryError: it does not hear of them.
            KafkaException: the broker does not answer.
        """
        end_s = time.monotonic() + ANSWER_S
        while len(self._producer.list_topics(topic, ANSWER_S).topics[topic].partitions) < partitions:
            if time.monotonic() > end_s:
                raise TemporaryError(f"topic {topic} did not get its {partitions} partitions in time; run it again")
            time.sleep(POLL_S)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make what is written inside visible as a whole, or not at all.

        Raises:
            KafkaException: the broker has not taken it, or another run has taken the name.
        """
        self._producer.begin_transaction()
        try:
            yield
            self._producer.commit_transaction(ANSWER_S)
        except BaseException:
            with suppress(KafkaException):
                self._producer.abort_transaction(ANSWER_S)
            raise

    def write(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        """Write a record."""
        self._producer.produce(topic, value, key, partition)

    def copy(self, message: Message, partition: int, headers: Sequence[Header], most_bytes: int) -> None:
        """Write a record again, cut where it is longer than `most_bytes`, with other headers, into a partition."""
        key, value = message.key(), message.value()
        self._producer.produce(
            message.topic(),
            value[:most_bytes] if value is not None else None,
            key[:most_bytes] if key is not None else None,
            partition,
            timestamp=message.timestamp()[1],
            headers=list(headers),
        )

    def commit_group(self, topic: str, offsets: Mapping[int, int]) -> None:
        """Commit offsets of the application's consumer group, with the transaction."""
        places = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        self._producer.send_offsets_to_transaction(places, self._group.consumer_group_metadata(), ANSWER_S)

    def close(self) -> None:
        """Disconnect."""
        self._group.close()
