"""Where the kind of an event is, and which kinds are clicks."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from doctor.search.event_names import NO_CLICK, event_type_of
from doctor.search.fields import SOME
from doctor.search.table import Table
from doctor.search.words import NAME_ALONE, kind_score
from nextclick.clicks import EVENT_TYPES, OTHER_EVENT
from nextclick.errors import PermanentError
from nextclick.schema.event_types import EventMap
from nextclick.schema.ids import read_id
from nextclick.settings import Settings

MAX_NAMES = 40  # different names of events: a field with more is no kind
MAX_NAME_CHARS = 60
_HAS_ITEM = 0.5  # of the events of a name that is known: as many must have an item for them to be clicks
_SURELY_HAS_ITEM = 0.9  # the same, of a name that is not known
_NAMELESS = "view"  # what an event without a kind is
_MOST = 0.5  # of the events: as many must have a known name where the field's own says little
_KNOWN = 5.0  # what it counts that a field's values are names of events that are known
_VARIETY, _MAX_VARIETY = 3.0, 3  # what each further name counts


def find_event_field(table: Table, settings: Settings) -> str | None:
    """Give the field that names the kind of each event, with one of other events beside it; None if none does."""
    is_known = _known_names(_names(table.column(settings.event_field))) > 0
    best = settings.event_field if is_known else _best_kind(table)
    if best is None:
        return None
    names = event_names(table, best)
    others = table.where(lambda place: names[place] is None)
    other = _best_kind(others)
    if other is None or kind_score(other) <= NAME_ALONE:
        return best
    kinds = _names(others.column(other))
    n_clicks = sum(number for name, number in kinds.items() if isinstance(event_type_of(name), str))
    return f"{best}|{other}" if n_clicks >= SOME * len(table.events) else best


def _best_kind(table: Table) -> str | None:
    best, best_score = None, 0.0
    for path in table.paths:
        names = _names(table.column(path))
        known, named = _known_names(names), kind_score(path)
        # A product can be a watch. So where the field's name says nothing, every value must be an event's name; where
        # it says little, most of them must, and one be of no click.
        is_sure = named > NAME_ALONE or known == names.total()
        if not known or not (is_sure or (named and _are_events(names, known))):
            continue
        variety = min(len(names), _MAX_VARIETY)  # a field that says the same of all events tells nothing
        score = named + _KNOWN * known / names.total() + _VARIETY * (variety - 1)
        if score > best_score:
            best, best_score = path, score
    return best


def event_names(table: Table, path: str) -> Sequence[str | None]:
    """Give the name of each event's kind; None where there is none."""
    return [_name(value) for value in table.column(path)]


def map_events(names: Sequence[str | None], has_item: Sequence[bool], settings: Settings) -> str | None:
    """Give the setting `events` that takes what is a click, with its type; None when the present one does so already.

    Args:
        names: of each event's kind.
        has_item: whether each event has an item.
        settings: the present ones.
    """
    now = EventMap.parse(settings.events)
    with_item: defaultdict[str, list[bool]] = defaultdict(list)
    for name, has in zip(names, has_item, strict=True):
        with_item[name or _NAMELESS].append(has)
    is_listed = bool(settings.events) and any(name in now.codes for name in names)
    if not any(names) or len(with_item) > MAX_NAMES or is_listed:
        return None
    kinds = {name: _kind(name, sum(has) / len(has)) for name, has in sorted(with_item.items(), key=_by_frequency)}
    listed = {name: kind for name, kind in kinds.items() if kind is not None}
    if not listed or (
        len(listed) == len(kinds) and all(now.code(name) == _code(kind) for name, kind in listed.items())
    ):
        return None
    text = ",".join(name if name == kind else f"{name}:{kind}" for name, kind in listed.items())
    try:
        is_what_is_meant = set(EventMap.parse(text).codes) == set(listed)
    except PermanentError:
        return None
    return text if is_what_is_meant else None  # a name with a comma cannot be listed


def _code(kind: str) -> int:
    return EVENT_TYPES.index(kind) if kind in EVENT_TYPES else OTHER_EVENT


def _by_frequency(entry: tuple[str, list[bool]]) -> tuple[int, str]:
    name, has_item = entry
    return -len(has_item), name


def _kind(name: str, with_item: float) -> str | None:
    kind = event_type_of(name)
    if kind is NO_CLICK:
        return None
    if kind is None:
        return "other" if with_item >= _SURELY_HAS_ITEM else None
    return str(kind) if with_item >= _HAS_ITEM else None


def _name(value: Any) -> str | None:
    try:
        return read_id(value) if value is not None else None
    except ValueError:
        return None


def _names(column: Sequence[Any]) -> Counter[str]:
    """Give how often each name is there; nothing where a field holds more than the few names of kinds."""
    counts: Counter[str] = Counter()
    for value in column:
        if value is None:
            continue
        if not isinstance(value, str) or len(value) > MAX_NAME_CHARS or not value.isprintable():
            return Counter()
        counts[value] += 1
        if len(counts) > MAX_NAMES:
            return Counter()
    return counts


def _are_events(names: Counter[str], known: int) -> bool:
    """Tell whether most names are known as those of events, some of them as no clicks."""
    return known >= _MOST * names.total() and any(event_type_of(name) is NO_CLICK for name in names)


def _known_names(names: Counter[str]) -> int:
    """Say how many events have a name that is known."""
    return sum(number for name, number in names.items() if event_type_of(name) is not None)
