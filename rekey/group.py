"""What the broker says of the source and of the job's group: offsets, commits, identity. Waits while it is away."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.errors import NextclickError, PermanentError
from nextclick.settings import Settings
from rekey.pulse import Pulse
from tools.client_config import librdkafka_config
from tools.kafka import ANSWER_S, Failure, OffsetRange, TopicIdentity, describe_topic, failure_of, offset_ranges

_log = logging.getLogger(__name__)

GONE_AFTER_S = 10.0  # a broker that has just started knows no topic for a moment
COMMITTED_S = 2.0  # for one answer; one that another instance's open transaction holds back is asked for again
_Answer = TypeVar("_Answer")


class Group:
    """The group of a job, as the broker sees it. Its methods block until the broker answers, and raise

    NextclickError: it refuses, or the source is not what it was.
    Stopped: the job is to end.
    """

    def __init__(
        self, settings: Settings, topic: TopicIdentity, consumer: Consumer, pulse: Pulse, on_lost: Callable[[int], None]
    ) -> None:
        """Ask where a new job begins.

        Args:
            settings: of the job.
            topic: the source, as it is now.
            consumer: a client of the group.
            pulse: looked at while the broker is waited for.
            on_lost: told how many offsets retention has removed before they were copied.
        """
        self.name = f"{settings.app}-rekey"
        self._settings = settings
        self._topic = topic
        self._consumer = consumer
        self._pulse = pulse
        self._on_lost = on_lost
        self._gone_since_s: float | None = None
        self._admin = AdminClient(librdkafka_config(settings) | {"error_cb": pulse.presence.on_error})
        # Partitions of a job that has begun are read from their first record, whenever they were added.
        numbers = range(topic.partitions)
        is_latest = settings.start == "latest" and all(each is None for each in self.committed(numbers).values())
        self._ends_at_start = self.ranges(numbers) if is_latest else {}

    def ranges(self, partitions: Iterable[int]) -> dict[int, OffsetRange]:
        """Give the offsets that partitions hold."""
        wanted = list(partitions)
        if not wanted:
            return {}
        return self._answer(lambda: offset_ranges(self._admin, self._topic.topic, wanted, ANSWER_S))

    def committed(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """Give what is committed; waits for the end of a transaction that could still change it."""
        asked = [TopicPartition(self._topic.topic, partition) for partition in partitions]
        if not asked:
            return {}

        def ask() -> dict[int, int | None]:
            places = self._consumer.committed(asked, COMMITTED_S)
            for place in places:
                if place.error is not None:
                    raise KafkaException(place.error)
            return {place.partition: place.offset if place.offset >= 0 else None for place in places}

        began_s = time.monotonic()
        found = self._answer(ask)
        if (waited_s := time.monotonic() - began_s) > COMMITTED_S:
            _log.info("waited %.0f s until it was certain what is committed", waited_s)
        return found

    def begin(self, partition: int, committed: int | None, found: OffsetRange) -> int:
        """Give the offset at which a partition goes on. Does not block.

        Args:
            partition: of the source.
            committed: what the group has committed there.
            found: what the partition holds.
        """
        topic = self._topic.topic
        if committed is None:
            end_at_start = self._ends_at_start.get(partition)
            return found.first if end_at_start is None else max(end_at_start.end, found.first)
        if committed > found.end:
            raise PermanentError(
                f"the group {self.name} has read {topic}, partition {partition}, up to {committed}, but it ends at "
                f"{found.end}: the topic is another one, or the broker has lost records. Start a new job with "
                "--set app=NAME, which copies what is there from the beginning"
            )
        if committed < found.first:
            self._on_lost(found.first - committed)
            _log.error(
                "records are lost: retention removed offsets %d to %d of %s, partition %d, before they were copied; "
                "raise retention.ms of the topic, or run more instances",
                committed,
                found.first - 1,
                topic,
                partition,
            )
        return max(committed, found.first)

    def refuse_other_topic(self) -> None:
        """Make sure that the source is still the topic of the start."""
        topic = self._topic.topic
        try:
            now = self._pulse.until_answered(lambda: describe_topic(self._admin, topic))
        except KafkaException as error:
            self._gone_since_s = self._gone_since_s or time.monotonic()
            if failure_of(error.args[0]) is Failure.GONE and time.monotonic() < self._gone_since_s + GONE_AFTER_S:
                return
            raise self.refused(error.args[0]) from error
        self._gone_since_s = None
        if not now.is_same_topic(self._topic):
            raise PermanentError(f"the topic {topic} was created anew; start the job again: it begins anew, too")

    def _answer(self, ask: Callable[[], _Answer]) -> _Answer:
        def asked() -> _Answer:
            self._admin.poll(0)  # lets the client say that the broker is away
            return ask()

        try:
            return self._pulse.until_answered(asked)
        except KafkaException as error:
            raise self.refused(error.args[0]) from error

    def refused(self, error: KafkaError) -> NextclickError:
        """Say what it means that the broker does not give what it is asked for."""
        topic = self._topic.topic
        if failure_of(error) is Failure.GONE:
            return PermanentError(f"the topic {topic}, or a partition of it, is gone; correct SOURCE")
        return PermanentError(
            f"the broker at {self._settings.broker} does not let a member of the group {self.name} read {topic}: "
            f"{error.str()}; correct the rights of the user, or session_timeout_s"
        )
