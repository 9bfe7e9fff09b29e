"""Makes the answer for a user of what is stored."""

import itertools
import time
from collections.abc import Iterable, Set
from typing import TYPE_CHECKING, NamedTuple

import xxhash
from msgspec import UNSET

from feed.reasons import reasons
from feed.shelf import NO_SHELF, Shelf
from nextclick.catalogue import NOTHING_SAID, ShopItem
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
        categories: an item must be in one of them; none: in any or none.
    """

    limit: int
    excluded: Set[str]
    explain: bool
    categories: Set[str] = frozenset()


def user_list(value: bytes, choice: Choice, shelf: Shelf = NO_SHELF) -> UserList:
    """Give a stored update as the list of its user: of its items those that are wanted and can be had now.

    Raises:
        msgspec.DecodeError: the bytes are no update.
    """
    update = decode_update(value)
    return UserList(
        update.user_id,
        chosen(update.items, choice, shelf),
        update.strategy,
        update.bundle_id,
        update.sequence,
        update.clicked_at_ms,
        update.produced_at_ms,
        age_ms(update.produced_at_ms),
        update.variant,
    )


def popular_for(user_id: str, popular: "PopularItems | None", choice: Choice, shelf: Shelf = NO_SHELF) -> UserList:
    """Give the popular items as the list of a user nobody knows; empty where nothing is known to be popular."""
    if popular is None:
        return UserList(user_id, [], POPULAR, "", 0, 0, 0, 0)
    items, bundle_id, produced_at_ms = popular
    return UserList(
        user_id, chosen(items, choice, shelf), POPULAR, bundle_id, 0, 0, produced_at_ms, age_ms(produced_at_ms)
    )


def chosen(items: Iterable[Recommendation], choice: Choice, shelf: Shelf = NO_SHELF) -> list[ListedItem]:
    """Give the items that are wanted and can be had now, in their order, with what the shop says of them."""
    now_ms = int(time.time() * 1000)
    rest = iter([item for item in items if item.item_id not in choice.excluded])
    listed: list[ListedItem] = []
    while len(listed) < choice.limit and (part := list(itertools.islice(rest, choice.limit - len(listed)))):
        said = shelf.look([item.item_id for item in part])
        listed += [
            _listed(item, each, choice.explain)
            for item, each in zip(part, said, strict=True)
            if (each is NOTHING_SAID and not choice.categories) or _fits(each, choice, now_ms)
        ]
    return listed


def _fits(said: ShopItem, choice: Choice, now_ms: int) -> bool:
    is_in = not choice.categories or not choice.categories.isdisjoint(said.categories or ())
    return is_in and said.factor_at(now_ms) > 0.0


def _listed(item: Recommendation, said: ShopItem, explain: bool) -> ListedItem:
    because = reasons(item.because) if explain else UNSET
    if said is NOTHING_SAID:
        return ListedItem(item.item_id, item.score, because, item.placed)
    shown = (UNSET if each is None else each for each in (said.title, said.url, said.image, said.price))
    return ListedItem(item.item_id, item.score, because, item.placed, *shown)  # type: ignore[arg-type]


def entity_tag(value: bytes, choice: Choice) -> str:
    """Name an answer. Weak: it is the same list though its age is another."""
    hashed = xxhash.xxh3_64(value)
    hashed.update(f"{choice.limit}|{choice.explain}|{sorted(choice.excluded)!r}|{sorted(choice.categories)!r}".encode())
    return f'W/"{hashed.hexdigest()}"'


def age_ms(produced_at_ms: int) -> int:
    """Give how long ago something was made; 0 where a clock is behind the worker's."""
    return max(0, int(time.time() * 1000) - produced_at_ms)
