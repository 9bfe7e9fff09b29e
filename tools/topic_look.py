"""Asks for a topic now and then: has it grown, was it created anew?"""

import time
from concurrent.futures import Future, ThreadPoolExecutor

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from nextclick.settings import Settings
from tools.client_config import librdkafka_config
from tools.kafka import TopicIdentity, describe_topic

_LOOK_EVERY_S = 10.0


class TopicLook:
    """Asks for the topic every few seconds, in a thread of its own: nothing waits for the answer."""

    def __init__(self, settings: Settings, topic: str, every_s: float = _LOOK_EVERY_S) -> None:
        """Begin; the first answer comes after a while.

        Args:
            settings: where the broker is.
            topic: to ask for.
            every_s: between an answer and the next question.
        """
        self._topic, self._every_s, self._admin = topic, every_s, AdminClient(librdkafka_config(settings))
        self._pool = ThreadPoolExecutor(1, "topic-look")
        self._asked: Future[TopicIdentity] | None = None
        self._next_s = time.monotonic() + every_s

    def newest(self) -> TopicIdentity | KafkaException | None:
        """Give an answer, or why there is none; None while it is not time."""
        if self._asked is None:
            if time.monotonic() >= self._next_s:
                self._asked = self._pool.submit(describe_topic, self._admin, self._topic)
            return None
        if not self._asked.done():
            return None
        asked, self._asked, self._next_s = self._asked, None, time.monotonic() + self._every_s
        error = asked.exception()
        if error is None:
            return asked.result()
        if isinstance(error, KafkaException):
            return error
        raise error

    def close(self) -> None:
        """Ask no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)
