"""What stream, trainer and tools must agree on about Kafka: which topic is which, which offsets a partition holds, and
what a failure means. Blocks, and has no client of its own but where it says so.
"""

import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Future
from enum import Enum
from typing import NamedTuple, TypeVar

import msgspec
from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ListOffsetsResultInfo, OffsetSpec

ANSWER_S = 6.0  # for one answer of the broker
_RETRY_S = 0.05
_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Failure(Enum):
    """What to do about an error of Kafka's."""

    PASSING = "trying again is enough: a broker is away, or another leads now"
    GONE = "what was asked for is not there: a topic, a partition, an offset"
    REFUSED = "trying again will not help: rights, a login, a setting"


_GONE = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._AUTO_OFFSET_RESET,
        KafkaError.OFFSET_OUT_OF_RANGE,
    }
)
_FORBIDDEN = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    }
)
# A topic that is new, or a broker: what one knows can be news to another for a moment, and so can who leads.
_NEWS = frozenset(
    {
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError._NOENT,  # nobody leads any of the partitions: a broker that has just started
    }
)
# The client tries these again by itself, yet calls only some of them retriable.
_PASSING = frozenset(
    {
        KafkaError._TRANSPORT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TIMED_OUT,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._RESOLVE,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._DESTROY_BROKER,
        KafkaError._NOENT,  # none of the partitions that were asked about has a leader
        KafkaError._PARTIAL,  # a broker that is shutting down knows neither brokers nor topics any more
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_LEADER_EPOCH,
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.OFFSET_NOT_AVAILABLE,
        KafkaError.NOT_COORDINATOR,
        KafkaError.COORDINATOR_NOT_AVAILABLE,
        KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
        KafkaError.UNSTABLE_OFFSET_COMMIT,  # a transaction that could still change what is committed is open
    }
)


def failure_of(error: KafkaError) -> Failure:
    """Tell what an error means. The end of a partition (`_PARTITION_EOF`) is none: ask for it first."""
    if error.code() in _GONE:  # retriable for Kafka, because a broker that has just started knows no topic
        return Failure.GONE
    if error.code() in _PASSING or (error.retriable() and not error.fatal()):
        return Failure.PASSING
    return Failure.REFUSED


def is_forbidden(error: KafkaError) -> bool:
    """Tell whether the broker knows who asks, and does not allow it."""
    return error.code() in _FORBIDDEN


def is_partition_end(error: KafkaError | None) -> bool:
    """Tell whether a consumer's "error" only says that the end of a partition is reached."""
    return error is not None and error.code() == KafkaError._PARTITION_EOF


class OffsetRange(NamedTuple):
    """The offsets that a partition holds: [first, end)."""

    first: int
    end: int


class TopicIdentity(msgspec.Struct, frozen=True, omit_defaults=True):
    """A topic as it was when something was made from it.

    Attributes:
        topic: its name.
        topic_id: Kafka's own id, another one whenever a topic is created.
        partitions: how many it had.
        cluster_id: Kafka's id of the cluster; empty where it was not asked for.
    """

    topic: str
    topic_id: str
    partitions: int
    cluster_id: str = ""

    def is_same_topic(self, other: "TopicIdentity") -> bool:
        """Tell whether both are one topic, whatever its number of partitions."""
        same_cluster = not (self.cluster_id and other.cluster_id) or self.cluster_id == other.cluster_id
        return same_cluster and (self.topic, self.topic_id) == (other.topic, other.topic_id)


def describe_topic(client: AdminClient, topic: str, answer_s: float = ANSWER_S) -> TopicIdentity:
    """Ask the broker for a topic's identity, as it is now, but for the cluster's id.

    Raises:
        KafkaException: the broker does not answer within `answer_s`, refuses, or has no such topic.
    """
    # Not `describe_cluster`: librdkafka 2.16 ends the process with an assertion when a broker that is shutting down
    # answers it with no brokers. `list_topics` gives the cluster's id, too.
    names = TopicCollection([topic])
    described = answers(lambda: client.describe_topics(names, request_timeout=answer_s), answer_s)[topic]
    return TopicIdentity(topic, str(described.topic_id), len(described.partitions))


def offset_ranges(
    client: AdminClient, topic: str, partitions: Collection[int], answer_s: float = ANSWER_S
) -> dict[int, OffsetRange]:
    """Ask which offsets partitions hold, with what unfinished transactions hold back: it must be waited for.

    Raises:
        KafkaException: the broker does not answer within `answer_s`, refuses, or has no such partition.
    """
    firsts, ends = (
        list_offsets(client, topic, partitions, which, answer_s)
        for which in (OffsetSpec.earliest(), OffsetSpec.latest())
    )
    return {partition: OffsetRange(firsts[partition].offset, ends[partition].offset) for partition in partitions}


def list_offsets(
    client: AdminClient, topic: str, partitions: Collection[int], which: OffsetSpec, answer_s: float = ANSWER_S
) -> dict[int, ListOffsetsResultInfo]:
    """Ask for one offset of each partition, with what unfinished transactions hold back.

    Raises:
        KafkaException: the broker does not answer within `answer_s`, refuses, or has no such partition.
    """
    wanted = {TopicPartition(topic, partition): which for partition in partitions}
    uncommitted = IsolationLevel.READ_UNCOMMITTED
    is_again = False

    def ask() -> "dict[TopicPartition, Future[ListOffsetsResultInfo]]":
        nonlocal is_again
        if is_again:
            # The client asks with what it knows of leaders, and keeps that for minutes, also when the broker says
            # that another leads now (librdkafka 2.16).
            client.list_topics(topic, timeout=answer_s)
        is_again = True
        found: dict[TopicPartition, Future[ListOffsetsResultInfo]] = client.list_offsets(
            wanted, isolation_level=uncommitted, request_timeout=answer_s
        )
        return found

    return {place.partition: answer for place, answer in answers(ask, answer_s).items()}


def answer_of(future: "Future[_Value]", answer_s: float = ANSWER_S) -> _Value:
    """Wait for one answer of an admin client.

    Raises:
        KafkaException: the broker does not answer within `answer_s`, or refuses.
    """
    try:
        return future.result(answer_s)
    except TimeoutError as error:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, f"no answer within {answer_s:g} s")) from error


def answers(ask: Callable[[], "Mapping[_Key, Future[_Value]]"], answer_s: float = ANSWER_S) -> "dict[_Key, _Value]":
    """Wait for an admin client's answers; of a new topic they are asked for again.

    Raises:
        KafkaException: the broker does not answer within `answer_s`, or refuses.
    """
    end_s = time.monotonic() + answer_s
    while True:
        try:
            return {what: answer_of(future, answer_s) for what, future in ask().items()}
        except KafkaException as error:
            if error.args[0].code() not in _NEWS or time.monotonic() > end_s:
                raise
        time.sleep(_RETRY_S)
