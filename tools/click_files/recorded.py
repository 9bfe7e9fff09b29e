"""Recorded clicks in memory: 17 bytes a click, and each id once.

All are held at once because they must be sorted by time: the published files are sorted by session.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedClicks:
    """Clicks in the order in which they are to be sent: by time, and as in the file where times are equal."""

    users: pa.StringArray
    items: pa.StringArray
    event_types: list[str]  # empty: the file has none
    user_index: npt.NDArray[np.int32]  # (clicks,) into users
    item_index: npt.NDArray[np.int32]  # (clicks,) into items
    timestamp_ms: npt.NDArray[np.int64] | None  # (clicks,), rising; None: only the order is known
    event_index: npt.NDArray[np.uint8] | None  # (clicks,) into event_types
    is_marked: npt.NDArray[np.bool_] | None  # (clicks,), rows that the reader was asked to mark

    def __len__(self) -> int:
        return len(self.user_index)

    def between(self, start: int, stop: int) -> Iterator[tuple[str, str, int | None, str]]:
        """Give clicks `start` to `stop` as (user id, item id, event time in ms or None, event type)."""
        rows = slice(start, min(stop, len(self)))
        users = self.users.take(pa.array(self.user_index[rows])).to_pylist()
        items = self.items.take(pa.array(self.item_index[rows])).to_pylist()
        times = [None] * len(users) if self.timestamp_ms is None else self.timestamp_ms[rows].tolist()
        names = self.event_types or ["view"]
        events = [0] * len(users) if self.event_index is None else self.event_index[rows].tolist()
        for user, item, time, event in zip(users, items, times, events, strict=True):
            yield user, item, time, names[event]

    def first(self, n: int) -> "RecordedClicks":
        """Give the first n clicks."""
        rows = slice(n)
        return replace(
            self,
            user_index=self.user_index[rows],
            item_index=self.item_index[rows],
            timestamp_ms=None if self.timestamp_ms is None else self.timestamp_ms[rows],
            event_index=None if self.event_index is None else self.event_index[rows],
            is_marked=None if self.is_marked is None else self.is_marked[rows],
        )
