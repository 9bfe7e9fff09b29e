"""Lists under a shop's rules are what a full sort and a walk down it give, whatever the rules, items and users."""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import given, settings
from hypothesis import strategies as st

from nextclick.rules import is_explored
from nextclick.scoring.histories import Out
from nextclick.scoring.listing import Sources, lists_under
from nextclick.scoring.packed_items import LOG2_E, pack_items, with_factors
from nextclick.scoring.placing import EXPLORED, PINNED, RANKED, Categories, Demands, Exploring
from nextclick.scoring.sweep import first_blocks
from nextclick.scoring.terms import NO_PRIOR, Prior, Terms, pack_counts

N_AGES, SIZE, SHARPNESS = 3, 8, 0.9
Doubles = npt.NDArray[np.float64]


class Drawn(NamedTuple):
    """A shop with its items and users, all of it random."""

    sources: Sources
    plain: Sources
    queries: npt.NDArray[np.float32]
    terms: Terms
    factors: npt.NDArray[np.float32]
    demands: Demands
    deeper: int


class Entry(NamedTuple):
    """A place of a list."""

    item: int
    probability: float
    why: int


def drawn(draw: Any) -> Drawn:
    """Draw a shop: items that nobody can tell apart, many that are withdrawn, few items, more wanted than there are."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n_items, n_users, k = draw(st.integers(1, 300) | st.just(900)), draw(st.integers(1, 5)), draw(st.integers(1, 12))
    n_kinds = draw(st.sampled_from([1, 3, n_items]))
    kinds = rng.integers(n_kinds, size=n_items)
    vectors, biases = rng.standard_normal((n_kinds, SIZE))[kinds], rng.standard_normal(n_kinds)[kinds]
    items = pack_items(vectors.astype("f4"), biases.astype("f4"), SHARPNESS)
    shares = (rng.random((n_items, 4)) ** 3 / 4 * (rng.random((n_items, 1)) < 0.8)).astype("f4")
    counts = pack_counts(rng.integers(n_items, size=(n_items, 4)).astype("i4"), shares)
    clicked = rng.integers(-1, n_items, size=(n_users, N_AGES))
    weights = rng.random((n_users, 1 + 2 * N_AGES)) ** 2
    weights[:, 1:] *= np.tile(clicked >= 0, 2)
    terms = Terms(clicked, weights / weights.sum(axis=1, keepdims=True))
    n_out = draw(st.sampled_from([0.0, 0.3, 0.97, 1.0]))
    boosts = rng.choice(np.array([1, 0.25, 3, 50], "f4"), p=[0.7, 0.1, 0.1, 0.1], size=n_items)
    factors = np.where(rng.random(n_items) < n_out, np.float32(0.0), boosts).astype("f4")
    if draw(st.booleans()):
        factors = np.ones(n_items, "f4")
    prior = Prior(factors, first_blocks(factors))
    n_excluded = rng.integers(min(n_items, draw(st.sampled_from([1, 25]))) + 1, size=n_users)
    excluded = [rng.choice(n_items, size=n, replace=False) for n in n_excluded]
    n_categories = rng.integers(3, size=n_items)
    categories = [rng.choice(4, size=n, replace=False) for n in n_categories]
    may_list = np.repeat(factors > 0, n_categories)
    sizes = np.bincount(np.concatenate(categories)[may_list].astype(int), minlength=4).astype("i4")
    explore = draw(st.sampled_from([0.0, 0.1, 0.5]))
    shown = rng.integers(4, size=n_items if explore else 0).astype(np.uint32)
    pinned = rng.choice(n_items, size=min(n_items, draw(st.integers(0, 3))), replace=False).astype("i4")
    out = [np.concatenate([rows, pinned[~np.isin(pinned, rows)]]) for rows in excluded]
    starts = _ends([len(rows) for rows in out])
    demands = Demands(
        Out(starts, np.concatenate(out).astype("i4"), starts[:-1] + n_excluded),
        pinned,
        Categories(
            _ends(n_categories),
            np.concatenate(categories).astype("i4"),
            sizes,
            int(((factors > 0) & (n_categories == 0)).sum()),
            draw(st.sampled_from([0, 1, 3])),
        ),
        Exploring(explore, rng.random(n_users), shown),
        k,
    )
    queries = (rng.standard_normal((n_users, SIZE)) * draw(st.sampled_from([0.1, 2.0]))).astype("f4")
    plain = Sources(items, counts, NO_PRIOR)
    sources = plain if (factors == 1.0).all() else Sources(with_factors(items, factors), counts, prior)
    return Drawn(sources, plain, queries, terms, factors, demands, draw(st.sampled_from([0, 2, 900])))


def _ends(lengths: Any) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *lengths])


def probabilities(shop: Drawn) -> Doubles:
    """Give every item's probability by definition, with counts as precise as the engine's; -1: not to be listed."""
    items, n_ages = shop.plain.items, N_AGES
    scores = (shop.queries.astype("f8") @ items.exact.T.astype("f8")) * (SHARPNESS * LOG2_E) + items.exact_biases
    powers = np.exp2(scores - scores.max()) * shop.factors
    powers /= np.maximum(powers.sum(axis=1, keepdims=True), 1e-300)
    found = np.empty_like(powers)
    for user, (clicked, weights) in enumerate(zip(shop.terms.clicked, shop.terms.weights, strict=True)):
        said = np.zeros(len(shop.factors), "f4")
        for age, item in enumerate(clicked):
            if item >= 0:
                said[item] += np.float32(weights[1 + n_ages + age])
                of_item = slice(*shop.plain.counts.starts[item : item + 2])
                shares = (weights[1 + age] * shop.plain.counts.shares[of_item]).astype("f4")
                for neighbour, share in zip(shop.plain.counts.neighbours[of_item], shares, strict=True):
                    said[neighbour] += share
        unsaid = max(0.0, 1.0 - weights[0] - said.sum(dtype="f8"))
        said *= shop.factors
        found[user] = (weights[0] * powers[user] + said) / (weights[0] + said.sum(dtype="f8") + unsaid)
    found[:, shop.factors == 0.0] = -1.0
    return found


def walked(shop: Drawn, user: int, of_items: Doubles, shown: Any) -> list[Entry]:
    """Give a list by definition: down the ranking of all items, each that no rule forbids."""
    (starts, rows, pinned_at), pinned, categories, exploring, k = shop.demands
    out = set(rows[starts[user] : pinned_at[user]].tolist())
    order = [item for item in np.argsort(-of_items, kind="stable").tolist() if of_items[item] >= 0]
    full: dict[int, int] = {}
    listed: list[Entry] = []

    def numbers(item: int) -> Any:
        return categories.numbers[categories.starts[item] : categories.starts[item + 1]].tolist()

    def fits(item: int) -> bool:
        is_full = categories.most and any(full.get(number, 0) >= categories.most for number in numbers(item))
        return item not in out and not is_full

    def take(item: int, why: int) -> None:
        listed.append(Entry(item, float(of_items[item]), why))
        out.add(item)
        for number in numbers(item):
            full[number] = full.get(number, 0) + 1

    for item in pinned.tolist():
        if len(listed) < k and item not in out and of_items[item] >= 0:
            take(item, PINNED)
    ranked = [item for item in order if item not in out and item not in pinned]
    while len(listed) < k and (left := [item for item in order if fits(item)]):
        explores = exploring.share and is_explored(len(listed), exploring.share, exploring.offsets[user])
        if explores:
            beyond = [item for item in ranked[k:] if fits(item)] or left
            take(min(beyond, key=lambda item: shown[item]), EXPLORED)
        else:
            take(left[0], RANKED)
    for entry in listed:
        if exploring.share:
            shown[entry.item] += 1
    return listed


@settings(deadline=None, max_examples=300)
@given(data=st.data())
def test_a_list_is_a_walk_down_the_ranking_of_all_items(data: st.DataObject) -> None:
    """Withdrawn and boosted items, exclusions, pinned ones, categories, exploration, and any of them together."""
    shop = drawn(data.draw)
    shop = shop._replace(deeper=900) if shop.demands.exploring.share else shop  # what is explored depends on the depth
    shown = shop.demands.exploring.shown.copy()

    best, _ = lists_under(shop.sources, shop.queries, shop.terms, shop.demands, shop.deeper)

    for user, of_items in enumerate(probabilities(shop)):
        expected = walked(shop, user, of_items, shown)
        n_listed = len(expected)
        assert best.items[user].tolist() == [entry.item for entry in expected] + [-1] * (
            shop.demands.n_places - n_listed
        )
        assert best.placed[user, :n_listed].tolist() == [entry.why for entry in expected]
        np.testing.assert_allclose(
            best.probabilities[user, :n_listed], [entry.probability for entry in expected], rtol=5e-4, atol=1e-300
        )
    assert shop.demands.exploring.shown.tolist() == shown.tolist()
