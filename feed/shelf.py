"""Where it is looked up what the shop says of items: titles for whoever shows a list, and what cannot be had now."""

from collections.abc import Sequence
from typing import Protocol

from nextclick.catalogue import NOTHING_SAID, ShopItem


class Shelf(Protocol):
    """What is said of items, at the moment of the question."""

    def look(self, item_ids: Sequence[str]) -> Sequence[ShopItem]:
        """Give what is said of items, in their order; from any thread."""


class _NoShelf:
    def look(self, item_ids: Sequence[str]) -> Sequence[ShopItem]:
        return [NOTHING_SAID] * len(item_ids)


NO_SHELF: Shelf = _NoShelf()  # nothing is said of any item
