"""Starts a part again when it ends by itself: later and later, and not for ever."""

import signal
from collections.abc import Callable

import msgspec

from demo.children import Child
from nextclick.errors import PermanentError

FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
HEALTHY_S = 60.0  # what ran so long begins again at the first delay
QUICK_S = 10.0  # what ends sooner has not got to work: a start takes 2 to 5 s
QUICK_FAILURES = 5  # in a row: starting again will not help


class Restarts:
    """Decides when a part that ended by itself is started again. Looks at no clock."""

    def __init__(self) -> None:
        self._delay_s = FIRST_DELAY_S
        self._quick = 0

    def ended(self, ran_s: float) -> float | None:
        """Note an end.

        Args:
            ran_s: since the start.

        Returns:
            How long to wait before the next start; None: do not start it again.
        """
        self._quick = self._quick + 1 if ran_s < QUICK_S else 0
        if self._quick >= QUICK_FAILURES:
            return None
        if ran_s >= HEALTHY_S:
            self._delay_s = FIRST_DELAY_S
        delay_s = self._delay_s
        self._delay_s = min(2 * delay_s, LONGEST_DELAY_S)
        return delay_s


class SupervisedChild:
    """A child that is started again when it ends by itself.

    Attributes:
        child: the running one, or the one that ended last.
    """

    def __init__(self, start: Callable[[], Child], now_s: float) -> None:
        """Start it.

        Args:
            start: makes a running child.
            now_s: of any clock that only goes forward; the same as in `tend`.
        """
        self._start = start
        self._restarts = Restarts()
        self._started_s = now_s
        self._again_s: float | None = None
        self.child = start()

    def tend(self, now_s: float) -> str | None:
        """Look after it; to be called a few times a second.

        Returns:
            What happened, in one line; None if nothing did.

        Raises:
            PermanentError: it fails again and again.
        """
        if self._again_s is not None:
            if now_s >= self._again_s:
                self._again_s, self._started_s = None, now_s
                self.child = self._start()
            return None
        status = self.child.exit_status
        if status is None:
            return None
        delay_s = self._restarts.ended(now_s - self._started_s)
        if delay_s is None:
            raise PermanentError(
                f"the {self.child.name} expects to run, found that it ended {QUICK_FAILURES} times within "
                f"{QUICK_S:.0f} s of its start, now with {_described(status)}; mend what its log says:\n"
                f"{self.child.log_tail}"
            )
        self._again_s = now_s + delay_s
        return (
            f"the {self.child.name} ended with {_described(status)} and is started again in {delay_s:g} s; "
            f"its last line: {_message(self.child.log_tail)}"
        )

    def stop(self, patience_s: float) -> None:
        """Ask it to end, wait, and kill it if it does not; it is not started again."""
        self.child.stop(patience_s)


def _described(status: int) -> str:
    return signal.Signals(-status).name if status < 0 else f"status {status}"


def _message(log: str) -> str:
    """Give the last line of a log, without what a machine needs around it."""
    line = log.rstrip().rpartition("\n")[2]
    try:
        return str(msgspec.json.decode(line)["message"])
    except (msgspec.DecodeError, TypeError, KeyError):
        return line or "none"
