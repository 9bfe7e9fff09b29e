"""The events of a sample as a table: which fields there are, and what each holds."""

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from doctor.search.sample import Sample, SampledRecord
from doctor.search.words import Role, id_role
from nextclick.clicks import MAX_ID_BYTES, Rejected
from nextclick.errors import PermanentError
from nextclick.schema.decoder import read_document
from nextclick.schema.envelopes import Event, unwrapper
from nextclick.schema.events import events_of
from nextclick.schema.ids import read_id
from nextclick.schema.paths import HEADER, FieldPath, Headers, parsed_text

MAX_DEPTH = 6
MAX_FIELDS = 300  # of one event, and in all: more is a table in a record
MAX_EVENTS = 20  # of one record: the others are as these
_IN_NEARLY_ALL, _IN_FEW = 0.95, 0.5  # of the events
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
    """The events of a sample, taken out of their envelope and of their record's list.

    Attributes:
        events: of all records, of each at most `MAX_EVENTS`.
        list_field: where the list is; empty: there is none.
    """

    events: Sequence[SampledEvent]
    list_field: str = ""

    @cached_property
    def paths(self) -> Sequence[str]:
        """The fields that are there, the most frequent first, those of the event before those of its envelope.

        Names that are users are left out: they are data, and nobody is named.
        """
        counts: Counter[str] = Counter()
        for event in self.events:
            counts.update(_paths_of(event))
        within = f"{self.list_field}.0"
        found = [path for path, _ in counts.most_common(MAX_FIELDS) if not self.list_field or path != within]
        found = [path for path in found if not self.list_field or not path.startswith(f"{within}.")]
        people = self._people(found)

        def is_person(name: str, n_events: int) -> bool:
            is_usual = n_events >= _IN_NEARLY_ALL * len(self.events) and people[name] < _IN_FEW * len(self.events)
            return name in people and not is_usual

        return [path for path in found if not any(is_person(part, counts[path]) for part in path.split("."))]

    def _people(self, paths: Sequence[str]) -> Counter[str]:
        """Give what can be a user, with how often it is there: keys, and what fields with a user's name hold."""
        people = Counter(
            event.record.key.decode(errors="replace").strip('"') for event in self.events if event.record.key
        )
        for path in paths:
            if id_role(path)[0] is Role.USER:
                people |= Counter(each for each in self.ids(path) if each is not None)
        return people

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
        return Table([event for place, event in enumerate(self.events) if condition(place)], self.list_field)


def read_table(sample: Sample, envelope: str, list_field: str) -> Table:
    """Read the events of a sample; what is no event in such an envelope and list is left out."""
    unwrap, list_path = unwrapper(envelope), FieldPath.parse(list_field) if list_field else None
    events = []
    for record, document in parsed(sample):
        for event in events_of(document, record.headers, unwrap, list_path)[:MAX_EVENTS]:
            if isinstance(event, Event) and isinstance(event.documents[0], Mapping):
                events.append(SampledEvent(record, event.documents, event.time))
    return Table(events, list_field)


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
    node = parsed_text(node)
    if isinstance(node, Mapping) and len(parts) < MAX_DEPTH:
        for name, inner in node.items():
            if name not in without:
                yield from _leaves(inner, (*parts, name), set())
    elif isinstance(node, list) and len(parts) < MAX_DEPTH:
        if node:
            yield from _leaves(node[0], (*parts, "0"), without)
    elif parts and node is not None and node != "" and (path := _text_of(parts)) is not None:
        yield path


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
