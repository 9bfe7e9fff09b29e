"""Reads files that hold columns: Parquet, and Arrow's own (Feather)."""

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.ipc as arrow_ipc
import pyarrow.parquet as parquet

from nextclick.errors import PermanentError
from nextclick.schema.ids import EXACT_FLOATS
from tools.click_files.choices import ClickFile
from tools.click_files.columns import Columns, Places, find_columns
from tools.click_files.layouts import CSV, LAYOUTS
from tools.click_files.layouts import PARQUET as PARQUET_FORMAT
from tools.click_files.rows import BadLine, Flags, Parse, Reading, Rows, first_filled, text_of, without_nothing
from tools.click_files.sources import PARQUET, damage_as_one_line, damaged, table_kind

_ROWS_AT_ONCE = 200_000


def column_names(path: Path) -> list[str]:
    """Give the names of the columns, those inside structures with dots.

    Raises:
        PermanentError: the file is damaged.
    """
    with damage_as_one_line(path):
        try:
            schema = parquet.read_schema(path) if table_kind(path) == PARQUET else _arrow_reader(path).schema
            return [name for name, _ in _leaves(schema)]
        except (pa.ArrowException, UnicodeDecodeError) as error:
            raise damaged(path, error) from None


def _leaves(
    fields: Iterable[pa.Field], prefix: str = "", at: tuple[int, ...] = ()
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Give the name of each column that holds values, and its place in each structure that it is in, from outside."""
    for place, field in enumerate(fields):
        name = prefix + field.name
        if pa.types.is_struct(field.type):
            yield from _leaves(field.type, f"{name}.", (*at, place))
        else:
            yield name, (*at, place)


def read_table(file: ClickFile, mark: Mapping[str, str]) -> Reading:
    """Read a file of columns.

    Raises:
        PermanentError: a missing column, one of an unfit type, or a damaged file.
    """
    names = column_names(file.path)
    layouts = LAYOUTS.get(CSV if file.file_format == PARQUET_FORMAT else file.file_format)
    if layouts is None:
        raise PermanentError(f"{file.path.name} is a table of columns and not {file.file_format}; leave --format away")
    columns = find_columns(file.path.name, names, layouts[0], file.choices, mark)
    return Reading(
        layout=layouts[0],
        place="row",
        counted="row",
        found=columns.described(names),
        has_times=bool(columns.time),
        has_events=bool(columns.event),
        parses=_parses(file.path, names, columns),
    )


def _parses(path: Path, names: list[str], columns: Columns) -> Iterator[Parse]:
    needed = [names[place] for place in columns.all()]
    with damage_as_one_line(path):
        try:
            first_row = 1
            for batch in _batches(path, needed):
                yield partial(_parse, path, batch, first_row, names, columns)
                first_row += batch.num_rows
        except pa.ArrowException as error:
            raise damaged(path, error) from None


def _batches(path: Path, needed: list[str]) -> Iterator[pa.RecordBatch]:
    if table_kind(path) == PARQUET:
        yield from parquet.ParquetFile(path).iter_batches(_ROWS_AT_ONCE, columns=needed)
        return
    reader = _arrow_reader(path)
    for number in range(reader.num_record_batches):
        yield reader.get_batch(number)


def _arrow_reader(path: Path) -> arrow_ipc.RecordBatchFileReader:
    return arrow_ipc.open_file(pa.memory_map(str(path)))


def _parse(path: Path, batch: pa.RecordBatch, first_row: int, names: list[str], columns: Columns) -> Rows:
    bad: dict[int, str] = {}

    def column(places: Places, id_of: str = "") -> pa.Array | None:
        found = []
        for place in places:
            values = _leaf(batch, names[place])
            for row in np.flatnonzero(_broken(values)) if id_of else ():
                bad[int(row)] = f"expected a whole number as {id_of}, found {values[int(row)]}"
            if id_of and bad and pa.types.is_floating(values.type):
                values = pc.if_else(pa.array(_broken(values)), None, values)
            is_text = id_of or len(places) > 1 or not _can_be_time(values.type)
            values = _fit(path, names[place], values) if is_text else values
            found.append(without_nothing(values) if id_of else values)
        return first_filled(found) if found else None

    rows = Rows(
        lines=np.arange(first_row, first_row + batch.num_rows),
        user=column(columns.user, "user"),
        item=column(columns.item, "item"),
        time=column(columns.time),
        offset_ms=column(columns.offset_ms),
        event=column(columns.event, "event type"),
        conditions=tuple(_fit(path, names[places[0]], column(places)) for places in columns.conditions),
        marks=tuple(_fit(path, names[places[0]], column(places)) for places in columns.marks),
    )
    return _without(rows, bad) if bad else rows


def _can_be_time(kind: pa.DataType) -> bool:
    """Say whether values are read as times as they are; all else must have a text."""
    types = pa.types
    kinds = (types.is_integer, types.is_floating, types.is_date, types.is_timestamp, types.is_decimal)
    return any(is_kind(kind) for is_kind in kinds)


def _leaf(batch: pa.RecordBatch, name: str) -> pa.Array:
    """Give a column by its name, which does not say where a structure begins: names may have dots themselves."""
    top, *inside = next(places for each, places in _leaves(batch.schema) if each == name)
    return pc.struct_field(batch.column(top), inside) if inside else batch.column(top)


def _broken(values: pa.Array) -> Flags:
    """Say which numbers are not whole, or too large for a fraction to be exact."""
    if not pa.types.is_floating(values.type):
        return np.zeros(len(values), dtype=np.bool_)
    numbers = values.cast(pa.float64()).fill_null(0.0).to_numpy(zero_copy_only=False)
    numbers = np.where(np.isnan(numbers), 0.0, numbers)
    broken: Flags = (numbers != np.floor(numbers)) | (np.abs(numbers) > EXACT_FLOATS)
    return broken


def _fit(path: Path, name: str, values: pa.Array) -> pa.Array:
    """Give values as text."""
    try:
        if pa.types.is_floating(values.type):
            values = pc.if_else(pc.is_nan(values), None, values)
        return text_of(values)
    except pa.ArrowException as error:
        raise PermanentError(
            f"{path.name}: expected texts or whole numbers in the column {name!r}, found {values.type} "
            f"({str(error).splitlines()[0]:.80}); name another column"
        ) from None


def _without(rows: Rows, bad: dict[int, str]) -> Rows:
    """Leave out rows that cannot be read."""
    chosen = np.ones(len(rows), dtype=np.bool_)
    chosen[list(bad)] = False
    keep = pa.array(chosen)

    def some(column: pa.Array | None) -> pa.Array | None:
        return None if column is None else column.filter(keep)

    return Rows(
        lines=rows.lines[chosen],
        user=some(rows.user),
        item=some(rows.item),
        time=some(rows.time),
        offset_ms=some(rows.offset_ms),
        event=some(rows.event),
        conditions=tuple(some(column) for column in rows.conditions),
        marks=tuple(some(column) for column in rows.marks),
        bad=tuple(BadLine(int(rows.lines[row]), problem) for row, problem in sorted(bad.items())),
    )
