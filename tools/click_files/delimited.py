"""Reads files with one click a line and a separator between values."""

import csv
from array import array
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from nextclick.errors import PermanentError
from tools.click_files.files import bad_line, damage_as_one_line, open_text
from tools.click_files.layouts import LAYOUTS, ClickFile, Layout
from tools.click_files.recorded import RecordedClicks
from tools.click_files.times import Parse, time_parser

_MAX_EVENT_TYPES = 256  # what a byte tells apart; more is a column of something else


class _BadValueError(Exception):
    """A row that cannot be read: what was expected, and what was found."""


def read_delimited(file: ClickFile, mark: Mapping[str, str]) -> RecordedClicks:
    """Read all clicks, in the order of the file.

    Args:
        file: not OTTO's.
        mark: column to value; rows that have all of these values are marked, the others are not.

    Raises:
        PermanentError: a missing column, a line that cannot be read, or a damaged file.
    """
    path = file.path
    reader = None
    try:
        with damage_as_one_line(path), open_text(path) as lines:
            beginning = lines.readline()
            lines.seek(0)
            layout = _layout(file, beginning)
            separator = layout.separator
            separated: Iterator[str] = lines
            if len(separator) > 1:  # more than the csv module can do
                separator, separated = "\t", (line.replace(layout.separator, "\t") for line in lines)
            reader = csv.reader(separated, delimiter=separator)
            names: Sequence[str] = layout.columns or next(reader, [])
            if not names:
                raise PermanentError(f"{path.name}: expected a header line, found an empty file; correct the path")
            rows = _Rows(path, layout, names, file.where, mark)
            for row in reader:
                if row:  # an empty line is usually the last
                    rows.take(row)
            return rows.clicks()
    except _BadValueError as bad:
        raise bad_line(path, reader.line_num if reader else 1, *bad.args) from None
    except csv.Error as error:
        raise bad_line(path, reader.line_num if reader else 1, "separated text", str(error)) from None


def _layout(file: ClickFile, beginning: str) -> Layout:
    """Give the layout of the format's variant whose separator the file uses."""
    variants = LAYOUTS[file.file_format]
    layout = next((layout for layout in variants if layout.separator in beginning), variants[0])
    return layout.with_columns(file.columns)


class _Rows:
    """Collects the clicks of rows, column by column."""

    def __init__(
        self, path: Path, layout: Layout, names: Sequence[str], where: Mapping[str, str], mark: Mapping[str, str]
    ) -> None:
        self._path = path
        self._at = {name: position for position, name in enumerate(names)}
        self._user_at = self._position(layout.user, "name it with --user")
        self._item_at = self._position(layout.item, "name it with --item")
        self._time_at = self._optional(layout.time, layout.time_is_optional, "name it with --time")
        self._offset_at = self._optional(layout.offset_ms, False, "name the time's column with --time")
        self._event_at = self._optional(layout.event, layout.event_is_optional, "name it with --event")
        self._conditions = [(self._position((name,), "correct --where"), value) for name, value in where.items()]
        self._marks = [(self._position((name,), "correct --test-where"), value) for name, value in mark.items()]
        self._event_types = layout.event_types
        places = (self._user_at, self._item_at, self._time_at, self._offset_at, self._event_at)
        chosen = [position for position, _ in (*self._conditions, *self._marks)]
        self._n_needed = 1 + max(*(place for place in places if place is not None), *chosen)
        self._parse: Parse | None = None
        self._user_numbers: dict[str, int] = {}
        self._item_numbers: dict[str, int] = {}
        self._event_numbers: dict[str, int] = {}
        self._users, self._items, self._times = array("i"), array("i"), array("q")
        self._events, self._marked = array("B"), array("B")

    def _position(self, names: tuple[str, ...], remedy: str) -> int:
        for name in names:
            if name in self._at:
                return self._at[name]
        expected = " or ".join(map(repr, names))
        found = ", ".join(filter(None, self._at))
        raise PermanentError(f"{self._path.name}: expected a column {expected}, found {found}; {remedy}")

    def _optional(self, names: tuple[str, ...], may_be_missing: bool, remedy: str) -> int | None:
        if not names or (may_be_missing and not any(name in self._at for name in names)):
            return None
        return self._position(names, remedy)

    def take(self, row: list[str]) -> None:
        """Add the row's click, unless it is one that is not wanted.

        Raises:
            _BadValueError: it cannot be read.
        """
        if len(row) < self._n_needed:
            raise _BadValueError(f"at least {self._n_needed} values", str(len(row)))
        for position, value in self._conditions:
            if row[position] != value:
                return
        user, item = row[self._user_at], row[self._item_at]
        if not user or not item:
            raise _BadValueError("a user and an item", "an empty value")
        self._users.append(_number(self._user_numbers, user))
        self._items.append(_number(self._item_numbers, item))
        if self._time_at is not None:
            self._times.append(self._time(row, row[self._time_at]))
        if self._event_at is not None:
            self._events.append(self._event(row[self._event_at]))
        if self._marks:
            self._marked.append(all(row[position] == value for position, value in self._marks))

    def _time(self, row: list[str], text: str) -> int:
        try:
            self._parse = self._parse or time_parser(text)
            timestamp_ms = self._parse(text)
        except (ValueError, OverflowError):
            expected = "a time, as seconds or milliseconds since 1970 or ISO 8601 in every row"
            raise _BadValueError(expected, repr(text)) from None
        if self._offset_at is None:
            return timestamp_ms
        offset = row[self._offset_at]
        if not offset.isdecimal():
            raise _BadValueError("milliseconds as a whole number", repr(offset))
        return timestamp_ms + int(offset)

    def _event(self, word: str) -> int:
        if self._event_types and word not in self._event_types:
            raise _BadValueError(f"one of the events {', '.join(self._event_types)}", repr(word))
        number = _number(self._event_numbers, self._event_types.get(word, word))
        if number >= _MAX_EVENT_TYPES:
            raise _BadValueError(f"at most {_MAX_EVENT_TYPES} event types", "one more")
        return number

    def clicks(self) -> RecordedClicks:
        """Give all that were taken."""
        return RecordedClicks(
            users=list(self._user_numbers),
            items=list(self._item_numbers),
            event_types=list(self._event_numbers),
            user_index=np.frombuffer(self._users, np.int32),
            item_index=np.frombuffer(self._items, np.int32),
            timestamp_ms=None if self._time_at is None else np.frombuffer(self._times, np.int64),
            event_index=None if self._event_at is None else np.frombuffer(self._events, np.uint8),
            is_marked=np.frombuffer(self._marked, np.bool_) if self._marks else None,
        )


def _number(numbers: dict[str, int], text: str) -> int:
    """Give a text's number; new ones get the next."""
    number = numbers.get(text)
    if number is None:
        try:
            text.encode()
        except UnicodeEncodeError:
            raise _BadValueError("UTF-8 text", "other bytes") from None
        number = numbers[text] = len(numbers)
    return number
