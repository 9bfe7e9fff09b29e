"""Where the user is, by the record's key and by names.

The strongest evidence is a field that equals the record's key. Without it, names decide.
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from doctor.search.sample import SampledRecord
from doctor.search.table import Table
from doctor.search.words import Role, id_role, is_event_id
from nextclick.schema.keys import UserNames, id_of, read_key, user_names
from nextclick.schema.placement import MIN_SAMPLE
from nextclick.schema.registry import Registry, Undecodable
from nextclick.settings import Settings

KEY_FORMATS = ("registry", "text", "json", "int", "long", "connect")
MATCHES = 0.8  # a field that equals so many of the keys is what the key names
ENOUGH = 0.9  # of the events: a field that holds an id in so many is good as it is
FEW = 0.01  # what is not more than this is a mistake of a few records
_VISIT = 4.0  # of a name's score: sessions, devices, browsers; people have more
_ALL_DIFFERENT = 0.9  # of the ids
_MAX_CANDIDATES = 8  # fields that alternatives are made of
_SURE_OF_NAME = 3.0  # of a name's score: an email is less


class UserField(NamedTuple):
    """A place of the user.

    Attributes:
        path: as the setting has it.
        key_format: under which the key names the same user; None: under none.
        matches: the share of the keys that do.
        coverage: the share of the events that have a user there.
        has_several_keys: whether a user's records have different keys that all name the user, and something else.
    """

    path: str
    key_format: str | None
    matches: float
    coverage: float
    has_several_keys: bool = False


def find_user(table: Table, settings: Settings, registry: Registry | None) -> UserField | None:
    """Give the best place of the user; the present one if none is better; None if there is no field like it."""
    keys = _Keys(table, settings, registry)
    singles = {path: table.ids(path) for path in _candidates(table, keys)}
    found = [keys.judged(path, ids) for path, ids in _combined(singles)]
    current = keys.judged(settings.user_field, table.ids(settings.user_field))
    if current.coverage:
        found.append(current)
    if not found:
        return None
    sure = [each for each in found if each.matches >= MATCHES]
    best = max(each.matches for each in found)
    people = [each for each in found if _name_score(each) > _VISIT and each.coverage >= ENOUGH]
    if people and sure and current not in sure and all(_is_visit(each) for each in sure):
        # The key is of a visit or a device, and nearly every event says who it is.
        found = people
    elif sure:
        found = [each for each in sure if each.matches >= best - FEW]
    elif current.coverage >= ENOUGH:
        return current
    return max(
        found, key=lambda each: (round(each.coverage, 2), each == current, _name_score(each), -each.path.count("|"))
    )


class _Keys:
    """The keys of the events, under each format."""

    def __init__(self, table: Table, settings: Settings, registry: Registry | None) -> None:
        self._records = [event.record for event in table.events]
        self._registry = registry
        self._n_keys = sum(record.key is not None for record in self._records)
        known = KEY_FORMATS if registry is not None else KEY_FORMATS[1:]
        self._formats = [each for each in dict.fromkeys((settings.key_format, *known)) if each in known]
        self._texts: dict[tuple[str, UserNames], Sequence[str | None]] = {}

    def judged(self, path: str, ids: Sequence[str | None]) -> UserField:
        """Say how well a place fits the keys."""
        coverage = sum(each is not None for each in ids) / max(1, len(ids))
        key_format, matches = self.best_format(path, ids)
        if matches < MATCHES:
            return UserField(path, None, matches, coverage)
        return UserField(path, key_format, matches, coverage, self._are_several(path, ids, key_format))

    def _are_several(self, path: str, ids: Sequence[str | None], key_format: str) -> bool:
        """Tell whether different keys name the same user."""
        texts = self._text(key_format, user_names(path))
        own = {
            (each, record.key)
            for each, text, record in zip(ids, texts, self._records, strict=True)
            if text is not None and text == each
        }
        return len(own) > len({each for each, _ in own})

    def best_format(self, path: str, ids: Sequence[str | None]) -> tuple[str, float]:
        """Give the format under which most keys equal the ids, and the share of the keys that do."""
        best, most = self._formats[0], 0
        for key_format in self._formats:
            texts = self._text(key_format, user_names(path))
            equal = sum(text is not None and text == each for text, each in zip(texts, ids, strict=True))
            if equal > most:
                best, most = key_format, equal
        return best, most / max(1, self._n_keys)

    def _text(self, key_format: str, names: UserNames) -> Sequence[str | None]:
        if (key_format, names) not in self._texts:
            self._texts[key_format, names] = [self._read(key_format, record, names) for record in self._records]
        return self._texts[key_format, names]

    def _read(self, key_format: str, record: SampledRecord, names: UserNames) -> str | None:
        if record.key is None:
            return None
        try:
            if key_format != "registry":
                return read_key(key_format, record.key, names)
            assert self._registry is not None  # or it is no format that is tried
            return id_of(self._registry.decode(record.key, record.headers, is_key=True), names)
        except (ValueError, Undecodable):
            return None


def _candidates(table: Table, keys: _Keys) -> list[str]:
    """Give the fields that can hold a user, the best first: by their names, or because the key names the same."""
    named, matching = [], []
    for path in table.paths:
        role, score = id_role(path)
        if role is Role.USER:
            named.append((score + table.coverage(path), path))
        elif role is not Role.ITEM and keys.best_format(path, table.ids(path))[1] >= MATCHES:
            matching += [path] if _returns(table, path) or not is_event_id(path) else []
    if matching and not any(score >= _SURE_OF_NAME for score, _ in named):
        return matching[:_MAX_CANDIDATES]  # with a name that says nothing, or it would be a key by country, say
    return [path for _, path in sorted(named, reverse=True)][:_MAX_CANDIDATES]


def _returns(table: Table, path: str) -> bool:
    """Tell whether ids come again, as users do and events do not; a few have not had the time."""
    ids = [each for each in table.ids(path) if each is not None]
    return len(set(ids)) < _ALL_DIFFERENT * len(ids) or len(ids) < MIN_SAMPLE


def _combined(singles: dict[str, Sequence[str | None]]) -> Iterator[tuple[str, Sequence[str | None]]]:
    """Give each field, and each two of them as alternatives where the first is not always there."""
    yield from singles.items()
    for first, second in itertools.permutations(singles, 2):
        if any(a is None and b is not None for a, b in zip(singles[first], singles[second], strict=True)):
            ids = [a if a is not None else b for a, b in zip(singles[first], singles[second], strict=True)]
            yield f"{first}|{second}", ids


def _is_visit(field: UserField) -> bool:
    return 0 < _name_score(field) <= _VISIT


def _name_score(field: UserField) -> float:
    return id_role(field.path.split("|")[0])[1]
