"""Reads files of items: a table with a header (CSV), JSON lines, or Parquet, plain or packed.

Columns are named as the fields of a record, and the item's id. A value that cannot be used names its line; a column
that means nothing here is refused, or it would be a wrong name that nobody notices.
"""

import csv
import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.parquet as parquet

from nextclick.catalogue import ItemError, ShopItem, item_id_of
from nextclick.errors import PermanentError
from nextclick.schema.ids import read_id
from nextclick.schema.times import read_time_ms
from tools.click_files.blocks import blocks
from tools.click_files.heads import first_lines
from tools.click_files.sources import PARQUET, damage_as_one_line, damaged, open_text, table_kind

ID = "item_id"
_FIELDS = ShopItem.__struct_fields__
# What a column can be called besides its field's name.
_ALSO: Mapping[str, str] = {
    "id": ID,
    "item": ID,
    "itemid": ID,
    "sku": ID,
    "product_id": ID,
    "productid": ID,
    "category": "categories",
    "published_at": "published_at_ms",
    "expires_at": "expires_at_ms",
    "link": "url",
    "image_url": "image",
}
_TIMES = ("published_at_ms", "expires_at_ms")
_FLAGS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "t", "yes", "y", "1"), True),
    **dict.fromkeys(("false", "f", "no", "n", "0"), False),
}
_SEPARATORS = (",", "\t", ";", "|")
_CATEGORY_SEPARATOR = "|"
_ROWS_AT_ONCE = 20_000


class ItemFile(NamedTuple):
    """A file, and how it is read.

    Attributes:
        path: of the file.
        columns: field to the name of its column, where that is another.
        ignores_others: whether columns that mean nothing here are passed over.
    """

    path: Path
    columns: Mapping[str, str] = {}
    ignores_others: bool = False


class FileItem(NamedTuple):
    """An item of a file."""

    line: int
    item_id: str
    item: ShopItem


class BadRow(NamedTuple):
    """A line, or a row, that cannot be used, and why."""

    line: int
    problem: str


def read_item_file(file: ItemFile) -> Iterator[FileItem | BadRow]:
    """Give the items of a file, one after the other.

    Raises:
        PermanentError: it cannot be read, has no column of ids, or one that means nothing.
    """
    if table_kind(file.path) is not None:
        rows = _table_rows(file)
    elif first_lines(file.path, 1)[0].lstrip().startswith("{"):
        rows = _json_rows(file)
    else:
        rows = _csv_rows(file)
    for line, row in rows:
        if isinstance(row, str):
            yield BadRow(line, row)
            continue
        try:
            yield FileItem(line, *_item(row))
        except (ItemError, msgspec.ValidationError, ValueError) as error:
            yield BadRow(line, str(error))


_Rows = Iterator[tuple[int, dict[str, Any] | str]]  # line or row; field to value, or why there are none


def _csv_rows(file: ItemFile) -> _Rows:
    separator = max(_SEPARATORS, key=first_lines(file.path, 1)[0].count)
    with open_text(file.path) as stream:
        content = (block.content for block in blocks(file.path.name, stream))
        lines = (line for part in content for line in _decoded(file.path, part).splitlines(keepends=True))
        reader = csv.reader(lines, delimiter=separator, strict=True)
        header: list[str] = []
        fields: Sequence[str | None] = ()
        begins = 1
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                raise PermanentError(f"{file.path.name}, line {reader.line_num}: {error}; correct its quotes") from None
            line, begins = begins, reader.line_num + 1
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                fields = _fields(file, header)
            elif len(cells) != len(header):
                yield line, f"expected {len(header)} values, found {len(cells)}"
            else:
                yield line, {name: cell for name, cell in zip(fields, cells, strict=True) if name and cell.strip()}


def _json_rows(file: ItemFile) -> _Rows:
    decode = msgspec.json.Decoder().decode
    with open_text(file.path) as stream:
        for block in blocks(file.path.name, stream):
            for number, line in enumerate(block.content.split(b"\n"), start=block.first_line):
                if not line.strip():
                    continue
                try:
                    row = decode(line)
                except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                    yield number, f"expected a JSON object, found what is none ({error!s:.100})"
                    continue
                if not isinstance(row, dict):
                    yield number, "expected a JSON object, found something else"
                    continue
                fields = _fields(file, list(row), is_first=False, line=number)
                yield number, {name: row[key] for name, key in zip(fields, row, strict=True) if name}


def _table_rows(file: ItemFile) -> _Rows:
    with damage_as_one_line(file.path):
        try:
            if table_kind(file.path) == PARQUET:
                opened = parquet.ParquetFile(file.path)
                names, batches = opened.schema_arrow.names, opened.iter_batches(_ROWS_AT_ONCE)
            else:
                reader = pa.ipc.open_file(pa.memory_map(str(file.path)))
                names = reader.schema.names
                batches = (reader.get_batch(number) for number in range(reader.num_record_batches))
            fields, row_number = _fields(file, names), 0
            for batch in batches:
                for row in batch.to_pylist():
                    row_number += 1
                    values = zip(fields, row.values(), strict=True)
                    yield row_number, {name: value for name, value in values if name}
        except pa.ArrowException as error:
            raise damaged(file.path, error) from None


def _decoded(path: Path, content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise PermanentError(
            f"{path.name}: expected UTF-8, found other bytes behind {content[error.start - 20 : error.start]!r}; write "
            "it as UTF-8, for example with iconv -f latin1 -t utf-8"
        ) from None


def _fields(file: ItemFile, names: Sequence[str], *, is_first: bool = True, line: int = 1) -> list[str | None]:
    """Give the field of each column; None: it is passed over.

    Raises:
        PermanentError: there is none of ids, two of one field, or one that means nothing.
    """
    chosen = {column: field for field, column in file.columns.items()}
    missing = [column for column in chosen if column not in names] if is_first else []
    if missing:
        raise PermanentError(f"{file.path.name}: there is no column {missing[0]!r}; it has {_listed(names)}")
    found: list[str | None] = []
    for name in names:
        folded = name.strip().casefold()
        usual = folded if folded in (ID, *_FIELDS) else _ALSO.get(folded)
        field = chosen.get(name, None if usual in file.columns else usual)
        if field is None and not file.ignores_others:
            close = difflib.get_close_matches(folded, (ID, *_FIELDS), n=1)
            meant = f" (did you mean {close[0]}?)" if close else ""
            raise PermanentError(
                f"{file.path.name}, line {line}: the column {name!r} means nothing here{meant}; name its field with "
                "--column FIELD=COLUMN, or pass over such columns with --ignore-others"
            )
        if field is not None and field in found:
            raise PermanentError(
                f"{file.path.name}: two columns say {field}; name the one with --column {field}=COLUMN"
            )
        found.append(field)
    if is_first and ID not in found:
        raise PermanentError(
            f"{file.path.name}: expected a column with the items' ids ({ID}), found {_listed(names)}; name it with "
            f"--column {ID}=COLUMN"
        )
    return found


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")


def _item(row: dict[str, Any]) -> tuple[str, ShopItem]:
    """Read a row.

    Raises:
        ValueError, ItemError, msgspec.ValidationError: a value cannot be used.
    """
    if row.get(ID) in (None, ""):
        raise ItemError(f"expected the item's id ({ID}), found none")
    item_id = read_id(row.pop(ID))
    item_id_of(item_id.encode(errors="surrogatepass"))
    values = {name: _reader(name)(name, value) for name, value in row.items() if not _is_nothing(value)}
    return item_id, msgspec.convert(values, ShopItem)


def _is_nothing(value: object) -> bool:
    return value is None or value == "" or value != value  # NaN, as tables have it for nothing


def _reader(field: str) -> Callable[[str, Any], Any]:
    if field in _TIMES:
        return _time
    return _READERS.get(field, lambda name, value: value)


def _time(name: str, value: Any) -> int | None:
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    try:
        return read_time_ms(value)
    except (ValueError, OverflowError):
        raise ItemError(f"expected a time as {name}, found {value!s:.40}") from None


def _flag(name: str, value: Any) -> Any:
    if isinstance(value, str):
        if value.strip().casefold() not in _FLAGS:
            raise ItemError(f"expected true or false as {name}, found {value:.40}")
        return _FLAGS[value.strip().casefold()]
    return bool(value) if value in (0, 1) else value


def _list(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return msgspec.json.decode(value)
    return [part for each in value.split(_CATEGORY_SEPARATOR) if (part := each.strip())]


def _number(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return float(value)
    try:
        return float(value)
    except ValueError:
        raise ItemError(f"expected a number as {name}, found {value:.40}") from None


def _price(name: str, value: Any) -> Any:
    try:
        return float(value)
    except (ValueError, TypeError):
        return value


_READERS: Mapping[str, Callable[[str, Any], Any]] = {
    "available": _flag,
    "categories": _list,
    "boost": _number,
    "price": _price,
}


def all_items(rows: Iterable[FileItem | BadRow]) -> Iterator[FileItem]:
    """Give the items, and pass over the others."""
    for row in rows:
        if isinstance(row, FileItem):
            yield row
