"""Reads the demo's topics, all of them from their beginning."""

import msgspec
from confluent_kafka import Consumer, TopicPartition

from nextclick.settings import Settings
from tools.client_config import consumer_config


class TopicMessage(msgspec.Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes


class Following:
    """Reads clicks, recommendations and models from their beginning on (the topics are the demo's own), in no group."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(consumer_config(settings, f"{settings.app}-view") | {"fetch.wait.max.ms": 50})
        topics = (settings.clicks_topic, settings.recommendations_topic, settings.models_topic)
        metadata = self._consumer.list_topics(timeout=10).topics
        self._consumer.assign(
            [TopicPartition(topic, number, 0) for topic in topics for number in metadata[topic].partitions]
        )

    def read(self, patience_s: float) -> list[TopicMessage]:
        """Give what has come, waiting a little if there is nothing."""
        # Not one call of `consume` with patience: that waits for all 1,000, and what came first would look late.
        first = self._consumer.poll(patience_s)
        return [
            TopicMessage(m.topic(), m.partition(), m.offset(), m.timestamp()[1], m.key(), m.value())
            for m in ([first] if first is not None else []) + self._consumer.consume(1_000, 0)
            if m.error() is None and m.value() is not None
        ]

    def __enter__(self) -> "Following":
        return self

    def __exit__(self, *_: object) -> None:
        self._consumer.close()
