"""Reads with librdkafka what aiokafka cannot: a record with a header whose name is not UTF-8, or a batch in a form that
one knows and the other does not. What neither can read ends the worker with a line that says where it is.
"""

import asyncio
import gzip
import logging
import struct
import time
import zlib
from collections.abc import Mapping
from typing import NamedTuple

from aiokafka.errors import CorruptRecordException, UnsupportedCodecError
from confluent_kafka import Consumer, Message, TopicPartition

from nextclick.settings import Settings
from stream.protocol.port import Run
from tools.client_config import consumer_config
from tools.kafka import is_partition_end
from tools.records import Header, headers_of, is_unreadable, refuse_unreadable

_log = logging.getLogger(__name__)

ANSWER_S = 5.0  # for each partition's first record, or its end
POLL_S = 0.1
MAX_RECORDS = 5_000  # of one poll
FETCH_BYTES = 256 * 1024  # of a partition: so that none waits long behind another, and little is held
COMPLAINT_S = 60.0  # between two lines about the same

# What aiokafka lets through of its decompressors, and of records that are not what their lengths say.
_UNREADABLE = (
    CorruptRecordException,
    UnsupportedCodecError,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    struct.error,
    UnicodeDecodeError,  # the name of a header
)


class ReadRecord(NamedTuple):
    """A record of the clicks topic, as the protocol sees it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[Header]


def is_unpacking(error: Exception) -> bool:
    """Tell whether an error of an aiokafka consumer comes from what is in a batch, not from the broker."""
    import cramjam  # not sooner: a worker without it says so at its start

    return isinstance(error, (*_UNREADABLE, cramjam.DecompressionError))


class SecondReader:
    """Reads a topic a little further where the first client cannot."""

    def __init__(self, settings: Settings, topic: str) -> None:
        """Do nothing yet."""
        self._topic = topic
        self._config = consumer_config(settings, f"{settings.app}-second") | {
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "max.partition.fetch.bytes": FETCH_BYTES,
            "fetch.wait.max.ms": int(POLL_S * 1000),
        }
        self._complaint_s = float("-inf")

    async def read(self, positions: Mapping[int, int], reason: Exception) -> Mapping[int, Run]:
        """Give what comes next, once; waits for seconds where no broker answers, and may then give nothing.

        Args:
            positions: partition to the offset that is read next.
            reason: why the first client cannot.

        Raises:
            PermanentError: this one cannot either, and what can be read before that was given.
        """
        if time.monotonic() > self._complaint_s:
            self._complaint_s = time.monotonic() + COMPLAINT_S
            text = "%s, %s: aiokafka cannot read what comes there (%s: %s); it is read with librdkafka"
            places = ", ".join(f"partition {number} from offset {position}" for number, position in positions.items())
            _log.warning(text, self._topic, places, type(reason).__name__, reason)
        return await asyncio.to_thread(self._read, positions)

    def _read(self, positions: Mapping[int, int]) -> Mapping[int, Run]:
        records: dict[int, list[ReadRecord]] = {number: [] for number in positions}
        ends = dict(positions)
        waiting, broken = set(positions), set[int]()
        consumer = Consumer(self._config)
        try:
            consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in positions.items()])
            end_s = time.monotonic() + ANSWER_S
            while waiting and time.monotonic() < end_s:
                for message in consumer.consume(MAX_RECORDS, POLL_S):
                    error, number, offset = message.error(), message.partition(), message.offset()
                    if number is None or offset is None or number in broken:
                        continue
                    if error is None:
                        records[number].append(_record(self._topic, number, offset, message))
                        ends[number] = offset + 1
                    elif is_partition_end(error):
                        ends[number] = max(ends[number], offset)
                    elif is_unreadable(error):
                        if ends[number] == positions[number]:
                            refuse_unreadable(message)
                        broken.add(number)
                    else:
                        continue
                    waiting.discard(number)
        finally:
            consumer.close()
        return {
            number: Run(position, records[number], ends[number])
            for number, position in positions.items()
            if ends[number] > position
        }


def _record(topic: str, partition: int, offset: int, message: Message) -> ReadRecord:
    _, timestamp_ms = message.timestamp()
    return ReadRecord(topic, partition, offset, timestamp_ms, message.key(), message.value(), headers_of(message))
