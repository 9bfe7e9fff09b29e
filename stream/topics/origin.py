"""Which clicks topic the states of an application were made from: the first record of its changelog says so.

The fence of a state is an offset of that very topic, and its partition the one that the topic's partition count gives.
In a topic that was created anew offsets begin again, below the fences, and every click would be skipped as one that
was applied before. The note lives in the changelog because it is true for as long as those states exist, and for every
worker, whatever is left of its folder. It is no state: whoever reads the changelog passes over `ORIGIN_KEY`.
"""

import time

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings
from tools.client_config import consumer_config, librdkafka_config

ORIGIN_KEY = b"\xfforigin"  # no user's: 0xff is no UTF-8
ORIGIN_PARTITION = 0
TIMEOUT_S = 10.0  # for one answer of the broker
_NO_LEADER_YET = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)


class Origin(msgspec.Struct, frozen=True):
    """A clicks topic as it was when the first state was made.

    Attributes:
        topic: its name.
        topic_id: Kafka's own id, another one whenever a topic is created.
        partitions: how many it had.
    """

    topic: str
    topic_id: str
    partitions: int


def refuse_other_origin(settings: Settings, noted: Origin, now: Origin) -> None:
    """Refuse to go on with states of another clicks topic.

    Args:
        settings: of the application.
        noted: what the states were made from.
        now: the clicks topic as it is.

    Raises:
        PermanentError: it is another topic, or has fewer or more partitions.
    """
    anew = (
        "start a new application with --set app=NAME, which reads the clicks from their beginning, "
        f"or delete the topic {settings.changelog_topic} and run `nextclick topics`: either way states start anew"
    )
    if noted.topic_id != now.topic_id:
        found = f"another one of id {now.topic_id}, created later" if noted.topic == now.topic else f"topic {now.topic}"
        raise PermanentError(
            f"the states of application {settings.app} expect the topic {noted.topic} of id {noted.topic_id} that they "
            f"were made from, found {found}: its clicks would be taken for ones that were applied before; {anew}"
        )
    if noted.partitions != now.partitions:
        raise PermanentError(
            f"the states of application {settings.app} expect topic {now.topic} to have the {noted.partitions} "
            f"partitions that they were made with, found {now.partitions}: users have moved away from their states; "
            f"{anew}"
        )


def read_origin(settings: Settings) -> tuple[Origin | None, int]:
    """Give the note, if there is one, and how many records stand before it: states written before there were notes.

    Raises:
        PermanentError: there is something else in its place.
        TemporaryError: the broker does not answer.
    """
    consumer = Consumer(consumer_config(settings, f"{settings.app}-start") | {"enable.partition.eof": True})
    try:
        first, end = _span(consumer, settings.changelog_topic)
        if first == end:
            return None, 0
        consumer.assign([TopicPartition(settings.changelog_topic, ORIGIN_PARTITION, first)])
        n_read = 0
        while (message := consumer.poll(TIMEOUT_S)) is not None:
            error = message.error()
            if error is not None and error.code() == KafkaError._PARTITION_EOF:
                return None, n_read
            if error is not None:
                raise _no_answer(settings, error.str())
            if message.key() == ORIGIN_KEY:
                return _decode(settings, message.value()), n_read
            n_read += 1
        raise _no_answer(settings, f"no answer within {TIMEOUT_S:.0f} s")
    except KafkaException as error:
        raise _no_answer(settings, error.args[0].str()) from error
    finally:
        consumer.close()


def _span(consumer: Consumer, changelog: str) -> tuple[int, int]:
    """Give the partition's first offset and its end."""
    give_up_s = time.monotonic() + TIMEOUT_S
    while True:
        try:
            first, end = consumer.get_watermark_offsets(TopicPartition(changelog, ORIGIN_PARTITION), TIMEOUT_S)
            return first, end
        except KafkaException as error:
            # A broker is named as the leader of a new partition a moment before it is.
            if error.args[0].code() not in _NO_LEADER_YET or time.monotonic() > give_up_s:
                raise
        time.sleep(0.05)


def _decode(settings: Settings, value: bytes | None) -> Origin:
    try:
        return msgspec.json.decode(value or b"", type=Origin)
    except msgspec.DecodeError as error:
        raise PermanentError(
            f"topic {settings.changelog_topic} expects a note of the clicks topic under the key {ORIGIN_KEY!r}, found "
            f"bytes that are none ({error}); use another topic with --set app=NAME"
        ) from error


def write_origin(settings: Settings, origin: Origin) -> None:
    """Note what the states of a changelog are made from.

    Raises:
        TemporaryError: the broker does not take it.
    """
    # Not idempotent: that takes a second to begin, and a note that is written twice does no harm.
    options = {"acks": "all", "linger.ms": 0, "message.timeout.ms": int(TIMEOUT_S * 1000)}
    producer = Producer(librdkafka_config(settings) | options)
    failures: list[KafkaError] = []
    producer.produce(
        settings.changelog_topic,
        msgspec.json.encode(origin),
        ORIGIN_KEY,
        ORIGIN_PARTITION,
        on_delivery=lambda error, _: failures.append(error) if error is not None else None,
    )
    left = producer.flush(TIMEOUT_S + 1)
    if failures or left:
        raise _no_answer(settings, failures[0].str() if failures else "no answer")


def _no_answer(settings: Settings, reason: str) -> TemporaryError:
    return TemporaryError(
        f"expected to read and write the topic {settings.changelog_topic} at {settings.broker}, found: {reason}; "
        "look at the brokers, or correct the rights of this user, and start again"
    )
