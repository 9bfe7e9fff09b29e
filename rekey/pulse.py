"""Whether the job moves, and whether it should: looked at wherever it waits for the broker."""

import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from confluent_kafka import KafkaException

from tools.kafka import Failure, failure_of
from tools.presence import BrokerPresence

AGAIN_S = 0.1  # between two questions: an answer that failed at once is not asked for all the time
_Answer = TypeVar("_Answer")


class Stopped(Exception):
    """The job was asked to end while it waited."""


class Pulse:
    """Seen by the job's thread and by those that answer probes.

    Attributes:
        presence: whether the broker answers.
    """

    def __init__(self, stop: Event, presence: BrokerPresence) -> None:
        self.presence = presence
        self._stop = stop
        self._last_s = time.monotonic()

    @property
    def silent_s(self) -> float:
        """How long the job has not moved."""
        return time.monotonic() - self._last_s

    def beat(self) -> None:
        """The job moves."""
        self._last_s = time.monotonic()

    def wait(self, seconds: float = AGAIN_S) -> None:
        """Wait before something that did not answer is asked again.

        Args:
            seconds: how long.

        Raises:
            Stopped: the job is to end.
        """
        self.beat()
        if self._stop.wait(seconds):
            raise Stopped

    def until_answered(self, ask: Callable[[], _Answer]) -> _Answer:
        """Ask the broker until it answers.

        Raises:
            KafkaException: it refuses, or has not what was asked for.
            Stopped: the job is to end.
        """
        while True:
            try:
                return ask()
            except KafkaException as error:
                if failure_of(error.args[0]) is not Failure.PASSING:
                    raise
            self.wait()
