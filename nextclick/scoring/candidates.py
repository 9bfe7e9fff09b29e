"""The few items that can be among a user's best: gathered, pruned by what counts say, and put into their order."""

from typing import Any, NamedTuple

import numpy as np

from nextclick.scoring.compiled import jit_inner, jit_sums
from nextclick.scoring.counted import AT_ONCE, forget
from nextclick.scoring.kernel import address, fetch_soon
from nextclick.scoring.network_part import product
from nextclick.scoring.packed_items import Doubles, Ints

SUM_ERROR = 1e-4  # of the sum of all powers, relative: twice the worst that was found in 10,000 lists
_SMALLEST = np.float32(2.0**-149)  # positive number of 32 bits
_HALVINGS, _OCTAVES = 10, 24  # of the search for the n-th largest: it is found to 2 %


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


@jit_inner
def new_leading(k: Any) -> Any:
    return Leading(np.empty(k + 1, np.int32), np.empty(k + 1), np.empty(k + 1))


@jit_inner
def first_of(leading: Any, n: Any) -> Any:
    return Leading(leading.items[:n], leading.probabilities[:n], leading.of_network[:n])


@jit_inner
def clear(leading: Any) -> None:
    leading.items[:], leading.probabilities[:], leading.of_network[:] = -1, -1.0, 0.0


@jit_inner
def gather_found(weight: Any, log_total: Any, n_found: Any, found: Any, room: Any) -> Any:
    """Make candidates of the network's best items, and take these out of the counts; gives how many they are."""
    # What is in a tuple costs a count of references at each use; what a variable holds does not.
    of_counts, is_out, candidates, probabilities, of_networks = (
        room.of_counts,
        room.is_out,
        room.candidates,
        room.probabilities,
        room.of_networks,
    )
    found_items, found_scores, n = found.items, found.scores, 0
    for place in range(n_found):
        item = found_items[place]
        if not is_out[item]:
            of_network = weight * np.exp2(found_scores[place] - log_total)
            candidates[n], probabilities[n], of_networks[n] = item, of_network + of_counts[item], of_network
            of_counts[item] = 0.0  # done
            n += 1
    return n


@jit_inner
def gather_counted(  # noqa: PLR0913
    items: Any, query: Any, weight: Any, log_total: Any, most: Any, n_touched: Any, n: Any, k: Any, room: Any
) -> Any:
    """Make candidates of the items that counts speak of and that can come in; gives how many candidates there are now.

    The network gives them at most `most`. No counts are left in `room`.
    """
    exact, biases, scale = items.exact, items.exact_biases, items.exact_scale
    of_counts, touched, counted = room.of_counts, room.touched, room.counted
    candidates, probabilities, of_networks = room.candidates, room.probabilities, room.of_networks
    flat, size = exact.reshape(-1), exact.shape[1]
    for place in range(n_touched):  # without a branch: these are many places, and few matter
        counted[place] = of_counts[touched[place]]
    forget(of_counts, touched, n_touched)
    n_left = _still_possible(touched, counted, n_touched, probabilities[:n], k + 1, most)
    for place in range(n_left):
        if touched[place] < len(exact):
            fetch_soon(address(flat, size * touched[place]), 4 * size)
    for place in range(n_left):
        item, of_network = touched[place], 0.0
        if item < len(exact):
            of_network = weight * np.exp2(product(exact[item], query) * scale + biases[item] - log_total)
        candidates[n], probabilities[n], of_networks[n] = item, counted[place] + of_network, of_network
        n += 1
    return n


@jit_inner
def _still_possible(touched: Any, counted: Any, n_touched: Any, probabilities: Any, n_wanted: Any, most: Any) -> Any:
    """Keep the counted items that can come in, when the network gives them at most so much; gives how many they are.

    So many items as are wanted will be at least as probable as `least`, by what counts say alone.
    """
    n = n_touched
    for place in range(len(probabilities)):
        counted[n] = probabilities[place]
        n += 1
    n_padded = _pad(counted, n, np.float32(-1.0))
    most *= 1.0 + SUM_ERROR
    least, n_left = _about_nth(counted[:n_padded], n_wanted) * (1.0 - SUM_ERROR) - most, 0
    limit = max(np.float32(least), _SMALLEST)  # of nothing nothing is said
    for place in range(n_touched):
        if counted[place] >= limit:
            touched[n_left], counted[n_left] = touched[place], counted[place]
            n_left += 1
    return n_left


@jit_inner
def _about_nth(numbers: Any, n: Any) -> Any:
    """Give a number that n of the numbers are not below: about the n-th largest one, or 0."""
    found, octaves, step = 0.0, np.float64(_OCTAVES), 0.5 * _OCTAVES
    for _ in range(_HALVINGS):
        limit = np.exp2(-octaves)
        n_not_below = _n_not_below(numbers, np.float32(limit))
        if n_not_below >= n:
            found = limit
            octaves -= step
        else:
            octaves += step
        step *= 0.5
        if n_not_below == n:
            break
    return found


@jit_sums
def _n_not_below(numbers: Any, limit: Any) -> Any:
    n = np.float32(0.0)
    for place in range(len(numbers)):
        n += np.float32(1.0) if numbers[place] >= limit else np.float32(0.0)
    return n


@jit_inner
def take_best(n: Any, room: Any, leading: Any) -> None:
    """Put the best of the first n candidates into their order; of two that are as probable, the former is first.

    Each is compared with all others: many at a time, and without a branch, these are less work than to sort.
    """
    candidates, probabilities, of_networks = room.candidates, room.probabilities, room.of_networks
    items, of_items, of_items_network = leading
    clear(leading)
    n_padded = _pad(probabilities, n, -1.0)
    for one in range(n):
        probability = probabilities[one]
        place, n_not_less = _n_above(probabilities[:n_padded], probability)
        if n_not_less > place + 1:
            for other in range(one):
                place += probabilities[other] == probability
        if place < len(items):
            items[place], of_items[place], of_items_network[place] = candidates[one], probability, of_networks[one]


@jit_inner
def _pad(numbers: Any, n: Any, value: Any) -> Any:
    """Write a value behind the first n numbers, up to a multiple of `AT_ONCE`; gives how many there are then."""
    n_padded = -(-n // AT_ONCE) * AT_ONCE
    for place in range(n, n_padded):
        numbers[place] = value
    return n_padded


@jit_inner
def _n_above(numbers: Any, number: Any) -> Any:
    """Give how many of so many numbers, a multiple of `AT_ONCE`, are larger than another one, and how many not less."""
    n_above, n_not_less = 0, 0
    for begin in range(0, len(numbers), AT_ONCE):
        for place in range(begin, begin + AT_ONCE):
            n_above += numbers[place] > number
            n_not_less += numbers[place] >= number
    return n_above, n_not_less


@jit_inner
def insert(items: Any, probabilities: Any, of_networks: Any, item: Any, probability: Any, of_network: Any) -> None:
    """Put an item into its place among the best so far, behind those that are as probable.

    Where two are, nothing is certain, and all are ranked exactly, in the order of their rows: the lower one is better.
    """
    place = len(items)  # where it belongs, and what is moved to make room for it
    if not probabilities[place - 1] < probability:
        return
    place -= 1
    while place > 0 and probabilities[place - 1] < probability:
        items[place], probabilities[place] = items[place - 1], probabilities[place - 1]
        of_networks[place] = of_networks[place - 1]
        place -= 1
    items[place], probabilities[place], of_networks[place] = item, probability, of_network


@jit_inner
def is_order_certain(n_items: Any, n: Any, room: Any, leading: Any) -> Any:
    """Tell whether no error of the sum of all powers could change the order of the best items.

    Nor which they are: each candidate is compared with the last of them. Two of which the network alone speaks need no
    sum; nor do live items, which are compared by counts alone, so that of two with the same either may be first.
    """
    items, probabilities, of_network = leading
    weighed, of_weighed = room.probabilities, room.of_networks
    last, of_last = probabilities[len(probabilities) - 2], of_network[len(probabilities) - 2]
    for place in range(n):
        if 0.0 < last - weighed[place] <= SUM_ERROR * abs(of_last - of_weighed[place]):
            return False
    for place in range(len(probabilities) - 1):
        if items[place] >= n_items and items[place + 1] >= n_items:
            continue
        distance = probabilities[place] - probabilities[place + 1]
        if probabilities[place + 1] >= 0.0 and distance <= SUM_ERROR * abs(of_network[place] - of_network[place + 1]):
            return False
    return True
