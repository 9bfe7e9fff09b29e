"""Reads recorded clicks from a file: CSV with a header, or the published YOOCHOOSE file. Gzip is seen by content.

The whole file is read and held as columns (about 20 bytes a click and each id once), because clicks must be sorted by
time: the published files are sorted by session. A file that is damaged or not as expected is refused with the line
number; a click is never skipped silently.
"""

import csv
import gzip
import re
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import numpy as np
import numpy.typing as npt

from nextclick.errors import PermanentError

# Source: README of the RecSys Challenge 2015 data; its files have no header.
YOOCHOOSE_COLUMNS = ("session_id", "timestamp", "item_id", "category")

_MS_FROM = 1e11  # as seconds the year 5138, as milliseconds 1973: smaller numbers are seconds
_MS_TO = 1e14  # larger numbers are micro- or nanoseconds, which we do not guess
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][+-]?\d+)?")

Parse = Callable[[str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileLayout:
    """Which columns of a file hold a click."""

    has_header: bool
    user: str
    item: str
    time: str  # empty: the file has an order but no times
    time_is_optional: bool = False  # a file without the column is then taken as it is, in its order

    @classmethod
    def of(cls, file_format: str, user: str | None, item: str | None, time: str | None) -> "FileLayout":
        """Give the layout of a format (`csv` or `yoochoose`), with the names that the user chose instead."""
        if file_format == "yoochoose":
            return cls(
                has_header=False,
                user=user or "session_id",
                item=item or "item_id",
                time="timestamp" if time is None else time,
            )
        return cls(
            has_header=True,
            user=user or "user_id",
            item=item or "item_id",
            time="timestamp" if time is None else time,
            time_is_optional=time is None,
        )


@dataclass(frozen=True, slots=True)
class RecordedClicks:
    """Clicks in the order in which they are to be sent: by time, and as in the file where times are equal."""

    users: list[str]
    items: list[str]
    user_index: npt.NDArray[np.int32]  # (clicks,) into users
    item_index: npt.NDArray[np.int32]  # (clicks,) into items
    timestamp_ms: npt.NDArray[np.int64] | None  # (clicks,), rising; None: only the order is known

    def __len__(self) -> int:
        return len(self.user_index)

    def first(self, n: int) -> "RecordedClicks":
        """Give the first n clicks."""
        times = None if self.timestamp_ms is None else self.timestamp_ms[:n]
        return RecordedClicks(self.users, self.items, self.user_index[:n], self.item_index[:n], times)

    def between(self, start: int, stop: int) -> Iterator[tuple[str, str, int | None]]:
        """Give clicks `start` to `stop` as (user id, item id, event time in ms or None)."""
        n = min(stop, len(self)) - start
        times = [None] * n if self.timestamp_ms is None else self.timestamp_ms[start:stop].tolist()
        users, items = self.user_index[start:stop].tolist(), self.item_index[start:stop].tolist()
        for user, item, time in zip(users, items, times, strict=True):
            yield self.users[user], self.items[item], time


def read_clicks(path: Path, layout: FileLayout, where: Mapping[str, str]) -> RecordedClicks:
    """Read all clicks of a file and sort them by time; the sort is stable.

    Args:
        path: the file, plain or gzipped.
        layout: its columns.
        where: column to value; only rows that have all of these values are taken.

    Raises:
        PermanentError: a missing column, a line that cannot be read, a damaged file, or no click that is taken.
    """
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user_index, item_index, times = array("i"), array("i"), array("q")
    with _rows(path) as (rows, line_number):
        columns = _columns(path, layout, next(rows, None) if layout.has_header else YOOCHOOSE_COLUMNS)
        user_at, item_at = columns[layout.user], columns[layout.item]
        time_at = columns.get(layout.time)
        conditions = [(_position(path, columns, name), value) for name, value in where.items()]
        last_at = max([user_at, item_at, time_at or 0, *(position for position, _ in conditions)])
        parse: Parse | None = None
        for row in rows:
            if not row:
                continue  # an empty line, usually the last
            if len(row) <= last_at:
                raise _bad_line(path, line_number(), f"at least {last_at + 1} values", f"{len(row)}")
            if any(row[position] != value for position, value in conditions):
                continue
            user, item = row[user_at], row[item_at]
            if not user or not item:
                raise _bad_line(path, line_number(), "a user and an item", "an empty value")
            if time_at is not None:
                try:
                    parse = parse or time_parser(row[time_at])
                    times.append(parse(row[time_at]))
                except (ValueError, OverflowError):
                    expected = "a time, as seconds or milliseconds since 1970 or ISO 8601 in every row"
                    raise _bad_line(path, line_number(), expected, repr(row[time_at])) from None
            try:
                user_index.append(_index(users, user))
                item_index.append(_index(items, item))
            except UnicodeEncodeError:
                raise _bad_line(path, line_number(), "UTF-8 text", "other bytes") from None
    if not user_index:
        kind = " and ".join(f"{name}={value}" for name, value in where.items())
        found = f"none with {kind}; correct --where" if kind else "none; correct the path"
        raise PermanentError(f"{path.name}: expected clicks, found {found}")
    return _sorted(list(users), list(items), user_index, item_index, None if time_at is None else times)


def _index(ids: dict[str, int], text: str) -> int:
    index = ids.get(text)
    if index is None:
        text.encode()  # fails for bytes that were not UTF-8
        index = ids[text] = len(ids)
    return index


def time_parser(example: str) -> Parse:
    """Find out from one value how a file writes its times.

    Returns:
        A function from text to milliseconds since 1970. It raises ValueError for text of another kind. A time
        without a zone is taken as UTC.
    """
    if not _NUMBER.fullmatch(example):
        return _parse_iso
    return _parse_ms if float(example) >= _MS_FROM else _parse_s


def _parse_iso(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return _checked(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def _parse_s(text: str) -> int:
    return _checked(float(text) * 1000)


def _parse_ms(text: str) -> int:
    return _checked(float(text))


def _checked(timestamp_ms: float) -> int:
    if not 0 <= timestamp_ms < _MS_TO:
        raise ValueError
    return round(timestamp_ms)


def _sorted(
    users: list[str],
    items: list[str],
    user_index: "array[int]",
    item_index: "array[int]",
    times: "array[int] | None",
) -> RecordedClicks:
    by_user, by_item = np.frombuffer(user_index, np.int32), np.frombuffer(item_index, np.int32)
    if times is None:
        return RecordedClicks(users, items, by_user, by_item, None)
    timestamp_ms = np.frombuffer(times, np.int64)
    order = timestamp_ms.argsort(kind="stable")
    return RecordedClicks(users, items, by_user[order], by_item[order], timestamp_ms[order])


@contextmanager
def _rows(path: Path) -> Iterator[tuple[Iterator[list[str]], Callable[[], int]]]:
    """Open a file as rows, and a function that says at which line they are; damage becomes one line for the user."""
    reader = None
    try:
        with _open_text(path) as lines:
            reader = csv.reader(lines)
            current = reader
            yield reader, lambda: current.line_num
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise PermanentError(
            f"{path.name}: expected a whole gzip file, found a damaged one ({error}); get it again"
        ) from None
    except csv.Error as error:
        line = reader.line_num if reader is not None else 1
        raise _bad_line(path, line, "comma-separated text", str(error)) from None
    except OSError as error:
        raise PermanentError(
            f"{path}: expected a file that can be read, found: {error.strerror or error}; correct the path"
        ) from None


def _open_text(path: Path) -> TextIO:
    # Bytes that are not UTF-8 are kept until an id turns out to hold them: only then is their line known.
    with path.open("rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
    if is_gzip:
        return gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="")
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


def _columns(path: Path, layout: FileLayout, names: Sequence[str] | None) -> dict[str, int]:
    """Give the position of each column; those of the layout are there, the time only where it is needed."""
    if names is None:
        raise PermanentError(f"{path.name}: expected a header line, found an empty file; correct the path")
    columns = {name: position for position, name in enumerate(names)}
    needed = [("--user", layout.user), ("--item", layout.item)]
    if layout.time and not layout.time_is_optional:
        needed.append(("--time", layout.time))
    for option, name in needed:
        if name not in columns:
            raise _missing_column(path, name, columns, f"name it with {option}")
    return columns


def _position(path: Path, columns: Mapping[str, int], name: str) -> int:
    if name not in columns:
        raise _missing_column(path, name, columns, "correct --where")
    return columns[name]


def _missing_column(path: Path, name: str, columns: Mapping[str, int], remedy: str) -> PermanentError:
    return PermanentError(f"{path.name}: expected a column {name!r}, found {', '.join(columns)}; {remedy}")


def _bad_line(path: Path, line: int, expected: str, found: str) -> PermanentError:
    return PermanentError(f"{path.name}, line {line}: expected {expected}, found {found}; correct or remove the line")
