"""The list of an item's neighbours, from what the bundle counted. Pure."""

from typing import TYPE_CHECKING

from nextclick.feed_types import ListedItem, Neighbours
from nextclick.hashing import item_hash

if TYPE_CHECKING:  # numba takes a second to load: the feed answers before
    from nextclick.model import ServedModel

_DIGITS = 7  # of a share, as many as a float32 has


def neighbours(model: "ServedModel", item_id: str, limit: int) -> Neighbours | None:
    """Give what is clicked near an item, most often first; None if the bundle does not know the item.

    Args:
        model: of the bundle.
        item_id: of the item.
        limit: how many at most.
    """
    item_index = model.index_of(item_hash(item_id))
    if item_index is None:
        return None
    found = model.neighbours_of(item_index, limit)
    items = [ListedItem(model.item_ids[index], round(share, _DIGITS)) for index, share in found]
    return Neighbours(item_id, items, model.bundle_id)
