"""Puts the judged rows of a file together: clicks in the order of time, with numbers for their ids.

Memory holds each id once, and a few million clicks. The clicks themselves, 18 bytes each, are in a file of the
temporary folder that has no name and ends with the process; it is mapped into memory, from where the system may take it
back. They are sorted in parts: first written to a file for each stretch of time, then each of these as a whole.
"""

import errno
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import IO, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from nextclick.errors import PermanentError
from tools.click_files.judge import Judged
from tools.click_files.recorded import RecordedClicks
from tools.click_files.rows import TEXT, Ints
from tools.click_files.threads import in_order

_MAX_EVENT_TYPES = 256  # what a byte tells apart; more is a column of something else
_NEW_VALUES = 1 << 22  # that are merged at once: the same id can be new in many blocks
_N_PARTS = 16  # of many ids: each is merged by itself, because that takes a hundred bytes for an id
_STEP_ROWS = 1 << 20
_SORTED_AT_ONCE = 1 << 20  # rows, or more if there would be too many stretches; sorting takes 50 bytes for each
_MAX_STRETCHES = 256  # each has an open file
_EVERY = 1_000  # rows; one is looked at to find stretches of time with equally many

_ROW = np.dtype([("time", "<i8"), ("user", "<i4"), ("item", "<i4"), ("event", "u1"), ("mark", "?")])
Rows = npt.NDArray[np.void]  # of _ROW


class Ids:
    """Gives each id that comes a number.

    Args:
        n_parts: 1 gives numbers in the order in which ids come first.
    """

    def __init__(self, n_parts: int = 1) -> None:
        self._known = [pa.array([], TEXT) for _ in range(n_parts)]
        self._new: list[pa.Array] = []
        self._n_new = self._n_places = 0
        self._numbers: list[npt.NDArray[np.int32]] = []  # by place; within a part, until all are known
        self._parts: list[npt.NDArray[np.uint8]] = []

    def add(self, values: pa.Array) -> int:
        """Add ids, and give the place of the first of them; the others follow."""
        place = self._n_places
        self._new.append(values)
        self._n_new += len(values)
        self._n_places += len(values)
        if self._n_new > max(_NEW_VALUES, 2 * sum(map(len, self._known))):
            self._merge()
        return place

    def _merge(self) -> None:
        new = pa.concat_arrays(self._new) if self._new else pa.array([], TEXT)
        parts = _parts(new, len(self._known))
        numbers = np.empty(len(new), dtype=np.int32)
        for part, known in enumerate(self._known):
            chosen = np.flatnonzero(parts == part)
            if not len(chosen):
                continue
            merged = pa.concat_arrays([known, new.take(pa.array(chosen))]).dictionary_encode()
            numbers[chosen] = merged.indices.to_numpy()[len(known) :]
            self._known[part] = merged.dictionary
        self._numbers.append(numbers)
        self._parts.append(parts)
        self._new, self._n_new = [], 0
        pa.default_memory_pool().release_unused()

    def finish(self) -> tuple[pa.StringArray, npt.NDArray[np.int32]]:
        """Give the ids, and the number of each place's; can be asked once."""
        self._merge()
        first = np.cumsum([0, *map(len, self._known[:-1])], dtype=np.int32)
        numbers = [each + first[parts] for each, parts in zip(self._numbers, self._parts, strict=True)]
        return pa.concat_arrays(self._known), np.concatenate(numbers)


def _parts(values: pa.Array, n_parts: int) -> npt.NDArray[np.uint8]:
    """Divide ids into parts by their last two bytes; no id is empty."""
    if n_parts == 1 or not len(values):
        return np.zeros(len(values), dtype=np.uint8)
    offsets = np.frombuffer(values.buffers()[1], dtype=np.int32)[values.offset : values.offset + len(values) + 1]
    letters = np.frombuffer(values.buffers()[2], dtype=np.uint8)
    ends = offsets[1:]
    before_last = np.where(np.diff(offsets) > 1, letters[np.maximum(ends - 2, 0)], np.uint8(0))
    return (letters[ends - 1] * np.uint8(7) + before_last) % np.uint8(n_parts)


class Collected:
    """The clicks of a file so far. Entered and left as a context, so that no file stays open."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name
        self._users, self._items = Ids(_N_PARTS), Ids()
        self._event_numbers: dict[str, int] = {}
        self._file = _unnamed_file()
        self._has_times = self._has_marks = False
        self._in_order = True
        self._last_ms = 0
        self._sample: list[Ints] = []
        self.n_clicks = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, judged: Judged) -> None:
        """Add the clicks of some rows.

        Raises:
            PermanentError: too many event types, or no room in the temporary folder.
        """
        rows = np.zeros(len(judged.user.index), dtype=_ROW)
        rows["user"] = judged.user.index + self._users.add(judged.user.values)
        rows["item"] = judged.item.index + self._items.add(judged.item.values)
        if judged.event is not None:
            rows["event"] = self._numbers_of(judged.event.values)[judged.event.index]
        self._has_marks = judged.is_marked is not None
        if judged.is_marked is not None:
            rows["mark"] = judged.is_marked
        self._has_times = judged.time_ms is not None
        if judged.time_ms is not None and len(rows):
            times = rows["time"] = judged.time_ms
            self._in_order = self._in_order and times[0] >= self._last_ms and bool((times[1:] >= times[:-1]).all())
            self._last_ms = int(times[-1])
            self._sample.append(times[::_EVERY])
        with _room():
            rows.tofile(self._file)
        self.n_clicks += len(rows)

    def _numbers_of(self, event_types: pa.Array) -> npt.NDArray[np.uint8]:
        numbers = [self._event_numbers.setdefault(name, len(self._event_numbers)) for name in event_types.to_pylist()]
        if len(self._event_numbers) > _MAX_EVENT_TYPES:
            raise PermanentError(
                f"{self._file_name}: expected at most {_MAX_EVENT_TYPES} event types, found more; name their column "
                "with --event, or give --event '' if there is none"
            )
        return np.array(numbers, dtype=np.uint8)

    def event_types(self) -> set[str]:
        """Give the event types that clicks have so far."""
        return set(self._event_numbers)

    def finish(self, always: str) -> RecordedClicks:
        """Give all clicks by time, those of one moment as in the file; there is at least one. Can be asked once.

        Args:
            always: the event type where the file has none.

        Raises:
            PermanentError: no room in the temporary folder.
        """
        users, user_numbers = self._users.finish()
        items, item_numbers = self._items.finish()

        def numbered() -> Iterator[Rows]:
            self._file.seek(0)
            while len(rows := np.fromfile(self._file, dtype=_ROW, count=_STEP_ROWS)):
                rows["user"] = user_numbers[rows["user"]]
                rows["item"] = item_numbers[rows["item"]]
                yield rows

        with _room(), _unnamed_file() as by_time:
            for part in numbered() if self._in_order else _by_time(numbered(), self._sample, self.n_clicks):
                part.tofile(by_time)
            by_time.flush()
            rows: Rows = np.memmap(by_time, dtype=_ROW, mode="r")
        event_types = list(self._event_numbers) or ([] if always == "view" else [always])
        return RecordedClicks(
            users=users,
            items=items,
            event_types=event_types,
            user_index=rows["user"],
            item_index=rows["item"],
            timestamp_ms=rows["time"] if self._has_times else None,
            event_index=rows["event"] if event_types else None,
            is_marked=rows["mark"] if self._has_marks else None,
        )


def _by_time(steps: Iterator[Rows], sample: list[Ints], n_rows: int) -> Iterator[Rows]:
    """Sort rows; those of one moment keep their order.

    Args:
        steps: the rows, some at once.
        sample: times of some of them, as they are distributed in all.
        n_rows: how many there are.

    Returns:
        The rows in order, a stretch of time at once.
    """
    n_stretches = min(-(-n_rows // _SORTED_AT_ONCE), _MAX_STRETCHES)
    times = np.sort(np.concatenate(sample))
    begins = times[np.arange(1, n_stretches) * len(times) // n_stretches]
    with ExitStack() as files:
        stretches = [files.enter_context(_unnamed_file()) for _ in range(n_stretches)]
        for rows in steps:
            stretch = begins.searchsorted(rows["time"], side="right").astype(np.uint16)
            together = rows.take(stretch.argsort(kind="stable"))
            ends = np.bincount(stretch, minlength=n_stretches).cumsum()
            for file, part in zip(stretches, np.split(together, ends[:-1]), strict=True):
                part.tofile(file)
        yield from in_order(partial(_sorted, file) for file in stretches)


def _sorted(file: IO[bytes]) -> Rows:
    with file:  # which gives its room back
        file.seek(0)
        rows = np.fromfile(file, dtype=_ROW)
    return rows.take(_order(rows["time"])) if len(rows) else rows


def _order(times: Ints) -> Ints:
    """Give the places of times in their order, those of equal times rising."""
    n_bits = len(times).bit_length()
    order: Ints = times - times.min()
    if int(order.max()) >> (63 - n_bits):
        order = times.argsort(kind="stable")
        return order
    order <<= n_bits  # a time and its place in one number sort faster than places by their times
    order |= np.arange(len(order))
    order.sort(kind="stable")
    order &= (1 << n_bits) - 1
    return order


def _unnamed_file() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="nextclick-")


@contextmanager
def _room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, None):
            raise
        raise PermanentError(
            f"expected room for the clicks in the temporary folder {tempfile.gettempdir()}, up to 36 bytes for each, "
            "found none left; make room, or name another folder with the variable TMPDIR"
        ) from None
