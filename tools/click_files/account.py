"""Counts what became of the rows of a file, so that none is left out without a word."""

from collections import Counter

import numpy as np

from nextclick.clicks import MIN_TIMESTAMP_MS
from nextclick.errors import PermanentError
from tools.click_files.judge import Judged, Left
from tools.click_files.rows import BadLine

_NAMED = 3  # lines of a kind that are named


class Account:
    """What became of the rows so far."""

    def __init__(self, file_name: str, place: str, counted: str, skip_bad: bool) -> None:
        self._file_name = file_name
        self._place = place
        self._counted = counted
        self._skip_bad = skip_bad
        self._filtered: Counter[str] = Counter()
        self._left: dict[str, Left] = {}
        self._times_ms: list[int] = []  # first and last of some rows each
        self._n_rows = self._n_clicks = self._n_bad = self._n_inside = 0
        self._first_bad: BadLine | None = None

    def add(self, judged: Judged) -> None:
        """Count some rows.

        Raises:
            PermanentError: one of them cannot be read, and that is not to be passed over.
        """
        if judged.first_bad is not None and not self._skip_bad:
            raise self._error(judged.first_bad)
        self._first_bad = self._first_bad or judged.first_bad
        self._n_rows += judged.n_rows
        self._n_clicks += len(judged.user.index)
        self._n_bad += judged.n_bad
        self._n_inside += judged.n_inside
        self._filtered.update(judged.filtered)
        for reason, left in judged.left.items():
            self._left[reason] = _both(self._left.get(reason, Left(0, ())), left)
        if judged.time_ms is not None and len(judged.time_ms):
            self._times_ms += [int(judged.time_ms.min()), int(judged.time_ms.max())]

    def check(self) -> None:
        """See that each row is a click or counted as something else.

        Raises:
            AssertionError: one is not, which is a defect of this program.
        """
        n_left = sum(left.number for left in self._left.values())
        n_known = self._n_clicks + self._n_bad + n_left + self._filtered.total()
        if n_known != self._n_rows:
            raise AssertionError(
                f"{self._file_name}: {self._n_rows:,} rows were read, and {n_known:,} are accounted for"
            )

    def lines(self) -> list[str]:
        """Say what was left out, and why."""
        name, lines = self._file_name, []
        if self._first_bad is not None:
            first = self._first_bad
            bad = f"{self._n_bad:,} bad {self._place}s, this is the first" if self._n_bad > 1 else "it"
            lines.append(f"{name}, {self._place} {first.line}: {first.problem}; skipped {bad}")
        for reason, left in self._left.items():
            lines.append(f"{name}, {self._named(left)}: left out, as a worker would reject this: {reason}")
        for reason, number in self._filtered.items():
            lines.append(f"{name}: left out {number:,} {self._counted}{'s' if number > 1 else ''} for {reason}")
        if self._n_inside:
            lines.append(
                f"{name}: {self._n_inside:,} lines are inside quoted values that go on over several lines; give "
                "--no-quotes if they are clicks"
            )
        return lines

    def times(self) -> list[str]:
        """Say from when to when the clicks are, if they have times, and whether some are hardly meant."""
        if not self._times_ms:
            return []
        first, last = (f"{np.datetime64(find(self._times_ms), 'ms').astype('datetime64[s]')}Z" for find in (min, max))
        line = f"{self._file_name}: times from {first} to {last}"
        if min(self._times_ms) < MIN_TIMESTAMP_MS:
            line += (
                "; a time before 1995 is hardly meant, and a worker rejects it: correct it, or name the column of "
                "times with --time"
            )
        return [line]

    def _named(self, left: Left) -> str:
        named = ", ".join(f"{self._place} {line}" for line in left.lines)
        return named + (f" and {left.number - len(left.lines):,} more" if left.number > len(left.lines) else "")

    def nothing(self) -> PermanentError:
        """Give the error for a file without a click."""
        left = "; ".join(self.lines())
        return PermanentError(f"{self._file_name} has no clicks{' that can be used: ' + left if left else ''}")

    def _error(self, bad: BadLine) -> PermanentError:
        return PermanentError(
            f"{self._file_name}, {self._place} {bad.line}: {bad.problem}; {bad.remedy}, or go on past such "
            f"{self._place}s with --skip-bad"
        )


def _both(before: Left, more: Left) -> Left:
    return Left(before.number + more.number, (*before.lines, *more.lines)[:_NAMED])
