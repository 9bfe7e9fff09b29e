"""What the broker says of the topics and of the job's group: offsets, commits, identity. Waits while it is away."""

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.errors import NextclickError, PermanentError
from nextclick.settings import Settings
from rekey.destination import holds_records
from rekey.pulse import Pulse
from rekey.topics import Route
from tools.client_config import consumer_config, librdkafka_config
from tools.group_member import close_aside
from tools.kafka import ANSWER_S, Failure, OffsetRange, TopicIdentity, describe_topic, failure_of, offset_ranges

_log = logging.getLogger(__name__)

GONE_AFTER_S = 10.0  # a broker that has just started knows no topic for a moment
COMMITTED_S = 2.0  # for one answer; one that another instance's open transaction holds back is asked for again
ANOTHER_S = 10.0  # a client that has not got an answer by then may have lost the request, and is replaced
_Answer = TypeVar("_Answer")


class Group:
    """The group of a job, as the broker sees it. Its methods block until the broker answers, and raise

    NextclickError: it refuses, or a topic is not what it was.
    Stopped: the job is to end.

    Attributes:
        name: that the broker knows it by.
        note: stands beside each offset that is committed: to which topic, and which of its lives, the records before it
            were copied.
    """

    def __init__(self, settings: Settings, route: Route, pulse: Pulse, on_lost: Callable[[int], None]) -> None:
        """Ask where a new job begins.

        Args:
            settings: of the job.
            route: of the job.
            pulse: looked at while the broker is waited for.
            on_lost: told how many offsets retention has removed before they were copied.
        """
        self.name = f"{settings.app}-rekey"
        self._settings = settings
        self._topic, self._route = route.source, route
        self.note = f"{route.destination.topic} {route.destination.topic_id}"
        self._pulse = pulse
        self._on_lost = on_lost
        self._gone_since_s: float | None = None
        self._asking = self._new_client()
        self._admin = AdminClient(librdkafka_config(settings) | {"error_cb": pulse.presence.on_error})
        # Partitions of a job that has begun are read from their first record, whenever they were added.
        numbers = range(self._topic.partitions)
        if is_new := self._is_new():
            self._refuse_second_copy()
        self._ends_at_start = self.ranges(numbers) if is_new and settings.start == "latest" else {}

    def ranges(self, partitions: Iterable[int]) -> dict[int, OffsetRange]:
        """Give the offsets that partitions hold."""
        wanted = list(partitions)
        if not wanted:
            return {}
        return self._answer(
            lambda: offset_ranges(self._admin, self._topic.topic, wanted, ANSWER_S),
            f"does not say what {self._topic.topic} holds",
        )

    def _is_new(self) -> bool:
        return all(offset is None for offset in self.committed(range(self._topic.partitions)).values())

    def _refuse_second_copy(self) -> None:
        """Make sure that a job that knows of nothing copied does not copy again what the destination has.

        Raises:
            PermanentError: it could.
        """
        destination = self._route.destination
        if self._route.may_begin or not holds_records(self._settings, self._admin, destination, self._pulse):
            return
        if not self._is_new():  # another instance has begun meanwhile: copies and commits appear together
            return
        source = self._topic.topic
        raise PermanentError(
            f"the group {self.name} has committed nothing of {source}, and {destination.topic} has had records already:"
            " either others write to it, too, or Kafka has forgotten how far this job was (it does so some days after "
            f"the last instance has left), and everything would be copied again. Say once where to begin: --start "
            f"earliest copies all that {source} has, --start latest what comes from now on"
        )

    def committed(self, partitions: Iterable[int]) -> dict[int, int | None]:
        """Give what is committed; waits for the end of a transaction that could still change it.

        Raises:
            PermanentError: what is before it was copied to another topic than this job's destination.
        """
        asked = [TopicPartition(self._topic.topic, partition) for partition in partitions]
        if not asked:
            return {}

        began_s = replaced_s = time.monotonic()

        def ask() -> dict[int, int | None]:
            nonlocal replaced_s
            if time.monotonic() > replaced_s + ANOTHER_S:
                close_aside(self._asking)
                self._asking, replaced_s = self._new_client(), time.monotonic()
            places = self._asking.committed(asked, COMMITTED_S)
            for place in places:
                if place.error is not None:
                    raise KafkaException(place.error)
                self._refuse_other_destination(place)
            return {place.partition: place.offset if place.offset >= 0 else None for place in places}

        found = self._answer(ask, f"does not say what the group {self.name} has committed of {self._topic.topic}")
        if (waited_s := time.monotonic() - began_s) > COMMITTED_S:
            _log.info("waited %.0f s until it was certain what is committed", waited_s)
        return found

    def _new_client(self) -> Consumer:
        """Give a client that asks for the group and is no member: it can be replaced at any time."""
        return Consumer(consumer_config(self._settings, self.name) | {"error_cb": self._pulse.presence.on_error})

    def _refuse_other_destination(self, place: TopicPartition) -> None:
        # Offsets that somebody has set by hand have no note.
        if place.offset < 0 or not place.metadata or place.metadata == self.note:
            return
        name, _, topic_id = place.metadata.rpartition(" ")
        destination = self._route.destination
        is_anew = name == destination.topic
        other = f"an earlier topic of that name (Kafka's id {topic_id})" if is_anew else f"the topic {name}"
        raise PermanentError(
            f"the group {self.name} has copied {self._topic.topic}, partition {place.partition}, up to {place.offset} "
            f"to {other}, and is now to copy to {destination.topic} (id {destination.topic_id}): start a job of "
            "its own for that with --set app=NAME, which begins anew"
        )

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
                "--set app=NAME --start earliest, which copies what is there from the beginning"
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
        """Make sure that both topics are still those of the start."""
        source, destination = self._route.source, self._route.destination
        try:
            read, written = self._described(source.topic), self._described(destination.topic)
        except KafkaException as error:
            self._gone_since_s = self._gone_since_s or time.monotonic()
            if failure_of(error.args[0]) is Failure.GONE and time.monotonic() < self._gone_since_s + GONE_AFTER_S:
                return
            raise self.refused(error.args[0]) from error
        self._gone_since_s = None
        if not read.is_same_topic(source):
            raise PermanentError(
                f"the topic {source.topic} was created anew; start the job again with --start earliest, which copies "
                "what is there"
            )
        if not written.is_same_topic(destination):
            raise PermanentError(
                f"the topic {destination.topic} was created anew, without the copies; start a job of its own for it "
                "with --set app=NAME, which copies what is there from the beginning"
            )

    def close(self) -> None:
        """Disconnect."""
        self._asking.close()

    def _described(self, topic: str) -> TopicIdentity:
        return self._pulse.until_answered(
            lambda: describe_topic(self._admin, topic), f"does not describe the topic {topic}"
        )

    def _answer(self, ask: Callable[[], _Answer], what: str) -> _Answer:
        def asked() -> _Answer:
            self._admin.poll(0)  # lets the client say that the broker is away
            return ask()

        try:
            return self._pulse.until_answered(asked, what)
        except KafkaException as error:
            raise self.refused(error.args[0]) from error

    def refused(self, error: KafkaError) -> NextclickError:
        """Say what it means that the broker does not give what it is asked for."""
        topic = self._topic.topic
        if failure_of(error) is Failure.GONE:
            destination = self._route.destination.topic
            return PermanentError(
                f"the topic {topic}, a partition of it, or the topic {destination} is gone; correct SOURCE or --to"
            )
        return PermanentError(
            f"the broker at {self._settings.broker} does not let a member of the group {self.name} read {topic}: "
            f"{error.str()}; correct the rights of the user, or session_timeout_s"
        )
