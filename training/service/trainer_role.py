"""One trainer per application: the one that holds the single partition of `models` in the group `<app>-trainer`.

The broker gives the partition to one member at a time, wherever the members run. A member that is silent for the
session timeout loses it, and another that waits gets it. A process that is paused for longer finds out when it wakes:
`confirm` asks the broker itself. Nothing is read here, and the group's offset means nothing.
"""

import logging
import time
from queue import Empty, SimpleQueue

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings
from tools.client_config import consumer_config
from training.learning.cancellation import Cancellation
from training.service.broker_presence import BrokerPresence

# After so much of the session timeout without the role: what is the matter? 4 s of 10 by default: a broker lets a new
# group wait for 3 s before it gives anything to its members.
_ASK_AFTER = 0.4
_ANSWER_S = 1.0
_GONE_AFTER_S = 10.0  # a broker that has just started knows no topic for a moment
_POLL_S = 0.2  # so a stop is seen soon
_PASSING_ERRORS = (KafkaError._MAX_POLL_EXCEEDED, KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._PARTITION_EOF)
_log = logging.getLogger(__name__)


class TrainerRole:
    """Membership in the group of an application's trainers. Polled by one thread; `confirm` may be another's."""

    def __init__(self, settings: Settings, presence: BrokerPresence) -> None:
        """Join the group.

        Args:
            settings: of the trainer.
            presence: is told when the broker goes away and answers again.
        """
        self._settings = settings
        self._presence = presence
        self._token = TopicPartition(settings.models_topic, 0, 0)
        self._held = False
        self._said = False
        self._asked_s = time.monotonic()
        self._unknown_since_s: float | None = None
        self._answers: SimpleQueue[KafkaError | None] = SimpleQueue()
        session_ms = int(settings.session_timeout_s * 1000)
        config = consumer_config(settings, f"{settings.app}-trainer") | {
            # The eager assignors would give the role to whoever comes first in the alphabet.
            "partition.assignment.strategy": "cooperative-sticky",
            "session.timeout.ms": session_ms,
            "heartbeat.interval.ms": session_ms // 4,
            "error_cb": presence.on_error,
            "on_commit": lambda error, _: self._answers.put(error),
        }
        self._consumer = Consumer(config)
        self._consumer.subscribe(
            [settings.models_topic], on_assign=self._given, on_revoke=self._taken, on_lost=self._taken
        )

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
        """Tell whether the role is held, as far as this process knows. Call it often: it keeps the membership."""
        self._poll(0)
        return self._held

    def confirm(self, cancellation: Cancellation) -> None:
        """Ask the broker whether the role is held: a commit, which it takes from the partition's owner alone.

        On return nobody else gets the role for the length of the session timeout. Another thread must keep polling.

        Raises:
            TemporaryError: it is not held, or the broker does not answer.
            TrainingCancelled: the trainer is to end.
        """
        self._answers = SimpleQueue()
        found = "that the role was lost"
        if self._held:
            try:
                self._consumer.commit(offsets=[self._token], asynchronous=True)
                error = self._answer(cancellation)
                if error is None and self._held:
                    return
                found = error.str() if error is not None else found
            except KafkaException as raised:
                found = raised.args[0].str()
            except Empty:
                found = "no answer from the broker"
        raise TemporaryError(
            f"expected to be the one trainer of the application {self._settings.app} still, found: {found}"
        )

    def close(self) -> None:
        """Leave the group, so that another gets the role at once."""
        self._consumer.close()

    def _answer(self, cancellation: Cancellation) -> KafkaError | None:
        end_s = time.monotonic() + self._settings.session_timeout_s
        while True:
            cancellation.check()
            try:
                return self._answers.get(timeout=_POLL_S)
            except Empty:
                if time.monotonic() >= end_s:
                    raise

    def _poll(self, timeout_s: float) -> None:
        message = self._consumer.poll(timeout_s)
        error = message.error() if message is not None else None
        if error is not None and not error.retriable() and error.code() not in _PASSING_ERRORS:
            raise PermanentError(
                f"expected to join the group {self._settings.app}-trainer at {self._settings.broker}, found: "
                f"{error.str()}; correct the rights of the trainer's user, or session_timeout_s"
            )

    def _given(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._held = self._held or bool(partitions)

    def _taken(self, _: Consumer, partitions: list[TopicPartition]) -> None:
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
        if now_s >= self._unknown_since_s + _GONE_AFTER_S:
            raise PermanentError(
                f"expected the topic {self._settings.models_topic}, found that it is gone; run `nextclick topics`"
            )
