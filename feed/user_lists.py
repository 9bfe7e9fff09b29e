"""Makes the answer for a user of what is stored."""

import time
from collections.abc import Set
from typing import TYPE_CHECKING, NamedTuple

import xxhash

from feed.reasons import reasons
from nextclick.feed_types import ListedItem, UserList
from nextclick.updates import POPULAR, Recommendation, decode_update

if TYPE_CHECKING:  # which makes its lists of these
    from feed.popular import PopularItems


class Choice(NamedTuple):
    """What of a list is wanted.

    Attributes:
        limit: most items.
        excluded: items that must not be there.
        explain: whether to say what each is there for.
    """

    limit: int
    excluded: Set[str]
    explain: bool


def user_list(value: bytes, choice: Choice) -> UserList:
    """Give a stored update as the list of its user.

    Raises:
        msgspec.DecodeError: the bytes are no update.
    """
    update = decode_update(value)
    return UserList(
        update.user_id,
        chosen(update.items, choice),
        update.strategy,
        update.bundle_id,
        update.sequence,
        update.clicked_at_ms,
        update.produced_at_ms,
        age_ms(update.produced_at_ms),
    )


def popular_for(user_id: str, popular: "PopularItems | None", choice: Choice) -> UserList:
    """Give the popular items as the list of a user nobody knows; empty where nothing is known to be popular."""
    if popular is None:
        return UserList(user_id, [], POPULAR, "", 0, 0, 0, 0)
    items, bundle_id, produced_at_ms = popular
    return UserList(user_id, chosen(items, choice), POPULAR, bundle_id, 0, 0, produced_at_ms, age_ms(produced_at_ms))


def chosen(items: list[Recommendation], choice: Choice) -> list[ListedItem]:
    """Give the items that are wanted."""
    kept = [item for item in items if item.item_id not in choice.excluded][: choice.limit]
    if not choice.explain:
        return [ListedItem(item.item_id, item.score) for item in kept]
    return [ListedItem(item.item_id, item.score, reasons(item.because)) for item in kept]


def entity_tag(value: bytes, choice: Choice) -> str:
    """Name an answer. Weak: it is the same list though its age is another."""
    hashed = xxhash.xxh3_64(value)
    hashed.update(f"{choice.limit}|{choice.explain}|{sorted(choice.excluded)!r}".encode())
    return f'W/"{hashed.hexdigest()}"'


def age_ms(produced_at_ms: int) -> int:
    """Give how long ago something was made; 0 where a clock is behind the worker's."""
    return max(0, int(time.time() * 1000) - produced_at_ms)
