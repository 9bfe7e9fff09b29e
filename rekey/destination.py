"""Whether the destination has had records: what a job that knows of no copies must not add to unasked."""

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.settings import Settings
from rekey.pulse import Pulse
from tools.client_config import consumer_config
from tools.kafka import Failure, TopicIdentity, failure_of, is_partition_end, offset_ranges

_POLL_S = 0.1


def holds_records(settings: Settings, admin: AdminClient, topic: TopicIdentity, pulse: Pulse) -> bool:
    """Tell whether a topic has committed records, or has had some; marks of transactions alone are none.

    Blocks until the broker answers.

    Args:
        settings: of the client.
        admin: a client.
        topic: to be looked at.
        pulse: looked at while the broker is waited for.

    Raises:
        KafkaException: the broker refuses to say which offsets there are.
        Stopped: the job is to end.
    """
    ranges = pulse.until_answered(
        lambda: offset_ranges(admin, topic.topic, range(topic.partitions)), f"does not say what {topic.topic} holds"
    )
    if any(found.first > 0 for found in ranges.values()):
        return True
    unread = {partition for partition, found in ranges.items() if found.end > 0}
    consumer = Consumer(consumer_config(settings, f"{settings.app}-rekey") | {"enable.partition.eof": True})
    try:
        consumer.assign([TopicPartition(topic.topic, partition, 0) for partition in unread])
        while unread:
            for message in consumer.consume(1, _POLL_S):
                error = message.error()
                if error is None or (failure_of(error) is Failure.REFUSED and not is_partition_end(error)):
                    return True  # what may not be read is there all the same
                if is_partition_end(error):
                    unread.discard(message.partition())
            pulse.wait(0)
    finally:
        consumer.close()
    return False
