"""Reads the clicks topic for the click log: every partition, from given offsets, without a consumer group.

The position is kept by the click log, not by the broker, so nothing is ever committed. Uses confluent-kafka.
"""

import logging
from collections.abc import Mapping
from typing import NamedTuple

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from nextclick.clicks import Click, ClickFields, Rejected, click_decoder
from nextclick.client_config import consumer_config
from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings

_ANSWER_S = 6.0  # for the first answer of the broker
_MAX_RECORDS = 2_000  # of one poll
_log = logging.getLogger(__name__)


class Span(NamedTuple):
    """The offsets that a partition holds: [first, end)."""

    first: int
    end: int


class ReadRecord(NamedTuple):
    """A record that was read."""

    partition: int
    offset: int
    click: Click | Rejected


class ClickConsumer:
    """The records of the clicks topic, in order per partition."""

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            TemporaryError: the broker does not answer.
            PermanentError: a topic does not exist.
        """
        self._settings = settings
        self._decode = click_decoder(ClickFields.of(settings))
        self._last_error = ""
        self._broker_away = False
        self._next: dict[int, int] = {}
        self._at_end: set[int] = set()
        config = consumer_config(settings, f"{settings.app}-trainer") | {
            "auto.offset.reset": "error",  # clicks that are gone must be noticed, not jumped over
            "enable.partition.eof": True,
            "error_cb": self._on_error,
        }
        self._consumer = Consumer(config)
        try:
            self._partitions = self._check_topics()
        except BaseException:
            self.close()
            raise

    def spans(self) -> dict[int, Span]:
        """Ask the broker which offsets each partition holds now.

        Raises:
            TemporaryError: the broker does not answer.
        """
        topic = self._settings.clicks_topic
        try:
            return {
                partition: Span(*self._consumer.get_watermark_offsets(TopicPartition(topic, partition), _ANSWER_S))
                for partition in self._partitions
            }
        except KafkaException as error:
            raise self._no_answer(error) from error

    def start(self, positions: Mapping[int, int]) -> None:
        """Read from these offsets on, one for each partition."""
        topic = self._settings.clicks_topic
        self._next = dict(positions)
        self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in positions.items()])

    def poll(self, timeout_s: float) -> list[ReadRecord]:
        """Give the next records, waiting for the first ones.

        Raises:
            PermanentError: the topic is gone, or records that are next to be read are.
            TemporaryError: the broker refuses to be read.
        """
        records = []
        for message in self._consumer.consume(_MAX_RECORDS, timeout_s):
            partition, error = message.partition(), message.error()
            if error is not None:
                self._handle(error, partition)
                continue
            offset = message.offset()
            assert partition is not None
            assert offset is not None
            click = self._decode(message.key(), message.value(), message.timestamp()[1])
            records.append(ReadRecord(partition, offset, click))
            self._next[partition] = offset + 1
            self._at_end.discard(partition)
        if records and self._broker_away:
            self._broker_away = False
            _log.info("the broker is back")
        return records

    def has_read(self, spans: Mapping[int, Span]) -> bool:
        """Tell whether everything up to the ends of `spans` was read."""
        return all(
            partition in self._at_end or self._next[partition] >= span.end or span.first == span.end
            for partition, span in spans.items()
        )

    def lag(self) -> int:
        """Give the number of records that wait to be read, as far as the client knows."""
        lag = 0
        for partition, offset in self._next.items():
            topic_partition = TopicPartition(self._settings.clicks_topic, partition)
            _, end = self._consumer.get_watermark_offsets(topic_partition, cached=True)
            lag += max(0, end - offset) if partition not in self._at_end else 0
        return lag

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _check_topics(self) -> list[int]:
        try:
            topics = self._consumer.list_topics(timeout=_ANSWER_S).topics
        except KafkaException as error:
            raise self._no_answer(error) from error
        for name in (self._settings.clicks_topic, self._settings.models_topic):
            if name not in topics:
                raise PermanentError(
                    f"expected the topic {name} at {self._settings.broker}, found none of that name; "
                    "run `nextclick topics`"
                )
        return sorted(topics[self._settings.clicks_topic].partitions)

    def _no_answer(self, error: KafkaException) -> TemporaryError:
        found = self._last_error or error.args[0].str()
        return TemporaryError(
            f"expected a broker at {self._settings.broker}, found: {found}; start it, or give its address with --broker"
        )

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = error.str()
        if self._next and error.code() == KafkaError._ALL_BROKERS_DOWN and not self._broker_away:
            self._broker_away = True
            _log.warning("waiting: the broker at %s does not answer", self._settings.broker)

    def _handle(self, error: KafkaError, partition: int | None) -> None:
        topic = self._settings.clicks_topic
        if error.code() == KafkaError._PARTITION_EOF and partition is not None:
            self._at_end.add(partition)
        elif error.code() == KafkaError._AUTO_OFFSET_RESET and partition is not None:
            raise PermanentError(
                f"expected offset {self._next[partition]} of partition {partition} of {topic}, found that the topic "
                "no longer has it; start again to see which clicks are lost, and what to do"
            )
        elif error.code() in (
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError._UNKNOWN_TOPIC,
            KafkaError._UNKNOWN_PARTITION,
        ):
            raise PermanentError(f"expected the topic {topic}, found that it is gone; run `nextclick topics`")
        elif error.fatal() or not error.retriable():
            _log.warning("reading %s: %s", topic, error.str(), extra={"fields": {"partition": partition}})
