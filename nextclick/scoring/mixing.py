"""The exact best items of each user: the few that the pass over all items leaves, and those that counts speak for.

What counts add to an item's probability is never negative and touches a few hundred items. So the k best of the sum
are among the network's k best and these. Of these, again, most cannot come in: the network gives them less than its
k-th best, and that bound and their counts are too little. Only the others' products are computed, in float64.

The sum of all powers is right to a few hundred-thousandths. Where that could decide which of two items is the better,
or where the pass left too many blocks to tell, all items are scored exactly.
"""

from typing import Any

import numpy as np

from nextclick.scoring.candidates import (
    clear,
    first_of,
    gather_counted,
    gather_found,
    insert,
    is_order_certain,
    new_leading,
    take_best,
)
from nextclick.scoring.compiled import jit, jit_inner
from nextclick.scoring.counted import fetch_counts_soon, forget, new_room, say_counts, set_out
from nextclick.scoring.kernel import BLOCK
from nextclick.scoring.network_part import Found, Users, add_network, network_best, network_of_all, total_of
from nextclick.scoring.packed_items import LEAST_SCORE, Floats, Ints, ItemVectors
from nextclick.scoring.sweep import Wanted, all_want, sweep, wanted_of
from nextclick.scoring.terms import NO_ITEMS, NO_PRIOR, Best, Counts, Named, Prior, Terms

_LEAST_DEPTH = 16  # of a ranking: the sum of all powers is as exact as the powers of the best, which are most of it


def best_items(items: ItemVectors, queries: Floats, counts: Counts, terms: Terms, k: int) -> Best:
    """Give each user's k best items, exactly.

    Args:
        items: all of them.
        queries: float32 (users, size), what their vectors are multiplied with.
        counts: of the items.
        terms: of the users.
        k: how many, at most as many as there are items.
    """
    return best_under(items, queries, counts, terms, NO_PRIOR, all_want(len(queries), k), NO_ITEMS)[0]


def best_under(  # noqa: PLR0913 - what is ranked, for whom, and under which prior
    items: ItemVectors, queries: Floats, counts: Counts, terms: Terms, prior: Prior, wanted: Wanted, names: Ints
) -> tuple[Best, Named]:
    """Give each user's best items, exactly, under a prior and without some; and what certain items have.

    Args:
        items: all of them, with the prior's factors in their biases.
        queries, counts, terms: as in `best_items`.
        prior: how much items count.
        wanted: which items.
        names: int32 (n,), the certain items.
    """
    n_users, most = len(queries), int(wanted.depths.max(initial=1))
    best = Best(np.empty((n_users, most), np.int32), np.empty((n_users, most)))
    named = Named(names, np.empty((n_users, len(names))), np.ones(n_users))
    least = min(_LEAST_DEPTH, len(items.exact))
    if most < least:
        wanted = wanted_of(np.full(n_users, least, np.int64), wanted.starts, wanted.out)
    users = Users(queries, sweep(items, queries, wanted, prior.first))
    _rank(items, users, counts, terms, prior.factors, wanted, best, named)
    return best, named


def all_under(  # noqa: PLR0913 - as `best_under`
    items: ItemVectors, queries: Floats, counts: Counts, terms: Terms, prior: Prior, wanted: Wanted, names: Ints
) -> tuple[Best, Named]:
    """Give all items in their order, those first that may be listed; for the arguments see `best_under`.

    Slow, 10 ms for a user and 50,000 items: for the few for whom the best ones were too few.
    """
    n_users, n_items = len(queries), len(items.exact) + terms.near.n_live
    named = Named(names, np.empty((n_users, len(names))), np.ones(n_users))
    probabilities = np.empty((n_users, n_items))
    _score_all(items, queries, counts, terms, prior.factors, wanted, named, probabilities)
    order = np.argsort(-probabilities, axis=1, kind="stable").astype(np.int32)
    probabilities = np.take_along_axis(probabilities, order, axis=1)
    order[probabilities < 0.0] = -1
    return Best(order, probabilities), named


@jit
def _rank(  # noqa: PLR0913
    items: Any, users: Any, counts: Any, terms: Any, factors: Any, wanted: Any, best: Any, named: Any
) -> None:
    """Rank the few items of each user that can be among the best; all of them where those do not decide."""
    n_users, n_found = len(best.items), users.swept.largest.shape[1] * BLOCK
    room = new_room(len(items.exact), terms, counts, n_found)
    found = Found(np.empty(n_found, np.int32), np.empty(n_found))
    room_of_leading, k = new_leading(wanted.depths.max()), -1
    leading = room_of_leading
    for user in range(n_users):
        if wanted.depths[user] != k:
            k = wanted.depths[user]
            leading = first_of(room_of_leading, k + 1)
        if user + 1 < n_users:
            fetch_counts_soon(terms.clicked[user + 1], counts)
        weights, out = terms.weights[user], wanted.out[wanted.starts[user] : wanted.starts[user + 1]]
        set_out(room.is_out, out, 1)
        n_touched = say_counts(user, terms, counts, factors, out, room, named)
        n_found, bound = network_best(items, users, user, k, len(out), wanted.spare[user], room.is_out, found)
        total, is_certain, log_total = total_of(items, users, user, n_found, found), False, 0.0
        if total > 0.0:
            log_total = users.swept.shifts[user] + np.log2(total)
            n = gather_found(weights[0], log_total, n_found, found, room)
            query, most = users.queries[user], weights[0] * np.exp2(bound - log_total)
            n = gather_counted(items, query, weights[0], log_total, most, n_touched, n, k, room)
            take_best(n, room, leading)
            is_certain = is_order_certain(len(items.exact), n, room, leading)
        else:
            forget(room.of_counts, room.touched, n_touched)
        if not is_certain:
            n_touched = say_counts(user, terms, counts, factors, out, room, named)
            log_total = _rank_exactly(items, users.queries[user], weights[0], room, leading)
            forget(room.of_counts, room.touched, n_touched)
        set_out(room.is_out, out, 0)
        add_network(items, users.queries[user], weights[0], log_total, factors, named, user)
        best_items, probabilities, norm = best.items[user], best.probabilities[user], named.norms[user]
        n_listed = min(k, len(best_items))
        for place in range(n_listed):
            best_items[place], probabilities[place] = leading.items[place], leading.probabilities[place] / norm
        for place in range(n_listed, len(best_items)):
            best_items[place], probabilities[place] = -1, -1.0


@jit_inner
def _rank_exactly(items: Any, query: Any, weight: Any, room: Any, leading: Any) -> Any:
    """Score all items in float64: slow, and beyond doubt. Gives the logarithm of the sum of all powers."""
    of_networks = np.empty(len(items.exact))
    log_total = network_of_all(items, query, weight, of_networks)
    leading_items, probabilities, of_best = leading
    clear(leading)
    for item in range(len(of_networks)):
        if items.exact_biases[item] >= LEAST_SCORE and not room.is_out[item]:
            of_network = of_networks[item]
            insert(leading_items, probabilities, of_best, item, of_network + room.of_counts[item], of_network)
    for item in range(len(of_networks), len(room.of_counts)):
        if room.of_counts[item] > 0.0:
            insert(leading_items, probabilities, of_best, item, np.float64(room.of_counts[item]), 0.0)
    return log_total


@jit
def _score_all(  # noqa: PLR0913
    items: Any, queries: Any, counts: Any, terms: Any, factors: Any, wanted: Any, named: Any, probabilities: Any
) -> None:
    """Write every item's probability; -1 where it may not be listed."""
    room = new_room(len(items.exact), terms, counts, 0)
    for user in range(len(queries)):
        weight, out = terms.weights[user, 0], wanted.out[wanted.starts[user] : wanted.starts[user + 1]]
        set_out(room.is_out, out, 1)
        n_touched = say_counts(user, terms, counts, factors, out, room, named)
        n_items = len(items.exact)
        log_total = network_of_all(items, queries[user], weight, probabilities[user, :n_items])
        add_network(items, queries[user], weight, log_total, factors, named, user)
        for item in range(n_items):
            probabilities[user, item] = (probabilities[user, item] + room.of_counts[item]) / named.norms[user]
            if room.is_out[item] or items.exact_biases[item] < LEAST_SCORE:
                probabilities[user, item] = -1.0
        for item in range(n_items, len(room.of_counts)):
            of_counts = room.of_counts[item]  # of those that are left out there is nothing
            probabilities[user, item] = of_counts / named.norms[user] if of_counts > 0.0 else -1.0
        forget(room.of_counts, room.touched, n_touched)
        set_out(room.is_out, out, 0)
