"""Tells what a text file of clicks is from its first lines: the format, the separator, and the names of its columns."""

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from nextclick.errors import PermanentError
from tools.click_files.choices import AUTO, Choices
from tools.click_files.columns import find_columns
from tools.click_files.layouts import CSV, LAYOUTS, Layout, layout_of_line, layout_of_names
from tools.click_files.lines import JOINT
from tools.click_files.sources import open_text

_BEGINNING_BYTES = 64 * 1024
_LONGEST_BEGINNING = 8 << 20  # bytes of one line
_SEPARATORS = (",", "\t", ";", "|", "::", "\x01", "^", " ")
_SHOWN = 60  # characters of a first line in a message
_VALUE = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MOMENT = re.compile(r"\d{9,}(\.\d*)?|\d{4}-\d\d-\d\d([T ].*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What the first lines of a file with one click a line say."""

    file_format: str
    layout: Layout
    separator: str
    names: tuple[str, ...]  # of the columns; numbers from 1 on where there is no header
    has_header: bool
    has_quotes: bool
    has_spaces: bool = False  # a space stands behind each separator; it is no part of the value


def first_lines(path: Path, most: int = 2) -> list[str]:
    """Give the first lines that are not empty, the last of them perhaps cut: as many as there are in the beginning.

    Raises:
        PermanentError: the file cannot be read, or has no line.
    """
    with open_text(path) as stream:
        beginning = b""
        while _is_short(beginning) and (more := stream.read(_BEGINNING_BYTES)):
            beginning += more
    text = beginning.decode(errors="replace")
    lines = [line for line in re.split(r"\r\n|\n|\r", text) if line.strip()]
    if not lines:
        raise PermanentError(f"{path.name} is empty; correct the path")
    return lines[:most]


def _is_short(beginning: bytes) -> bool:
    """Say whether more is needed to know the first line."""
    if len(beginning) < _BEGINNING_BYTES:
        return True
    return len(beginning) < _LONGEST_BEGINNING and re.search(rb"[\r\n]", beginning.strip()) is None


def read_head(path: Path, file_format: str, choices: Choices) -> Head:
    """Tell the columns of a file with one click a line.

    Args:
        path: a text file.
        file_format: AUTO, or a name in LAYOUTS.
        choices: of the user.

    Raises:
        PermanentError: the first line is none of the format's, or of no format.
    """
    lines = first_lines(path)
    known = _of_known_line(lines[0], file_format, choices)
    has_numbers = any(name and name.isdecimal() for name in (choices.user, choices.item, choices.time, choices.event))
    if not choices.has_header or (known is not None and has_numbers):
        return _numbered(path, lines, choices)
    if known is not None:
        return known
    heads = list(_with_header(lines, file_format, choices))
    if not heads:
        shown = repr(lines[0][:_SHOWN])
        raise PermanentError(
            f"{path.name}, line 1: expected names of columns with a separator between them, found {shown}; give the "
            "separator with --separator, or the format with --format"
        )
    head = max(heads, key=lambda head: _rank(head, choices))
    if head.file_format == CSV:
        _refuse_a_click(path, lines[0], head, choices)
    return head


def _numbered(path: Path, lines: list[str], choices: Choices) -> Head:
    separators = [choices.separator] if choices.separator else list(_SEPARATORS)
    separator = max(separators, key=lambda each: _fitness(lines, each, choices))  # the first of those that fit as well
    n_columns = len(_cells(lines[0], separator, choices.has_quotes))
    if n_columns < 2:
        raise PermanentError(
            f"{path.name}, line 1: expected values with a separator between them, found {lines[0][:_SHOWN]!r}; give "
            "the separator with --separator"
        )
    names = tuple(map(str, range(1, n_columns + 1)))
    if choices.user is None or choices.item is None:
        raise PermanentError(
            f"{path.name}: a file without a header has numbers for names, from 1 to {len(names)}; give --user, --item "
            "and, where there are times, --time, for example --user 1 --item 2 --time 3"
        )
    return _head((CSV, LAYOUTS[CSV][0]), separator, names, lines, choices, has_header=False)


def _fitness(lines: list[str], separator: str, choices: Choices) -> tuple[bool, bool, bool, bool]:
    """Say of a separator whether it separates, gives the columns asked for, as many in both lines, and a time."""
    rows = [_cells(line, separator, choices.has_quotes) for line in lines]
    names = [
        *(choices.user or "").split("|"),
        *(choices.item or "").split("|"),
        choices.time or "",
        choices.event or "",
    ]
    has_all = len(rows[0]) >= max([2, *(int(name) for name in names if name.isdecimal())])
    time = int(choices.time) if has_all and choices.time and choices.time.isdecimal() else 0
    has_time = not time or _MOMENT.fullmatch(rows[0][time - 1].strip()) is not None
    return len(rows[0]) > 1, has_all, len(set(map(len, rows))) == 1, has_time


def _of_known_line(line: str, file_format: str, choices: Choices) -> Head | None:
    """Give the head of a format whose files have no header, if the line is like it, or the format is named."""
    known = layout_of_line(line)
    if known is not None and file_format in (AUTO, known[0]):
        return _headless(*known, choices)
    has_header = any(layout_of_names(line.split(separator)) == file_format for separator in _SEPARATORS)
    if file_format in (AUTO, CSV) or has_header:
        return None
    for layout in LAYOUTS[file_format]:
        if layout.columns and len(line.split(layout.separator)) == len(layout.columns):
            return _headless(file_format, layout, choices)
    return None


def _headless(file_format: str, layout: Layout, choices: Choices) -> Head:
    return Head(
        file_format=file_format,
        layout=layout,
        separator=layout.separator,
        names=layout.columns,
        has_header=False,
        has_quotes=layout.has_quotes and choices.has_quotes,
    )


def _with_header(lines: list[str], file_format: str, choices: Choices) -> Iterator[Head]:
    """Give what the first line can be, by separator."""
    for separator in [choices.separator] if choices.separator else _SEPARATORS:
        names = _cells(lines[0], separator, choices.has_quotes)
        if len(names) < 2:
            continue
        found = layout_of_names(names) if file_format == AUTO else file_format
        layouts = [layout for layout in LAYOUTS[found] if not layout.columns] or [LAYOUTS[found][0]]
        yield _head((found, layouts[0]), separator, names, lines, choices, has_header=True)


def _head(
    kind: tuple[str, Layout],
    separator: str,
    names: Sequence[str],
    lines: list[str],
    choices: Choices,
    *,
    has_header: bool,
) -> Head:
    file_format, layout = kind
    has_quotes = layout.has_quotes and choices.has_quotes
    return Head(
        file_format=file_format,
        layout=layout,
        separator=separator,
        names=tuple(name.strip() for name in names),
        has_header=has_header,
        has_quotes=has_quotes,
        has_spaces=any(_has_spaces(line, separator, has_quotes) for line in lines),
    )


def _has_spaces(line: str, separator: str, has_quotes: bool) -> bool:
    """Say whether a space stands behind each separator that is not in quotes."""
    if has_quotes:
        line = re.sub(r'"[^"]*"', '""', line)
    values = line.split(separator)[1:]
    return bool(values) and all(value.startswith(" ") for value in values)


def _rank(head: Head, choices: Choices) -> tuple[bool, bool, int]:
    """Prefer a separator with which the columns are found, then the one that separates most."""
    try:
        find_columns("", head.names, head.layout, choices, {})
    except PermanentError:
        return head.file_format != CSV, False, len(head.names)
    return head.file_format != CSV, True, len(head.names)


def _cells(line: str, separator: str, has_quotes: bool) -> Sequence[str]:
    if not has_quotes or '"' not in line:
        return line.split(separator)
    try:
        (cells,) = csv.reader([line.replace(separator, JOINT)], delimiter=JOINT, strict=True, skipinitialspace=True)
    except csv.Error:
        return line.split(separator)
    return [cell.replace(JOINT, separator) for cell in cells]


def _refuse_a_click(path: Path, line: str, head: Head, choices: Choices) -> None:
    """See that the first line names columns: the first click must not be taken for a header."""
    chosen = [name for name in (choices.user, choices.item, choices.time, choices.event) if name]
    is_moment = any(_MOMENT.fullmatch(name) for name in head.names)
    is_found = _rank(head, choices)[1]
    is_value = any(_VALUE.fullmatch(name) for name in (chosen if is_found else head.names))
    if is_moment or is_value:
        raise PermanentError(
            f"{path.name}, line 1: expected names of columns, found what looks like a click, {line[:_SHOWN]!r}; give "
            "--no-header and the columns by number, for example --user 1 --item 2 --time 3, or name the format with "
            "--format"
        )
