"""What the tests of unusual records share: batches as another language writes them, and a look at those of a log."""

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Any
from unittest import mock

import aiokafka
from aiokafka.consumer import fetcher
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.record.util import calc_crc32c

from nextclick.settings import Settings

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")  # their places are Kafka's numbers
CREATE_TIME, LOG_APPEND_TIME = 0, 1
# Where things stand in a batch.
LENGTH, CRC, ATTRIBUTES, RECORDS = 8, 17, 21, 61
_CODEC, _TIME, _CONTROL = 0x07, 0x08, 0x20
_NAME, _LATIN1_NAME = b"odd-name", b"odd-\xfc\xe4me"


def batches_of(log: bytes) -> Iterator[memoryview]:
    """Give the whole batches of a part of a log."""
    place = 0
    while place + ATTRIBUTES < len(log):
        end = place + LENGTH + 4 + struct.unpack_from(">i", log, place + LENGTH)[0]
        if end <= len(log):
            yield memoryview(log)[place:end]
        place = end


def seal(batch: "bytearray | memoryview") -> None:
    """Give a batch that was changed its checksum."""
    struct.pack_into(">I", batch, CRC, calc_crc32c(bytes(batch[ATTRIBUTES:])))


async def send_with_odd_header(settings: Settings, topic: str, partition: int, key: bytes, *values: bytes) -> int:
    """Write records as one batch, each with a header whose name is Latin-1; gives the offset of the first."""
    producer = aiokafka.AIOKafkaProducer(bootstrap_servers=settings.broker)
    await producer.start()
    try:
        batch = producer.create_batch()
        for value in values:
            batch.append(timestamp=None, key=key, value=value, headers=[(_NAME.decode(), b"1")])
        batch._buffer = bytearray(batch._build()).replace(_NAME, _LATIN1_NAME)
        seal(batch._buffer)
        sent = await producer.send_batch(batch, topic, partition=partition)
        return int((await sent).offset)
    finally:
        await producer.stop()


async def forms_in_log(settings: Settings, topic: str) -> Counter[tuple[str, int]]:
    """Count the batches of a topic by their codec and the kind of their time; markers of transactions are none."""
    found = Counter[tuple[str, int]]()

    def noting(log: Any) -> MemoryRecords:
        attributes = [struct.unpack_from(">h", batch, ATTRIBUTES)[0] for batch in batches_of(bytes(log))]
        found.update((CODECS[a & _CODEC], int(bool(a & _TIME))) for a in attributes if not a & _CONTROL)
        return MemoryRecords(log)

    consumer = aiokafka.AIOKafkaConsumer(topic, bootstrap_servers=settings.broker, auto_offset_reset="earliest")
    with mock.patch.object(fetcher, "MemoryRecords", noting):
        await consumer.start()
        try:
            ends = await consumer.end_offsets(list(consumer.assignment()))
            while any([await consumer.position(tp) < end for tp, end in ends.items()]):
                await consumer.getmany(timeout_ms=100)
        finally:
            await consumer.stop()
    return found
