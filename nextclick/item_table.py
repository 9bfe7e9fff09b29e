"""What a shop says of its items, by the hashes of their ids: a million items in some 40 MB, of which one thread writes
and any number read.

Items lie in columns, in the order of their hashes. What is newer than the columns is in a dictionary, which is merged
into new columns when it has grown to a part of them; both are replaced at once, so that no reader meets half of it.
An item of which nothing is said is not kept.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.catalogue import ShopItem
from nextclick.quick_tuples import quick

MAX_CATEGORY_NAMES = 100_000  # different ones in a shop; items are in none of those that come later
_LEAST_MERGED = 8_192  # items
_NUMBERED = 20_000  # lists of categories whose numbers are remembered
_MERGED_SHARE = 8  # the newer items are at most such a part of all
_ALWAYS, _NEVER = 0, 2**62  # published long ago, expires never

Hashes = npt.NDArray[np.uint64]
Floats = npt.NDArray[np.float32]
Longs = npt.NDArray[np.int64]
Ints = npt.NDArray[np.int32]


class Said(NamedTuple):
    """What is said of an item.

    Attributes:
        boost: 0: it is withdrawn.
        published_ms: before this time it is in no list.
        expires_ms: from this time on it is in none.
        categories: their numbers, each once.
    """

    boost: float
    published_ms: int
    expires_ms: int
    categories: tuple[int, ...]

    def factor_at(self, now_ms: int) -> float:
        """Give what the item's probability is multiplied by; 0: it is in no list."""
        return self.boost if self.published_ms <= now_ms < self.expires_ms else 0.0


_make_said = quick(Said)
NOTHING = Said(1.0, _ALWAYS, _NEVER, ())


class _Columns(NamedTuple):
    """Items in the order of their hashes; see `Said`."""

    hashes: Hashes
    boosts: Floats
    published_ms: Longs
    expires_ms: Longs
    starts: Longs  # (n + 1,), where each item's categories begin
    categories: Ints


_NO_COLUMNS = _Columns(
    np.zeros(0, np.uint64),
    np.zeros(0, np.float32),
    np.zeros(0, np.int64),
    np.zeros(0, np.int64),
    np.zeros(1, np.int64),
    np.zeros(0, np.int32),
)


class ItemTable:
    """Holds what is said, as it is at one time: the clock is handed in.

    Attributes:
        now_ms: the time that is now; moved by `tick`.
    """

    def __init__(self, now_ms: int = 0) -> None:
        self.now_ms = now_ms
        self._held: tuple[_Columns, dict[int, Said]] = (_NO_COLUMNS, {})
        self._numbers: dict[str, int] = {}
        self._numbered: dict[tuple[str, ...], tuple[int, ...]] = {}  # of late: items have the same ones as others
        self._next_ms = _NEVER  # nothing changes by itself before

    def __len__(self) -> int:
        """How many items are held, about: one that is forgotten counts until columns are merged."""
        columns, newer = self._held
        return len(columns.hashes) + len(newer)

    @property
    def n_bytes(self) -> int:
        """Bytes of the columns."""
        return sum(column.nbytes for column in self._held[0])

    def clear(self) -> None:
        """Forget all items; categories keep their numbers."""
        self._held, self._next_ms = (_NO_COLUMNS, {}), _NEVER

    def say(self, item_hash: int, item: ShopItem) -> None:
        """Take what a record says of an item; whatever was said before is over."""
        said = self._said(item)
        columns, newer = self._held
        newer[item_hash] = said
        for moment_ms in (said.published_ms, said.expires_ms):
            if self.now_ms < moment_ms < self._next_ms:
                self._next_ms = moment_ms
        if len(newer) >= max(_LEAST_MERGED, len(columns.hashes) // _MERGED_SHARE):
            self._held = _merged(columns, newer), {}

    def factor_of(self, item_hash: int) -> float:
        """Give what an item's probability is multiplied by now; 0: it may be in no list."""
        return self.said_of(item_hash).factor_at(self.now_ms)

    def said_of(self, item_hash: int) -> Said:
        """Give what is said of an item."""
        columns, newer = self._held
        said = newer.get(item_hash)
        if said is not None:
            return said
        place = int(columns.hashes.searchsorted(np.uint64(item_hash)))
        if place == len(columns.hashes) or int(columns.hashes[place]) != item_hash:
            return NOTHING
        return _said_at(columns, place)

    def factors_of(self, hashes: Hashes) -> Floats:
        """Give the factors of many items, float32 (n,); fastest where the hashes rise."""
        columns, newer = self._held
        places, is_there = _find(columns.hashes, hashes)
        factors = np.ones(len(hashes), np.float32)
        factors[is_there] = _factors(columns, places[is_there], self.now_ms)
        for place, said in _overlaid(hashes, newer):
            factors[place] = said.factor_at(self.now_ms)
        return factors

    def categories_of(self, hashes: Hashes) -> tuple[Longs, Ints]:
        """Give where each item's categories begin, int64 (n + 1,), and their numbers, one item behind the other."""
        columns, newer = self._held
        places, is_there = _find(columns.hashes, hashes)
        begins, counts = np.zeros(len(hashes), np.int64), np.zeros(len(hashes), np.int64)
        if len(columns.hashes):
            begins[is_there] = columns.starts[places[is_there]]
            counts[is_there] = columns.starts[places[is_there] + 1] - begins[is_there]
        overlaid = list(_overlaid(hashes, newer))
        for place, said in overlaid:
            counts[place] = len(said.categories)
        starts = np.concatenate([np.zeros(1, np.int64), counts.cumsum()])
        for place, _ in overlaid:  # filled below
            counts[place] = 0
        found = np.zeros(int(starts[-1]), np.int32)
        found[ranges(starts[:-1], counts)] = columns.categories[ranges(begins, counts)]
        for place, said in overlaid:
            found[int(starts[place]) : int(starts[place + 1])] = said.categories
        return starts, found

    def number_of(self, category: str) -> int | None:
        """Give a category's number; None: no item was ever said to be in it."""
        return self._numbers.get(category)

    def tick(self, now_ms: int) -> list[int]:
        """Let it be another time; gives the hashes of the items that begin or end to be available by that."""
        before_ms, self.now_ms = self.now_ms, now_ms
        if before_ms <= now_ms < self._next_ms:
            return []
        first_ms, last_ms = sorted((before_ms, now_ms))  # a clock can be put back
        columns, newer = self._held
        passed = ((columns.published_ms > first_ms) & (columns.published_ms <= last_ms)) | (
            (columns.expires_ms > first_ms) & (columns.expires_ms <= last_ms)
        )
        changed = [item_hash for item_hash in columns.hashes[passed].tolist() if item_hash not in newer]
        changed += [
            item_hash
            for item_hash, said in newer.items()
            if first_ms < said.published_ms <= last_ms or first_ms < said.expires_ms <= last_ms
        ]
        self._next_ms = self._next_after(now_ms)
        return changed

    def _next_after(self, now_ms: int) -> int:
        columns, newer = self._held
        moments = [moment for said in newer.values() for moment in (said.published_ms, said.expires_ms)]
        of_newer = min((moment for moment in moments if moment > now_ms), default=_NEVER)
        of_columns = [
            int(times.min(where=times > now_ms, initial=_NEVER)) for times in (columns.published_ms, columns.expires_ms)
        ]
        return min(of_newer, *of_columns)

    def _said(self, item: ShopItem) -> Said:
        boost = 0.0 if item.available is False else 1.0 if item.boost is None else item.boost
        published_ms = _ALWAYS if item.published_at_ms is None else item.published_at_ms
        expires_ms = _NEVER if item.expires_at_ms is None else item.expires_at_ms
        categories = self._categories(item.categories) if item.categories else ()
        return _make_said((boost, published_ms, expires_ms, categories))

    def _categories(self, names: tuple[str, ...]) -> tuple[int, ...]:
        found = self._numbered.get(names)
        if found is not None:
            return found
        numbers = self._numbers
        for name in names:
            if name not in numbers and len(numbers) < MAX_CATEGORY_NAMES:
                numbers[name] = len(numbers)
        found = tuple(dict.fromkeys(numbers[name] for name in names if name in numbers))
        if len(self._numbered) >= _NUMBERED:
            self._numbered.clear()
        self._numbered[names] = found
        return found


def _said_at(columns: _Columns, place: int) -> Said:
    begin, end = columns.starts[place : place + 2].tolist()
    return Said(
        float(columns.boosts[place]),
        int(columns.published_ms[place]),
        int(columns.expires_ms[place]),
        tuple(columns.categories[begin:end].tolist()),
    )


def _factors(columns: _Columns, places: Longs, now_ms: int) -> Floats:
    is_now = (columns.published_ms[places] <= now_ms) & (now_ms < columns.expires_ms[places])
    return np.where(is_now, columns.boosts[places], np.float32(0.0))


def _find(held: Hashes, wanted: Hashes) -> tuple[Longs, npt.NDArray[np.bool_]]:
    """Give the places of hashes among those that are held, and which of them are there."""
    if not len(held):
        return np.zeros(len(wanted), np.int64), np.zeros(len(wanted), np.bool_)
    places = np.minimum(held.searchsorted(wanted), len(held) - 1)
    return places, held[places] == wanted


def _overlaid(hashes: Hashes, newer: dict[int, Said]) -> Iterable[tuple[int, Said]]:
    """Give the places of the hashes of which something newer is said, and what it is."""
    if not newer:
        return
    if len(hashes) < len(newer):  # of a few items; those of a bundle are looked up all at once
        for place, item_hash in enumerate(hashes.tolist()):
            one = newer.get(item_hash)
            if one is not None:
                yield place, one
        return
    said = sorted(newer.copy().items())  # a copy: another thread may say more meanwhile
    known = np.array([item_hash for item_hash, _ in said], np.uint64)
    places, is_there = _find(known, hashes)
    for place in np.flatnonzero(is_there).tolist():
        yield place, said[int(places[place])][1]


def _merged(columns: _Columns, newer: dict[int, Said]) -> _Columns:
    """Give columns with what is newer, without the items of which nothing is said any longer."""
    replaced = np.sort(np.fromiter(newer, np.uint64, len(newer)))
    kept = np.flatnonzero(~_find(replaced, columns.hashes)[1])
    # In order, too: two runs that rise are merged, not sorted.
    added = _columns_of({item_hash: said for item_hash, said in sorted(newer.items()) if said != NOTHING})
    counts = np.concatenate([np.diff(columns.starts)[kept], np.diff(added.starts)])
    begins = np.concatenate([columns.starts[:-1][kept], added.starts[:-1] + len(columns.categories)])
    categories = np.concatenate([columns.categories, added.categories])
    hashes = np.concatenate([columns.hashes[kept], added.hashes])
    order = hashes.argsort(kind="stable")

    def joined(old: npt.NDArray[np.generic], new: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        return np.concatenate([old[kept], new])[order]

    counts, begins = counts[order], begins[order]
    return _Columns(
        hashes[order],
        joined(columns.boosts, added.boosts),  # type: ignore[arg-type]
        joined(columns.published_ms, added.published_ms),  # type: ignore[arg-type]
        joined(columns.expires_ms, added.expires_ms),  # type: ignore[arg-type]
        np.concatenate([np.zeros(1, np.int64), counts.cumsum()]),
        categories[ranges(begins, counts)],
    )


def _columns_of(items: dict[int, Said]) -> _Columns:
    said = list(items.values())
    counts = np.array([len(each.categories) for each in said], np.int64)
    return _Columns(
        np.fromiter(items, np.uint64, len(items)),
        np.array([each.boost for each in said], np.float32),
        np.array([each.published_ms for each in said], np.int64),
        np.array([each.expires_ms for each in said], np.int64),
        np.concatenate([np.zeros(1, np.int64), counts.cumsum()]),
        np.array([number for each in said for number in each.categories], np.int32),
    )


def ranges(begins: Longs, counts: Longs) -> Longs:
    """Give the numbers begin, begin + 1, ... of each range, one range behind the other."""
    ends = counts.cumsum()
    return np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(begins - (ends - counts), counts)
