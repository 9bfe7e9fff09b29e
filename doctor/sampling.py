"""Reads the newest records of a topic, of all its partitions, in bounded time. Joins no group and commits nothing."""

import time
from collections.abc import Mapping

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from doctor.search.sample import Sample, SampledRecord
from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import Failure, OffsetRange, failure_of, is_partition_end, offset_ranges

MAX_READ_S = 20.0
_POLL_S = 0.2
_BATCH = 500


def read_sample(settings: Settings, partitions: int, n_records: int, now_ms: int) -> Sample:
    """Give the newest records of the clicks topic: about as many of each partition.

    Args:
        settings: where the topic is.
        partitions: that it has.
        n_records: at most so many, and at most what `MAX_READ_S` is enough for.
        now_ms: this machine's clock.

    Raises:
        TemporaryError: the broker does not answer, or refuses to be read.
    """
    try:
        admin = AdminClient(librdkafka_config(settings))
        ranges = offset_ranges(admin, settings.clicks_topic, range(partitions))
        records = _read(settings, _starts(ranges, n_records), ranges)
    except KafkaException as error:
        raise TemporaryError(
            f"the topic {settings.clicks_topic} cannot be read: {error.args[0].str()}; look at the brokers, or correct "
            "the rights of this user"
        ) from error
    records.sort(key=lambda record: (record.partition, record.offset))
    return Sample(records, partitions, now_ms)


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


def _read(settings: Settings, starts: Mapping[int, int], ranges: Mapping[int, OffsetRange]) -> list[SampledRecord]:
    waiting = {partition for partition, start in starts.items() if start < ranges[partition].end}
    records: list[SampledRecord] = []
    if not waiting:
        return records
    consumer = Consumer(consumer_config(settings, f"{settings.app}-doctor") | {"enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(settings.clicks_topic, each, starts[each]) for each in waiting])
        end_s = time.monotonic() + MAX_READ_S
        while waiting and time.monotonic() < end_s:
            for message in consumer.consume(_BATCH, _POLL_S):
                record = _record(message, waiting)
                if record is None:
                    continue
                end = ranges[record.partition].end
                if record.offset < end:
                    records.append(record)
                if record.offset >= end - 1:
                    waiting.discard(record.partition)
    finally:
        consumer.close()
    return records


def _record(message: Message, waiting: set[int]) -> SampledRecord | None:
    """Give a record; None for what is none, and notes that a partition has no more.

    Raises:
        KafkaException: the broker refuses.
    """
    error, partition, offset = message.error(), message.partition(), message.offset()
    assert partition is not None
    if is_partition_end(error):
        waiting.discard(partition)
        return None
    if error is not None:
        if failure_of(error) is Failure.REFUSED:
            raise KafkaException(error)
        return None
    assert offset is not None
    return SampledRecord(partition, offset, message.timestamp()[1], message.key(), message.value(), message.headers())
