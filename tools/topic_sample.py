"""Looks at the newest records of a topic: in no group, for a bounded time, and nothing is written."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.settings import Settings
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import OffsetRange, is_forbidden, is_partition_end, offset_ranges
from tools.records import is_unreadable

MAX_BYTES = 64 * 1024**2  # of the values that are kept
_POLL_S = 0.1
_BATCH = 100
_QUEUE_KB = 16_384  # that the library reads ahead


class NewestRecords(NamedTuple):
    """What was read of a topic.

    Attributes:
        records: committed ones, those of a partition oldest first.
        failures: what came instead of records: messages with an error.
        n_left_out: older records that would have been more than `MAX_BYTES` in all.
    """

    records: list[Message]
    failures: list[Message]
    n_left_out: int


class NewestOfPartitions:
    """Keeps the newest records of each partition within a number of bytes, and always one of each."""

    def __init__(self, shares: Mapping[int, int]) -> None:
        """Begin with none.

        Args:
            shares: by partition, how many bytes of values to keep.
        """
        self._shares = shares
        self._records: dict[int, deque[Message]] = {partition: deque() for partition in shares}
        self._sizes = Counter[int]()
        self.n_left_out = 0

    def add(self, message: Message, partition: int) -> None:
        """Keep a record of a partition, and leave out the oldest ones that are too much with it."""
        records = self._records[partition]
        records.append(message)
        self._sizes[partition] += _size(message)
        while self._sizes[partition] > self._shares[partition] and len(records) > 1:
            self._sizes[partition] -= _size(records.popleft())
            self.n_left_out += 1

    def all(self) -> list[Message]:
        """Give what is kept, by partition."""
        return [message for records in self._records.values() for message in records]


def newest_records(
    settings: Settings, topic: str, n_partitions: int, n_records: int, patience_s: float
) -> NewestRecords:
    """Read the newest committed records of a topic, about as many of each partition.

    Args:
        settings: of the client.
        topic: must exist.
        n_partitions: that it has.
        n_records: how many offsets to go back, over all partitions; what transactions leave behind takes some of them.
        patience_s: after it, what has come is given; also when a partition has no leader, or may not be read.

    Raises:
        KafkaException: the broker does not say which offsets there are, or lets this user read none of them.
    """
    ranges = offset_ranges(AdminClient(librdkafka_config(settings)), topic, range(n_partitions))
    starts = _starts(ranges, n_records)
    unread = {partition for partition, start in starts.items() if start < ranges[partition].end}
    config = consumer_config(settings, f"{settings.app}-sample") | {"enable.partition.eof": True}
    consumer = Consumer(config | {"queued.max.messages.kbytes": _QUEUE_KB})
    newest, failures = NewestOfPartitions(_shares(ranges, starts)), list[Message]()
    try:
        consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in unread])
        end_s = time.monotonic() + patience_s
        while unread and time.monotonic() < end_s:
            for message in consumer.consume(_BATCH, _POLL_S):
                if message.error() is None:
                    _take(message, newest, unread, ranges)
                elif _is_failure(message, unread):
                    failures.append(message)
    finally:
        consumer.close()
    return NewestRecords(newest.all(), failures, newest.n_left_out)


def _starts(ranges: Mapping[int, OffsetRange], n_records: int) -> dict[int, int]:
    """Give where to begin in each partition: what one has too few of, the others give."""
    starts, left = {}, n_records
    smallest_first = sorted(ranges, key=lambda each: ranges[each].end - ranges[each].first)
    for place, partition in enumerate(smallest_first):
        first, end = ranges[partition]
        share = min(end - first, left // (len(ranges) - place))
        starts[partition] = end - share
        left -= share
    return starts


def _shares(ranges: Mapping[int, OffsetRange], starts: Mapping[int, int]) -> dict[int, int]:
    """Give how many bytes each partition may have: as many as it has of the records."""
    wanted = {partition: ranges[partition].end - start for partition, start in starts.items()}
    total = max(1, sum(wanted.values()))
    return {partition: MAX_BYTES * number // total for partition, number in wanted.items()}


def _take(message: Message, newest: NewestOfPartitions, unread: set[int], ranges: Mapping[int, OffsetRange]) -> None:
    """Keep a record, and note a partition of which nothing more is wanted."""
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    if offset < ranges[partition].end:
        newest.add(message, partition)
    if offset + 1 >= ranges[partition].end:
        unread.discard(partition)


def _is_failure(message: Message, unread: set[int]) -> bool:
    """Tell whether a message that is no record is a failure, and note a partition that has no more to read.

    Raises:
        KafkaException: nothing of the topic may be read.
    """
    error, partition = message.error(), message.partition()
    assert error is not None
    if partition is None and is_forbidden(error):  # to ask about the group: nothing will come
        raise KafkaException(error)
    if partition is None:
        return False
    if is_partition_end(error) or is_unreadable(error):
        unread.discard(partition)
    return not is_partition_end(error)


def _size(message: Message) -> int:
    return len(message.value() or b"")
