"""How many clicks of a partition are not answered yet, and how old the oldest of them is. Pure: times are handed in.

Of clicks that were read and are not answered, the records say how old they are. Of those that nobody has read yet,
these bounds are known, and the least of the upper ones is taken:

- They came after the last record that was answered.
- They came after the last moment at which the worker had read everything that was there.
- While the worker does not move, they have been seen to wait since it stands: they are at least so old.
"""

from collections import deque
from typing import NamedTuple

from nextclick.schema.times import record_time_ms


class _Run(NamedTuple):
    """Records that were read together: where they end, and the times of the first and the last, as these say."""

    end: int
    first_timestamp: int
    last_timestamp: int


class Backlog:
    """The unanswered clicks of one partition, for as long as the assignment lasts.

    One thread notes; another one may ask at any moment.
    """

    def __init__(self) -> None:
        self._end = 0
        self._runs: deque[_Run] = deque()
        self._stands: tuple[int, float] | None = None  # the position that it was at, and since when
        self._had_all_s: float | None = None  # when it was known last that everything was read
        self._answered_timestamp: int | None = None  # of the last record that was answered

    def note_run(self, end: int, first_timestamp: int, last_timestamp: int) -> None:
        """Note that a run was read that ends before an offset, and the times of its first and its last record."""
        self._runs.append(_Run(end, first_timestamp, last_timestamp))

    def note_end(self, end: int, position: int, now_s: float) -> None:
        """Note where the partition ends, as the broker says, and where the worker is."""
        self._end = end
        if position >= end:
            self._stands, self._had_all_s = None, now_s
        elif self._stands is None or self._stands[0] != position:
            self._stands = position, now_s

    def note_answered(self, acknowledged: int) -> None:
        """Forget the runs that end at or before an offset."""
        while self._runs and self._runs[0].end <= acknowledged:
            self._answered_timestamp = self._runs[0].last_timestamp
            self._runs.popleft()

    def lag(self, position: int, acknowledged: int) -> int:
        """Give how many offsets are not answered yet, as far as the end is known."""
        return max(0, max(self._end, position) - acknowledged)

    def oldest_age_s(self, position: int, now_s: float, wall_ms: int) -> float:
        """Give how old the oldest unanswered click is; 0 if all are answered, as far as is known.

        Args:
            position: where the next run begins.
            now_s: on the clock of `note_end`.
            wall_ms: since 1970.
        """
        runs = list(self._runs)
        if runs:
            return _age_s(runs[0].first_timestamp, wall_ms)
        if position >= self._end:
            return 0.0
        at_most_s = [now_s - self._had_all_s] if self._had_all_s is not None else []
        if self._answered_timestamp is not None:
            at_most_s.append(_age_s(self._answered_timestamp, wall_ms))
        stands = self._stands
        stands_s = now_s - stands[1] if stands is not None and stands[0] == position else 0.0
        return max(0.0, stands_s, min(at_most_s, default=0.0))


def _age_s(timestamp: int, wall_ms: int) -> float:
    return max(0.0, (wall_ms - record_time_ms(timestamp, wall_ms)) / 1000)
