"""Reads files with one click a line and a separator between values, in blocks of some megabytes.

Nearly all blocks are parsed by Arrow, whose rows must be as many as the lines. A block that has anything odd in it (a
line with another number of values, a quote that does not end, an empty line, bytes that are not UTF-8) is read again by
`lines.py`, line by line, which says what is wrong and where. So no line can vanish inside another.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv

from nextclick.errors import PermanentError
from tools.click_files.blocks import Block, blocks
from tools.click_files.choices import ClickFile
from tools.click_files.columns import Columns, Places, find_columns
from tools.click_files.heads import Head, read_head
from tools.click_files.layouts import CSV
from tools.click_files.lines import JOINT, LineFormat, read_lines
from tools.click_files.rows import CODED, TEXT, BadLine, Parse, Reading, Rows, first_filled, without_nothing
from tools.click_files.sources import open_text

_QUOTE = ord('"')
_NEW_LINE = ord("\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """How the lines of a file are read."""

    format: LineFormat
    columns: Columns


def read_delimited(file: ClickFile, mark: Mapping[str, str]) -> Reading:
    """Read a file with one click a line.

    Raises:
        PermanentError: a missing column, or a damaged file.
    """
    head = read_head(file.path, file.file_format, file.choices)
    try:
        columns = find_columns(file.path.name, head.names, head.layout, file.choices, mark)
    except PermanentError as missing:
        if head.file_format != CSV or not head.has_header:
            raise
        raise PermanentError(f"{missing}, or give --no-header if the first line is a click") from None
    return Reading(
        layout=head.layout,
        place="line",
        counted="line",
        found=columns.described(head.names),
        has_times=bool(columns.time),
        has_events=bool(columns.event),
        header=head.names if head.has_header else (),
        parses=_parses(file, head, _table(head, columns)),
    )


def _parses(file: ClickFile, head: Head, table: Table) -> Iterator[Parse]:
    with open_text(file.path) as stream:
        has_header = head.has_header
        for block in blocks(file.path.name, stream):
            yield partial(_parse, _without_header(block) if has_header else block, table)
            has_header = False


def _table(head: Head, columns: Columns) -> Table:
    line_format = LineFormat(
        separator=head.separator,
        n_columns=len(head.names),
        needed=columns.all(),
        has_quotes=head.has_quotes,
        has_spaces=head.has_spaces,
    )
    return Table(format=line_format, columns=columns)


def _without_header(block: Block) -> Block:
    """Take the header off, and the empty lines before it."""
    content, n_lines, line = block.content, 0, b""
    while content and not line.strip():
        line, _, content = content.partition(b"\n")
        n_lines += 1
    return Block(content=content, first_line=block.first_line + n_lines)


def _parse(block: Block, table: Table) -> Rows:
    cells = _by_arrow(block.content, table)
    bad: tuple[BadLine, ...] = ()
    n_inside = 0
    if cells is None:
        lines, cells, bad, n_inside = read_lines(block.content, block.first_line, table.format)
    else:
        n_rows = len(next(iter(cells.values())))
        lines = np.arange(block.first_line, block.first_line + n_rows)

    def column(places: Places) -> pa.Array | None:
        return first_filled([cells[place] for place in places]) if places else None

    def names(places: Places) -> pa.Array | None:
        return first_filled([without_nothing(cells[place]) for place in places]) if places else None

    columns = table.columns
    return Rows(
        lines=lines,
        user=names(columns.user),
        item=names(columns.item),
        time=column(columns.time),
        offset_ms=column(columns.offset_ms),
        event=names(columns.event),
        conditions=tuple(column(places) for places in columns.conditions),
        marks=tuple(column(places) for places in columns.marks),
        bad=bad,
        n_inside=n_inside,
    )


def _by_arrow(content: bytes, table: Table) -> dict[int, pa.Array] | None:
    """Give the needed columns of a block; None when its rows are not surely its lines."""
    line_format = table.format
    has_quotes = line_format.has_quotes and b'"' in content
    separator = line_format.separator
    if len(separator.encode()) > 1 and not has_quotes:  # else one could be inside a quoted value
        content, separator = content.replace(separator.encode(), JOINT.encode()), JOINT
    is_plain = not has_quotes or (len(separator.encode()) == 1 and not line_format.has_spaces)
    if not content or not is_plain or (has_quotes and not _quotes_are_plain(content, separator)):
        return None
    if b"\r" in content and content.count(b"\r") != content.count(b"\r\n"):
        return None
    names = [str(place) for place in range(line_format.n_columns)]
    times = {*table.columns.time, *table.columns.offset_ms}
    try:
        parsed = arrow_csv.read_csv(
            pa.BufferReader(content),
            read_options=arrow_csv.ReadOptions(column_names=names, use_threads=False, block_size=len(content) + 1),
            parse_options=arrow_csv.ParseOptions(
                delimiter=separator, quote_char='"' if has_quotes else False, newlines_in_values=False
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=[str(place) for place in line_format.needed],
                column_types={str(place): TEXT if place in times else CODED for place in line_format.needed},
            ),
        )
    except pa.ArrowInvalid:
        return None
    if parsed.num_rows != content.count(b"\n"):
        return None
    cells = {place: parsed[str(place)].combine_chunks() for place in line_format.needed}
    return {place: _without_spaces(values) for place, values in cells.items()} if line_format.has_spaces else cells


def _without_spaces(values: pa.Array) -> pa.Array:
    """Take off the spaces that values begin with."""
    return pc.utf8_ltrim(values.cast(TEXT), " ")


def _quotes_are_plain(content: bytes, separator: str) -> bool:
    """Say whether each quote surely begins or ends a value that ends in its line, with no quotes in it."""
    letters = np.frombuffer(content, dtype=np.uint8)
    quotes = np.flatnonzero(letters == _QUOTE)
    if len(quotes) % 2:
        return False
    opening, closing = quotes[0::2], quotes[1::2]
    before = letters[np.maximum(opening - 1, 0)]
    after = letters[closing + 1]  # there is one: a block ends with a new line
    is_begin = (before == ord(separator)) | (before == _NEW_LINE) | (opening == 0)
    is_end = (after == ord(separator)) | (after == _NEW_LINE) | (after == ord("\r"))
    ends = np.flatnonzero(letters == _NEW_LINE)
    in_one_line = np.searchsorted(ends, opening) == np.searchsorted(ends, closing)
    return bool((is_begin & is_end & in_one_line).all())
