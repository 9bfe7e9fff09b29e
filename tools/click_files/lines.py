"""Reads lines one by one where something is odd about a block, and says what is wrong with each that is no row.

A quoted value may go on over several lines if it is none of those that are needed, as the comments of people do, and
no line of it is like a row. A quote that is not closed as RFC 4180 has it makes its own line bad, and no other.
"""

import csv
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from tools.click_files.rows import TEXT, BadLine, Ints

JOINT = "\x1f"  # stands for a separator of several letters: parsers take only one
MOST_LINES = 100  # of a quoted value
csv.field_size_limit(1 << 30)  # letters; else a long text, as of a page, is taken for a wrong quote
_NO_QUOTES = "correct the line, or give --no-quotes if quotes are letters like others in this file"
_CARRIAGE_RETURN = "expected a value that ends in its line, found a carriage return inside a value"
_ENDS_OF_LINES = r"write the ends of lines as \n or \r\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineFormat:
    """What a line must be."""

    separator: str
    n_columns: int
    needed: list[int]  # the columns that are read
    has_quotes: bool
    has_spaces: bool  # a space stands behind each separator; it is no part of the value


@dataclass(slots=True)
class _Found:
    format: LineFormat
    lines: list[int] = field(default_factory=list)
    cells: list[list[str]] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    n_inside: int = 0

    def take(self, line: int, cells: list[str] | None) -> bool:
        """Note a line's values, or that it is none; None: its quotes are wrong. Gives whether it is a row."""
        bad = self._problem(line, cells)
        if bad is not None:
            self.bad.append(bad)
        elif cells is not None:
            self.lines.append(line)
            self.cells.append([cells[place] for place in self.format.needed])
        return bad is None

    def _problem(self, line: int, cells: list[str] | None) -> BadLine | None:
        if cells is None:
            return BadLine(line, "expected a quote to end its value, found text behind it or no end", _NO_QUOTES)
        n_columns = self.format.n_columns
        if len(cells) == n_columns + 1 and not cells[-1]:
            del cells[-1]  # a separator at the end, as some programs write it
        if len(cells) != n_columns:
            return BadLine(line, f"expected {n_columns} values, found {len(cells)}")
        needed = [cells[place] for place in self.format.needed]
        if any("\n" in value for value in needed):
            problem = "expected a value that ends in its line, found a quote that ends in a later one"
            return BadLine(line, problem, _NO_QUOTES)
        if any("\r" in value for value in needed):
            return BadLine(line, _CARRIAGE_RETURN, _ENDS_OF_LINES)
        if any("\udc80" <= letter <= "\udcff" for value in needed if not value.isascii() for letter in value):
            remedy = "write the file as UTF-8, for example with iconv -f latin1 -t utf-8"
            return BadLine(line, "expected UTF-8 text, found other bytes", remedy)
        return None

    def columns(self) -> dict[int, pa.Array]:
        """Give the values by column."""
        columns = zip(*self.cells, strict=True) if self.cells else [()] * len(self.format.needed)
        return {place: pa.array(values, TEXT) for place, values in zip(self.format.needed, columns, strict=True)}


def read_lines(
    content: bytes, first_line: int, line_format: LineFormat
) -> tuple[Ints, dict[int, pa.Array], tuple[BadLine, ...], int]:
    """Read lines.

    Args:
        content: whole lines; each ends with a new line.
        first_line: the number of the first.
        line_format: what they must be.

    Returns:
        The numbers of the lines that are rows; their values by column; the lines that are none; how many lines are
        inside quoted values. Empty lines are none of these.
    """
    found = _Found(line_format)
    lines = content.decode(errors="surrogateescape").split("\n")
    del lines[-1]  # what is behind the last new line
    place = 0
    while place < len(lines):
        line, number = lines[place].removesuffix("\r"), first_line + place
        place += 1
        if not line.strip():
            continue
        if not line_format.has_quotes or '"' not in line:
            values = line.split(line_format.separator)
            found.take(number, [value.lstrip(" ") for value in values] if line_format.has_spaces else values)
            continue
        place += _take_quoted(found, number, lines[place - 1 : place + MOST_LINES])
    return np.array(found.lines, dtype=np.int64), found.columns(), tuple(found.bad), found.n_inside


def _is_like_a_row(line: str, line_format: LineFormat) -> bool:
    """Say whether a line inside a quoted value has as many values as a row: then a quote too many takes it along."""
    return line.count(line_format.separator) == line_format.n_columns - 1


def _take_quoted(found: _Found, number: int, lines: list[str]) -> int:
    """Note the row that begins in the first of these lines, or that there is none; gives how many more it takes."""
    cells, n_more = _with_quotes(lines, found.format)
    if cells is None and "\r" in lines[0].removesuffix("\r"):  # outside quotes, where it makes the parser stop
        found.bad.append(BadLine(number, _CARRIAGE_RETURN, _ENDS_OF_LINES))
        return 0
    inside = lines[1 : 1 + n_more]
    like_rows = [line for line, text in enumerate(inside, start=number + 1) if _is_like_a_row(text, found.format)]
    if like_rows:
        problem = (
            f"expected a quote to end in its line, found line {like_rows[0]} before its end, which is like a click"
        )
        found.bad.append(BadLine(number, problem, _NO_QUOTES))
        return 0
    if not found.take(number, cells):  # then the lines behind it are read by themselves
        return 0
    found.n_inside += sum(bool(line.strip()) for line in inside)
    return n_more


def _with_quotes(lines: list[str], line_format: LineFormat) -> tuple[list[str] | None, int]:
    """Give the values that begin in the first line, and how many more lines they take; None if a quote is wrong."""
    separator = line_format.separator
    joint = separator if len(separator) == 1 else JOINT
    rows = (f"{line.replace(separator, joint)}\n" for line in lines)
    reader = csv.reader(rows, delimiter=joint, strict=True, skipinitialspace=line_format.has_spaces)
    try:
        values = next(reader)
    except csv.Error:
        return None, 0
    return [value.replace(joint, separator) for value in values], reader.line_num - 1
