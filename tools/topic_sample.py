"""Looks at the newest records of a topic: in no group, for a bounded time, and nothing is written."""

import time
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.settings import Settings
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import OffsetRange, is_partition_end, offset_ranges
from tools.records import is_unreadable

_POLL_S = 0.1
_BATCH = 1_000


class NewestRecords(NamedTuple):
    """What was read of a topic.

    Attributes:
        records: committed ones, those of a partition oldest first.
        failures: what came instead of records: messages with an error.
    """

    records: list[Message]
    failures: list[Message]


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
        KafkaException: the broker does not say which offsets there are.
    """
    ranges = offset_ranges(AdminClient(librdkafka_config(settings)), topic, range(n_partitions))
    starts = _starts(ranges, n_records)
    unread = {partition for partition, start in starts.items() if start < ranges[partition].end}
    config = consumer_config(settings, f"{settings.app}-sample") | {"enable.partition.eof": True}
    consumer, newest = Consumer(config), NewestRecords([], [])
    try:
        consumer.assign([TopicPartition(topic, partition, starts[partition]) for partition in unread])
        end_s = time.monotonic() + patience_s
        while unread and time.monotonic() < end_s:
            for message in consumer.consume(_BATCH, _POLL_S):
                _take(message, newest, unread, ranges)
    finally:
        consumer.close()
    return newest


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


def _take(message: Message, newest: NewestRecords, unread: set[int], ranges: Mapping[int, OffsetRange]) -> None:
    """Keep what came, and note a partition of which nothing more is wanted, or can be read."""
    error, partition, offset = message.error(), message.partition(), message.offset()
    if partition is None:
        return
    if error is None:
        assert offset is not None
        if offset < ranges[partition].end:
            newest.records.append(message)
        if offset + 1 >= ranges[partition].end:
            unread.discard(partition)
        return
    if not is_partition_end(error):
        newest.failures.append(message)
    if is_partition_end(error) or is_unreadable(error):
        unread.discard(partition)
