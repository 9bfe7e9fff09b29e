"""The events of a sample as a table: which fields there are, and what each holds."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec

from doctor.search.sample import Sample, SampledRecord
from nextclick.clicks import MAX_ID_BYTES, Rejected
from nextclick.errors import PermanentError
from nextclick.schema.decoder import read_document
from nextclick.schema.envelopes import Event, unwrapper
from nextclick.schema.ids import read_id
from nextclick.schema.paths import HEADER, FieldPath, Headers

MAX_DEPTH = 6
MAX_FIELDS = 300  # of one event: more is a table in a record
_CHANGE_PARTS = ("before", "after", "source", "transaction")  # of Debezium's: no fields of the event


@dataclass(frozen=True, slots=True)
class SampledEvent:
    """One event of a record: of an array each is one.

    Attributes:
        record: that it is in.
        documents: where its fields are looked for, as the decoder does.
        time: its envelope's.
    """

    record: SampledRecord
    documents: Sequence[Any]
    time: Any = None

    def read(self, path: FieldPath) -> Any:
        """Give what a field holds."""
        return path.read(self.documents, self.record.headers)


@dataclass(frozen=True)
class Table:
    """The events of a sample, taken out of their envelope."""

    events: Sequence[SampledEvent]

    @cached_property
    def paths(self) -> Sequence[str]:
        """The fields that are there, the most frequent first, those of the event before those of its envelope."""
        counts: Counter[str] = Counter()
        for event in self.events:
            counts.update(_paths_of(event))
        return [path for path, _ in counts.most_common()]

    @cached_property
    def _columns(self) -> dict[str, Sequence[Any]]:
        return {}

    def column(self, path: str) -> Sequence[Any]:
        """Give what a field holds in each event; None where nothing is there."""
        if path not in self._columns:
            field = FieldPath.parse(path)
            self._columns[path] = [event.read(field) for event in self.events]
        return self._columns[path]

    @cached_property
    def _ids(self) -> dict[str, Sequence[str | None]]:
        return {}

    def ids(self, path: str) -> Sequence[str | None]:
        """Give the id that a field holds in each event; None where there is none that can be used."""
        if path not in self._ids:
            self._ids[path] = [_id_of(value) for value in self.column(path)]
        return self._ids[path]

    def coverage(self, path: str) -> float:
        """Give the share of the events in which a field holds an id."""
        ids = self.ids(path)
        return sum(each is not None for each in ids) / len(ids) if ids else 0.0

    def where(self, condition: Callable[[int], bool]) -> "Table":
        """Give the events at the places for which a condition holds."""
        return Table([event for place, event in enumerate(self.events) if condition(place)])


def read_table(sample: Sample, envelope: str) -> Table:
    """Read the events of a sample; what is no event in such an envelope is left out."""
    unwrap = unwrapper(envelope)
    events = []
    for record, document in parsed(sample):
        for each in document if isinstance(document, list) else (document,):
            event = unwrap(each, record.headers)
            if isinstance(event, Event) and isinstance(event.documents[0], Mapping):
                events.append(SampledEvent(record, event.documents, event.time))
    return Table(events)


def parsed(sample: Sample) -> Iterator[tuple[SampledRecord, Any]]:
    """Give the records that can be read, each with its value as the decoder sees it."""
    for record in sample.records:
        if record.value is not None:
            document = read_document(record.value, record.headers, sample.registry)
            if not isinstance(document, Rejected):
                yield record, document


def _id_of(value: Any) -> str | None:
    try:
        text = read_id(value)
        return text if 0 < len(text.encode()) <= MAX_ID_BYTES and "\0" not in text else None
    except ValueError:
        return None


def _paths_of(event: SampledEvent) -> list[str]:
    found: list[str] = []
    for place, document in enumerate(event.documents):
        if isinstance(document, Mapping):
            parts = {name: value for name, value in document.items() if not place or name not in _CHANGE_PARTS}
            found += _leaves(parts, (), {"data", "data_base64"} if place else set())
    found += [f"{HEADER}{name}" for name in _header_names(event.record.headers)]
    return list(dict.fromkeys(found))[:MAX_FIELDS]


def _leaves(node: Any, parts: tuple[str, ...], without: set[str]) -> Iterator[str]:
    """Give the paths of what holds a value; of a list those of its first element."""
    if isinstance(node, str) and node[:1] in ("{", "["):  # an object that somebody wrote as text
        node = _object_in(node)
    if isinstance(node, Mapping) and len(parts) < MAX_DEPTH:
        for name, inner in node.items():
            if name not in without:
                yield from _leaves(inner, (*parts, name), set())
    elif isinstance(node, list) and len(parts) < MAX_DEPTH:
        if node:
            yield from _leaves(node[0], (*parts, "0"), without)
    elif parts and node is not None and node != "" and (path := _text_of(parts)) is not None:
        yield path


def _object_in(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text


@functools.lru_cache(10_000)
def _text_of(parts: tuple[str, ...]) -> str | None:
    """Give a path as a setting has it, if a setting can have it."""
    text = ".".join(parts)
    if "|" in text or text != text.strip() or text.startswith(HEADER) or not text.isprintable():
        return None
    try:
        FieldPath.parse(text)
    except PermanentError:
        return None
    return text


def _header_names(headers: Headers) -> list[str]:
    names = (name for name, value in headers or () if value)
    return [name for name in names if name and "|" not in name and name == name.strip() and name.isprintable()]
