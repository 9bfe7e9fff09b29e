"""Reads JSON lines: a dump of a clicks topic, with the same paths as in the stream, and Adressa's events.

Each line is read as the stream reads a record's value, by the same functions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from nextclick.clicks import MAX_TIMESTAMP_MS
from nextclick.schema.ids import read_id
from nextclick.schema.paths import FieldPath
from nextclick.schema.times import read_time_ms
from tools.click_files.blocks import Block, block_parses
from tools.click_files.choices import Choices, ClickFile
from tools.click_files.heads import first_lines
from tools.click_files.layouts import ADRESSA, Layout
from tools.click_files.rows import TEXT, BadLine, Reading, Rows

JSON_LAYOUT = Layout(
    user=(
        "user_id|userId|visitor_id|visitorId|visitorid|customer_id|customerId|user.id|visitor.id|uid|reviewerID|"
        "session_id|sessionId|anonymous_id|anonymousId|user|session"
    ),
    item=(
        "item_id|itemId|itemid|product_id|productId|article_id|articleId|item.id|product.id|sku|parent_asin|asin|"
        "item|product"
    ),
    time=(
        "timestamp_ms|timestamp|time|ts|event_time|eventTime|occurred_at|occurredAt|created_at|createdAt|"
        "unixReviewTime|datetime|date"
    ),
    event="event_type|eventType|event|event_name|eventName|behavior|action",
)
ADRESSA_LAYOUT = Layout(user="userId", item="id", time="time")  # what has no `id` is a page that is no article


@dataclass(frozen=True, slots=True, kw_only=True)
class _Paths:
    """Where the fields are in each document."""

    user: FieldPath
    item: FieldPath
    time: FieldPath | None
    event: FieldPath | None
    conditions: tuple[FieldPath, ...]
    marks: tuple[FieldPath, ...]
    item_is_optional: bool


def read_json_lines(file: ClickFile, mark: Mapping[str, str]) -> Reading:
    """Read a file with an object a line, or an array of objects.

    Raises:
        PermanentError: a path that is none, or a damaged file.
    """
    layout = ADRESSA_LAYOUT if file.file_format == ADRESSA else JSON_LAYOUT
    choices = file.choices
    paths = _Paths(
        user=FieldPath.parse(choices.user or layout.user),
        item=FieldPath.parse(choices.item or layout.item),
        time=_time_path(file, layout),
        event=_path(choices.event, layout.event),
        conditions=tuple(FieldPath.parse(name) for name in choices.where),
        marks=tuple(FieldPath.parse(name) for name in mark),
        item_is_optional=file.file_format == ADRESSA and choices.item is None,
    )
    return Reading(
        layout=layout,
        place="line",
        found=_described(file, choices, paths),
        has_events=paths.event is not None,
        parses=block_parses(file.path, partial(_documents, paths)),
    )


def _path(chosen: str | None, usual: str) -> FieldPath | None:
    text = usual if chosen is None else chosen
    return FieldPath.parse(text) if text else None


def _time_path(file: ClickFile, layout: Layout) -> FieldPath | None:
    """Give where the time is; None if it is not asked for, or the first line has none in the usual places."""
    path = _path(file.choices.time, layout.time)
    if path is None or file.choices.time is not None or file.file_format == ADRESSA:
        return path
    documents = _first_documents(file)
    return None if documents and path.read(documents[:1], None) is None else path


def _described(file: ClickFile, choices: Choices, paths: _Paths) -> str:
    """Say which paths are taken: of alternatives the one that the first line has."""
    documents = _first_documents(file)[:1]
    kinds = {"user": paths.user, "item": paths.item, "time": paths.time, "event type": paths.event}
    taken = []
    for kind, path in kinds.items():
        there = [each for each in (path.text.split("|") if path else ()) if FieldPath.parse(each).read(documents, None)]
        if there:
            taken.append(f"{kind} from {there[0]}")
    return ", ".join(taken) or f"user from {choices.user or paths.user.text}"


def _first_documents(file: ClickFile) -> list[Any]:
    try:
        document = msgspec.json.decode(first_lines(file.path)[0])
    except (msgspec.DecodeError, UnicodeError):
        return []
    return document if isinstance(document, list) else [document]


class _Columns:
    """Collects the values of documents."""

    def __init__(self, paths: _Paths) -> None:
        self._paths = paths
        self.lines: list[int] = []
        self.user: list[str] = []
        self.item: list[str] = []
        self.time_ms: list[int | None] = []
        self.event: list[str] = []
        self.chosen: list[list[str]] = [[] for _ in (*paths.conditions, *paths.marks)]
        self.n_other = 0

    def take(self, line: int, document: Any) -> None:
        """Add a document's values.

        Raises:
            ValueError: one of them cannot be read; says what was expected and found.
        """
        paths, documents = self._paths, (document,)
        if not isinstance(document, dict):
            raise ValueError("expected a JSON object, found another value")
        event = "" if paths.event is None else _text(paths.event, documents, "event type")
        if paths.item_is_optional and paths.item.read(documents, None) is None:
            self.n_other += 1
            return
        user, item = _text(paths.user, documents, "user"), _text(paths.item, documents, "item")
        for what, path, text in (("user", paths.user, user), ("item", paths.item, item)):
            if not text:
                raise ValueError(f"expected the {what} at {path.text!r:.60}, found nothing there")
        time_ms = None if paths.time is None else _time_ms(paths.time, documents)
        chosen = [_condition(path, documents) for path in (*paths.conditions, *paths.marks)]
        self.lines.append(line)
        self.user.append(user)
        self.item.append(item)
        self.event.append(event)
        self.time_ms.append(time_ms)
        for column, value in zip(self.chosen, chosen, strict=True):
            column.append(value)

    def rows(self, bad: list[BadLine]) -> Rows:
        """Give all that was taken."""
        paths = self._paths
        chosen = tuple(pa.array(column, TEXT) for column in self.chosen)
        return Rows(
            lines=np.array(self.lines, dtype=np.int64),
            user=pa.array(self.user, TEXT),
            item=pa.array(self.item, TEXT),
            time=None if paths.time is None else pa.array(self.time_ms, pa.timestamp("ms")),
            event=None if paths.event is None else pa.array(self.event, TEXT),
            conditions=chosen[: len(paths.conditions)],
            marks=chosen[len(paths.conditions) :],
            bad=tuple(bad),
            n_other=self.n_other,
        )


def _documents(paths: _Paths, block: Block) -> Rows:
    decode = msgspec.json.Decoder().decode
    columns, bad = _Columns(paths), []
    for number, line in enumerate(block.content.split(b"\n"), start=block.first_line):
        if not line or line.isspace():
            continue
        try:
            document = decode(line)
            for each in document if isinstance(document, list) else [document]:
                columns.take(number, each)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            bad.append(BadLine(number, f"expected a JSON object, found what is none ({error})"))
        except ValueError as error:
            bad.append(BadLine(number, str(error)))
    return columns.rows(bad)


def _text(path: FieldPath, documents: tuple[Any, ...], what: str) -> str:
    value = path.read(documents, None)
    if value is None:
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
