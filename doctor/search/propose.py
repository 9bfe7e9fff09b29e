"""The search: a few settings under which the most records of a sample can be used.

1. The envelope, by the shape of the records; the events in it become a table of fields.
2. What names the kind of an event.
3. The user: a field that equals the record's key, else by name; then how keys are written and which partitioner fits.
4. The item, among the events that are clicks by their kind; then which kinds are clicks.
5. The time, and the events' own ids.
6. The worker's own decoder judges the outcome, and what it does not need is left out again.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from doctor.search.envelope import find_envelope
from doctor.search.event_ids import PresentIds, find_id_field, look_at_ids
from doctor.search.event_names import NO_CLICK, event_type_of
from doctor.search.events import event_names, find_event_field, map_events
from doctor.search.fields import find_item, find_time, left_out
from doctor.search.keying import Keying, find_growth, find_keying
from doctor.search.sample import Sample, Verdict, judge, judge_copies
from doctor.search.table import Table, read_table
from doctor.search.users import find_user
from nextclick.errors import PermanentError
from nextclick.settings import Settings

SEARCHED = 1_000  # records; more make the search slower and hardly surer
SEARCHED_BYTES = 8 * 1024**2  # of these records; parsed, they take about ten times as much memory
# What is tried to be left out, the most dangerous to have without need first.
_NEEDED_OR_NOT = ("partitioner", "check_key", "key_format", "envelope", "user_field", "item_field")
_WORKS = 0.99  # of the records that are not passed over: with so many used, the settings are right but for details
_USABLE = 0.5  # of the records: with fewer that can be used as they are, a copy with other keys is the remedy


class Proposal(NamedTuple):
    """What the search found.

    Attributes:
        changes: setting name to value, as `--set` takes it; empty: nothing better was found.
        before: what becomes of the sample under the present settings.
        after: under the changed ones.
        needs_rekey: why some or all records have to be copied with another key; empty: they need not.
        is_after_rekey: whether `changes` and `after` are for the copy: the topic as it is can hardly be used.
        id_field: a field that holds each event's own id, if there is none where the settings have it.
        grown_from: how many partitions the topic had when some of the records were written; 0: as many as now.
        few_keys: of how many keys the partitioner was told, or could not be, if these are too few; 0: they are enough.
        left_out: by the path of a list whose first element is used, how many others stand behind it in what was looked
            through.
        missing: what no field was found for: user, item.
        present_ids: what the settings take for the events' own ids.
    """

    changes: Mapping[str, str]
    before: Verdict
    after: Verdict
    needs_rekey: str = ""
    is_after_rekey: bool = False
    id_field: str = ""
    grown_from: int = 0
    few_keys: int = 0
    left_out: Mapping[str, int] = MappingProxyType({})
    missing: Sequence[str] = ()
    present_ids: PresentIds = PresentIds()


def propose(sample: Sample, settings: Settings) -> Proposal:
    """Find the settings that suit a sample of the clicks topic."""
    few = sample.thinned(SEARCHED, SEARCHED_BYTES)
    grown_from = find_growth(few, settings)
    sample, few = sample._replace(grown_from=grown_from), few._replace(grown_from=grown_from)
    before = judge(sample, settings)
    # What works is not put into another envelope: its fields are named as they are without.
    works = 0 < before.used >= _WORKS * (before.used + before.rejected)
    found = _search_lists(few, settings, settings.envelope if works else find_envelope(few))
    changes = _without_needless(few, settings, found)
    after = judge(sample, changed(settings, changes)) if changes else before
    proposal = Proposal(
        changes,
        before,
        after,
        found.needs_rekey,
        False,
        found.id_field,
        grown_from,
        found.few_keys,
        found.left_out,
        found.missing,
        found.present_ids,
    )
    if not found.needs_rekey or after.used >= _USABLE * max(1, len(sample.records)):
        return proposal
    changes = _without_needless(few, settings, found._replace(keys={}), judge_copies)
    after = judge_copies(sample, changed(settings, changes))
    return proposal._replace(changes=changes, after=after, is_after_rekey=True, grown_from=0, few_keys=0)


def changed(settings: Settings, changes: Mapping[str, str]) -> Settings:
    """Give settings with some values changed.

    Raises:
        PermanentError: they do not go together.
    """
    values = {name: value if name != "check_key" else value == "true" for name, value in changes.items()}
    return dataclasses.replace(settings, **values)  # type: ignore[arg-type]


class _Found(NamedTuple):
    """What a sample speaks for.

    Attributes:
        fields: settings of the envelope and of the fields in it.
        keys: settings of the keys.
        kept: names of those that are good to have, whether or not records can be used without them.
        needs_rekey: why it must be keyed anew.
        id_field: the field of the events' own ids.
        few_keys: as in `Keying`.
        left_out, missing, present_ids: as in `Proposal`.
    """

    fields: Mapping[str, str]
    keys: Mapping[str, str]
    kept: frozenset[str]
    needs_rekey: str
    id_field: str
    few_keys: int
    left_out: Mapping[str, int]
    missing: Sequence[str]
    present_ids: PresentIds = PresentIds()


_NOTHING = _Found({}, {}, frozenset(), "", "", 0, {}, ("user", "item"))


def _search_lists(sample: Sample, settings: Settings, envelope: str) -> _Found:
    """Search; where it finds only what is first in lists, take each of their elements for an event, if that is more."""
    found = _search(sample, settings, envelope, settings.list_field)
    for list_field in found.left_out:
        listed = _search(sample, settings, envelope, list_field)
        if _is_more(*(_judged_alone(sample, settings, each) for each in (listed, found))):
            return listed
    return found


def _judged_alone(sample: Sample, settings: Settings, found: _Found) -> Verdict | None:
    """Say what the fields alone make of a sample, whatever its keys; None if they do not go together."""
    try:
        return judge_copies(sample, changed(settings, found.fields))
    except PermanentError:
        return None


def _is_more(listed: Verdict | None, first: Verdict | None) -> bool:
    """Tell whether the elements of lists are more clicks than the first of each, and no fewer records are used."""
    if listed is None or first is None:
        return False
    most_rejected = first.rejected + (1 - _WORKS) * first.usage.records
    return listed.used >= _WORKS * first.used and listed.rejected <= most_rejected and listed.n_clicks > first.n_clicks


def _search(sample: Sample, settings: Settings, envelope: str, list_field: str) -> _Found:
    table = read_table(sample, envelope, list_field)
    if not table.events:
        return _NOTHING
    fields, keying = {"envelope": envelope, "list_field": list_field}, Keying({})
    kind, user = find_event_field(table, settings), find_user(table, settings, sample.registry)
    if user is not None:
        fields["user_field"] = user.path
        keying = find_keying(table, sample, settings, user)
    taken = {*(user.path.split("|") if user is not None else ()), *(kind.split("|") if kind else ())}
    clicks = _clicks(table, kind)
    item = find_item(clicks, settings, taken)
    if item is not None:
        fields["item_field"] = item
        taken |= set(item.split("|"))
        if kind is not None:
            fields |= _kinds(table, settings, kind, item)
    time = find_time(clicks, settings, sample.now_ms, taken)
    if time is not None:
        fields["time_field"] = time
    kept = {"time_field", "event_field", "events"}
    if time is None and any(event.time is not None for event in table.events):
        kept.add("envelope")
    ids = [*(user.path.split("|") if user is not None else ()), *(item.split("|") if item is not None else ())]
    present_ids = look_at_ids(table, settings)
    id_field = find_id_field(table, present_ids, ids)
    if present_ids.is_unusable:
        fields["id_field"] = id_field
    missing = tuple(what for what, place in (("user", user), ("item", item)) if place is None)
    return _Found(
        fields,
        keying.changes,
        frozenset(kept),
        keying.needs_rekey,
        id_field,
        keying.few_keys,
        left_out(clicks, ids),
        missing,
        present_ids,
    )


def _kinds(table: Table, settings: Settings, kind: str, item: str) -> dict[str, str]:
    """Give what says which events are clicks, if anything must be said."""
    names, items = event_names(table, kind), table.ids(item)
    if any(name is not None and each is not None and each in name for name, each in zip(names, items, strict=True)):
        return {}  # such names are of items, and no list of them is one of kinds
    has_item = [each is not None for each in items]
    # Views are views without it; that is, where they all have an item.
    is_new = kind != settings.event_field
    is_needless = is_new and all(name is None or event_type_of(name) == "view" for name in names)
    events = map_events(names, has_item, settings) if not is_needless or not all(has_item) else None
    if events is not None:
        return {"event_field": kind, "events": events}
    if is_needless:
        return {}
    return {"event_field": kind} if any(name not in (None, "view") for name in names) else {}


def _clicks(table: Table, kind: str | None) -> Table:
    """Give the events that are not known to be no clicks; all, if none would be left."""
    if kind is None:
        return table
    names = event_names(table, kind)
    clicks = table.where(
        lambda place: names[place] is None or event_type_of(names[place] or "") not in (NO_CLICK, None)
    )
    return clicks if clicks.events else table


def _without_needless(
    sample: Sample, settings: Settings, found: _Found, judged: Callable[[Sample, Settings], Verdict] = judge
) -> dict[str, str]:
    """Leave out what is as it was, and then what the records can be used without; everything, if that is of no use."""
    wanted = {**found.fields, **found.keys}
    changes = {name: value for name, value in wanted.items() if _text(getattr(settings, name)) != value}
    most = _used(sample, settings, changes, judged)
    if most <= 0:  # or two fields are at one place, say
        return {}
    for name in _NEEDED_OR_NOT:
        fewer = {each: value for each, value in changes.items() if each != name}
        if name in changes and name not in found.kept and _used(sample, settings, fewer, judged) >= most:
            changes = fewer
    return changes


def _used(
    sample: Sample, settings: Settings, changes: Mapping[str, str], judged: Callable[[Sample, Settings], Verdict]
) -> int:
    """Give how many records are used under changed settings; -1 when these do not go together."""
    try:
        return judged(sample, changed(settings, changes)).used
    except PermanentError:
        return -1


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
