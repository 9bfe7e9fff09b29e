"""Puts the judged rows of a file together: clicks in the order of time, with numbers for their ids.

An id gets its number where it comes first in the file. What is collected is 17 bytes a click, and each id once; one
column after another is sorted.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nextclick.errors import PermanentError
from tools.click_files.judge import Encoded, Judged
from tools.click_files.recorded import RecordedClicks
from tools.click_files.rows import TEXT, Ints

_MAX_EVENT_TYPES = 256  # what a byte tells apart; more is a column of something else
_NEW_VALUES = 1 << 20  # that are merged at once: the same id can be new in many blocks


class Ids:
    """Gives each id that comes a number."""

    def __init__(self) -> None:
        self._known = pa.array([], TEXT)
        self._new: list[Encoded] = []
        self._n_new = 0
        self._numbers: list[npt.NDArray[np.int32]] = []

    def add(self, encoded: Encoded) -> None:
        """Add the ids of some clicks."""
        self._new.append(encoded)
        self._n_new += len(encoded.values)
        if self._n_new > max(_NEW_VALUES, len(self._known)):
            self._merge()

    def _merge(self) -> None:
        merged = pa.chunked_array([self._known, *(each.values for each in self._new)], TEXT).dictionary_encode()
        numbers = np.concatenate([chunk.indices.to_numpy() for chunk in merged.chunks] or [np.empty(0, np.int32)])
        at = len(self._known)
        for each in self._new:
            self._numbers.append(numbers[at : at + len(each.values)][each.index])
            at += len(each.values)
        self._known = merged.chunk(0).dictionary if merged.num_chunks else self._known
        self._new, self._n_new = [], 0

    def finish(self) -> tuple[pa.StringArray, npt.NDArray[np.int32]]:
        """Give the ids, and the number of each click's; can be asked once."""
        self._merge()
        return self._known, _joined(self._numbers, np.int32)


class Collected:
    """The clicks of a file so far."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._users, self._items = Ids(), Ids()
        self._times: list[Ints] = []
        self._marks: list[npt.NDArray[np.bool_]] = []
        self._event_numbers: dict[str, int] = {}
        self._events: list[npt.NDArray[np.uint8]] = []
        self.n_clicks = 0

    def add(self, judged: Judged) -> None:
        """Add the clicks of some rows.

        Raises:
            PermanentError: too many event types.
        """
        self._users.add(judged.user)
        self._items.add(judged.item)
        self.n_clicks += len(judged.user.index)
        if judged.time_ms is not None:
            self._times.append(judged.time_ms)
        if judged.is_marked is not None:
            self._marks.append(judged.is_marked)
        if judged.event is not None:
            names = judged.event.values.to_pylist()
            numbers = [self._event_numbers.setdefault(name, len(self._event_numbers)) for name in names]
            if len(self._event_numbers) > _MAX_EVENT_TYPES:
                raise PermanentError(
                    f"{self._file_name}: expected at most {_MAX_EVENT_TYPES} event types, found more; name their "
                    "column with --event, or give --event '' if there is none"
                )
            self._events.append(np.array(numbers, dtype=np.uint8)[judged.event.index])

    def event_types(self) -> set[str]:
        """Give the event types that clicks have so far."""
        return set(self._event_numbers)

    def finish(self, always: str) -> RecordedClicks:
        """Give all clicks by time, those of one moment as in the file; can be asked once.

        Args:
            always: the event type where the file has none.
        """
        times = _joined(self._times, np.int64) if self._times else None
        order = None if times is None or not (times[1:] < times[:-1]).any() else times.argsort(kind="stable")
        times = times if order is None or times is None else times[order]
        marks = _ordered(_joined(self._marks, np.bool_), order) if self._marks else None
        event_types, events = list(self._event_numbers), None
        if self._events:
            events = _ordered(_joined(self._events, np.uint8), order)
        elif always != "view":
            event_types, events = [always], np.zeros(self.n_clicks, dtype=np.uint8)
        users, user_index = self._users.finish()
        user_index = _ordered(user_index, order)
        items, item_index = self._items.finish()
        return RecordedClicks(
            users=users,
            items=items,
            event_types=event_types,
            user_index=user_index,
            item_index=_ordered(item_index, order),
            timestamp_ms=times,
            event_index=events,
            is_marked=marks,
        )


def _joined(parts: list[Any], dtype: Any) -> Any:
    """Put arrays into one, and let each go as soon as it is copied."""
    whole = np.empty(sum(map(len, parts)), dtype=dtype)
    at = len(whole)
    while parts:
        part = parts.pop()
        whole[at - len(part) : at] = part
        at -= len(part)
    return whole


def _ordered(column: Any, order: Ints | None) -> Any:
    return column if order is None else column[order]
