"""The network's part of probabilities: exact for the few items asked for, from what the pass left, or of all items."""

from typing import Any, NamedTuple

import numpy as np

from nextclick.scoring.compiled import jit_inner, jit_sums
from nextclick.scoring.kernel import address, fetch_soon
from nextclick.scoring.packed_items import Doubles, Floats, Ints
from nextclick.scoring.sweep import Swept

_SAFE_POWER = 100.0  # above this, a sum of powers in float32 may have overflowed


class Users(NamedTuple):
    """What is known of users.

    Attributes:
        queries: float32 (users, size).
        swept: what the pass left.
    """

    queries: Floats
    swept: Swept


class Found(NamedTuple):
    """Items that may be among the network's best, with their scores."""

    items: Ints
    scores: Doubles


@jit_inner
def network_best(  # noqa: PLR0913
    items: Any, users: Any, user: Any, k: Any, n_out: Any, spare: Any, is_out: Any, found: Any
) -> Any:
    """Find the items that can be among the network's k best of those not left out, with their scores of the pass.

    Those that are left out and score as much are found, too: the sum of all powers needs the largest ones exactly.

    Returns:
        How many they are, 0 if that cannot be told, and a score that no other item reaches.
    """
    (n_blocks, _, block), (n_items, size) = items.packed.shape, items.exact.shape
    _, _, errors, _, _, largest, blocks, needed, scores = users.swept
    error, exact = errors[user], items.exact.reshape(-1)
    found_items, found_scores = found
    kept = min(k + n_out + spare, largest.shape[1])  # for others there may be more
    least = largest[user, needed[user] - 1] - 2.0 * error
    if blocks[user, kept - 1] >= 0 and n_blocks > kept and not largest[user, kept - 1] < least:
        return 0, 0.0
    n_found, n_in = 0, 0
    for place in range(kept):
        number = blocks[user, place]
        if number < 0 or largest[user, place] < least:
            break
        of_block = scores[user, place]
        for lane in range(block):
            if of_block[lane] >= least and number * block + lane < n_items:
                found_items[n_found], found_scores[n_found] = number * block + lane, of_block[lane]
                n_found += 1
                n_in += not is_out[number * block + lane]
    if n_items <= k or n_in < k:  # all were found that may be listed
        return n_found, -np.inf
    least = _kth_largest(found_items, found_scores, n_found, is_out, k) - 2.0 * error
    n_left = 0
    for place in range(n_found):
        if found_scores[place] >= least:
            found_items[n_left], found_scores[n_left] = found_items[place], found_scores[place]
            fetch_soon(address(exact, size * found_items[n_left]), 4 * size)
            n_left += 1
    return n_left, least + error


@jit_inner
def _kth_largest(items: Any, scores: Any, n: Any, is_out: Any, k: Any) -> Any:
    """Give the k-th largest of the first n scores: without what is left out; each is put into its place."""
    largest = np.full(k, -np.inf)
    for number in range(n):
        if is_out[items[number]]:
            continue
        place = k
        while place > 0 and largest[place - 1] < scores[number]:
            if place < k:
                largest[place] = largest[place - 1]
            place -= 1
        if place < k:
            largest[place] = scores[number]
    return largest[k - 1]


@jit_inner
def total_of(items: Any, users: Any, user: Any, n_found: Any, found: Any) -> Any:
    """Make the found items' scores exact, and the sum of all powers with them; 0.0 if that cannot be told."""
    shift, total = np.float64(users.swept.shifts[user]), users.swept.totals[user]
    exact, biases, scale, query = items.exact, items.exact_biases, items.exact_scale, users.queries[user]
    found_items, scores = found.items, found.scores
    for place in range(n_found):
        score = product(exact[found_items[place]], query) * scale + biases[found_items[place]]
        if not score - shift < _SAFE_POWER:
            return 0.0
        total += np.exp2(score - shift) - np.exp2(scores[place] - shift)
        scores[place] = score
    return total if n_found > 0 else 0.0


@jit_inner
def network_of_all(items: Any, query: Any, weight: Any, of_networks: Any) -> Any:
    """Write the network's part of every item's probability; gives the logarithm of the sum of all powers."""
    exact, biases, scale = items.exact, items.exact_biases, items.exact_scale
    largest, total = -np.inf, 0.0
    for item in range(len(of_networks)):
        of_networks[item] = product(exact[item], query) * scale + biases[item]
        largest = max(largest, of_networks[item])
    for item in range(len(of_networks)):
        of_networks[item] = np.exp2(of_networks[item] - largest)
        total += of_networks[item]
    for item in range(len(of_networks)):
        of_networks[item] = weight * of_networks[item] / total
    return largest + np.log2(total)


@jit_inner
def add_network(  # noqa: PLR0913
    items: Any, query: Any, weight: Any, log_total: Any, factors: Any, named: Any, user: Any
) -> None:
    """Add the network's part to what counts say of the named items; a probability below 0 says: not to be listed."""
    exact, biases, scale, norm = items.exact, items.exact_biases, items.exact_scale, named.norms[user]
    for place in range(len(named.rows)):
        item, of_network = named.rows[place], 0.0
        if len(factors) and not factors[item] > 0.0:
            named.probabilities[user, place] = -1.0
            continue
        if item < len(exact):
            score = product(exact[item], query) * scale + biases[item]
            of_network = weight * np.exp2(score - log_total)
        named.probabilities[user, place] = (named.probabilities[user, place] + of_network) / norm


@jit_sums
def product(vector: Any, query: Any) -> Any:
    """Multiply an item's vector with a user's, in float64."""
    product = 0.0
    for place in range(len(query)):
        product += np.float64(vector[place]) * np.float64(query[place])
    return product
