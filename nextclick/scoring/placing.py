"""Puts ranked items into a list's places under the shop's rules: exclusions, pinned items, categories, exploration.

Down the exact ranking each item is taken that no rule forbids: the first k that are allowed are the k best that are. A
list for which the ranking was not deep enough says so, and is made again from a deeper one.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit, jit_inner
from nextclick.scoring.histories import Longs, Out
from nextclick.scoring.packed_items import Doubles, Ints
from nextclick.scoring.terms import Best, Named

RANKED, PINNED, EXPLORED = range(3)  # why an item has its place
_NO_MORE = -1


class Categories(NamedTuple):
    """What items are in, and how many of a list's items may be in the same.

    Attributes:
        starts: int64 (n_items + 1,), where each item's categories begin; (1,) without any.
        numbers: int32 (n,), one item behind the other.
        sizes: int32 (n_categories,), how many items that may be listed are in each.
        n_free: how many of these are in none.
        most: items of a category in a list; 0: no bound.
        live_starts, live_numbers: the first two of live items, int64 (n_live + 1,) and int32 (m,).
    """

    starts: Longs
    numbers: Ints
    sizes: Ints
    n_free: int
    most: int
    live_starts: Longs = np.zeros(1, np.int64)
    live_numbers: Ints = np.zeros(0, np.int32)


class Exploring(NamedTuple):
    """Which places go to items that were shown little.

    Attributes:
        share: of the places; 0: none does.
        offsets: float64 (users,), from 0 to 1: which places these are, see `is_explored`.
        shown: uint32 (n_items,), how often each item was listed; added to. (0,) where nothing is explored.
    """

    share: float
    offsets: Doubles
    shown: npt.NDArray[np.uint32]


class Demands(NamedTuple):
    """What lists must be like, all users' together.

    Attributes:
        out: of each user the items that are left out, and the pinned ones that are not.
        pinned: int32 (n,), all pinned items in their order.
        categories: of all items.
        exploring: which places are explored.
        n_places: how long a list is.
    """

    out: Out
    pinned: Ints
    categories: Categories
    exploring: Exploring
    n_places: int


class _Room(NamedTuple):
    """Memory for one user at a time.

    Attributes:
        is_taken: uint8 (depth,), whether a place of the ranking was taken out of its turn.
        n_listed: int32 (n_categories,), how many of the list's items are in each category; zeros between two users.
    """

    is_taken: npt.NDArray[np.uint8]
    n_listed: Ints


def place(
    best: Best, named: Named, wanted: Longs, demands: Demands, has_live: npt.NDArray[np.bool_], n_items: int
) -> tuple[Best, Longs]:
    """Make the users' lists.

    Args:
        best: the ranking of each user, without what is left out for him, and without the pinned items.
        named: the pinned items, in their order.
        wanted: int64 (users,), how deep each user's ranking goes.
        demands: what lists must be like.
        has_live: bool (users,), whether live items can be in a user's ranking.
        n_items: how many there are, live ones included.

    Returns:
        The lists, with `placed`, and which users' rankings do not go deep enough.
    """
    (n_users, depth), k, categories = best.items.shape, demands.n_places, demands.categories
    listed = Best(
        np.full((n_users, k), _NO_MORE, np.int32), np.full((n_users, k), -1.0), np.zeros((n_users, k), np.uint8)
    )
    n_categories = 0
    if categories.most:
        n_categories = max(len(categories.sizes), int(categories.live_numbers.max(initial=-1)) + 1)
    room = _Room(np.zeros(depth, np.uint8), np.zeros(n_categories, np.int32))
    is_short = has_live.copy()
    _place(best, named, wanted, demands, n_items, room, listed, is_short)
    return listed, np.flatnonzero(is_short)


@jit
def _place(  # noqa: PLR0913
    best: Any, named: Any, wanted: Any, demands: Any, n_items: Any, room: Any, listed: Any, is_short: Any
) -> None:
    out, _, categories, exploring, k = demands
    n_listed, shown, is_bounded = room.n_listed, exploring.shown, categories.most > 0
    for user in range(len(is_short)):
        items, ranked, depth = listed.items[user], best.items[user], wanted[user]
        while depth > 0 and ranked[depth - 1] < 0:
            depth -= 1  # there are no more that may be listed
        not_out = out.rows[out.pinned[user] : out.starts[user + 1]]
        n = _pin(named.rows, named.probabilities[user], not_out, items, listed.probabilities[user], listed.placed[user])
        if is_bounded:
            _count_all(items[:n], categories, n_listed, 1)
        n = _fill(best, user, depth, n, demands, room, listed)
        # A ranking that is shorter than was wanted has all items that may be listed, as one of all items has.
        has_live, is_short[user] = is_short[user], n < k and depth == wanted[user] < n_items
        if is_short[user] and is_bounded and not has_live:
            is_short[user] = _is_any_open(items[:n], n_listed, categories)
        if is_bounded:
            _count_all(items[:n], categories, n_listed, -1)
        if len(shown) and not is_short[user]:
            for place in range(n):
                shown[items[place]] += 1


@jit_inner
def _fill(best: Any, user: Any, depth: Any, n: Any, demands: Any, room: Any, listed: Any) -> Any:  # noqa: PLR0913
    """Go down the ranking, and fill the places behind the first n; gives how many there are in all."""
    # What is asked of each item gets arrays: a tuple that holds them costs a count of references at each use.
    _, _, (starts, numbers, _, _, most, live_starts, live_numbers), exploring, k = demands
    ranked, of_ranked = best.items[user], best.probabilities[user]
    items, probabilities, placed = listed.items[user], listed.probabilities[user], listed.placed[user]
    (is_taken, n_listed), (share, offsets, shown), at = room, exploring, 0
    is_taken[:depth] = 0
    while n < k:
        while at < depth and (
            is_taken[at]
            or (most and not _has_room(ranked[at], starts, numbers, live_starts, live_numbers, n_listed, most))
        ):
            at += 1
        if at == depth:
            break
        chosen = at
        if len(shown) and is_explored(n, share, offsets[user]):
            chosen = _least_shown(
                ranked[:depth], at, k, is_taken, shown, starts, numbers, live_starts, live_numbers, n_listed, most
            )
            placed[n] = EXPLORED
        items[n], probabilities[n], is_taken[chosen] = ranked[chosen], of_ranked[chosen], 1
        if most:
            _count(items[n], starts, numbers, live_starts, live_numbers, n_listed, 1)
        n += 1
    return n


@jit_inner
def _is_any_open(items: Any, n_listed: Any, categories: Any) -> Any:
    """Tell whether an item can be there that a list has room for: all are in categories that are full otherwise."""
    starts, _, sizes, n_free, most, live_starts, _ = categories
    for item in items:
        begin, end, _ = _range_of(item, starts, live_starts)
        n_free -= begin == end
    for number in range(len(sizes)):
        if n_listed[number] < min(most, sizes[number]):
            return True
    return n_free > 0


@jit_inner
def _pin(rows: Any, of_rows: Any, not_out: Any, items: Any, probabilities: Any, placed: Any) -> Any:
    """Put the pinned items that may be listed into the first places; gives how many they are.

    Those of them that are not in `not_out`, which has the same order, are excluded by the user's own clicks.
    """
    n, at = 0, 0
    for place in range(len(rows)):
        if at == len(not_out) or not_out[at] != rows[place]:
            continue
        at += 1
        if n < len(items) and of_rows[place] >= 0.0:
            items[n], probabilities[n], placed[n] = rows[place], of_rows[place], PINNED
            n += 1
    return n


@jit_inner
def _range_of(item: Any, starts: Any, live_starts: Any) -> Any:
    """Say where the categories of an item are: from where to where, and whether among those of live items."""
    place = item - (len(starts) - 1)
    if place < 0:
        return starts[item], starts[item + 1], False
    if place + 1 < len(live_starts):
        return live_starts[place], live_starts[place + 1], True
    return np.int64(0), np.int64(0), True


@jit_inner
def _count_all(items: Any, categories: Any, n_listed: Any, change: Any) -> None:
    """Count items of the list in their categories, or count them no more."""
    starts, numbers, live_starts, live_numbers = (
        categories.starts,
        categories.numbers,
        categories.live_starts,
        categories.live_numbers,
    )
    for place in range(len(items)):
        _count(items[place], starts, numbers, live_starts, live_numbers, n_listed, change)


@jit_inner
def _count(  # noqa: PLR0913
    item: Any, starts: Any, numbers: Any, live_starts: Any, live_numbers: Any, n_listed: Any, change: Any
) -> None:
    """Count an item of the list in its categories."""
    begin, end, is_live = _range_of(item, starts, live_starts)
    for at in range(begin, end):
        n_listed[live_numbers[at] if is_live else numbers[at]] += change


@jit_inner
def _has_room(  # noqa: PLR0913
    item: Any, starts: Any, numbers: Any, live_starts: Any, live_numbers: Any, n_listed: Any, most: Any
) -> Any:
    """Tell whether none of an item's categories is full."""
    (begin, end, is_live), has_room = _range_of(item, starts, live_starts), True
    for at in range(begin, end):
        has_room &= n_listed[live_numbers[at] if is_live else numbers[at]] < most
    return has_room


@jit_inner
def _least_shown(  # noqa: PLR0913
    ranked: Any,
    at: Any,
    beyond: Any,
    is_taken: Any,
    shown: Any,
    starts: Any,
    numbers: Any,
    live_starts: Any,
    live_numbers: Any,
    n_listed: Any,
    most: Any,
) -> Any:
    """Give the place of the item that was shown least among those that are next; the better one of two.

    Those that the list has no room for, from `beyond` on; where there are none, those that it has.
    """
    for begin in (max(at, beyond), at):
        chosen = -1
        for other in range(begin, len(ranked)):
            if is_taken[other] or (chosen >= 0 and shown[ranked[other]] >= shown[ranked[chosen]]):
                continue
            if most and not _has_room(ranked[other], starts, numbers, live_starts, live_numbers, n_listed, most):
                continue
            chosen = other
        if chosen >= 0:
            return chosen
    return at


@jit_inner
def is_explored(place: Any, share: Any, offset: Any) -> Any:
    """Tell whether a place is explored: every (1 / share)-th is, and the offset says with which one that begins."""
    return np.floor((place + 1) * share + offset) > np.floor(place * share + offset)
