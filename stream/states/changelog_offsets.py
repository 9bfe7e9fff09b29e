"""What a reader of the changelog has to read: from where the local store is complete to the end. Blocks."""

import logging
import threading
from collections.abc import Collection
from dataclasses import dataclass, field

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from stream.faust_adapter.table import StateTable
from tools.client_config import librdkafka_config

_log = logging.getLogger(__name__)

BROKER_TIMEOUT_S = 5.0
RETRY_S = 0.5
NO_FENCE = -1
# A broker that is away, or another that leads now: the client tries again by itself.
_PASSING = (
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.OFFSET_NOT_AVAILABLE,
)


class Interrupted(Exception):
    """The reader was asked to stop before it had finished."""


@dataclass(slots=True)
class Span:
    """Where the reader is in one partition.

    Attributes:
        next_offset: what it reads next.
        end: what it has to reach.
        clicks_end: where the clicks of the partition end.
        highest_fence: of the states in the local store.
        outdated: keys whose last record so far lost to an earlier one with a higher fence, and where that record is.
    """

    next_offset: int
    end: int
    clicks_end: int
    highest_fence: int
    outdated: dict[bytes, int] = field(default_factory=dict)

    @property
    def left(self) -> int:
        """How many offsets are still to be read."""
        return max(0, self.end - self.next_offset)


def find_spans(
    settings: Settings, table: StateTable, partitions: Collection[int], stop: threading.Event
) -> dict[int, Span]:
    """Find out what there is to read, however long the broker is away.

    Raises:
        Interrupted: `stop` was set.
        PermanentError: the changelog ends before what the local store has.
        KafkaException: the broker refuses.
    """
    client = AdminClient(librdkafka_config(settings))
    while not stop.is_set():
        try:
            lows = find_offsets(client, settings.changelog_topic, partitions, OffsetSpec.earliest())
            ends = find_offsets(client, settings.changelog_topic, partitions, OffsetSpec.latest())
            clicks_ends = find_offsets(client, settings.clicks_topic, partitions, OffsetSpec.latest())
        except KafkaException as error:
            if not is_passing(error.args[0]):
                raise
            _log.warning("the broker does not answer: states are restored when it does")
        else:
            firsts = {p: _first_offset(settings, p, table.stored_offset(p), lows[p], ends[p]) for p in partitions}
            return {p: Span(firsts[p], ends[p], clicks_ends[p], table.highest_fence(p)) for p in partitions}
        stop.wait(RETRY_S)
    raise Interrupted


def find_offsets(client: AdminClient, topic: str, partitions: Collection[int], which: OffsetSpec) -> dict[int, int]:
    """Ask for the ends of partitions, with what unfinished transactions hold back: it must be waited for.

    Args:
        client: to be held by the caller: without one its answers never come.
        topic: whose ends.
        partitions: of the topic.
        which: the earliest or the latest.
    """
    wanted = {TopicPartition(topic, partition): which for partition in partitions}
    asked = client.list_offsets(
        wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=BROKER_TIMEOUT_S
    )
    return {tp.partition: answer.result().offset for tp, answer in asked.items()}


def is_passing(error: KafkaError) -> bool:
    """Tell whether trying again is enough."""
    return error.retriable() or error.code() in _PASSING


def check_fence(settings: Settings, partition: int, fence: int, clicks_end: int) -> None:
    """Refuse states that know clicks which the clicks topic does not have: the next ones would be skipped.

    Raises:
        PermanentError: the fence is not below the end of the clicks.
    """
    if fence >= clicks_end:
        raise PermanentError(
            f"the states of application {settings.app} know the click at offset {fence} of "
            f"{settings.clicks_topic}, partition {partition}, found that it ends at {clicks_end}: the broker has "
            "lost clicks, and new ones would be taken for known. Start a new application with --set app=NAME, which "
            "reads what is left from the beginning"
        )


def _first_offset(settings: Settings, partition: int, stored: int | None, low: int, end: int) -> int:
    if stored is not None and stored >= end:
        raise PermanentError(
            f"data_dir {settings.data_dir} expects the changelog {settings.changelog_topic} it was written with, "
            f"found one at {settings.broker} that ends earlier (partition {partition}, at {end} of {stored + 1}): "
            "were the topics created anew? Delete the folder, or choose another with --set data_dir=PATH"
        )
    return max(low, stored + 1 if stored is not None else 0)
