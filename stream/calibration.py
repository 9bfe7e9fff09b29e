"""Whether scores are what they say: the sum of a list's scores is how likely the next click is on it.

The scores of a list are not in its user's state. So they are remembered for a sample of users, in this process.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from nextclick.advance import Advanced, LoggedClick, Outcome, UserKey
from nextclick.updates import RNN
from nextclick.user_state import UserState
from stream.metrics import WorkerMetrics

_ONE_IN = 16  # users
_MOST_USERS = 20_000  # 3 MB


class Calibration:
    """Compares what lists of the network promise with what becomes of them."""

    def __init__(self, metrics: WorkerMetrics) -> None:
        self._metrics = metrics
        self._promised: OrderedDict[UserKey, tuple[int, float]] = OrderedDict()

    def note(self, clicks: Sequence[LoggedClick], outcomes: Sequence[Outcome]) -> None:
        """Remember what the lists after a chunk promise to the users of the sample."""
        for logged, outcome in zip(clicks, outcomes, strict=True):
            user = logged.user
            if not is_sampled(user):
                continue
            self._promised.pop(user, None)
            if outcome.ranked.strategy == RNN:
                self._promised[user] = outcome.state.offset, outcome.ranked.promised
        while len(self._promised) > _MOST_USERS:
            self._promised.popitem(last=False)

    def judge(self, judged: Sequence[tuple[LoggedClick, Advanced]], states: Mapping[UserKey, UserState]) -> None:
        """Judge clicks by the lists that their users had been shown, where those are lists that are remembered.

        Args:
            judged: clicks of users of the sample, and what they led to.
            states: of their users, with the lists.
        """
        for logged, outcome in judged:
            offset, promised = self._promised.get(logged.user, (-1, 0.0))
            if offset == states[logged.user].offset:
                self._metrics.calibration_judged.inc()
                self._metrics.calibration_expected.inc(promised)
                self._metrics.calibration_hits.inc(bool(outcome.hit))


def is_sampled(user: UserKey) -> bool:
    """Tell whether a user is in the sample, by Python's own hash of the id, which each process has another one of."""
    return not hash(user[1]) % _ONE_IN
