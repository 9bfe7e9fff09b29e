"""How varied the lists of the last minutes are, by a sample: how many items they hold, and how few fill them."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from nextclick.advance import Outcome

_LISTS_PER_S = 4.0
_MOST_LISTS = 2_500  # ten minutes of them
_TOP = 10  # items


class Variety(NamedTuple):
    """Of some lists.

    Attributes:
        n_items: different items in them.
        concentration: share of their places that the ten items have which have most; None without lists.
    """

    n_items: int
    concentration: float | None


class ShownSample:
    """Keeps some of the lists that were made. One thread notes; others may ask."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._clock_s = clock_s
        self._noted_s = clock_s()
        self._lists: deque[bytes] = deque(maxlen=_MOST_LISTS)

    def note(self, outcomes: Sequence[Outcome]) -> None:
        """Keep some of a chunk's lists: at most so many for each second that has passed since."""
        now_s = self._clock_s()
        n_wanted = min(int((now_s - self._noted_s) * _LISTS_PER_S), _MOST_LISTS)
        if n_wanted and outcomes:
            self._noted_s = now_s
            step = max(1, len(outcomes) // n_wanted)
            self._lists.extend(outcome.ranked.shown for outcome in outcomes[::step][:n_wanted])

    def variety(self) -> Variety:
        """Measure what was kept. Takes milliseconds."""
        items = np.frombuffer(b"".join(list(self._lists)), "<u4")
        _, counts = np.unique(items, return_counts=True)
        most = np.sort(counts)[-_TOP:].sum()
        return Variety(len(counts), float(most) / len(items) if len(items) else None)
