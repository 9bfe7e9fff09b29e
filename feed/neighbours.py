"""The list of an item's neighbours, from what the bundle counted. Pure."""

import time
from typing import TYPE_CHECKING

from feed.shelf import NO_SHELF, Shelf
from feed.user_lists import Choice, chosen
from nextclick.feed_types import Neighbours
from nextclick.hashing import item_hash
from nextclick.settings import MAX_NEIGHBOURS
from nextclick.updates import Recommendation

if TYPE_CHECKING:  # numba takes a second to load: the feed answers before
    from nextclick.model import ServedModel

_DIGITS = 7  # of a share, as many as a float32 has


def neighbours(model: "ServedModel", item_id: str, choice: Choice, shelf: Shelf = NO_SHELF) -> Neighbours | None:
    """Give what is clicked near an item, most often first; None if the bundle does not know the item.

    Args:
        model: of the bundle.
        item_id: of the item.
        choice: what of the list is wanted.
        shelf: where it is looked up what is said of items; a boost counts here, too.
    """
    item_index = model.index_of(item_hash(item_id))
    if item_index is None:
        return None
    found = model.neighbours_of(item_index, MAX_NEIGHBOURS)
    said = shelf.look([model.item_ids[index] for index, _ in found])
    now_ms = int(time.time() * 1000)
    weighed = [
        Recommendation(model.item_ids[index], round(share * each.factor_at(now_ms), _DIGITS))
        for (index, share), each in zip(found, said, strict=True)
    ]
    weighed.sort(key=lambda item: -item.score)
    return Neighbours(item_id, chosen(weighed, choice, shelf), model.bundle_id)
