"""Where the events' own ids are: what the place that the settings name holds, and whether there is a better one."""

from collections import defaultdict
from collections.abc import Collection
from typing import NamedTuple

from doctor.search.table import Table
from doctor.search.words import is_event_id
from nextclick.schema.ids import read_id
from nextclick.schema.paths import FieldPath
from nextclick.settings import Settings

_ENOUGH = 20  # ids: fewer say nothing
_OWN = 0.9  # of the events have an id that no other has: a client's retries are the same event again, so a few repeat


class PresentIds(NamedTuple):
    """What the field that `id_field` names holds; all 0: nothing.

    Attributes:
        filled: in how many events it holds something.
        unusable: how many of these hold neither a text nor a whole number: workers reject their records.
        different: how many different ids the others hold.
        n_ids: how many ids they hold; of one that stands around several events of a record each has a part of its own.
        of_known_users: how many of these are of users who have been there before.
        known_to_users: how many of these the same user has had before: workers pass over such clicks.
    """

    filled: int = 0
    unusable: int = 0
    different: int = 0
    n_ids: int = 0
    of_known_users: int = 0
    known_to_users: int = 0

    @property
    def is_unusable(self) -> bool:
        """Whether the field holds something else than ids, and not only by a client's mistake."""
        return self.filled > _ENOUGH and self.filled - self.unusable < _OWN * self.filled

    @property
    def is_repeated(self) -> bool:
        """Whether ids repeat more than retries would, also within users, as far as users come again."""
        if self.n_ids <= _ENOUGH or self.different >= _OWN * self.n_ids:
            return False
        return self.of_known_users <= _ENOUGH or self.known_to_users > (1 - _OWN) * self.of_known_users


def look_at_ids(table: Table, settings: Settings) -> PresentIds:
    """Say what the field that the settings name holds, as workers read it."""
    if not settings.id_field:
        return PresentIds()
    path, filled, unusable = FieldPath.parse(settings.id_field), 0, 0
    found = dict[tuple[int, int, bytes | None, str], None]()
    for event in table.events:
        value, record = event.read(path), event.record
        if not value:
            continue
        filled += 1
        try:
            found[record.partition, record.offset, record.key, read_id(value)] = None
        except ValueError:
            unusable += 1
    of_users = defaultdict[bytes | None, set[str]](set)
    of_known_users = known_to_users = 0
    for _, _, user, event_id in found:
        of_known_users += user in of_users
        known_to_users += event_id in of_users[user]
        of_users[user].add(event_id)
    different = len({event_id for *_, event_id in found})
    return PresentIds(filled, unusable, different, len(found), of_known_users, known_to_users)


def find_id_field(table: Table, present: PresentIds, without: Collection[str]) -> str:
    """Give a field that holds an id of each event's own, if there is none where the settings have it.

    Args:
        table: the events.
        present: what the field that the settings name holds.
        without: fields that are of users or items.
    """
    if present.filled and not present.is_unusable and not present.is_repeated:
        return ""
    for path in table.paths:
        ids = [each for each in table.ids(path) if each is not None]
        is_own = len(ids) > _ENOUGH and len(set(ids)) >= _OWN * len(table.events)
        if path not in without and is_event_id(path) and is_own:
            return path
    return ""
