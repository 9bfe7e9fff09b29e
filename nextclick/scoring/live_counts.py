"""Counts what is clicked near items that no bundle knows, while clicks come: bounded, and fading as in a bundle.

A pair of clicks counts as in training (`training.learning.associations`), if one of its items is live: is none of the
bundle's. An item's row holds what was clicked near it: of a live item anything, of a bundle's item live ones alone. The
bundle's items are named by their rows in the bundle, live ones by their places behind these.

Everything is bounded, and whatever is full lets go of what counts least. A place or a row that is given to another item
has another serial number: what others have counted of the former one is passed over, and replaced first.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.network_config import MAX_DISTANCE, PAIR_BACKWARD, SESSION_GAP_S
from nextclick.scoring.compiled import jit, jit_inner
from nextclick.scoring.histories import RowsByHash, find_known, find_row, read_click, rows_by_hash
from nextclick.user_state import RECENT_BYTES

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]
Longs = npt.NDArray[np.int64]

N_NEIGHBOURS = 32  # of a row
_ROWS_PER_ITEM = 4  # rows of the bundle's items, for each live item there is room for
_LOOKS = 16  # places that are compared when one must be freed
_HALF_LIFE_CLICKS = 200_000.0  # then a click counts half
_GROWTH = 2.0 ** (1.0 / _HALF_LIFE_CLICKS)
_MOST_RECENT = 255  # clicks of a user's state
_HEAVY = 2.0**40  # a click of now weighs so much: everything is scaled back
ALL_PAIRS, NOW, BUNDLE_PAIRS = range(3)  # in `sums`
_ITEMS, _ITEM_HAND, _ROWS, _ROW_HAND = range(4)  # in `used`


class LiveCounts(NamedTuple):
    """What was counted. Older clicks do not shrink, newer ones weigh more: what is read is divided by `sums[1]`.

    Attributes:
        hashes: uint64 (n_live,), of the live items.
        serials: int32 (n_live,), how many items have had each place.
        uses: float64 (n_live,), clicks on each item.
        born: float64 (n_live,), the weight of all pairs when each item came.
        places: int32, finds the places of items by their hashes.
        row_of: int32 (n_items,), the rows of the bundle's items; -1 where there is none. A live item's is its place.
        owners: int32 (n_rows,), the item of each row.
        totals: float64 (n_rows,), all that was counted in each row.
        sizes: int32 (n_rows,), how many neighbours each row has.
        neighbours: int32 (n_rows, N_NEIGHBOURS), items.
        neighbour_serials: int32 (n_rows, N_NEIGHBOURS), of live ones among them; 0 of others.
        counts: float32 (n_rows, N_NEIGHBOURS).
        sums: float64 (3,), the weight of all pairs, of a click of now, and of all the bundle's pairs, which does not
            fade.
        used: int64 (4,), how many places and rows are in use, each with the place that is looked at next.
    """

    hashes: npt.NDArray[np.uint64]
    serials: Ints
    uses: Doubles
    born: Doubles
    places: RowsByHash
    row_of: Ints
    owners: Ints
    totals: Doubles
    sizes: Ints
    neighbours: Ints
    neighbour_serials: Ints
    counts: Floats
    sums: Doubles
    used: Longs


def new_counts(n_live: int, n_items: int, weight_of_bundle: float) -> LiveCounts:
    """Begin with nothing.

    Args:
        n_live: how many live items there can be, at least one.
        n_items: of the bundle.
        weight_of_bundle: the sum of all its counts.
    """
    n_rows = (1 + _ROWS_PER_ITEM) * n_live
    return LiveCounts(
        np.zeros(n_live, np.uint64),
        np.zeros(n_live, np.int32),
        np.zeros(n_live),
        np.zeros(n_live),
        rows_by_hash(np.zeros(0, np.uint64), n_live),
        np.full(n_items, -1, np.int32),
        np.full(n_rows, -1, np.int32),
        np.zeros(n_rows),
        np.zeros(n_rows, np.int32),
        np.zeros((n_rows, N_NEIGHBOURS), np.int32),
        np.zeros((n_rows, N_NEIGHBOURS), np.int32),
        np.zeros((n_rows, N_NEIGHBOURS), np.float32),
        np.array([0.0, 1.0, weight_of_bundle]),
        np.array([0, 0, n_live, n_live], np.int64),
    )


@jit
def insert_item(live: Any, item_hash: Any) -> Any:
    """Give a place to an item that has none: a free one, or that of an item which is clicked little."""
    hashes, serials, uses, born, places, used = live.hashes, live.serials, live.uses, live.born, live.places, live.used
    if used[_ITEMS] < len(hashes):
        place = used[_ITEMS]
        used[_ITEMS] += 1
    else:
        place = _least(uses, 0, used, _ITEM_HAND)
        _remove(places, hashes[place])
        _clear_row(live, place)
    hashes[place], uses[place], born[place] = item_hash, 0.0, live.sums[ALL_PAIRS]
    serials[place] += 1
    live.owners[place] = len(live.row_of) + place
    mask = np.uint64(len(places.hashes) - 1)
    at = item_hash & mask
    while places.rows[at] >= 0:
        at = (at + np.uint64(1)) & mask
    places.hashes[at], places.rows[at] = item_hash, place
    return place


@jit
def are_strangers(behind: Any, rows: Any, item_hashes: Any) -> Any:
    """Tell of each item, bool (n,), whether it is neither one of the bundle's nor a live one."""
    found = np.empty(len(item_hashes), np.bool_)
    for number in range(len(item_hashes)):
        found[number] = find_known(rows.hashes, rows.rows, behind, item_hashes[number]) < 0
    return found


@jit
def count_clicks(live: Any, rows: Any, packed: Any, lengths: Any, is_counted: Any, n_new: Any) -> None:
    """Count users' newest clicks, and their pairs with those before.

    Args:
        live: is changed.
        rows: finds the bundle's items.
        packed: uint8, users' recent clicks, one user's behind another's.
        lengths: int64 (users,), bytes of each user's.
        is_counted: bool, of each user's newest clicks whether they count, one user's behind another's, in their order.
        n_new: int64 (users,), how many of these there are of each user.
    """
    n_items, places, end, flag = len(live.row_of), live.places, 0, 0
    # Of a user's clicks, the oldest first.
    hashes, items = np.empty(_MOST_RECENT, np.uint64), np.empty(_MOST_RECENT, np.int64)
    begins = np.empty(_MOST_RECENT, np.bool_)
    for user in range(len(lengths)):
        end, flag = end + lengths[user], flag + n_new[user]
        n_recent = lengths[user] // RECENT_BYTES
        n_counted = min(n_new[user], n_recent)  # of more clicks at once the state remembers the newest
        n_read, n_live = min(n_counted + MAX_DISTANCE, n_recent), 0
        for number in range(n_read):
            hashes[number], gap_s = read_click(packed, end - (n_read - number) * RECENT_BYTES)
            begins[number] = gap_s > SESSION_GAP_S
            place = np.int64(find_row(places, hashes[number]))
            items[number] = n_items + place if place >= 0 else -1
            n_live += 1 if place >= 0 else 0
        if n_live:  # mostly there is none, and nobody needs to look for the others
            for number in range(n_read):
                if items[number] < 0:
                    items[number] = find_row(rows, hashes[number])
        for newest in range(n_counted, 0, -1):
            if is_counted[flag - newest]:
                _count_click(live, hashes, begins, n_read - newest)
                if n_live:
                    _count_pairs(live, items, begins, n_read - newest)


@jit_inner
def _count_click(live: Any, hashes: Any, begins: Any, number: Any) -> None:
    """Count a click for the time that passes: the weight of all its pairs, whether or not an item is live."""
    sums, weight, earlier, last = live.sums, 0.0, number, max(0, number - MAX_DISTANCE)
    while earlier > last and not begins[earlier]:
        earlier -= 1
        if hashes[earlier] != hashes[number]:
            weight += 1.0 / (number - earlier)
    sums[NOW] *= _GROWTH
    sums[ALL_PAIRS] += sums[NOW] * weight * (1.0 + PAIR_BACKWARD)
    if sums[NOW] > _HEAVY:
        _scale_back(live)


@jit_inner
def _count_pairs(live: Any, items: Any, begins: Any, number: Any) -> None:
    """Count a click, and its pairs with the clicks of its session before it, where an item is live."""
    n_items, item, now, earlier, distance = len(live.row_of), items[number], live.sums[NOW], number, 0
    if item < 0:
        return
    if item >= n_items:
        live.uses[item - n_items] += now
    while earlier > 0 and not begins[earlier] and distance < MAX_DISTANCE:
        earlier -= 1
        other = items[earlier]
        if other < 0:  # nobody knows what it is called
            continue
        distance += 1
        if other != item and (item >= n_items or other >= n_items):
            _add(live, n_items, other, item, now / distance)
            _add(live, n_items, item, other, now / distance * PAIR_BACKWARD)


@jit_inner
def _add(live: Any, n_items: Any, item: Any, neighbour: Any, weight: Any) -> None:
    """Count a neighbour of an item."""
    row = item - n_items if item >= n_items else live.row_of[item]
    if row < 0:
        row = _new_row(live, item)
    serials, sizes = live.serials, live.sizes
    neighbours, neighbour_serials, counts = live.neighbours[row], live.neighbour_serials[row], live.counts[row]
    serial = serials[neighbour - n_items] if neighbour >= n_items else 0
    live.totals[row] += weight
    least = 0
    for place in range(sizes[row]):
        if neighbours[place] == neighbour and neighbour_serials[place] == serial:
            counts[place] += weight
            return
        other = neighbours[place]
        if other >= n_items and serials[other - n_items] != neighbour_serials[place]:
            counts[place] = 0.0  # of an item that has left
        if counts[place] < counts[least]:
            least = place
    if sizes[row] < len(neighbours):
        least = sizes[row]
        sizes[row] += 1
    neighbours[least], neighbour_serials[least], counts[least] = neighbour, serial, weight


@jit_inner
def _new_row(live: Any, item: Any) -> Any:
    """Give a row to an item of the bundle."""
    owners, totals, used, n_live = live.owners, live.totals, live.used, len(live.hashes)
    if used[_ROWS] < len(owners):
        row = used[_ROWS]
        used[_ROWS] += 1
    else:
        row = _least(totals, n_live, used, _ROW_HAND)
        live.row_of[owners[row]] = -1
        _clear_row(live, row)
    owners[row], live.row_of[item] = item, row
    return row


@jit_inner
def _clear_row(live: Any, row: Any) -> None:
    live.sizes[row], live.totals[row] = 0, 0.0


@jit_inner
def _least(weights: Any, first: Any, used: Any, hand: Any) -> Any:
    """Find what weighs least among a few places, from where the last search ended; those before `first` are others."""
    least = used[hand]
    for _ in range(_LOOKS):
        if weights[used[hand]] < weights[least]:
            least = used[hand]
        used[hand] += 1
        if used[hand] == len(weights):
            used[hand] = first
    return least


@jit_inner
def _remove(table: Any, item_hash: Any) -> None:
    """Take a hash out of a table; those that stand behind it because of it move up."""
    hashes, rows = table
    mask = np.uint64(len(hashes) - 1)
    free = item_hash & mask
    while hashes[free] != item_hash or rows[free] < 0:
        free = (free + np.uint64(1)) & mask
    rows[free] = -1
    at = (free + np.uint64(1)) & mask
    while rows[at] >= 0:
        if ((at - hashes[at]) & mask) >= ((at - free) & mask):  # its own place is not behind the free one
            hashes[free], rows[free], rows[at] = hashes[at], rows[at], -1
            free = at
        at = (at + np.uint64(1)) & mask


@jit_inner
def _scale_back(live: Any) -> None:
    """Divide everything by the weight of a click of now, which is 1 then."""
    factor = 1.0 / live.sums[NOW]
    n_items, n_live, n_rows = live.used[_ITEMS], len(live.hashes), live.used[_ROWS]
    live.uses[:n_items] *= factor
    live.born[:n_items] *= factor
    live.totals[:n_rows] *= factor
    live.counts[:n_items] *= np.float32(factor)
    live.counts[n_live:n_rows] *= np.float32(factor)
    live.sums[ALL_PAIRS] *= factor
    live.sums[NOW] = 1.0


@jit
def carry_on(before: Any, rows_before: Any, live: Any, rows: Any) -> Any:
    """Go on under another bundle, with what it does not know.

    Args:
        before: counts under the bundle before.
        rows_before: finds its items.
        live: counts of nothing so far: changed.
        rows: finds the items of the bundle of now.

    Returns:
        int64 (n_live,): the place of now of each place before; -1 of items that have left.
    """
    live.sums[ALL_PAIRS], live.sums[NOW] = before.sums[ALL_PAIRS], before.sums[NOW]
    n_before = len(before.row_of)
    items = np.full(n_before + len(before.hashes), -1, np.int64)  # of now, by those of before
    for at in range(len(rows_before.rows)):
        if rows_before.rows[at] >= 0:
            items[rows_before.rows[at]] = find_row(rows, rows_before.hashes[at])
    for place in range(before.used[_ITEMS]):
        items[n_before + place] = find_row(rows, before.hashes[place])
        if items[n_before + place] < 0:
            now = insert_item(live, before.hashes[place])
            live.uses[now], live.born[now] = before.uses[place], before.born[place]
            items[n_before + place] = len(live.row_of) + now
    for place in range(before.used[_ITEMS]):
        _carry_row(before, place, live, items)
    for row in range(len(before.hashes), before.used[_ROWS]):
        _carry_row(before, row, live, items)
    places = items[n_before:] - len(live.row_of)
    return np.where(places >= 0, places, -1)


@jit_inner
def _carry_row(before: Any, row: Any, live: Any, items: Any) -> None:
    """Count again what was counted in a row, as far as one of the two items is live."""
    n_before, n_items = len(before.row_of), len(live.row_of)
    item = items[before.owners[row]]
    for place in range(before.sizes[row]):
        neighbour = before.neighbours[row, place]
        is_current = (
            neighbour < n_before or before.serials[neighbour - n_before] == before.neighbour_serials[row, place]
        )
        now = items[neighbour]
        if is_current and item >= 0 and now >= 0 and (item >= n_items or now >= n_items):
            _add(live, n_items, item, now, before.counts[row, place])
