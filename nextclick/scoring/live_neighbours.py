"""What live counts say when users are ranked: the neighbours of the items that they clicked, as a bundle's counts have
them.

    share(x -> i) = count / (so much of x's counts in the bundle as fell in the time since i came + x's live counts + 5)

The bundle knows nothing of what was clicked near x since then; what it counted before would say that i came never.
"""

from typing import Any, NamedTuple

import numpy as np

from nextclick.network_config import PAIR_SHRINKAGE
from nextclick.scoring.compiled import jit, jit_inner
from nextclick.scoring.live_counts import ALL_PAIRS, BUNDLE_PAIRS, N_NEIGHBOURS, NOW, Floats, Ints, LiveCounts, Longs


class Near(NamedTuple):
    """What is near the items that users clicked, and that no bundle knows; or near such items.

    Attributes:
        starts: int64 (users * ages + 1,), where the neighbours of each user's clicked items begin.
        items: int32 (n,), rows of the bundle, or places of live items behind these.
        shares: float32 (n,), each more than 0.
        n_live: how many places of live items there are.
    """

    starts: Longs
    items: Ints
    shares: Floats
    n_live: int


NOTHING_NEAR = Near(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), 0)


def near_clicked(live: LiveCounts, clicked: Longs, support: Floats) -> tuple[Near, Floats]:
    """Give the neighbours of users' clicked items.

    Args:
        live: the counts.
        clicked: int64 (users, ages), as in `Terms`.
        support: float32 (n_items,), of the bundle's items.

    Returns:
        The neighbours, and the support of the clicked items, float32 (users, ages).
    """
    starts, supports = np.empty(clicked.size + 1, np.int64), np.zeros(clicked.shape, np.float32)
    most = clicked.size * N_NEIGHBOURS
    items, shares = np.empty(most, np.int32), np.empty(most, np.float32)
    n = _fill(live, clicked, support, starts, items, shares, supports)
    return Near(starts, items[:n], shares[:n], len(live.hashes)), supports


def near_of(near: Near, users: Longs, n_ages: int) -> Near:
    """Give what is near the items of some of the users."""
    if len(near.starts) == 1:
        return near
    begins, ends = near.starts[users * n_ages], near.starts[(users + 1) * n_ages]
    parts = [slice(begin, end) for begin, end in zip(begins.tolist(), ends.tolist(), strict=True)]
    places = users[:, None] * n_ages + np.arange(n_ages)
    counts = near.starts[places + 1] - near.starts[places]
    starts = np.concatenate([np.zeros(1, np.int64), counts.ravel().cumsum()])
    items = np.concatenate([near.items[part] for part in parts])
    return Near(starts, items, np.concatenate([near.shares[part] for part in parts]), near.n_live)


@jit_inner
def _row(live: Any, item: Any) -> Any:
    n_items = len(live.row_of)
    if item < 0:
        return -1
    return item - n_items if item >= n_items else np.int64(live.row_of[item])


@jit
def _fill(  # noqa: PLR0913 - numba knows arrays
    live: Any, clicked: Any, support: Any, starts: Any, items: Any, shares: Any, supports: Any
) -> Any:
    """Write the neighbours, where they begin, and the support; gives how many neighbours there are."""
    n_items, (n_users, n_ages), n = len(live.row_of), clicked.shape, 0
    for user in range(n_users):
        for age in range(n_ages):
            starts[user * n_ages + age] = n
            item, of_bundle = clicked[user, age], 0.0
            if 0 <= item < n_items:
                supports[user, age], of_bundle = support[item], np.expm1(np.float64(support[item]))
            row = _row(live, item)
            if row >= 0:
                if supports[user, age] == 0.0:
                    supports[user, age] = np.log1p(live.totals[row] / live.sums[NOW])
                n = _add_row(live, row, of_bundle, items, shares, n)
    starts[n_users * n_ages] = n
    return n


@jit_inner
def _add_row(live: Any, row: Any, of_bundle: Any, items: Any, shares: Any, n: Any) -> Any:
    """Write the neighbours of an item, whose counts in the bundle have some weight; gives how many there are then."""
    n_items, serials, born, now, all_pairs = (
        len(live.row_of),
        live.serials,
        live.born,
        live.sums[NOW],
        live.sums[ALL_PAIRS],
    )
    neighbours, neighbour_serials, counts = live.neighbours[row], live.neighbour_serials[row], live.counts[row]
    others, passed = live.totals[row] + PAIR_SHRINKAGE * now, 1.0 / live.sums[BUNDLE_PAIRS]  # in units of now
    for place in range(live.sizes[row]):
        neighbour, since = neighbours[place], now
        if neighbour >= n_items:
            if serials[neighbour - n_items] != neighbour_serials[place]:
                continue  # an item that has left
            since = min((all_pairs - born[neighbour - n_items]) * passed, now)
        share = np.float32(counts[place] / (of_bundle * since + others))
        if share > 0.0:
            items[n], shares[n] = neighbour, share
            n += 1
    return n
