"""The shop's rules of ranking: what is left out, what stands first, and what is tried. They hold inside the ranking.

A list that is cut afterwards would be short: these say which items can be in it before the best k are taken. What a
shop says of single items is in `nextclick.item_traits`.
"""

from collections.abc import Iterable, Sequence, Set
from math import floor
from typing import Literal, NamedTuple, get_args

import xxhash

from nextclick.clicks import EVENT_TYPES
from nextclick.hashing import item_hash
from nextclick.network_config import SESSION_GAP_S
from nextclick.popularity import PopularRules
from nextclick.settings import Settings
from nextclick.user_state import iter_recent

Exclude = Literal["none", "last", "session", "recent", "purchased"]
EXCLUDES: tuple[Exclude, ...] = get_args(Exclude)


class Rules(NamedTuple):
    """What a list must be like; the settings of the same names.

    Attributes:
        exclude: which items are left out that the user clicked: none; the last one; those of the running session; all
            that are remembered; those of these that were bought.
        max_per_category: most items of a category in a list; 0: no bound.
        pinned: the ids of the items that stand first, in this order.
        explore: share of the places that goes to items which were shown little.
    """

    exclude: Exclude = "none"
    max_per_category: int = 0
    pinned: tuple[str, ...] = ()
    explore: float = 0.0


NO_RULES = Rules()
_LOW_BITS = 0xFFFFFFFF
PURCHASE = EVENT_TYPES.index("purchase")


def rules_of(settings: Settings) -> Rules:
    """Give the rules that the settings say."""
    return Rules(settings.exclude, settings.max_per_category, pinned_items(settings.pinned), settings.explore)


def popular_rules_of(settings: Settings) -> PopularRules:
    """Give the rules for the popular list, which knows no exploration."""
    n_excluded = 0 if settings.exclude == "none" else settings.recent_clicks
    return PopularRules(pinned_items(settings.pinned), settings.max_per_category, n_excluded)


def excluded_hashes(recent: bytes, exclude: Exclude) -> set[int]:
    """Give the hashes of the items that a user's remembered clicks exclude.

    Args:
        recent: packed recent clicks.
        exclude: which of them; `nextclick.shop` finds the same where items are ranked.
    """
    excluded: set[int] = set()
    if exclude == "none":
        return excluded
    for hashed, gap_s, event_type in reversed(list(iter_recent(recent))):
        if exclude != "purchased" or event_type == PURCHASE:
            excluded.add(hashed)
        if exclude == "last" or (exclude == "session" and gap_s > SESSION_GAP_S):
            break
    return excluded


def explored_from(key: bytes, sequence: int) -> float:
    """Give which places of a user's list are explored, for `is_explored`: a number from 0 to 1.

    Whoever knows the list's user and sequence knows it, later, too.

    Args:
        key: of the user's clicks.
        sequence: clicks of the user that are in the list.
    """
    return xxhash.xxh3_64_intdigest(key, seed=sequence) / 2.0**64


def is_explored(place: int, share: float, offset: float) -> bool:
    """Tell whether a place of a list, from 0 on, is explored, unless a pinned item has it.

    Every (1 / share)-th place is, and the offset says with which one that begins: so each is explored as often.
    """
    return floor((place + 1) * share + offset) > floor(place * share + offset)


def n_explored_of(n_places: int, share: float, offset: float) -> int:
    """Give how many of so many first places are explored."""
    return floor(n_places * share + offset) - floor(offset)


def low_hashes(item_ids: Iterable[str]) -> set[int]:
    """Give the low bits of items' hashes, by which states remember lists."""
    return {item_hash(item_id) & _LOW_BITS for item_id in item_ids}


def n_pinned_of(places: Sequence[int], pinned: Set[int]) -> int:
    """Give how many of a list's first places have pinned items.

    Args:
        places: low bits of the hashes of its items, as states keep them.
        pinned: the same of all pinned items.
    """
    n_pinned = 0
    while n_pinned < len(places) and places[n_pinned] in pinned:
        n_pinned += 1
    return n_pinned


def rules_in_words(rules: Rules) -> dict[str, str]:
    """Give the rules as settings say them, for people; none of those that are off."""
    said = {name: str(value) for name, value in rules._asdict().items() if value != getattr(NO_RULES, name)}
    return said | ({"pinned": ",".join(rules.pinned)} if rules.pinned else {})


def pinned_items(text: str) -> tuple[str, ...]:
    """Read the ids of pinned items, with commas between them; each once."""
    return tuple(dict.fromkeys(item_id for part in text.split(",") if (item_id := part.strip())))
