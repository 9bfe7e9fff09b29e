"""What counts say of items, of one user at a time: they touch a few hundred, and are forgotten before the next user."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit_inner
from nextclick.scoring.kernel import address, fetch_soon
from nextclick.scoring.packed_items import Doubles, Floats, Ints

AT_ONCE = 32  # numbers that are compared with one at a time
_SIDE_BY_SIDE = 4  # sums


class Room(NamedTuple):
    """Memory for one user at a time.

    Attributes:
        of_counts: float32 (n_items + n_live,), what counts say of each item; zeros between two users.
        is_out: uint8 (n_items + n_live,), whether an item is not to be among the best; zeros between two users.
        touched: int32, the items that they speak of.
        counted: float32, what they say of these.
        candidates: int32, the items that can be among the best.
        probabilities, of_networks: float64, of these, and the network's part of them.
    """

    of_counts: Floats
    is_out: npt.NDArray[np.uint8]
    touched: Ints
    counted: Floats
    candidates: Ints
    probabilities: Doubles
    of_networks: Doubles


@jit_inner
def new_room(n_items: Any, terms: Any, counts: Any, n_found: Any) -> Any:
    n_ages, starts, most_near = terms.clicked.shape[1], terms.near.starts, 0
    for user in range((len(starts) - 1) // max(n_ages, 1)):
        most_near = max(most_near, starts[(user + 1) * n_ages] - starts[user * n_ages])
    n_touched, n_all = n_ages * (1 + counts.most) + most_near, n_items + terms.near.n_live
    of_counts, is_out = np.zeros(n_all, np.float32), np.zeros(n_all, np.uint8)
    touched = np.empty(n_touched, np.int32)
    n = n_touched + n_found + AT_ONCE
    counted = np.empty(n, np.float32)
    return Room(of_counts, is_out, touched, counted, np.empty(n, np.int32), np.empty(n), np.empty(n))


@jit_inner
def set_out(is_out: Any, rows: Any, value: Any) -> None:
    for place in range(len(rows)):
        is_out[rows[place]] = value


@jit_inner
def say_counts(user: Any, terms: Any, counts: Any, factors: Any, out: Any, room: Any, named: Any) -> Any:  # noqa: PLR0913
    """Write what counts say of items and of the named ones; gives how many of `touched` are those that they speak of.

    Nothing is left of those that are left out.
    """
    of_counts, weights = room.of_counts, terms.weights[user]
    n_touched = _add_counts(of_counts, room.touched, user, terms, counts)
    if len(factors):
        named.norms[user] = _multiply(of_counts, room.touched, n_touched, factors, weights[0])
    for place in range(len(named.rows)):
        named.probabilities[user, place] = of_counts[named.rows[place]]
    for place in range(len(out)):
        of_counts[out[place]] = 0.0
    return n_touched


@jit_inner
def _multiply(of_counts: Any, touched: Any, n_touched: Any, factors: Any, weight: Any) -> Any:
    """Multiply what counts say of items with their factors; gives what all probabilities are to be divided by.

    The network's part is normalised under the factors already. What no source says, because shares of rarely clicked
    items leave it unsaid, stays unsaid.
    """
    before, after = np.zeros(_SIDE_BY_SIDE), np.zeros(_SIDE_BY_SIDE)  # a sum waits for itself at each step
    for place in range(n_touched):
        item, lane = touched[place], place % _SIDE_BY_SIDE
        before[lane] += of_counts[item]
        of_counts[item] *= factors[item]
        after[lane] += of_counts[item]
    return weight + after.sum() + max(0.0, 1.0 - weight - before.sum())


@jit_inner
def _add_counts(of_counts: Any, touched: Any, user: Any, terms: Any, counts: Any) -> Any:
    """Add what counts say of items, for one user; gives how many of `touched` are those that they speak of."""
    clicked, weights, near = terms.clicked[user], terms.weights[user], terms.near
    n_touched, n_ages, n_items = 0, len(clicked), len(counts.starts) - 1
    for age in range(n_ages):
        item, of_reclick, of_neighbours = clicked[age], np.float32(weights[1 + n_ages + age]), weights[1 + age]
        if item < 0:
            continue
        if of_reclick > 0.0:
            if of_counts[item] == 0.0:
                touched[n_touched] = item
                n_touched += 1
            of_counts[item] += of_reclick
        if item < n_items:
            begin, end = counts.starts[item], counts.starts[item + 1]
            n_touched = _add(of_counts, touched, n_touched, of_neighbours, counts.neighbours, counts.shares, begin, end)
        if len(near.starts) > 1:
            begin, end = near.starts[user * n_ages + age], near.starts[user * n_ages + age + 1]
            n_touched = _add(of_counts, touched, n_touched, of_neighbours, near.items, near.shares, begin, end)
    return n_touched


@jit_inner
def _add(  # noqa: PLR0913
    of_counts: Any, touched: Any, n_touched: Any, weight: Any, neighbours: Any, shares: Any, begin: Any, end: Any
) -> Any:
    """Add an item's neighbours; gives how many of `touched` there are then."""
    for place in range(begin, end):
        share = np.float32(weight * shares[place])
        if share > 0.0:
            neighbour = neighbours[place]
            before = of_counts[neighbour]
            if before == 0.0:
                touched[n_touched] = neighbour
                n_touched += 1
            of_counts[neighbour] = before + share
    return n_touched


@jit_inner
def fetch_counts_soon(clicked: Any, counts: Any) -> None:
    starts, neighbours, shares, _ = counts
    for age in range(len(clicked)):
        if 0 <= clicked[age] < len(starts) - 1:
            begin, end = starts[clicked[age]], starts[clicked[age] + 1]
            fetch_soon(address(neighbours, begin), 4 * (end - begin))
            fetch_soon(address(shares, begin), 4 * (end - begin))


@jit_inner
def forget(of_counts: Any, touched: Any, n_touched: Any) -> None:
    for place in range(n_touched):
        of_counts[touched[place]] = 0.0
