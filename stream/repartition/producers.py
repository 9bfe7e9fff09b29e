"""Finds producers that do not know of the new partitions yet. Blocks."""

import logging
import time
from datetime import datetime

from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from nextclick.clicks import FORWARDED_HEADER
from nextclick.errors import TemporaryError
from nextclick.schema.times import SECONDS_BELOW, record_time_ms
from nextclick.settings import Settings
from stream.repartition.log import Progress, read_batches
from stream.repartition.plan import Homes
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import ANSWER_S, OffsetRange, list_offsets, offset_ranges
from tools.records import headers_of

_log = logging.getLogger(__name__)


def refuse_old_producers(settings: Settings, homes: Homes, refresh_s: float) -> None:
    """Refuse while clicks were put where the old number of partitions puts them: later ones would be rejected.

    Args:
        settings: of the application.
        homes: where keys belonged and belong.
        refresh_s: how long a producer may take until it asks the broker again; 0 looks at nothing.

    Raises:
        TemporaryError: the newest such click is younger, by its record's timestamp; says when to try again.
        KafkaException: the clicks cannot be read.
    """
    if not refresh_s:
        return
    topic, now_ms = settings.clicks_topic, int(time.time() * 1000)
    ranges = _since(settings, range(homes.before), now_ms - int(refresh_s * 1000))
    newest_ms, place = 0, (0, 0)
    progress = Progress(
        "looking for producers that do not know yet", sum(end - first for first, end in ranges.values())
    )
    for batch in read_batches(settings, topic, ranges):
        progress.add(len(batch))
        for message in batch:
            key, partition = message.key(), message.partition()
            written_ms = record_time_ms(message.timestamp()[1], now_ms)
            if key is None or written_ms <= newest_ms or _is_copy(message):
                continue
            if homes.destination(partition, key) != partition:
                newest_ms, place = written_ms, (partition, message.offset())
    left_s = newest_ms / 1000 + refresh_s - time.time()
    if left_s > 0:
        again = datetime.fromtimestamp(time.time() + left_s).strftime("%H:%M:%S")
        raise TemporaryError(
            f"a producer put a click into {topic}, partition {place[0]}, offset {place[1]}, where it belonged before "
            f"the topic had {homes.after} partitions, {time.time() - newest_ms / 1000:.0f} s ago. All producers must "
            f"know the new partitions first, and may take up to their metadata.max.age.ms. Run it again after {again}, "
            "or restart the producers and add --producers-refresh-s 0"
        )


def _since(settings: Settings, partitions: range, since_ms: int) -> dict[int, OffsetRange]:
    """Give the offsets of what was written since a time, also where producers write a record's time in seconds."""
    admin = AdminClient(librdkafka_config(settings))
    topic = settings.clicks_topic
    asked = [
        TopicPartition(topic, partition, since_ms if found.timestamp >= SECONDS_BELOW else since_ms // 1000)
        for partition, found in list_offsets(admin, topic, partitions, OffsetSpec.max_timestamp()).items()
    ]
    consumer = Consumer(consumer_config(settings, f"{settings.app}-repartition"))
    try:
        firsts = {place.partition: place.offset for place in consumer.offsets_for_times(asked, ANSWER_S)}
    finally:
        consumer.close()
    ends = {p: found.end for p, found in offset_ranges(admin, topic, partitions).items()}
    return {p: OffsetRange(firsts[p] if firsts[p] >= 0 else ends[p], ends[p]) for p in partitions}


def _is_copy(message: Message) -> bool:
    return any(name == FORWARDED_HEADER for name, _ in headers_of(message))
