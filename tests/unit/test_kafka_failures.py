"""What an error of Kafka's means: one table for stream, trainer and tools."""

import pytest
from confluent_kafka import KafkaError

from tools.kafka import Failure, failure_of


@pytest.mark.parametrize(
    ("code", "failure"),
    [
        (KafkaError._TRANSPORT, Failure.PASSING),
        (KafkaError._TIMED_OUT, Failure.PASSING),
        (KafkaError.NOT_LEADER_FOR_PARTITION, Failure.PASSING),
        (KafkaError.LEADER_NOT_AVAILABLE, Failure.PASSING),
        (KafkaError.UNKNOWN_LEADER_EPOCH, Failure.PASSING),
        (KafkaError._NOENT, Failure.PASSING),  # "No leaders found"
        (KafkaError._PARTIAL, Failure.PASSING),  # a broker that is shutting down
        (KafkaError.UNKNOWN_TOPIC_OR_PART, Failure.GONE),
        (KafkaError.OFFSET_OUT_OF_RANGE, Failure.GONE),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, Failure.REFUSED),
        (KafkaError._AUTHENTICATION, Failure.REFUSED),
    ],
)
def test_each_kind_of_error_has_its_meaning(code: int, failure: Failure) -> None:
    """A leader that is missing is waited for, a topic that is gone is looked for, a right that is missing is said."""
    assert failure_of(KafkaError(code)) is failure
