"""Where the item and the time of an event are."""

from collections.abc import Collection
from typing import Any

from doctor.search.table import Table
from doctor.search.words import Role, id_role, is_event_id, time_score
from nextclick.clicks import FUTURE_TOLERANCE_MS
from nextclick.schema.paths import parsed_text
from nextclick.schema.times import read_time_ms, record_time_ms
from nextclick.settings import Settings

WORKS = 0.95  # of the events: a field that fits so many is good as it is
_MOST = 0.5  # of the events must have a time for it to be theirs
_RARE = 0.1  # of the events: a name that is there less often can be data, a user's for example
_SELDOM = 0.005  # of the events: clicks can be rare among pings, and then so are items
_MAX_ALTERNATIVES = 3
SOME = 0.02  # of the events: an alternative must add as many
_NEAR_MS = 7 * 24 * 3600 * 1000
_YEAR_2000_MS = 946_684_800_000
_SURE_TIME = 3.0  # of a name's score: it is a time of the event, whatever else there is
_AS_GOOD = 4.0  # an alternative's name says about as much
_FEW_VALUES = 20  # of a field without a name: fewer are kinds of something
_REPEATS = 0.9  # an item is clicked more than once: of a field without a name at most so many values are different


def find_item(table: Table, settings: Settings, without: Collection[str]) -> str | None:
    """Give the best place of the item: the present one if it is there; None if no field looks like it.

    Args:
        table: the events that are clicks, as far as that is known.
        settings: the present ones.
        without: fields that are something else.
    """
    if table.coverage(settings.item_field) >= WORKS:
        return settings.item_field
    scored = _named_items(table, without, _RARE) or _named_items(table, without, _SELDOM)
    if not scored:
        return _nameless_item(table, without)
    best_score, best = scored[0]
    for score, path in scored[1:]:
        is_as_good = score + 6 * table.coverage(best) >= best_score - _AS_GOOD
        if not is_as_good or best.count("|") == _MAX_ALTERNATIVES - 1:
            break
        if table.coverage(f"{best}|{path}") >= table.coverage(best) + SOME:
            best = f"{best}|{path}"
    return best


def _named_items(table: Table, without: Collection[str], least: float) -> list[tuple[float, str]]:
    """Give the fields with an item's name that are in a share of the events, the best first."""
    return sorted(
        (
            (score + 6 * coverage - _oddness(table, path), path)
            for path in table.paths
            if path not in without and (coverage := table.coverage(path)) >= least
            for role, score in (id_role(path),)
            if role is Role.ITEM
        ),
        reverse=True,
    )


def _oddness(table: Table, path: str) -> float:
    """Say how much the values of a field are unlike those of items: the same in all events, or never twice."""
    ids = [each for each in table.ids(path) if each is not None]
    if len(ids) > 1 and len(set(ids)) == 1:
        return 4.0
    return 1.0 if len(ids) > 50 and len(set(ids)) == len(ids) else 0.0


def _nameless_item(table: Table, without: Collection[str]) -> str | None:
    """Give the field of the most different ids that come again, where no name says what is the item."""
    best, most = None, _FEW_VALUES
    for path in table.paths:
        ids = [each for each in table.ids(path) if each is not None]
        role, _ = id_role(path)
        if path in without or role is Role.USER or is_event_id(path) or len(ids) < WORKS * len(table.events):
            continue
        if path.startswith("header:") or any(isinstance(value, float) for value in table.column(path)):
            continue
        n_different = len(set(ids))
        if most < n_different <= _REPEATS * len(ids) and not all(_is_time(value) for value in table.column(path)):
            best, most = path, n_different
    return best


def left_out(table: Table, paths: Collection[str]) -> dict[str, int]:
    """Give the lists whose first elements some fields are in, with how many elements stand behind these."""
    counts = {}
    for path in paths:
        parts = path.split(".")
        for place, part in enumerate(parts):
            if part == "0" and place:
                list_path = ".".join(parts[:place])
                held = map(parsed_text, table.column(list_path))
                counts[list_path] = sum(len(each) - 1 for each in held if isinstance(each, list) and each)
    return {path: number for path, number in counts.items() if number}


def find_time(table: Table, settings: Settings, now_ms: int, without: Collection[str]) -> str | None:
    """Give the best place of the event time: the present one if it holds times; None if no field looks like it.

    Args:
        table: the events that are clicks.
        settings: the present ones.
        now_ms: the reader's clock.
        without: fields that are something else. Beside them is where the time often is.
    """
    current = _readable(table, settings.time_field, now_ms)
    if current >= WORKS:
        return settings.time_field
    if not current and any(event.time is not None for event in table.events):
        return None  # the envelope's time counts
    chosen, readable = [settings.time_field] if current >= SOME else [], current
    for path in _times(table, now_ms, without):
        is_sure = not chosen or time_score(path) >= _SURE_TIME
        together = _readable(table, "|".join([*chosen, path]), now_ms)
        if is_sure and together >= readable + SOME:
            chosen, readable = [*chosen, path], together
        if len(chosen) == _MAX_ALTERNATIVES or readable >= WORKS:
            break
    return "|".join(chosen) if readable >= _MOST and readable > current else None


def _times(table: Table, now_ms: int, without: Collection[str]) -> list[str]:
    """Give the fields that can hold the times of some events, the best first."""
    scored = []
    for path in table.paths:
        readable = 0.0 if path in without else _readable(table, path, now_ms)
        if readable < _RARE:
            continue
        name, near = time_score(path), _near(table, path)
        if not name and not _is_text(table, path) and near < WORKS:
            continue  # a number of no such name, which could be anything
        is_beside = any(_is_beside(path, each) for each in without)
        scored.append((max(name, 1.0) + 4 * readable + 3 * near + 2 * is_beside, path))
    return [path for _, path in sorted(scored, key=lambda each: -each[0])]


def _is_beside(path: str, other: str) -> bool:
    """Tell whether two fields are in the same part of an event."""
    if "." in path and "." in other:
        return path.split(".")[0] == other.split(".")[0]
    return "." not in path and "." not in other


def _readable(table: Table, path: str, now_ms: int) -> float:
    """Give the share of the events with a time of our days in a field; 0 where it also holds what is none."""
    n_times = n_others = 0
    for value in table.column(path):
        if value is None or value == 0:
            continue
        if _is_time(value) and (read_time_ms(value) or 0) <= now_ms + FUTURE_TOLERANCE_MS:
            n_times += 1
        else:
            n_others += 1
    is_clean = n_others <= (1 - WORKS) * (n_times + n_others)
    return n_times / len(table.events) if is_clean and table.events else 0.0


def _is_time(value: Any) -> bool:
    try:
        timestamp_ms = read_time_ms(value)
    except (ValueError, OverflowError):
        return False
    return timestamp_ms is not None and timestamp_ms >= _YEAR_2000_MS


def _is_text(table: Table, path: str) -> bool:
    """Tell whether a field holds times that are written out."""
    value = next((each for each in table.column(path) if each is not None), None)
    return isinstance(value, str) and not value.replace(".", "").isdigit()


def _near(table: Table, path: str) -> float:
    """Give the share of the times in a field that are near their record's."""
    n_near = n_times = 0
    for event, value in zip(table.events, table.column(path), strict=True):
        if not _is_time(value):
            continue
        n_times += 1
        record_ms = record_time_ms(event.record.timestamp_ms, 0)
        n_near += abs((read_time_ms(value) or 0) - record_ms) <= _NEAR_MS
    return n_near / max(1, n_times)
