"""Says of each row whether it is a click, and if not, why. Ids, times and event types mean what they do in the stream.

Pure functions of rows, of what is chosen, and of the reader's clock.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nextclick.clicks import FORGET, FUTURE_TOLERANCE_MS, MAX_ID_BYTES
from tools.click_files.events import EventRule
from tools.click_files.rows import REMEDY, TEXT, BadLine, Flags, Ints, Rows, text_of
from tools.click_files.times import NO_TIME, times_ms

_WHOLE_FLOAT = r"^(-?(?:0|[1-9]\d*))\.0+$"  # as whole numbers are written by programs that know a column as fractions
_SHOWN = 60  # characters of a value in a message
_NAMED_EVENTS = 8  # types of one block that are counted by name
_NAMED = 3  # lines of a kind that are named in a message
_EARLY = "the time is before 1995; correct it, or name the column of times with --time"


@dataclass(frozen=True, slots=True)
class Encoded:
    """Texts, each once, and which one each row has."""

    values: pa.Array  # of texts
    index: npt.NDArray[np.int32]  # (n,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a row is judged by."""

    where: tuple[str, ...] = ()  # the values that it must have
    marks: tuple[str, ...] = ()  # the values by which it is marked
    header: tuple[str, ...] = ()  # the names of the columns: a row of them is no click
    events: EventRule = field(default_factory=EventRule)
    now_ms: int
    earliest_ms: int = 0  # clicks before it are left out


class Left(NamedTuple):
    """Clicks that a worker would reject: how many, and the lines of the first."""

    number: int
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What became of rows. The columns hold the clicks alone."""

    user: Encoded
    item: Encoded
    time_ms: Ints | None
    event: Encoded | None  # its values are event types of the stream
    is_marked: Flags | None
    n_rows: int  # of the file, whatever became of them
    n_inside: int  # lines that are inside quoted values
    filtered: Counter[str]  # rows that are not wanted, by reason
    n_bad: int
    first_bad: BadLine | None
    left: Mapping[str, Left]  # reason to clicks that a worker would reject


def judge(rows: Rows, rules: Rules) -> Judged:
    """Judge rows: first whether they are wanted, then whether they can be read, then whether a worker takes them."""
    verdict = _Verdict(rows)
    if rules.header:
        is_header = _is_in(rows.user, rules.header) & _is_in(rows.item, rules.header)
        verdict.refuse(is_header, lambda _: "expected a click, found the names of the columns again")
    for column, value in zip(rows.conditions, rules.where, strict=True):
        verdict.filter("--where", _equals(column, value))
    event = None if rows.event is None else _event(verdict, rows.event, rules.events)
    user, item = _id(verdict, "user", rows.user), _id(verdict, "item", rows.item)
    time_ms = None if rows.time is None else _time(verdict, rows.time, rows.offset_ms, rules)
    if rows.lines_are_records:
        verdict.leave_whole_records()
    chosen = verdict.chosen()
    is_marked = None
    if rules.marks:
        marks = [_equals(column, value) for column, value in zip(rows.marks, rules.marks, strict=True)]
        is_marked = np.logical_and.reduce(marks)
    return Judged(
        user=_of_rows(user, chosen),
        item=_of_rows(item, chosen),
        time_ms=time_ms if chosen is None or time_ms is None else time_ms[chosen],
        event=None if event is None else _of_rows(event, chosen),
        is_marked=is_marked if chosen is None or is_marked is None else is_marked[chosen],
        n_rows=len(rows) + len(rows.bad) + rows.n_other,
        n_inside=rows.n_inside,
        filtered=verdict.filtered,
        n_bad=verdict.n_bad + len(rows.bad),
        first_bad=verdict.first_bad(),
        left=verdict.left,
    )


class _Verdict:
    """What became of each row so far; a row that has a verdict keeps it."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows
        self._open = np.ones(len(rows), dtype=np.bool_)
        self.filtered: Counter[str] = Counter({"no click by the format": rows.n_other} if rows.n_other else {})
        self.left: dict[str, Left] = {}
        self.n_bad = 0
        self._bad: list[BadLine] = list(rows.bad[:1])
        self._rejected: list[Ints] = []  # rows

    def filter(self, reason: str, is_wanted: Flags) -> None:
        """Leave out what is not wanted."""
        found = self._close(~is_wanted)
        if len(found):
            self.filtered[reason] += len(found)

    def refuse(self, is_bad: Flags, problem: Callable[[int], str], remedy: str = REMEDY) -> None:
        """Name what cannot be read; `problem` says of a row what was expected and found."""
        found = self._close(is_bad)
        if len(found):
            self.n_bad += len(found)
            self._rejected.append(found)
            self._bad.append(BadLine(int(self._rows.lines[found[0]]), problem(int(found[0])), remedy))

    def leave(self, reason: str, is_left: Flags) -> None:
        """Leave out what a worker would reject."""
        found = self._close(is_left)
        if len(found):
            self._rejected.append(found)
            self.left[reason] = Left(len(found), tuple(self._rows.lines[found[:_NAMED]].tolist()))

    def leave_whole_records(self) -> None:
        """Leave out the other clicks of a line that has one that cannot be used: a record is applied whole or not."""
        lines = self._rows.lines[np.concatenate([*self._rejected, np.array([], dtype=np.int64)])]
        self.leave("another click of its array cannot be used", np.isin(self._rows.lines, lines))

    def _close(self, chosen: Flags) -> Ints:
        found = np.flatnonzero(chosen & self._open)
        self._open[found] = False
        return found

    def chosen(self) -> Ints | None:
        """Give the places of the rows that are clicks; None for all."""
        return None if self._open.all() else np.flatnonzero(self._open)

    def first_bad(self) -> BadLine | None:
        """Give the first line that cannot be read."""
        return min(self._bad, default=None)


def _equals(column: pa.Array, value: str) -> Flags:
    flags: Flags = pc.equal(text_of(column), value).to_numpy(zero_copy_only=False)
    return flags


def _is_in(column: pa.Array, names: tuple[str, ...]) -> Flags:
    """Say which values are one of the names, also behind a byte order mark: files are put one behind the other."""
    encoded = _encoded(column)
    return _flags(pc.is_in(encoded.values, pa.array([*names, *(f"\ufeff{name}" for name in names)], TEXT)), encoded)


def _encoded(column: pa.Array) -> Encoded:
    if not pa.types.is_dictionary(column.type):
        column = text_of(column).dictionary_encode()
    values = column.dictionary if column.dictionary.type == TEXT else column.dictionary.cast(TEXT)
    return Encoded(values, column.indices.to_numpy().astype(np.int32, copy=False))


def _of_rows(encoded: Encoded, chosen: Ints | None) -> Encoded:
    """Give some rows, and the values that are left."""
    if chosen is None:
        return encoded
    used, index = np.unique(encoded.index[chosen], return_inverse=True)
    return Encoded(encoded.values.take(pa.array(used)), index.astype(np.int32))


def _flags(of_values: pa.Array, encoded: Encoded) -> Flags:
    """Spread what is said of values over the rows."""
    flags: Flags = of_values.to_numpy(zero_copy_only=False)
    return flags[encoded.index] if flags.any() else np.zeros(len(encoded.index), dtype=np.bool_)


def _event(verdict: _Verdict, column: pa.Array, rule: EventRule) -> Encoded:
    encoded = _encoded(column)
    types, unknown, ignored = [], [], []
    for word in encoded.values.to_pylist():
        try:
            kind = rule.type_of(word)
        except ValueError:
            kind = ""
        types.append(kind or "")
        unknown.append(kind == "")
        ignored.append(kind is None)
    for number in np.flatnonzero(ignored)[:_NAMED_EVENTS].tolist():
        verdict.filter(f"the event type {_shown(encoded.values[number])}", encoded.index != number)
    verdict.filter("other event types", ~_flags(pa.array(ignored, pa.bool_()), encoded))
    known = ", ".join(rule.known)
    verdict.refuse(
        _flags(pa.array(unknown, pa.bool_()), encoded),
        lambda row: f"expected one of the events {known}, found {_shown(encoded.values[encoded.index[row]])}",
        "give --format csv, jsonl or parquet if this is no file of the data set but a shop's own",
    )
    verdict.leave("the event type is forget", _flags(pc.equal(pa.array(types, TEXT), FORGET), encoded))
    return Encoded(pa.array(types, TEXT), encoded.index)


def _id(verdict: _Verdict, what: str, column: pa.Array) -> Encoded:
    encoded = _encoded(column)
    values = encoded.values
    if pc.any(pc.match_substring(values, ".")).as_py():
        values = pc.replace_substring_regex(values, _WHOLE_FLOAT, r"\1")
    n_bytes = pc.binary_length(values)
    verdict.refuse(
        _flags(pc.equal(n_bytes, 0), encoded),
        lambda row: f"expected the {what}, found an empty value or a word for none like NULL",
    )
    too_long = f"the {what} has more than {MAX_ID_BYTES} bytes"
    verdict.leave(too_long, _flags(pc.greater(n_bytes, MAX_ID_BYTES), encoded))
    verdict.leave(f"the {what} has a character NUL", _flags(pc.match_substring(values, "\0"), encoded))
    return Encoded(values, encoded.index)


def _time(verdict: _Verdict, column: pa.Array, offset_ms: pa.Array | None, rules: Rules) -> Ints:
    times = times_ms(column)
    verdict.refuse(
        times < 0,
        lambda row: (
            f"expected a time, found {_shown(column[row])}, which means none; without times, give --time ''"
            if times[row] == NO_TIME
            else f"expected a time, as seconds to nanoseconds since 1970 or ISO 8601, found {_shown(column[row])}"
        ),
    )
    if offset_ms is not None:
        texts = text_of(offset_ms)
        is_number = pc.and_(pc.ascii_is_decimal(texts), pc.less(pc.binary_length(texts), 12))
        verdict.refuse(
            pc.invert(is_number).to_numpy(zero_copy_only=False),
            lambda row: f"expected milliseconds as a whole number, found {_shown(texts[row])}",
        )
        offsets = pc.if_else(is_number, texts, "0").cast(pa.int64()).to_numpy(zero_copy_only=False)
        times = times + offsets
    verdict.leave(_EARLY, times < rules.earliest_ms)
    verdict.leave("the time is more than a day after this machine's clock", times > rules.now_ms + FUTURE_TOLERANCE_MS)
    return times


def _shown(value: pa.Scalar) -> str:
    return "nothing" if value.as_py() is None else repr(str(value.as_py()))[:_SHOWN]
