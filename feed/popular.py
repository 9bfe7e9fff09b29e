"""The popular items: of the newest update that has them, or of the bundle, whichever is younger. Pure.

A worker makes its list of the clicks that it has counted, and begins with what the bundle knew. The feed counts none.
Where a worker's list is shorter than one can ask for, the bundle's items follow.
"""

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from feed.shelf import NO_SHELF, Shelf
from feed.user_lists import Choice, chosen
from nextclick.feed_types import PopularList
from nextclick.popularity import MAX_LIST, Popularity, prepare_seed
from nextclick.updates import Recommendation, decode_update

if TYPE_CHECKING:  # numba takes a second to load: the feed answers before
    from nextclick.model import ServedModel

_ANY_HALF_LIFE_S = 1.0  # nothing is counted here that could fade


class PopularItems(NamedTuple):
    """Popular items, and where they come from.

    Attributes:
        items: best first.
        bundle_id: of the bundle that was served when the list was made; empty if there was none.
        produced_at_ms: when it was made.
    """

    items: list[Recommendation]
    bundle_id: str
    produced_at_ms: int


def popular_of_bundle(model: "ServedModel", created_ms: int) -> PopularItems:
    """Give the popular items of a bundle, as a worker shows them that has counted nothing yet.

    Takes 0.3 s for a million items: to be called once for a bundle, in a thread.

    Args:
        model: of the bundle.
        created_ms: when it was made.
    """
    popularity = Popularity(_ANY_HALF_LIFE_S)
    popularity.seed(prepare_seed(model.item_ids, model.popularity))
    items = msgspec.json.decode(popularity.ranked(MAX_LIST).items, type=list[Recommendation])
    return PopularItems(items, model.bundle_id, created_ms)


def popular_of_update(value: bytes) -> PopularItems:
    """Give the items of an update.

    Raises:
        msgspec.DecodeError: the bytes are no update.
    """
    update = decode_update(value)
    return PopularItems(update.items, update.bundle_id, update.produced_at_ms)


def younger(update: bytes | None, of_bundle: PopularItems | None) -> PopularItems | None:
    """Give the younger of two popular lists, an update's with the bundle's other items behind; None if there is none.

    Args:
        update: the newest one with the popular list.
        of_bundle: the popular items of the bundle.

    Raises:
        msgspec.DecodeError: the bytes are no update.
    """
    of_update = popular_of_update(update) if update is not None else None
    if of_update is None or of_bundle is None:
        return of_update or of_bundle
    if of_update.produced_at_ms < of_bundle.produced_at_ms:
        return of_bundle
    return of_update._replace(items=of_update.items + _others(of_update.items, of_bundle.items))


def _others(listed: list[Recommendation], known: list[Recommendation]) -> list[Recommendation]:
    """Give the items that are not listed. None is more popular than the last that is: it would be listed."""
    there, most = {item.item_id for item in listed}, listed[-1].score if listed else 1.0
    others = [item for item in known if item.item_id not in there]
    return [item if item.score <= most else Recommendation(item.item_id, most) for item in others]


def of_categories(popular: PopularItems, model: "ServedModel") -> PopularItems:
    """Give popular items with those of a bundle behind that lead in some categories.

    Args:
        popular: of the whole shop.
        model: of the bundle, as it is under the categories (`feed.shop.FeedShop.restricted`).
    """
    there = {item.item_id for item in popular.items}
    others = [item for item in model.most_popular(MAX_LIST) if item.item_id not in there]
    return popular._replace(items=popular.items + others)


def popular_list(popular: PopularItems, choice: Choice, now_ms: int, shelf: Shelf = NO_SHELF) -> PopularList:
    """Give the answer: the first items that are wanted, and how old they are at `now_ms`."""
    age_ms = max(0, now_ms - popular.produced_at_ms)  # clocks of two machines differ
    return PopularList(chosen(popular.items, choice, shelf), popular.bundle_id, popular.produced_at_ms, age_ms)
