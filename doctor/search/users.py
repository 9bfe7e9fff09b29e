"""Where the user is, and what the record's key has to do with it.

The strongest evidence is a field that equals the record's key. Without it, names decide, and then the sample must show
that each user's records are in one partition: only then can their clicks be applied in order.
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from doctor.search.sample import Sample, SampledRecord
from doctor.search.table import Table
from doctor.search.words import Role, id_role, is_event_id
from nextclick.hashing import PARTITIONERS
from nextclick.schema.keys import id_of, read_key
from nextclick.schema.placement import MIN_SAMPLE, guess_partitioner, is_home
from nextclick.schema.registry import Registry, Undecodable
from nextclick.settings import Settings

KEY_FORMATS = ("registry", "text", "json", "int", "long", "connect")
MATCHES = 0.8  # a field that equals so many of the keys is what the key names
ENOUGH = 0.9  # of the events: a field that holds an id in so many is good as it is
FEW = 0.01  # what is not more than this is a mistake of a few records
MIN_KEYS = 5  # to tell a partitioner by; with fewer than `guess_partitioner` wants it must be the only one
_BY_CHANCE = 0.001  # what shows each user in one partition must not be likelier without any order
_WRITTEN_SINCE = 0.5  # of the keys: more than by chance with two partitions would be where they are put now
_MAX_COUNT = 1_000  # partitions: to try more takes long
_MAX_CANDIDATES = 8  # fields that alternatives are made of
_SURE_OF_NAME = 3.0  # of a name's score: an email is less


class UserField(NamedTuple):
    """A place of the user.

    Attributes:
        path: as the setting has it.
        key_format: under which the key names the same user; None: under none.
        matches: the share of the keys that do.
        coverage: the share of the events that have a user there.
    """

    path: str
    key_format: str | None
    matches: float
    coverage: float


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
    if sure:
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
        self._texts: dict[tuple[str, str], Sequence[str | None]] = {}

    def judged(self, path: str, ids: Sequence[str | None]) -> UserField:
        """Say how well a place fits the keys."""
        coverage = sum(each is not None for each in ids) / max(1, len(ids))
        key_format, matches = self.best_format(path, ids)
        return UserField(path, key_format if matches >= MATCHES else None, matches, coverage)

    def best_format(self, path: str, ids: Sequence[str | None]) -> tuple[str, float]:
        """Give the format under which most keys equal the ids, and the share of the keys that do."""
        best, most = self._formats[0], 0
        for key_format in self._formats:
            texts = self._text(key_format, path.split("|")[0].rpartition(".")[2])
            equal = sum(text is not None and text == each for text, each in zip(texts, ids, strict=True))
            if equal > most:
                best, most = key_format, equal
        return best, most / max(1, self._n_keys)

    def _text(self, key_format: str, user_name: str) -> Sequence[str | None]:
        if (key_format, user_name) not in self._texts:
            texts = [self._read(key_format, record, user_name) for record in self._records]
            self._texts[key_format, user_name] = texts
        return self._texts[key_format, user_name]

    def _read(self, key_format: str, record: SampledRecord, user_name: str) -> str | None:
        if record.key is None:
            return None
        try:
            if key_format != "registry":
                return read_key(key_format, record.key, user_name)
            assert self._registry is not None  # or it is no format that is tried
            return id_of(self._registry.decode(record.key, record.headers, is_key=True), user_name)
        except (ValueError, Undecodable):
            return None


def _candidates(table: Table, keys: _Keys) -> list[str]:
    """Give the fields that can hold a user, the best first: by their names, or because the key names the same."""
    named, matching = [], []
    for path in table.paths:
        role, score = id_role(path)
        if role is Role.ITEM or is_event_id(path):
            continue
        if role is Role.USER:
            named.append((score + table.coverage(path), path))
        elif keys.best_format(path, table.ids(path))[1] >= MATCHES:
            matching.append(path)
    if matching and not any(score >= _SURE_OF_NAME for score, _ in named):
        return matching[:_MAX_CANDIDATES]  # with a name that says nothing, or it would be a key by country, say
    return [path for _, path in sorted(named, reverse=True)][:_MAX_CANDIDATES]


def _combined(singles: dict[str, Sequence[str | None]]) -> Iterator[tuple[str, Sequence[str | None]]]:
    """Give each field, and each two of them as alternatives where the first is not always there."""
    yield from singles.items()
    for first, second in itertools.permutations(singles, 2):
        if any(a is None and b is not None for a, b in zip(singles[first], singles[second], strict=True)):
            ids = [a if a is not None else b for a, b in zip(singles[first], singles[second], strict=True)]
            yield f"{first}|{second}", ids


def _name_score(field: UserField) -> float:
    return id_role(field.path.split("|")[0])[1]


class Keying(NamedTuple):
    """How the records are keyed.

    Attributes:
        changes: of the settings, so that they can be read.
        needs_rekey: why they have to be copied with another key; empty: they need not.
    """

    changes: dict[str, str]
    needs_rekey: str = ""


def find_keying(table: Table, sample: Sample, settings: Settings, user: UserField) -> Keying:
    """Say which settings fit the keys and partitions of a sample, given where the user is."""
    homes: defaultdict[str, list[int]] = defaultdict(list)
    for event, user_id in zip(table.events, table.ids(user.path), strict=True):
        if user_id is not None:
            homes[user_id].append(event.record.partition)
    spread = _spread(homes, sample.n_partitions)
    is_together = spread is not None and spread <= FEW
    keyless = sum(record.key is None for record in sample.records) / max(1, len(sample.records))
    if keyless > FEW and is_together:
        return Keying({"check_key": "false", "partitioner": "none"})
    why = f"{keyless:.0%} of the records have no key" if keyless > FEW else ""
    if keyless == 1:
        return Keying({}, why)
    if user.key_format is None and spread is not None and not is_together:
        return Keying({}, why or f"{spread:.0%} of the users who came back have records in several partitions")
    changes = {"check_key": "false"} if user.key_format is None else {"key_format": user.key_format}
    partitioner = _partitioner(sample, settings.partitioner)
    if partitioner is None and is_together:
        partitioner = "none"
    if partitioner is None:
        return Keying(changes, why or "no partitioner that is known puts the keys where they are")
    return Keying(changes | {"partitioner": partitioner}, why)


def find_growth(sample: Sample, settings: Settings) -> int:
    """Give how many partitions the topic had when those records were written that are not where keys are put now.

    Returns:
        0: all are where they should be, or no such number explains them.
    """
    places = {(record.key, record.partition) for record in sample.records if record.key is not None}
    for partitioner in dict.fromkeys((settings.partitioner, *PARTITIONERS)):
        away = [place for place in places if not is_home(*place, partitioner, (sample.n_partitions,))]
        if len(away) <= FEW * len(places):
            return 0
        if len(places) < MIN_SAMPLE or len(away) > (1 - _WRITTEN_SINCE) * len(places):
            continue
        for count in range(1, min(sample.n_partitions, _MAX_COUNT)):
            if all(is_home(*place, partitioner, (count,)) for place in away):
                return count
    return 0


def _spread(homes: dict[str, list[int]], n_partitions: int) -> float | None:
    """Give the share of the users with several records who are in several partitions.

    Returns:
        None: it cannot be told. Too few came back; or nearly all records are in one partition, where a producer that
        was given no keys put them for a while, and so everyone is together by chance.
    """
    if n_partitions == 1:
        return 0.0
    counts = Counter(partition for partitions in homes.values() for partition in partitions)
    by_chance = sum((number / counts.total()) ** 2 for number in counts.values())
    returning = [set(partitions) for partitions in homes.values() if len(partitions) > 1]
    if by_chance ** len(returning) > _BY_CHANCE:
        return None
    return sum(len(partitions) > 1 for partitions in returning) / len(returning)


def _partitioner(sample: Sample, current: str) -> str | None:
    """Give the partitioner that fits the keys of the sample, the present one first; None if none does."""
    keys = {record.key: record.partition for record in sample.records if record.key is not None}
    n_home = {
        each: sum(is_home(key, at, each, sample.counts) for key, at in keys.items())
        for each in (current, *PARTITIONERS)
    }
    if n_home[current] >= (1 - FEW) * len(keys):
        return current
    if (guess := guess_partitioner(keys, sample.n_partitions)) is not None:
        return guess
    fits = [each for each, n in n_home.items() if n >= (1 - FEW) * len(keys)]
    return fits[0] if len(fits) == 1 and len(keys) >= MIN_KEYS else None
