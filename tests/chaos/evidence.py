"""What the topics hold, read to their present end. Judges nothing."""

from dataclasses import dataclass

from confluent_kafka import Consumer, Message, TopicPartition

from nextclick.advance import LoggedClick, UserKey
from nextclick.clicks import ClickFields, Rejected, click_decoder
from nextclick.errors import CorruptStateError
from nextclick.hashing import item_hash, partition_of
from nextclick.settings import Settings
from nextclick.updates import RecommendationUpdate, decode_update
from nextclick.user_state import UserState, decode_state
from stream.topics.identity import is_note
from tools.client_config import consumer_config

ANSWER_S = 30.0  # a broker that has just come back takes a while until it leads its partitions again

Place = tuple[int, int]  # partition and offset of a record of the clicks topic


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that is needed to judge a run; every list in log order per partition.

    Attributes:
        clicks: the valid ones.
        bad: places of the records that no worker can use.
        updates: all that left.
        states: every state in the changelog, not only the newest of a user.
        corrupt: places in the changelog of records that are no states.
        rejected: for each dead letter, where its original stands.
    """

    clicks: list[LoggedClick]
    bad: list[Place]
    updates: list[RecommendationUpdate]
    states: list[tuple[UserKey, UserState]]
    corrupt: list[Place]
    rejected: list[Place]


def gather(settings: Settings) -> Evidence:
    """Read everything."""
    clicks, bad = read_clicks(settings)
    states, corrupt = read_states(settings)
    return Evidence(clicks, bad, read_updates(settings), states, corrupt, read_rejected(settings))


def read_clicks(settings: Settings) -> tuple[list[LoggedClick], list[Place]]:
    """Give the valid clicks, and where the others are."""
    messages = read_topic(settings, settings.clicks_topic)
    decode = click_decoder(ClickFields.of(settings))
    n_partitions = _count_partitions(settings, settings.clicks_topic)
    clicks: list[LoggedClick] = []
    bad: list[Place] = []
    for message in messages:
        partition, offset, key = message.partition(), message.offset(), message.key()
        timestamp_ms = message.timestamp()[1]
        click = decode(key, message.value(), timestamp_ms)
        at_home = not settings.check_partition or (
            key is not None and partition_of(key, n_partitions, settings.partitioner) == partition
        )
        if isinstance(click, Rejected) or not at_home:
            bad.append((partition, offset))
        else:
            clicks.append(LoggedClick((partition, key), offset, timestamp_ms, click, item_hash(click.item_id)))
    return clicks, bad


def read_updates(settings: Settings) -> list[RecommendationUpdate]:
    """Give every update."""
    return [decode_update(message.value()) for message in read_topic(settings, settings.recommendations_topic)]


def read_states(settings: Settings) -> tuple[list[tuple[UserKey, UserState]], list[Place]]:
    """Give every state in the changelog, and where the records are that are none."""
    states: list[tuple[UserKey, UserState]] = []
    corrupt: list[Place] = []
    for message in read_topic(settings, settings.changelog_topic):
        if is_note(message.key()):
            continue
        try:
            states.append(((message.partition(), message.key()), decode_state(message.value())))
        except CorruptStateError:
            corrupt.append((message.partition(), message.offset()))
    return states, corrupt


def read_rejected(settings: Settings) -> list[Place]:
    """Give, for each dead letter, the place that its headers name."""
    headers = [dict(message.headers()) for message in read_topic(settings, settings.rejected_topic)]
    return [(int(header["partition"]), int(header["offset"])) for header in headers]


def read_topic(settings: Settings, topic: str) -> list[Message]:
    """Give every record of a topic up to its present end, by partition and offset."""
    consumer = Consumer(consumer_config(settings, "reader"))
    try:
        metadata = consumer.list_topics(topic, ANSWER_S).topics[topic]
        partitions = [TopicPartition(topic, partition, 0) for partition in metadata.partitions]
        ends = {tp.partition: consumer.get_watermark_offsets(tp, ANSWER_S)[1] for tp in partitions}
        consumer.assign(partitions)
        messages: list[Message] = []
        while any(max(at.offset, 0) < ends[at.partition] for at in consumer.position(partitions)):
            messages += [message for message in consumer.consume(5_000, 0.2) if message.error() is None]
        return sorted(messages, key=lambda message: (message.partition(), message.offset()))
    finally:
        consumer.close()


def count_records(settings: Settings, topic: str) -> int:
    """Give the number of records that a topic has had so far."""
    consumer = Consumer(consumer_config(settings, "reader"))
    try:
        partitions = consumer.list_topics(topic, ANSWER_S).topics[topic].partitions
        return sum(consumer.get_watermark_offsets(TopicPartition(topic, p), ANSWER_S)[1] for p in partitions)
    finally:
        consumer.close()


def _count_partitions(settings: Settings, topic: str) -> int:
    consumer = Consumer(consumer_config(settings, "reader"))
    try:
        return len(consumer.list_topics(topic, ANSWER_S).topics[topic].partitions)
    finally:
        consumer.close()
