"""One trainer per application: the one that holds the single partition of `models` in the group `<app>-trainer`.

The broker gives the partition to one member at a time, wherever the members run. A member that is silent for the
session timeout loses it, and another that waits gets it. A process that is paused for longer finds out when it wakes;
what it announces before it does is refused by the broker, because an announcement carries the membership that it is
made with (`training.service.models_topic`). Nothing is read here, and the group's offset means nothing.
"""

import logging
import time

from confluent_kafka import Consumer, KafkaException, TopicPartition

from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings
from tools.client_config import consumer_config
from tools.group_member import GroupWatch, close_aside
from tools.kafka import Failure, failure_of, is_partition_end
from tools.presence import BrokerPresence
from tools.records import is_unreadable

# After so much of the session timeout without the role: what is the matter? 4 s of 10 by default: a broker lets a new
# group wait for 3 s before it gives anything to its members.
_ASK_AFTER = 0.4
_ANSWER_S = 1.0
GONE_AFTER_S = 10.0  # a broker that has just started knows no topic for a moment
_log = logging.getLogger(__name__)


class TrainerRole:
    """Membership in the group of an application's trainers. Polled by one thread; `membership` is for others, too."""

    def __init__(self, settings: Settings, presence: BrokerPresence) -> None:
        """Join the group. Does not block.

        Args:
            settings: of the trainer.
            presence: is told when the broker goes away and answers again.
        """
        self._settings = settings
        self._presence = presence
        self._held = False
        self._said = False
        self._asked_s = time.monotonic()
        self._unknown_since_s: float | None = None
        session_ms = int(settings.session_timeout_s * 1000)
        self._config = consumer_config(settings, f"{settings.app}-trainer") | {
            # The eager assignors would give the role to whoever comes first in the alphabet.
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": session_ms // 4,
            "error_cb": presence.on_error,
        }
        self._join()

    def _join(self) -> None:
        self._watch = GroupWatch()
        self._consumer = Consumer(self._config | self._watch.config)
        self._no_membership: bytes = self._consumer.consumer_group_metadata()
        topics = [self._settings.models_topic]
        self._consumer.subscribe(topics, on_assign=self._given, on_revoke=self._taken, on_lost=self._taken)

    def wait(self, timeout_s: float) -> bool:
        """Wait for the role for a while, and say what there is to wait for.

        Returns:
            Whether it is held.

        Raises:
            PermanentError: it can never be: the topic is gone, or the broker refuses the member.
        """
        self._poll(timeout_s)
        if self._held:
            self._said = False
            self._presence.answered()
        elif time.monotonic() >= self._asked_s + _ASK_AFTER * self._settings.session_timeout_s:
            self._say_why()
            self._asked_s = time.monotonic()
        return self._held

    def is_held(self) -> bool:
        """Tell whether the role is held, as far as this process knows. Call it often: it keeps the membership.

        Raises:
            PermanentError: as `wait` does.
        """
        self._poll(0)
        return self._held

    def membership(self) -> bytes:
        """Give the membership with which the role is held, for a transaction that shall succeed with it alone.

        Blocks for no time; from any thread. The broker refuses it as soon as the role is another's.

        Raises:
            TemporaryError: the role is not held.
        """
        # In this order: a member that lost the role joins again only after `_taken` was called. And never without a
        # membership, which a member has that was put out and was not told yet: the broker takes that from anybody.
        membership: bytes = self._consumer.consumer_group_metadata()
        if membership == self._no_membership or not self._held:
            raise TemporaryError(f"this is not the trainer of the application {self._settings.app} any more")
        return membership

    def close(self) -> None:
        """Leave the group, so that another gets the role at once. Blocks while the broker is away."""
        self._consumer.close()

    def _poll(self, timeout_s: float) -> None:
        message = self._consumer.poll(timeout_s)
        if self._watch.is_lost(self._consumer):
            lost, self._held = self._consumer, False
            self._join()
            close_aside(lost)
            return
        error = message.error() if message is not None else None
        if error is None or is_partition_end(error) or is_unreadable(error):  # what the topic holds matters elsewhere
            return
        if failure_of(error) is Failure.REFUSED:
            raise PermanentError(
                f"the broker at {self._settings.broker} refuses this member of the group {self._settings.app}-trainer: "
                f"{error.str()}; correct the rights of the trainer's user, or session_timeout_s"
            )

    def _given(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is self._consumer:  # and not one that was given up
            self._held = self._held or bool(partitions)

    def _taken(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if consumer is not self._consumer:
            return
        self._held = self._held and not partitions
        self._asked_s = time.monotonic()

    def _say_why(self) -> None:
        try:
            # Asks for all topics: it also lets the client look again for one that it was once told does not exist.
            topics = self._consumer.list_topics(timeout=_ANSWER_S).topics
        except KafkaException:
            self._presence.missed()
            return
        if self._settings.models_topic not in topics:
            self._doubt_topic()
            return
        self._unknown_since_s = None
        self._presence.answered()
        if not self._said:
            self._said = True
            _log.warning(
                "waiting: another trainer of the application %s is at work, or one was cut off less than %g s ago",
                self._settings.app,
                self._settings.session_timeout_s,
            )

    def _doubt_topic(self) -> None:
        now_s = time.monotonic()
        self._unknown_since_s = self._unknown_since_s or now_s
        if now_s >= self._unknown_since_s + GONE_AFTER_S:
            raise PermanentError(f"the topic {self._settings.models_topic} is gone; run `nextclick topics`")
