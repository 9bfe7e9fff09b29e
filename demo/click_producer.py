"""The producer that every tool here sends clicks with. A click that could not be delivered ends the tool.

It never sets a record's timestamp: event time is in the value only, or a topic's retention would delete the past.
"""

import time
from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from tools.client_config import producer_config
from tools.missing_topics import missing_topics

CONNECT_TIMEOUT_S = 8.0  # a broker that does not answer for so long is not there
DELIVERY_TIMEOUT_S = 30.0  # long enough for a broker that restarts
STOPPED_FLUSH_S = 3.0  # for what is on its way when somebody wants the end


class ClickProducer:
    """Sends clicks, counts those that the broker has, and fails when one is lost."""

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            TemporaryError: no broker answers.
            PermanentError: the topic of the clicks does not exist, or the broker refuses us.
        """
        self._settings = settings
        self._schema = ClickSchema.of(settings)
        _refuse_unknown_partitioner(settings)
        self._last_error: KafkaError | None = None
        self._lost: KafkaError | None = None
        self.n_delivered = 0
        self.last_delivered: tuple[int | None, int | None] | None = None  # partition and offset
        self._producer = Producer(
            producer_config(settings)
            | {"delivery.timeout.ms": int(DELIVERY_TIMEOUT_S * 1000), "error_cb": self._note_error}
        )
        self.n_partitions = self.partition_counts()[settings.clicks_topic]

    def partition_counts(self) -> dict[str, int]:
        """Give the number of partitions of each topic.

        Raises:
            TemporaryError: no broker answers.
            PermanentError: the topic of the clicks is not among them, or the broker refuses us.
        """
        try:
            # All topics, not this one: asking for a topic by name can create it.
            topics = self._producer.list_topics(timeout=CONNECT_TIMEOUT_S).topics
        except KafkaException as failure:
            self._producer.poll(0)
            raise self._explained(self._last_error or failure.args[0]) from None
        name = self._settings.clicks_topic
        if name not in topics:
            raise PermanentError(missing_topics([name], topics, self._settings))
        return {topic: len(metadata.partitions) for topic, metadata in topics.items()}

    def send(self, user_id: str, item_id: str, timestamp_ms: int, event_type: str = "view") -> None:
        """Hand one click over for sending; waits while the producer's queue is full."""
        key, value, headers = encode_click(self._schema, user_id, item_id, timestamp_ms, event_type)
        topic = self._settings.clicks_topic
        while True:
            try:
                self._producer.produce(topic, value, key, headers=headers, on_delivery=self._note_delivery)
                return
            except BufferError:
                self.wait(0.1)

    def wait(self, seconds: float) -> None:
        """Let time pass, or less when a delivery is reported.

        Raises:
            NextclickError: a click was lost.
        """
        self._producer.poll(seconds)
        if self._lost is not None:
            raise self._explained(self._lost)

    def flush(self, within_s: float = DELIVERY_TIMEOUT_S + 5) -> None:
        """Wait until the broker has every click.

        Args:
            within_s: how long; by default until librdkafka has given up by itself.

        Raises:
            NextclickError: a click was lost, or the broker does not have it by then.
        """
        deadline = time.monotonic() + within_s
        while self._producer.flush(0.1):
            self.wait(0)
            if time.monotonic() > deadline:
                raise TemporaryError(
                    f"{len(self._producer)} clicks were not delivered to {self._settings.broker} within "
                    f"{within_s:.0f} s; look at the broker and start again"
                )
        self.wait(0)

    def _note_error(self, error: KafkaError) -> None:
        # The first reason is the telling one (a refused login); "all brokers down" follows from it.
        if error.code() != KafkaError._ALL_BROKERS_DOWN:
            self._last_error = error

    def _note_delivery(self, error: KafkaError | None, message: Message) -> None:
        if error is None:
            self.n_delivered += 1
            self.last_delivered = message.partition(), message.offset()
        elif self._lost is None:
            self._lost = error

    def _explained(self, error: KafkaError) -> NextclickError:
        if error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
            return PermanentError(missing_topics([self._settings.clicks_topic], (), self._settings))
        if error.code() in _REFUSALS:
            return PermanentError(
                f"{self._settings.broker} does not let us in: {error.str()}; correct "
                "the settings security_protocol, sasl_* and tls_*"
            )
        if error.code() in _TRANSIENT:
            return TemporaryError(
                f"no Kafka broker answers at {self._settings.broker} ({error.str()}); "
                "start one (`nextclick kafka` runs one here) or correct --broker"
            )
        return PermanentError(f"{self._settings.broker} did not take a click: {error.str()}; look at the broker's log")


def _refuse_unknown_partitioner(settings: Settings) -> None:
    if settings.partitioner == "none":
        raise PermanentError(
            "with partitioner=none nobody here knows into which partition a user's click belongs: send clicks with "
            "your own producer"
        )


_REFUSALS: Iterable[int] = (
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)
_TRANSIENT: Iterable[int] = (
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
    KafkaError._ALL_BROKERS_DOWN,
)
