"""The popular list under a shop's rules: one that users share, and another one for who clicked one of its items.

Made of items in the order of their popularity, deeper than a list is long, as they were at one time: nothing changes
afterwards, so that any thread may ask.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence, Set
from typing import NamedTuple

from nextclick.updates import POPULAR, RankedList, Recommendation, ranked_list

_LOW_BITS = 0xFFFFFFFF
_MOST_KEPT = 1_000  # lists for different users; most users have clicked one item of the list, if any


class PopularItem(NamedTuple):
    """An item that may be listed.

    Attributes:
        item_id: of the item.
        score: its share of all that counted.
        item_hash: of its id.
        categories: that it is in.
        is_pinned: whether the shop says that it stands first.
    """

    item_id: str
    score: float
    item_hash: int
    categories: tuple[int, ...] = ()
    is_pinned: bool = False


class PopularLists:
    """Popular lists, all from the same counts.

    Attributes:
        shared: for whoever clicked none of its items.
    """

    def __init__(
        self,
        items: Sequence[PopularItem],
        k: int,
        max_per_category: int,
        encode: Callable[[Sequence[Recommendation]], bytes],
    ) -> None:
        """Make the shared list.

        Args:
            items: pinned ones in their order, then the others in the order of their popularity; each once.
            k: how long a list is.
            max_per_category: most items of a category in it; 0: no bound.
            encode: writes the items of a list.
        """
        self._items, self._k, self._most, self._encode = items, k, max_per_category, encode
        self._ranks = {item.item_hash: rank for rank, item in enumerate(items)}
        self._lists: dict[frozenset[int], RankedList] = {}
        shared = fill(items, k, max_per_category)
        self.shared = self._ranked(shared)
        self._places = {item.item_hash: place for place, item in enumerate(shared)}

    def __contains__(self, item_hash: int) -> bool:
        """Tell whether an item is in any of the lists."""
        return item_hash in self._ranks

    def place(self, item_hash: int, excluded: Set[int] = frozenset()) -> int | None:
        """Give the place, from 0, that an item has in the list without some items; None: it has none.

        Args:
            item_hash: of the item.
            excluded: hashes of items.
        """
        ranks, rank = self._ranks, self._ranks.get(item_hash)
        if rank is None or item_hash in excluded:
            return None
        known = [each for each in excluded if each in ranks]
        if not known:
            return self._places.get(item_hash)
        if self._most:
            listed = fill(self._items, self._k, self._most, excluded)
            return next((place for place, item in enumerate(listed) if item.item_hash == item_hash), None)
        place = rank - sum([ranks[each] < rank for each in known])
        return place if place < self._k else None

    def without(self, excluded: Set[int]) -> RankedList:
        """Give the list without some items; there may be fewer than it is long.

        Args:
            excluded: hashes of items.
        """
        known = frozenset(excluded & self._ranks.keys())
        if not known:
            return self.shared
        kept = self._lists
        found = kept.get(known)
        if found is None:
            if len(kept) >= _MOST_KEPT:
                kept = self._lists = {}  # another thread may go on with the one before
            found = kept[known] = self._ranked(fill(self._items, self._k, self._most, known))
        return found

    def _ranked(self, listed: Sequence[PopularItem]) -> RankedList:
        items = [
            Recommendation(item.item_id, item.score, placed="pinned")
            if item.is_pinned
            else Recommendation(item.item_id, item.score)
            for item in listed
        ]
        return ranked_list(POPULAR, items, [item.item_hash & _LOW_BITS for item in listed], self._encode)


def fill(
    items: Iterable[PopularItem], k: int, max_per_category: int, excluded: Set[int] = frozenset()
) -> list[PopularItem]:
    """Go down items and take those that no rule forbids, k at most. The bound by category leaves pinned ones alone."""
    listed: list[PopularItem] = []
    n_listed: Counter[int] = Counter()
    for item in items:
        if len(listed) == k:
            break
        is_full = max_per_category and any(n_listed[category] >= max_per_category for category in item.categories)
        if item.item_hash in excluded or (is_full and not item.is_pinned):
            continue
        listed.append(item)
        n_listed.update(item.categories)
    return listed


def enough(
    items: Iterable[PopularItem], n_wanted: int, max_per_category: int, n_excluded: int | None = None
) -> tuple[list[PopularItem], bool]:
    """Go down items until so many could be listed at once; tells whether they could.

    A list of k items is full whichever n of `k + n` such items are left out, if each is in one category at most.

    Args:
        items: in their order.
        n_wanted: how many.
        max_per_category: most items of a category in a list; 0: no bound.
        n_excluded: how many can be left out: items are passed over that have no place whichever these are; None: all
            items are given.
    """
    found: list[PopularItem] = []
    n_found: Counter[int] = Counter()
    n_listed: Counter[int] = Counter()
    n = 0
    for item in items:
        is_full = max_per_category and any(n_listed[category] >= max_per_category for category in item.categories)
        if not is_full:
            n_listed.update(item.categories)
            n += 1
        elif n_excluded is not None and any(
            n_found[category] >= max_per_category + n_excluded for category in item.categories
        ):
            continue
        n_found.update(item.categories)
        found.append(item)
        if n == n_wanted:
            return found, True
    return found, False
