"""Reads JSON lines: a dump of a clicks topic, with the same paths as in the stream, and Adressa's events.

Each line is read as the stream reads a record's value, by the same functions: of an array all events, or none.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from nextclick.clicks import MAX_TIMESTAMP_MS
from nextclick.schema.ids import read_id
from nextclick.schema.paths import FieldPath, parsed_text
from nextclick.schema.times import read_time_ms
from tools.click_files.blocks import Block, block_parses
from tools.click_files.choices import ClickFile
from tools.click_files.json_paths import ADRESSA_LAYOUT, JSON_LAYOUT, JsonPaths, json_paths
from tools.click_files.layouts import ADRESSA
from tools.click_files.rows import TEXT, BadLine, Reading, Rows


def read_json_lines(file: ClickFile, mark: Mapping[str, str]) -> Reading:
    """Read a file with an object a line, or an array of one user's objects.

    Raises:
        PermanentError: a path that is none, or a damaged file.
    """
    paths = json_paths(file, mark)
    return Reading(
        layout=ADRESSA_LAYOUT if file.file_format == ADRESSA else JSON_LAYOUT,
        place="line",
        counted="event",
        found=paths.described(),
        has_times=paths.time is not None,
        has_events=paths.event is not None,
        parses=block_parses(file.path, partial(_documents, paths)),
    )


_Values = tuple[str, str, int | None, str, list[str]]  # what one document says, as in _Columns


class _Columns(NamedTuple):
    """What documents say."""

    user: list[str]
    item: list[str]
    time_ms: list[int | None]
    event: list[str]
    chosen: list[list[str]]  # the values of conditions and marks


def _documents(paths: JsonPaths, block: Block) -> Rows:
    decode = msgspec.json.Decoder().decode
    lines: list[int] = []
    values = _Columns([], [], [], [], [])
    columns: list[list[Any]] = list(values)
    bad: list[BadLine] = []
    n_other = 0
    for number, line in enumerate(block.content.split(b"\n"), start=block.first_line):
        if not line or line.isspace():
            continue
        try:
            document = parsed_text(decode(line))
            found = _array(paths, document) if isinstance(document, list) else [_values(paths, document)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            bad.append(BadLine(number, f"expected a JSON object, found what is none ({error})"))
        except ValueError as error:
            bad.append(BadLine(number, str(error)))
        else:
            for each in found:
                if each is None:
                    n_other += 1
                else:
                    lines.append(number)
                    for column, value in zip(columns, each, strict=True):
                        column.append(value)
    return _rows(paths, lines, values, bad, n_other)


def _rows(paths: JsonPaths, lines: list[int], values: _Columns, bad: list[BadLine], n_other: int) -> Rows:
    n_conditions = len(paths.conditions)
    chosen = [pa.array([row[place] for row in values.chosen], TEXT) for place in range(n_conditions + len(paths.marks))]
    return Rows(
        lines=np.array(lines, dtype=np.int64),
        user=pa.array(values.user, TEXT),
        item=pa.array(values.item, TEXT),
        time=None if paths.time is None else pa.array(values.time_ms, pa.timestamp("ms")),
        event=None if paths.event is None else pa.array(values.event, TEXT),
        conditions=tuple(chosen[:n_conditions]),
        marks=tuple(chosen[n_conditions:]),
        bad=tuple(bad),
        n_other=n_other,
        lines_are_records=True,
    )


def _array(paths: JsonPaths, documents: list[Any]) -> list[_Values | None]:
    """Give the values of several events in one line.

    Raises:
        ValueError: one of them cannot be read, or is another user's.
    """
    if not documents:
        raise ValueError("expected events, found an empty array")
    found = []
    for place, document in enumerate(map(parsed_text, documents), start=1):
        try:
            found.append(_values(paths, document))
        except ValueError as error:
            raise ValueError(f"event {place} of {len(documents)}: {error}") from None
    if len({each[0] for each in found if each is not None}) > 1:
        raise ValueError(
            f"expected the events of one user in an array, as in the stream, found several users in {len(documents)} "
            "events (jq -c '.[]' writes a line for each)"
        )
    return found


def _values(paths: JsonPaths, document: Any) -> _Values | None:
    """Give a document's values; None if it is no click by its format.

    Raises:
        ValueError: one of them cannot be read; says what was expected and found.
    """
    documents = (document,)
    if not isinstance(document, dict):
        raise ValueError("expected a JSON object, found another value")
    event = "" if paths.event is None else _text(paths.event, documents, "event type", paths.event_is_usual)
    if paths.item_is_optional and paths.item.read(documents, None) is None:
        return None
    user, item = _text(paths.user, documents, "user"), _text(paths.item, documents, "item")
    if not user or not item:
        what, path = ("item", paths.item) if user else ("user", paths.user)
        raise ValueError(f"expected the {what} at {path.text!r:.60}, found nothing there")
    time_ms = None if paths.time is None else _time_ms(paths.time, documents)
    if paths.no_time is not None and paths.no_time.read(documents, None) is not None:
        raise ValueError(
            "expected no time, as at the beginning of the file, found one; name it with --time, or give --time '' to "
            "take the order of the file"
        )
    chosen = [_condition(path, documents) for path in (*paths.conditions, *paths.marks)]
    return user, item, time_ms, event, chosen


def _text(path: FieldPath, documents: tuple[Any, ...], what: str, may_be_object: bool = False) -> str:
    """Give a field's text; an empty one for nothing, and for what may be an object and so something else."""
    value = path.read(documents, None)
    if value is None or (may_be_object and isinstance(value, dict | list)):
        return ""
    try:
        text = read_id(value)
        text.encode()
    except UnicodeError:
        raise ValueError(f"expected Unicode as {what} at {path.text!r:.60}, found half a pair of surrogates") from None
    except ValueError as error:
        raise ValueError(f"expected a text or a whole number as {what} at {path.text!r:.60}, found {error}") from None
    return text


def _time_ms(path: FieldPath, documents: tuple[Any, ...]) -> int | None:
    value = path.read(documents, None)
    try:
        time_ms = read_time_ms(value)
        return None if time_ms is None else min(time_ms, MAX_TIMESTAMP_MS)
    except (ValueError, OverflowError):
        raise ValueError(
            f"expected a time at {path.text!r:.60}, as seconds to nanoseconds since 1970 or ISO 8601, found "
            f"{str(value)!r:.60}"
        ) from None


def _condition(path: FieldPath, documents: tuple[Any, ...]) -> str:
    """Give a value as --where compares it: true and false by their names."""
    value = path.read(documents, None)
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
