"""The exact best items of each user: the few that the pass over all items leaves, and those that counts speak for.

What counts add to an item's probability is never negative and touches a few hundred items. So the k best of the sum
are among the network's k best and these. Of these, again, most cannot come in: the network gives them less than its
k-th best, and that bound and their counts are too little. Only the others' products are computed, in float64.

The sum of all powers is right to a few hundred-thousandths. Where that could decide which of two items is the better,
or where the pass left too many blocks to tell, all items are scored exactly.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit, jit_inner, jit_sums
from nextclick.scoring.kernel import BLOCK, address, fetch_soon
from nextclick.scoring.packed_items import Doubles, Floats, Ints, ItemVectors
from nextclick.scoring.sweep import Swept, sweep

Longs = npt.NDArray[np.int64]

_SUM_ERROR = 1e-4  # of the sum of all powers, relative: twice the worst that was found in 10,000 lists
_SAFE_POWER = 100.0  # above this, a sum of powers in float32 may have overflowed


class Counts(NamedTuple):
    """What counts say of items, one item behind the other; see `nextclick.mixture`.

    Attributes:
        starts: int64 (n_items + 1,), where each item's neighbours begin.
        neighbours: int32 (n,).
        shares: float32 (n,), each more than 0.
        most: how many neighbours an item has at most.
    """

    starts: Longs
    neighbours: Ints
    shares: Floats
    most: int


class Terms(NamedTuple):
    """How much each term of the mixture counts for each user.

    Attributes:
        clicked: int64 (users, ages), items, the newest first; -1 where there is none.
        weights: float64 (users, 1 + 2 * ages): of the network, of neighbours by age, of re-clicks by age.
    """

    clicked: Longs
    weights: Doubles


class Best(NamedTuple):
    """The best items of users.

    Attributes:
        items: int32 (users, k), the best first.
        probabilities: float64 (users, k).
    """

    items: Ints
    probabilities: Doubles


class Users(NamedTuple):
    """What is known of users.

    Attributes:
        queries: float32 (users, size).
        swept: what the pass left.
    """

    queries: Floats
    swept: Swept


class Leading(NamedTuple):
    """The best items so far, and one more, so that the last one's distance to it is known.

    Attributes:
        items: int32 (k + 1,).
        probabilities: float64 (k + 1,), falling; -1 where there are fewer.
        of_network: float64 (k + 1,), the network's part of them.
    """

    items: Ints
    probabilities: Doubles
    of_network: Doubles


class Found(NamedTuple):
    """Items that may be among the network's best, with their scores."""

    items: Ints
    scores: Doubles


class Room(NamedTuple):
    """Memory for one user at a time.

    Attributes:
        of_counts: float32 (n_items,), what counts say of each item; zeros between two users.
        touched: int32, the items that they speak of.
        counted: float32, what they say of these.
        weighed, of_weighed: float64, of items that counts speak of the probability, and the network's part of it.
    """

    of_counts: Floats
    touched: Ints
    counted: Floats
    weighed: Doubles
    of_weighed: Doubles


NO_COUNTS = Counts(np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0, np.float32), 0)


def pack_counts(neighbours: Ints, shares: Floats) -> Counts:
    """Leave out what has no share: most items of a large catalogue are clicked too rarely to have all neighbours.

    Args:
        neighbours: int32 (n_items, n_neighbours).
        shares: float32 (n_items, n_neighbours), not negative; 0 where there are fewer.
    """
    is_there = shares > 0.0
    n_of_items = is_there.sum(axis=1)
    starts = np.zeros(len(shares) + 1, np.int64)
    np.cumsum(n_of_items, out=starts[1:])
    return Counts(starts, neighbours[is_there].astype(np.int32), shares[is_there], int(n_of_items.max()))


def best_items(items: ItemVectors, queries: Floats, counts: Counts, terms: Terms, k: int) -> Best:
    """Give each user's k best items, exactly.

    Args:
        items: all of them.
        queries: float32 (users, size), what their vectors are multiplied with.
        counts: of the items.
        terms: of the users.
        k: how many, at most as many as there are items.
    """
    best = Best(np.empty((len(queries), k), np.int32), np.empty((len(queries), k)))
    _rank(items, Users(queries, sweep(items, queries, k)), counts, terms, best)
    return best


@jit
def _rank(items: Any, users: Any, counts: Any, terms: Any, best: Any) -> None:
    """Rank the few items of each user that can be among the best; all of them where those do not decide."""
    (n_users, k), n_found = best.items.shape, users.swept.largest.shape[1] * BLOCK
    room = _room(len(items.exact), terms.clicked.shape[1] * (1 + counts.most), n_found)
    found = Found(np.empty(n_found, np.int32), np.empty(n_found))
    leading = Leading(np.empty(k + 1, np.int32), np.empty(k + 1), np.empty(k + 1))
    for user in range(n_users):
        if user + 1 < n_users:
            _fetch_counts_soon(terms.clicked[user + 1], counts)
        clicked, weights = terms.clicked[user], terms.weights[user]
        n_touched = _add_counts(room.of_counts, room.touched, clicked, weights, counts)
        n_found, bound = _network_best(items, users, user, k, found)
        total, is_certain = _total(items, users, user, n_found, found), False
        if total > 0.0:
            log_total = users.swept.shifts[user] + np.log2(total)
            n_weighed = _insert_found(weights[0], log_total, n_found, found, room, leading)
            query, most = users.queries[user], weights[0] * np.exp2(bound - log_total)
            n_weighed = _insert_counted(items, query, weights[0], log_total, most, n_touched, n_weighed, room, leading)
            is_certain = _is_certain(leading, room.weighed, room.of_weighed, n_weighed)
        else:
            _forget(room.of_counts, room.touched, n_touched)
        if not is_certain:
            n_touched = _add_counts(room.of_counts, room.touched, clicked, weights, counts)
            _rank_exactly(items, users.queries[user], weights[0], room.of_counts, leading)
            _forget(room.of_counts, room.touched, n_touched)
        best_items, probabilities = best.items[user], best.probabilities[user]
        for place in range(k):
            best_items[place], probabilities[place] = leading.items[place], leading.probabilities[place]


@jit_inner
def _room(n_items: Any, n_touched: Any, n_found: Any) -> Any:
    counts, touched, counted = (
        np.zeros(n_items, np.float32),
        np.empty(n_touched, np.int32),
        np.empty(n_touched, np.float32),
    )
    return Room(counts, touched, counted, np.empty(n_touched + n_found), np.empty(n_touched + n_found))


@jit_inner
def _insert_found(weight: Any, log_total: Any, n_found: Any, found: Any, room: Any, leading: Any) -> Any:
    """Insert the network's best items; gives how many of them counts speak of, and takes these out of the counts."""
    # What is in a tuple costs a count of references at each use; what a variable holds does not.
    of_counts, weighed, of_weighed = room.of_counts, room.weighed, room.of_weighed
    found_items, found_scores, n_weighed = found.items, found.scores, 0
    _clear(leading)
    for place in range(n_found):
        item, of_network = found_items[place], weight * np.exp2(found_scores[place] - log_total)
        _insert(leading, item, of_network + of_counts[item], of_network)
        if of_counts[item] > 0.0:
            weighed[n_weighed], of_weighed[n_weighed] = of_network + of_counts[item], of_network
            n_weighed += 1
            of_counts[item] = 0.0  # done
    return n_weighed


@jit_inner
def _insert_counted(  # noqa: PLR0913
    items: Any,
    query: Any,
    weight: Any,
    log_total: Any,
    most: Any,
    n_touched: Any,
    n_weighed: Any,
    room: Any,
    leading: Any,
) -> Any:
    """Insert the items that counts speak of and that can come in; gives how many are weighed now.

    The network gives them at most `most`. No counts are left in `room`.
    """
    exact, biases, scale = items.exact, items.exact_biases, items.exact_scale
    of_counts, touched, counted, weighed, of_weighed = room
    probabilities, k = leading.probabilities, len(leading.items) - 1
    flat, size = exact.reshape(-1), exact.shape[1]
    for place in range(n_touched):  # without a branch: these are many places, and few matter
        counted[place] = of_counts[touched[place]]
    _forget(of_counts, touched, n_touched)
    n_left = _still_possible(touched, counted, n_touched, probabilities, most)
    for place in range(n_left):
        fetch_soon(address(flat, size * touched[place]), 4 * size)
    for place in range(n_left):
        item, of_item = touched[place], counted[place]
        if (of_item + most) * (1.0 + _SUM_ERROR) >= probabilities[k]:
            score = _product(exact[item], query) * scale + biases[item]
            of_network = weight * np.exp2(score - log_total)
            _insert(leading, item, of_item + of_network, of_network)
            weighed[n_weighed], of_weighed[n_weighed] = of_item + of_network, of_network
            n_weighed += 1
    return n_weighed


@jit_inner
def _network_best(items: Any, users: Any, user: Any, k: Any, found: Any) -> Any:
    """Find the items that can be among the network's k best, with their scores of the pass.

    Returns:
        How many they are, 0 if that cannot be told, and a score that no other item reaches.
    """
    (n_blocks, _, block), (n_items, size) = items.packed.shape, items.exact.shape
    _, _, errors, _, _, largest, blocks, scores = users.swept
    error, exact = errors[user], items.exact.reshape(-1)
    found_items, found_scores = found
    kept = largest.shape[1]
    least = largest[user, k - 1] - 2.0 * error
    if n_blocks > kept and not largest[user, kept - 1] < least:
        return 0, 0.0
    n_found = 0
    for place in range(kept):
        number = blocks[user, place]
        if number < 0 or largest[user, place] < least:
            break
        of_block = scores[user, place]
        for lane in range(block):
            if of_block[lane] >= least and number * block + lane < n_items:
                found_items[n_found], found_scores[n_found] = number * block + lane, of_block[lane]
                n_found += 1
    if n_items <= k:  # all were found
        return n_found, -np.inf
    least = _kth_largest(found_scores, n_found, k) - 2.0 * error
    n_left = 0
    for place in range(n_found):
        if found_scores[place] >= least:
            found_items[n_left], found_scores[n_left] = found_items[place], found_scores[place]
            fetch_soon(address(exact, size * found_items[n_left]), 4 * size)
            n_left += 1
    return n_left, least + error


@jit_inner
def _still_possible(touched: Any, counted: Any, n_touched: Any, probabilities: Any, most: Any) -> Any:
    """Keep the counted items that can come in, when the network gives them at most so much; gives how many they are.

    At least so many items as are wanted will be as probable as the last of `at_least`: it begins with what the
    network's best items have, and each item has what counts say of it.
    """
    last, n_left = len(probabilities) - 1, 0
    at_least = probabilities.copy()
    most *= 1.0 + _SUM_ERROR
    for place in range(n_touched):
        if counted[place] > 0.0 and counted[place] + most >= at_least[last] * (1.0 - _SUM_ERROR):
            touched[n_left], counted[n_left] = touched[place], counted[place]
            n_left += 1
            if counted[place] > at_least[last]:
                here = last
                while here > 0 and at_least[here - 1] < counted[place]:
                    at_least[here] = at_least[here - 1]
                    here -= 1
                at_least[here] = counted[place]
    n_possible = 0
    for place in range(n_left):
        if counted[place] + most >= at_least[last] * (1.0 - _SUM_ERROR):
            touched[n_possible], counted[n_possible] = touched[place], counted[place]
            n_possible += 1
    return n_possible


@jit_inner
def _kth_largest(scores: Any, n: Any, k: Any) -> Any:
    """Give the k-th largest of the first n scores: few, so that each is put into its place."""
    largest = np.full(k, -np.inf)
    for number in range(n):
        place = k
        while place > 0 and largest[place - 1] < scores[number]:
            if place < k:
                largest[place] = largest[place - 1]
            place -= 1
        if place < k:
            largest[place] = scores[number]
    return largest[k - 1]


@jit_inner
def _total(items: Any, users: Any, user: Any, n_found: Any, found: Any) -> Any:
    """Make the found items' scores exact, and the sum of all powers with them; 0.0 if that cannot be told."""
    shift, total = np.float64(users.swept.shifts[user]), users.swept.totals[user]
    exact, biases, scale, query = items.exact, items.exact_biases, items.exact_scale, users.queries[user]
    found_items, scores = found.items, found.scores
    for place in range(n_found):
        score = _product(exact[found_items[place]], query) * scale + biases[found_items[place]]
        if not score - shift < _SAFE_POWER:
            return 0.0
        total += np.exp2(score - shift) - np.exp2(scores[place] - shift)
        scores[place] = score
    return total if n_found > 0 else 0.0


@jit_sums
def _product(vector: Any, query: Any) -> Any:
    """Multiply an item's vector with a user's, in float64."""
    product = 0.0
    for place in range(len(query)):
        product += np.float64(vector[place]) * np.float64(query[place])
    return product


@jit_inner
def _add_counts(of_counts: Any, touched: Any, clicked: Any, weights: Any, counts: Any) -> Any:
    """Add what counts say of items, for one user; gives how many of `touched` are those that they speak of."""
    n_touched, n_ages = 0, len(clicked)
    starts, neighbours, shares, _ = counts
    for age in range(n_ages):
        if clicked[age] < 0:
            continue
        item, of_reclick, of_neighbours = clicked[age], np.float32(weights[1 + n_ages + age]), weights[1 + age]
        if of_reclick > 0.0:
            if of_counts[item] == 0.0:
                touched[n_touched] = item
                n_touched += 1
            of_counts[item] += of_reclick
        for place in range(starts[item], starts[item + 1]):
            share = np.float32(of_neighbours * shares[place])
            if share > 0.0:
                neighbour = neighbours[place]
                before = of_counts[neighbour]
                if before == 0.0:
                    touched[n_touched] = neighbour
                    n_touched += 1
                of_counts[neighbour] = before + share
    return n_touched


@jit_inner
def _fetch_counts_soon(clicked: Any, counts: Any) -> None:
    starts, neighbours, shares, _ = counts
    for age in range(len(clicked)):
        if clicked[age] >= 0:
            begin, end = starts[clicked[age]], starts[clicked[age] + 1]
            fetch_soon(address(neighbours, begin), 4 * (end - begin))
            fetch_soon(address(shares, begin), 4 * (end - begin))


@jit_inner
def _forget(of_counts: Any, touched: Any, n_touched: Any) -> None:
    for place in range(n_touched):
        of_counts[touched[place]] = 0.0


@jit_inner
def _rank_exactly(items: Any, query: Any, weight: Any, of_counts: Any, leading: Any) -> None:
    """Score all items in float64: slow, and beyond doubt."""
    exact, biases, scale = items.exact, items.exact_biases, items.exact_scale
    powers, largest, total = np.empty(len(exact)), -np.inf, 0.0
    for item in range(len(powers)):
        powers[item] = _product(exact[item], query) * scale + biases[item]
        largest = max(largest, powers[item])
    for item in range(len(powers)):
        powers[item] = np.exp2(powers[item] - largest)
        total += powers[item]
    _clear(leading)
    for item in range(len(powers)):
        of_network = weight * powers[item] / total
        _insert(leading, item, of_network + of_counts[item], of_network)


@jit_inner
def _clear(leading: Any) -> None:
    leading.items[:], leading.probabilities[:], leading.of_network[:] = -1, -1.0, 0.0


@jit_inner
def _insert(leading: Any, item: Any, probability: Any, of_network: Any) -> None:
    """Put an item into its place among the best so far, behind those that are as probable.

    Where two are, nothing is certain, and all are ranked exactly, in the order of their rows: the lower one is better.
    """
    items, probabilities, of_networks = leading
    last = len(items) - 1
    place = last + 1  # where it belongs
    while place > 0 and probabilities[place - 1] < probability:
        place -= 1
    for other in range(last, place, -1):
        items[other], probabilities[other] = items[other - 1], probabilities[other - 1]
        of_networks[other] = of_networks[other - 1]
    if place <= last:
        items[place], probabilities[place], of_networks[place] = item, probability, of_network


@jit_inner
def _is_certain(leading: Any, weighed: Any, of_weighed: Any, n_weighed: Any) -> Any:
    """Tell whether no error of the sum of all powers could change the order of the best items.

    Nor which they are: each item that counts speak of is compared with the last of them. Others are compared by the
    network alone, which knows no sum.
    """
    probabilities, of_network = leading.probabilities, leading.of_network
    last, of_last = probabilities[len(probabilities) - 2], of_network[len(probabilities) - 2]
    for place in range(n_weighed):
        if 0.0 < last - weighed[place] <= _SUM_ERROR * abs(of_last - of_weighed[place]):
            return False
    for place in range(len(probabilities) - 1):
        distance = probabilities[place] - probabilities[place + 1]
        if probabilities[place + 1] >= 0.0 and distance <= _SUM_ERROR * abs(of_network[place] - of_network[place + 1]):
            return False
    return True
