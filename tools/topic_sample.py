"""Looks at the newest records of a topic: in no group, for a bounded time, and nothing is written."""

import time

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.settings import Settings
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import is_partition_end, offset_ranges

_POLL_S = 0.1


def newest_records(
    settings: Settings, topic: str, n_partitions: int, per_partition: int, patience_s: float
) -> list[Message]:
    """Read the newest committed records of each partition, oldest first within one.

    Args:
        settings: of the client.
        topic: must exist.
        n_partitions: that it has.
        per_partition: how many offsets to go back; what a transaction leaves behind takes some of them.
        patience_s: after it, what has come is given; also when a partition has no leader, or may not be read.

    Raises:
        KafkaException: the broker does not say which offsets there are.
    """
    ranges = offset_ranges(AdminClient(librdkafka_config(settings)), topic, range(n_partitions))
    places = [
        TopicPartition(topic, partition, max(offsets.first, offsets.end - per_partition))
        for partition, offsets in ranges.items()
        if offsets.first < offsets.end
    ]
    config = consumer_config(settings, f"{settings.app}-sample") | {"enable.partition.eof": True}
    consumer, records = Consumer(config), []
    try:
        consumer.assign(places)
        unread = {place.partition for place in places}
        end_s = time.monotonic() + patience_s
        while unread and time.monotonic() < end_s:
            for message in consumer.consume(1_000, _POLL_S):
                partition, offset = message.partition(), message.offset()
                if message.error() is None and offset is not None and partition is not None:
                    records.append(message)
                    if offset + 1 >= ranges[partition].end:
                        unread.discard(partition)
                elif is_partition_end(message.error()) and partition is not None:
                    unread.discard(partition)
    finally:
        consumer.close()
    return records
