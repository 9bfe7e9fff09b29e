"""Follows a topic of one partition from its first record, without a group. Uses confluent-kafka."""

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from nextclick.settings import Settings
from tools.client_config import consumer_config
from tools.kafka import Failure, failure_of, is_partition_end
from tools.records import refuse_unreadable

_MAX_RECORDS = 500


class FollowedTopic:
    """A topic's records, in order, as they are committed.

    Attributes:
        is_at_end: whether all that the topic held was given at some moment.
    """

    def __init__(self, settings: Settings, topic: str) -> None:
        """Begin at the first record; connects by itself."""
        config = consumer_config(settings, f"{settings.app}-trainer") | {"enable.partition.eof": True}
        self._consumer = Consumer(config)
        self._consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
        self.is_at_end = False

    def read(self, timeout_s: float) -> list[Message]:
        """Give the records that come within a time; one that is over at the topic's end.

        Raises:
            KafkaException: the topic is not there, or may not be read; not where the broker is away.
            PermanentError: a batch cannot be read.
        """
        records: list[Message] = []
        message = self._consumer.poll(timeout_s)
        while message is not None:
            error = message.error()
            refuse_unreadable(message)
            if error is None:
                records.append(message)
            elif is_partition_end(error):
                self.is_at_end = True
                break
            elif failure_of(error) is not Failure.PASSING:
                raise KafkaException(error)
            message = self._consumer.poll(0) if len(records) < _MAX_RECORDS else None
        return records

    def close(self) -> None:
        """Let go of the connection."""
        self._consumer.close()
