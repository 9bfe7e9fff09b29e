"""Whether the job moves, and whether it should: looked at wherever it waits for the broker."""

import logging
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from confluent_kafka import KafkaException

from tools.kafka import Failure, failure_of
from tools.presence import BrokerPresence

AGAIN_S = 0.1  # between two questions: an answer that failed at once is not asked for all the time
SAY_AFTER_S = 10.0  # of waiting
SAY_EVERY_S = 60.0  # after that
_Answer = TypeVar("_Answer")
_log = logging.getLogger(__name__)


class Stopped(Exception):
    """The job was asked to end while it waited."""


class Patience:
    """Says what is waited for when it takes long, so that no wait is silent."""

    def __init__(self, what: str) -> None:
        """Begin to wait.

        Args:
            what: the broker does not do meanwhile.
        """
        self._what = what
        self._began_s = time.monotonic()
        self._say_s = self._began_s + SAY_AFTER_S

    def note(self, error: KafkaException) -> None:
        """Note that there is no answer yet, and why."""
        now_s = time.monotonic()
        if now_s < self._say_s:
            return
        self._say_s = now_s + SAY_EVERY_S
        _log.warning(
            "waiting, nothing is lost: for %.0f s the broker %s: %s",
            now_s - self._began_s,
            self._what,
            error.args[0].str(),
        )


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

    def until_answered(self, ask: Callable[[], _Answer], what: str) -> _Answer:
        """Ask the broker until it answers.

        Args:
            ask: the broker.
            what: the broker does not do meanwhile.

        Raises:
            KafkaException: it refuses, or has not what was asked for.
            Stopped: the job is to end.
        """
        patience = Patience(what)
        while True:
            try:
                return ask()
            except KafkaException as error:
                if failure_of(error.args[0]) is not Failure.PASSING:
                    raise
                patience.note(error)
            self.wait()
