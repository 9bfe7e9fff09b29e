"""A shop's rules and what it says of items, as they hold for one bundle: from ids and settings to rows and arrays."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import NamedTuple

import numpy as np

from nextclick.hashing import item_hash
from nextclick.item_traits import ItemTraits
from nextclick.network_config import N_AGES, SESSION_GAP_S
from nextclick.rules import PURCHASE, Exclude, Rules
from nextclick.scoring.histories import (
    LAST,
    NONE,
    NOTHING_BEHIND,
    PURCHASED,
    RECENT,
    SESSION,
    Behind,
    Exclusion,
    read_out,
    row_finder,
)
from nextclick.scoring.listing import Sources, lists_under
from nextclick.scoring.mixing import all_under, best_under
from nextclick.scoring.packed_items import Doubles, Floats, Ints, with_factors
from nextclick.scoring.placing import Categories, Demands, Exploring
from nextclick.scoring.sweep import all_want, first_blocks
from nextclick.scoring.terms import NO_ITEMS, NO_PRIOR, Best, Prior, Terms
from nextclick.served_form import ServedForm

_WHICH: Mapping[Exclude, int] = {
    "none": NONE,
    "last": LAST,
    "session": SESSION,
    "recent": RECENT,
    "purchased": PURCHASED,
}
_EXPLORED_ITEMS = 10  # or half of a list: behind it so many items are looked at for one that was shown little
_NOT_COUNTED = np.zeros(0, np.uint32)


class _Stock(NamedTuple):
    """What a shop says of a bundle's items. Replaced as a whole: lists can be made in another thread meanwhile.

    Attributes:
        sources: with the factors.
        categories: of the items, without a bound; None: nothing is said of any.
        is_plain: whether every factor is 1.
    """

    sources: Sources
    categories: Categories
    is_plain: bool


class _Said(NamedTuple):
    """What a shop says of the bundle's items, and of live ones; None: nothing."""

    of_bundle: ItemTraits | None
    of_live: ItemTraits | None


class Lists(NamedTuple):
    """Lists, and what their probabilities are made with besides the mixture.

    Attributes:
        best: the lists.
        norms: float64 (users,), what each user's probabilities were divided by.
        factors: float32 (n_items + n_live,), what each item's were multiplied with; (0,) where all are 1.
    """

    best: Best
    norms: Doubles
    factors: Floats


class Shop:
    """The rules of lists and the traits of items, for one bundle."""

    def __init__(self, form: ServedForm, index_of: Callable[[int], int | None]) -> None:
        """Begin with a shop that says nothing.

        Args:
            form: of the bundle.
            index_of: finds the row of an item's hash.
        """
        self._form, self._index_of = form, index_of
        self._stock = self._plain_stock()
        self._pinned: tuple[tuple[str, ...], list[int | None]] = ((), [])
        self._shown = _NOT_COUNTED
        self._n_live, self._said = 0, _Said(None, None)
        self._changing = Lock()  # traits of the bundle's items come from another thread

    def warm_up(self) -> None:
        """Compile what only lists need that are hard to fill: it puts all items into their order."""
        items, counts, prior = self._stock.sources
        queries = np.zeros((0, items.exact.shape[1]), np.float32)
        nobody = Terms(np.zeros((0, N_AGES), np.int64), np.zeros((0, 1 + 2 * N_AGES)))
        all_under(items, queries, counts, nobody, prior, all_want(0, 1), NO_ITEMS)

    def begin_live(self, n_live: int) -> None:
        """Have room for so many items that the bundle does not know, behind its own."""
        with self._changing:
            self._n_live, self._shown = n_live, _NOT_COUNTED
            self._stock = self._with_live(self._stock)

    def set_live_traits(self, traits: ItemTraits | None) -> None:
        """Let the next lists follow what a shop says of live items.

        Args:
            traits: of the first places of live items; of others, and without any, nothing is said.
        """
        says_nothing = traits is None or (not len(traits.categories) and bool((traits.factors == 1.0).all()))
        with self._changing:
            self._said = self._said._replace(of_live=None if says_nothing else traits)
            self._stock = self._with_live(self._stock)

    def set_traits(self, traits: ItemTraits | None) -> None:
        """Let the next lists follow what a shop says of items; None: nothing. Takes 20 ms for a million items."""
        stock = self._plain_stock() if traits is None else self._stock_of(traits)
        with self._changing:
            self._said = self._said._replace(of_bundle=traits)
            self._stock = self._with_live(stock)

    def _stock_of(self, traits: ItemTraits) -> _Stock:
        factors, starts, numbers = traits
        form = self._form
        items, is_plain = form.items, bool((factors == 1.0).all())
        if not is_plain:
            items = with_factors(form.items, factors)
        # Of the same types as without traits: nothing is compiled anew.
        starts, numbers = np.array(starts, np.int64), np.array(numbers, np.int32)
        may_list, n_of_items = factors > 0.0, np.diff(starts)
        sizes = np.bincount(numbers[np.repeat(may_list, n_of_items)], minlength=int(numbers.max(initial=-1)) + 1)
        n_free = int((may_list & (n_of_items == 0)).sum())
        categories = Categories(starts, numbers, sizes.astype(np.int32), n_free, 0)
        return _Stock(Sources(items, form.counts, NO_PRIOR), categories, is_plain)

    def _with_live(self, stock: _Stock) -> _Stock:
        """Give the same stock with what is said of live items now."""
        of_bundle, of_live = self._said
        sources, categories, is_plain = stock
        live_factors = np.ones(self._n_live, np.float32)
        if of_live is not None:
            live_factors[: len(of_live.factors)] = of_live.factors
        prior = NO_PRIOR
        if not is_plain or (live_factors != 1.0).any():
            n_items = len(self._form.items.exact)
            factors = np.ones(n_items, np.float32) if of_bundle is None else of_bundle.factors
            prior = Prior(np.concatenate([factors, live_factors], dtype=np.float32), first_blocks(factors))
        if of_live is not None:
            categories = categories._replace(live_starts=of_live.category_starts, live_numbers=of_live.categories)
        else:
            categories = Categories(*categories[:5])
        return _Stock(sources._replace(prior=prior), categories, is_plain)

    @property
    def factors(self) -> Floats:
        """What each item's probability is multiplied with, float32 (n_items,), or (1,) where that is 1 for all."""
        stock = self._stock
        return np.ones(1, np.float32) if stock.is_plain else stock.sources.prior.factors

    def may_list(self, item_index: int) -> bool:
        """Tell whether an item may be in a list at all."""
        stock = self._stock
        return stock.is_plain or bool(stock.sources.prior.factors[item_index] > 0.0)

    def lists(  # noqa: PLR0913 - all that decides a list
        self,
        queries: Floats,
        terms: Terms,
        recent: Sequence[bytes],
        k: int,
        rules: Rules,
        offsets: Sequence[float],
        live: Behind = NOTHING_BEHIND,
    ) -> Lists:
        """Give users' lists under the rules.

        Args:
            queries: float32 (users, size), what items' vectors are multiplied with.
            terms: of the mixture.
            recent: the clicks that users' states remember, packed.
            k: how many items, at most as many as there are.
            rules: of the lists.
            offsets: of each user, which places are explored.
            live: finds live items.
        """
        stock = self._stock
        if not _bind(rules):
            items, counts, prior = stock.sources
            best, named = best_under(items, queries, counts, terms, prior, all_want(len(queries), k), NO_ITEMS)
            return Lists(best, named.norms, prior.factors)
        exploring, deeper = Exploring(0.0, np.zeros(len(queries)), _NOT_COUNTED), 0
        if rules.explore > 0.0:
            exploring = Exploring(rules.explore, np.array(offsets, np.float64), self._counted())
            deeper = max(k // 2, _EXPLORED_ITEMS)
        pinned = self._rows(rules.pinned, live)
        exclusion = Exclusion(_WHICH[rules.exclude], SESSION_GAP_S, PURCHASE)
        out = read_out(recent, self._form.rows, exclusion, pinned, live)
        categories = stock.categories._replace(most=rules.max_per_category)
        demands = Demands(out, pinned, categories, exploring, k)
        best, norms = lists_under(stock.sources, queries, terms, demands, deeper)
        return Lists(best, norms, stock.sources.prior.factors)

    def _plain_stock(self) -> _Stock:
        n_items = len(self._form.items.exact)
        nothing = Categories(np.zeros(n_items + 1, np.int64), NO_ITEMS, NO_ITEMS, n_items, 0)
        return _Stock(Sources(self._form.items, self._form.counts, NO_PRIOR), nothing, is_plain=True)

    def _rows(self, pinned: tuple[str, ...], live: Behind) -> Ints:
        """Give the rows of pinned items, live ones too, without those that nothing is known of."""
        if self._pinned[0] != pinned:
            self._pinned = pinned, [self._index_of(item_hash(item_id)) for item_id in pinned]
        rows = self._pinned[1]
        if live is not NOTHING_BEHIND and None in rows:
            find = row_finder(live.places)
            places = [
                find(item_hash(item_id)) if row is None else None for item_id, row in zip(*self._pinned, strict=True)
            ]
            rows = [row if place is None else live.n_items + place for row, place in zip(rows, places, strict=True)]
        return np.array([row for row in rows if row is not None], np.int32)

    def _counted(self) -> "np.ndarray[tuple[int], np.dtype[np.uint32]]":
        """Give how often each item was listed since the bundle is served."""
        with self._changing:  # groups of users are ranked in several threads
            if not len(self._shown):
                self._shown = np.zeros(len(self._form.items.exact) + self._n_live, np.uint32)
            return self._shown


def _bind(rules: Rules) -> bool:
    """Tell whether rules ask for anything but the ranking."""
    return rules.exclude != "none" or rules.max_per_category > 0 or bool(rules.pinned) or rules.explore > 0.0
