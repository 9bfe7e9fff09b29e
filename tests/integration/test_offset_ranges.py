"""Which offsets partitions hold, as a client hears of it whose broker was away (`tools/kafka.py`)."""

from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from demo.local_kafka import LocalKafka
from tools.client_config import librdkafka_config
from tools.kafka import Failure, OffsetRange, failure_of, offset_ranges


def test_a_client_from_before_a_broker_s_restart_is_answered(outage: Any, broker_to_stop: LocalKafka) -> None:
    """The restart makes a new epoch of each leader, which the client has to hear of."""
    settings = outage.settings
    client, partitions = AdminClient(librdkafka_config(settings)), range(settings.partitions)
    before = offset_ranges(client, settings.clicks_topic, partitions)
    broker_to_stop.restart()

    def after() -> dict[int, OffsetRange] | None:
        try:
            return offset_ranges(client, settings.clicks_topic, partitions)
        except KafkaException as error:
            if failure_of(error.args[0]) is not Failure.PASSING:
                raise
            return None

    assert outage.wait_for(after, "an answer", 30.0) == before
