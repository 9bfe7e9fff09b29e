"""The traits of a bundle's items (`nextclick.item_traits`), made of what a shop says of items by their hashes."""

from collections.abc import Sequence

import numpy as np

from nextclick.item_table import Hashes, Ints, ItemTable, Longs, ranges
from nextclick.item_traits import ItemTraits


class ModelTraits:
    """Makes the traits of one bundle: once as a whole, then what has changed.

    Attributes:
        traits: as they were made last; None: of no item of the bundle anything is said.
    """

    def __init__(self, hashes: Hashes, table: ItemTable) -> None:
        """Make the traits as a whole; takes 0.3 s of a million items, so call it in a thread.

        Args:
            hashes: uint64 (n_items,), by row of the bundle.
            table: what the shop says; it is not changed meanwhile.
        """
        self._rows = hashes.argsort().astype(np.int32)  # of the hashes in their order
        self._hashes = hashes[self._rows]
        self._table = table
        self.traits: ItemTraits | None = None
        self.make()

    def make(self) -> None:
        """Make the traits anew."""
        factors = np.empty(len(self._rows), np.float32)
        factors[self._rows] = self._table.factors_of(self._hashes)
        starts, categories = self._categories()
        says_nothing = not len(categories) and bool((factors == 1.0).all())
        self.traits = None if says_nothing else ItemTraits(factors, starts, categories)

    def change(self, item_hashes: Sequence[int]) -> bool:
        """Bring the factors of some items up to date; categories stay as they are. Tells whether one has changed.

        What `traits` was before is left as it is: somebody may still rank with it.
        """
        changed = np.unique(np.array(item_hashes, np.uint64))
        places = np.minimum(self._hashes.searchsorted(changed), max(len(self._hashes) - 1, 0))
        is_there = self._hashes[places] == changed if len(self._hashes) else np.zeros(len(changed), np.bool_)
        rows, changed = self._rows[places[is_there]], changed[is_there]
        before = self.traits
        factors = before.factors if before is not None else np.ones(len(self._rows), np.float32)
        found = self._table.factors_of(changed)
        if bool((factors[rows] == found).all()):
            return False
        factors = factors.copy()
        factors[rows] = found
        if before is None:
            before = ItemTraits(factors, np.zeros(len(factors) + 1, np.int64), np.zeros(0, np.int32))
        self.traits = before._replace(factors=factors)
        return True

    def _categories(self) -> tuple[Longs, Ints]:
        """Give the categories by row, as `ItemTraits` has them."""
        found_starts, found = self._table.categories_of(self._hashes)
        counts, begins = np.empty(len(self._rows), np.int64), np.empty(len(self._rows), np.int64)
        counts[self._rows], begins[self._rows] = np.diff(found_starts), found_starts[:-1]
        starts = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
        return starts, found[ranges(begins, counts)]


def restricted(traits: ItemTraits | None, n_items: int, numbers: Sequence[int]) -> ItemTraits:
    """Give traits with which only items of some categories may be listed."""
    factors = np.zeros(n_items, np.float32)
    if traits is None:
        return ItemTraits(factors, np.zeros(n_items + 1, np.int64), np.zeros(0, np.int32))
    places = np.flatnonzero(np.isin(traits.categories, np.array(numbers, np.int32)))
    rows = traits.category_starts.searchsorted(places, side="right") - 1
    factors[rows] = traits.factors[rows]
    return traits._replace(factors=factors)
