"""Lists under a shop's rules: a ranking, what the rules take of it, and again deeper where that was too few. Exact."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.histories import Longs, Out
from nextclick.scoring.live_neighbours import near_of
from nextclick.scoring.mixing import all_under, best_under
from nextclick.scoring.packed_items import Doubles, Floats, ItemVectors
from nextclick.scoring.placing import Demands, place
from nextclick.scoring.sweep import wanted_of
from nextclick.scoring.terms import Best, Counts, Prior, Terms

_DEEPER = 4  # times as deep is looked for users whose list is too short
_DEEPEST = 400  # beyond it all items are put into their order: the best ones are found by putting each into its place
_AT_ONCE = 8  # users whose items are all put into their order: bounds the memory


class Sources(NamedTuple):
    """What items are ranked by.

    Attributes:
        items: all of them, with the prior's factors in their biases.
        counts: of the items.
        prior: how much items count.
    """

    items: ItemVectors
    counts: Counts
    prior: Prior


def lists_under(sources: Sources, queries: Floats, terms: Terms, demands: Demands, deeper: int) -> tuple[Best, Doubles]:
    """Give users' lists.

    Args:
        sources: what items are ranked by.
        queries: float32 (users, size).
        terms: of the users.
        demands: what lists must be like.
        deeper: how much deeper than a list the ranking goes at first.

    Returns:
        The lists, and what each user's probabilities were divided by, float64 (users,).
    """
    return _lists(sources, queries, terms, demands, demands.n_places + deeper)


def _lists(sources: Sources, queries: Floats, terms: Terms, demands: Demands, depth: int) -> tuple[Best, Doubles]:
    """Give lists from rankings of this depth, or of all items where it is too deep."""
    (items, counts, prior), n_items = sources, len(sources.items.exact) + terms.near.n_live
    rank = best_under
    if depth >= n_items or depth > _DEEPEST:
        depth, rank = n_items, best_under if n_items <= _DEEPEST else all_under
    depths = np.full(len(queries), depth, np.int64)
    wanted = wanted_of(depths, demands.out.starts, demands.out.rows)
    best, named = rank(items, queries, counts, terms, prior, wanted, demands.pinned)
    listed, short = place(best, named, depths, demands, _has_live(terms, len(items.exact)), n_items)
    n_at_once = len(short) if depth * _DEEPER <= _DEEPEST else _AT_ONCE
    for first in range(0, len(short), max(n_at_once, 1)):
        users = short[first : first + n_at_once]
        rows = Terms(terms.clicked[users], terms.weights[users], near_of(terms.near, users, terms.clicked.shape[1]))
        longer, _ = _lists(sources, queries[users], rows, _of(demands, users), depth * _DEEPER)
        listed.items[users], listed.probabilities[users] = longer.items, longer.probabilities
        listed.placed[users] = longer.placed
    return listed, named.norms


def _has_live(terms: Terms, n_items: int) -> npt.NDArray[np.bool_]:
    """Tell for which users counts speak of live items, bool (users,)."""
    has_live = np.array((terms.clicked >= n_items).any(axis=1), np.bool_)
    n_ages, starts = terms.clicked.shape[1], terms.near.starts
    if len(starts) > 1:
        has_live |= starts[n_ages::n_ages] > starts[:-1:n_ages]
    return has_live


def _of(demands: Demands, users: Longs) -> Demands:
    """Give the demands on the lists of some of the users."""
    starts, rows, pinned = demands.out
    parts = [rows[starts[user] : starts[user + 1]] for user in users]
    begins = np.cumsum([0, *(len(part) for part in parts)])
    out = Out(begins, np.concatenate(parts), begins[:-1] + pinned[users] - starts[users])
    exploring = demands.exploring._replace(offsets=demands.exploring.offsets[users])
    return demands._replace(out=out, exploring=exploring)
