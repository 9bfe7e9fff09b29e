"""Some consecutive rows of a file, as a reader gives them: values as they stand there, nothing judged yet."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tools.click_files.layouts import Layout

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

TEXT = pa.string()
CODED = pa.dictionary(pa.int32(), TEXT)


REMEDY = "correct or remove the line"
NOTHING = ("NULL", "null", r"\N", "NaN", "nan", "None", "<NA>", "#N/A")  # as databases and programs write it


class BadLine(NamedTuple):
    """A line that cannot be read."""

    line: int  # from 1 on
    problem: str  # what was expected, and what was found
    remedy: str = REMEDY


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Rows in the order of the file. Columns are arrays of Arrow: texts, encoded texts, numbers or moments."""

    lines: Ints  # (n,) the line of each row, from 1 on
    user: pa.Array
    item: pa.Array
    time: pa.Array | None = None
    offset_ms: pa.Array | None = None  # to be added to the time
    event: pa.Array | None = None
    conditions: tuple[pa.Array, ...] = ()  # the values in the columns of --where
    marks: tuple[pa.Array, ...] = ()  # the same of --test-where
    bad: tuple[BadLine, ...] = ()  # lines that are no rows, in order
    n_inside: int = 0  # lines that are inside a quoted value of one before
    lines_are_records: bool = False  # of several clicks of a line all are taken or none, as the stream takes a record
    n_other: int = 0  # what the file has here that is no click by its format, like a list that was shown

    def __len__(self) -> int:
        return len(self.lines)


Parse = Callable[[], Rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How a file is read.

    Attributes:
        layout: of its format.
        place: what a place in the file is called in messages: line, row.
        counted: what a row is called where it is counted: as the place, or event where a place can hold several.
        found: which columns are taken, for the user to see.
        has_times: whether rows have a time.
        has_events: whether rows have an event type.
        header: the names of the columns, where a line of the file has them.
        parses: functions, each of which gives the next rows; they may be called in several threads.
    """

    layout: Layout
    place: str
    counted: str
    found: str
    has_times: bool
    has_events: bool
    header: tuple[str, ...] = ()
    parses: Iterator[Parse]


def without_nothing(names: pa.Array) -> pa.Array:
    """Make texts empty that stand for nothing: else all who have none are one user, and a very busy one.

    Args:
        names: of users, items or event types.
    """
    if pa.types.is_dictionary(names.type):
        return pa.DictionaryArray.from_arrays(names.indices, without_nothing(names.dictionary))
    if not pa.types.is_string(names.type):
        return names
    is_nothing = pc.or_(pc.is_in(names, pa.array(NOTHING, TEXT)), pc.equal(pc.utf8_trim_whitespace(names), ""))
    return pc.if_else(is_nothing, "", names) if pc.any(is_nothing).as_py() else names


def first_filled(columns: list[pa.Array]) -> pa.Array:
    """Give, row by row, the first value that is not empty."""
    if len(columns) == 1:
        return columns[0]
    texts = [text_of(column) for column in columns]
    filled = [pc.if_else(pc.equal(text, ""), None, text) for text in texts]
    return pc.coalesce(*filled, pa.scalar("", TEXT))


def text_of(column: pa.Array) -> pa.Array:
    """Give values as text; nothing is an empty text.

    Raises:
        pa.ArrowInvalid: a number that is not whole, or bytes that are not UTF-8.
        pa.ArrowNotImplementedError: values that have no text.
    """
    kind = column.type
    if pa.types.is_floating(kind):  # whole numbers that had nothing in one row, and so became fractions
        column = column.cast(pa.int64())
    if pa.types.is_boolean(kind) or pa.types.is_nested(kind):
        raise pa.ArrowNotImplementedError(f"values of the type {kind}")
    if column.type != TEXT:
        column = column.cast(TEXT)
    return column.fill_null("")
