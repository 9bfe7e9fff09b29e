"""Recency-weighted popularity: what is served when the network knows nothing of a user, and a baseline everywhere.

A click's weight halves with every half-life of event time. Instead of shrinking old weights, a newer click weighs more
than an older one, so that the order of items does not change while time passes. Weights are kept as logarithms to the
base 2, in half-lives since the first click: no number ever grows too large, and nothing has to be scaled back.

What counts is how many users click an item, not how often one of them does: a crawler that clicks all day must not
choose the list of all new users. So a user counts once per item and hour of event time, in at most `MAX_HOURS` hours
of a day. The trainer bounds users in the same way (`training.learning.validation`).

Every call takes a time that is bounded, however many items there are: it may be made on an event loop. The exception
is `prepare_seed`, which looks at every item of a bundle and is to be called in a thread.
"""

import heapq
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import inf, log2
from typing import TYPE_CHECKING, NamedTuple, Protocol

from nextclick.hashing import item_hash
from nextclick.popular_lists import PopularItem, PopularLists, enough
from nextclick.settings import MAX_STORED_COUNT
from nextclick.updates import RankedList, Recommendation, encode_items

if TYPE_CHECKING:  # a worker without a bundle needs no numpy
    import numpy as np
    import numpy.typing as npt

MAX_LIST = MAX_STORED_COUNT  # the longest list that can be asked for
# Bounds the memory (about 10 MB) and the time that the dictionary takes when it grows (2 ms). Only the first MAX_LIST
# of the items are ever shown; an item that is forgotten and clicked again begins anew, behind all of these.
MAX_ITEMS = 40_000
_LOOKS_PER_CLICK = 16  # so that there are never more than 16/15 of MAX_ITEMS, see `_forget_least_popular`
# Where those that lead do not fill every list: so many are looked at, or all, in 0.1 s at most, which is at most such a
# part of the time.
_DEEP_ITEMS = 4_000
_DEEP_SHARE = 100
_RANK_EVERY_CLICKS = 100  # at most: ranking takes 0.2 ms, which is then 2 us per click
HOUR_MS = 3_600_000
DAY_HOURS = 24
# Of 116,000 times that a user of a recorded shop clicked an item on a day, 15 were in more hours than that. A crawler
# that clicks an item all day long weighs 6 clicks of now at most, with a half-life of a day; in every hour it were 35.
MAX_HOURS = 3
# In each generation: 2 MB, which stay in a processor's cache. Who is forgotten counts again, after so many pairs at
# least: however fast the stream, by that no user gains more than one in so many clicks that count for an item.
_REMEMBERED_PAIRS = 20_000
_ITEMS_AT_ONCE = 64
_DIGITS = 60  # of a float, and more: what is smaller by a factor of 2 to the power of it, adds nothing


_Weighed = tuple[str, float, int]  # an item's id, log weight and hash


@dataclass(slots=True)
class Weights:
    """The weights of items, and what is needed to find the most and the least popular ones without a search.

    Attributes:
        log_weight: item_id to the logarithm of its weight.
        log_total: logarithm of the weight of all clicks that counted, with those on items that are forgotten.
        leading: a superset of the MAX_LIST most popular items. Weights only grow, so that an item that was left out
            once can come back only by a click.
        bar: an item of a smaller log weight is not among the MAX_LIST most popular.
        least: a heap of (log weight, item_id), one for each item. The weight is that of the last look: the true one
            can be larger.
    """

    log_weight: dict[str, float] = field(default_factory=dict)
    log_total: float = -inf
    leading: set[str] = field(default_factory=set)
    bar: float = -inf
    least: list[tuple[float, str]] = field(default_factory=list)

    def first(self, k: int) -> list[tuple[str, float]]:
        """Give the k most popular items with their log weights; the item id breaks ties. k is at most MAX_LIST."""
        weighed = [(item_id, self.log_weight[item_id]) for item_id in self.leading]
        return heapq.nsmallest(k, weighed, key=_most_popular_first)


class Stock(Protocol):
    """What says which items may be listed; from any thread."""

    @property
    def version(self) -> int:
        """Another number whenever what is said has changed."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said of any item."""

    def factors_of(self, hashes: Sequence[int]) -> Sequence[float]:
        """Give what items' weights are multiplied by; 0: the item may be in no list."""

    def categories_of(self, hashes: Sequence[int]) -> Sequence[tuple[int, ...]]:
        """Give the categories that items are in, by their numbers."""


class PopularRules(NamedTuple):
    """What the popular list must be like.

    Attributes:
        pinned, max_per_category: as in `nextclick.rules.Rules`.
        n_excluded: how many items can be left out for a user.
    """

    pinned: tuple[str, ...] = ()
    max_per_category: int = 0
    n_excluded: int = 0


_NO_RULES = PopularRules()


class CountedUsers:
    """Remembers in which hour a user was counted for an item last: the newest such pairs, a bounded number.

    Two dictionaries are two generations: when the younger one is full, the older one is forgotten. A pair is named by
    64 bits of a hash, so that it takes the same memory however long the ids are.
    """

    def __init__(self) -> None:
        self._younger: dict[int, int] = {}  # hash of user and item to four times the last hour + how many of its day
        self._older: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._younger) + len(self._older)

    def counts(self, user: Hashable, item_id: str, timestamp_ms: int) -> bool:
        """Tell whether a click counts; if so, the user's next ones on the item do not until a later hour."""
        pair, hour, younger = hash((user, item_id)), timestamp_ms // HOUR_MS, self._younger
        counted = younger.get(pair)
        if counted is None:
            counted = self._older.get(pair)
            if len(younger) >= _REMEMBERED_PAIRS:
                self._older, younger = younger, {}
                self._younger = younger
            if counted is None:
                younger[pair] = 4 * hour + 1
                return True
            younger[pair] = counted  # who goes on clicking stays known
        last_hour, n_hours = divmod(counted, 4)
        if hour <= last_hour:  # nor an earlier one: event times that go to and fro would count for ever
            return False
        n_hours = n_hours + 1 if hour // DAY_HOURS == last_hour // DAY_HOURS else 1
        if n_hours > MAX_HOURS:
            return False
        younger[pair] = 4 * hour + n_hours
        return True


class Popularity:
    """Counts of users per item and hour that halve with every half-life of event time."""

    def __init__(
        self,
        half_life_s: float,
        encode: Callable[[Sequence[Recommendation]], bytes] = encode_items,
        stock: Stock | None = None,
        rules: PopularRules = _NO_RULES,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with nothing.

        Args:
            half_life_s: of event time.
            encode: writes the items of a list.
            stock: says which items may be listed; None: all of them.
            rules: of the list.
            clock_s: bounds the part of the time that is spent on lists which those that lead do not fill.
        """
        self._encode, self._rules, self._clock_s = encode, rules, clock_s
        self._stock, self._version = stock, 0
        self._half_life_ms = half_life_s * 1000.0
        self._counted = CountedUsers()
        self._weights = Weights()
        self._first_click_ms: int | None = None
        self._added_since_ranking = 0
        self._lists: PopularLists | None = None
        self._ranked_k = 0
        self._found_deep: Sequence[str] = ()  # items that do not lead, and were listed for want of others
        self._deep_again_s = -inf

    def __len__(self) -> int:
        return len(self._weights.log_weight)

    def add(self, user: Hashable, item_id: str, timestamp_ms: int) -> bool:
        """Count a user's click of an item at its event time, which may be earlier than that of the click before.

        Args:
            user: whatever names who clicked.
            item_id: what was clicked.
            timestamp_ms: event time, not in the future: a click of next year would outweigh all others until then.

        Returns:
            Whether it counts: what a user does again and again does not.
        """
        if not self._counted.counts(user, item_id, timestamp_ms):
            return False
        if self._first_click_ms is None:
            self._first_click_ms = timestamp_ms
        weights = self._weights
        log_click = (timestamp_ms - self._first_click_ms) / self._half_life_ms
        log_weight = weights.log_weight.get(item_id)
        if log_weight is None:
            log_weight = log_click
            heapq.heappush(weights.least, (log_weight, item_id))
        else:
            log_weight = _log_of_sum(log_weight, log_click)
        weights.log_weight[item_id] = log_weight
        weights.log_total = _log_of_sum(weights.log_total, log_click)
        if log_weight >= weights.bar:
            weights.leading.add(item_id)
            if len(weights.leading) > 2 * MAX_LIST:
                self._raise_bar()
        if len(weights.log_weight) > MAX_ITEMS:
            self._forget_least_popular()
        self._added_since_ranking += 1
        return True

    def seed(self, prepared: Weights) -> None:
        """Start from known weights, for as long as nothing has been counted yet; later they fade like clicks do.

        Args:
            prepared: from `prepare_seed`; belongs to this object from now on.
        """
        if self._first_click_ms is None:
            self._weights = prepared
            self._lists = None

    def ranked(self, k: int) -> RankedList:
        """Give the k most popular items, each with its share of all that counted; k is at most MAX_LIST."""
        return self.lists(k).shared

    def lists(self, k: int) -> PopularLists:
        """Give the list of the k most popular items, and what it is without some of them; k is at most MAX_LIST.

        It is made anew after a few new clicks: a twentieth of the number of items, at most 100; and whenever
        other items may be listed.
        """
        stale_after = max(1, min(len(self) // 20, _RANK_EVERY_CLICKS))
        if self._stock is not None and self._version != self._stock.version:
            self._lists, self._version = None, self._stock.version  # before it is made: what changes then comes next
        if self._lists is None or self._ranked_k != k or self._added_since_ranking >= stale_after:
            self._lists = self._make(k)
            self._ranked_k = k
            self._added_since_ranking = 0
        return self._lists

    def _make(self, k: int) -> PopularLists:
        """Make the lists from the items that lead, which are enough nearly always; now and then from many more.

        They are enough if lists are full whatever users exclude.
        """
        weights, (pinned, most, n_excluded) = self._weights, self._rules
        stock = self._stock if self._stock is not None and not self._stock.is_empty else None
        leading = dict(weights.first(MAX_LIST if stock else min(MAX_LIST, k + len(pinned) + n_excluded)))
        log_weight = weights.log_weight
        deep = {item_id: log_weight[item_id] for item_id in self._found_deep if item_id in log_weight}
        found, is_enough = enough(self._listable((leading | deep).items(), stock), k + n_excluded, most)
        is_enough &= deep.keys().isdisjoint(item.item_id for item in found)
        began_s = self._clock_s()
        if not is_enough and len(log_weight) > MAX_LIST and began_s >= self._deep_again_s:
            found = self._look_deep(stock, k)
            kept = enough(found, k + n_excluded, most, n_excluded)[0]
            self._found_deep = [item.item_id for item in kept if item.item_id not in leading]
            self._deep_again_s = began_s + _DEEP_SHARE * (self._clock_s() - began_s)
        return PopularLists([*self._pinned(stock), *found], k, most, self._encode)

    def _look_deep(self, stock: Stock | None, k: int) -> list[PopularItem]:
        """Give items in the order of their popularity, of many or, where these are not enough, of all."""
        log_weight, (_, most, n_excluded) = self._weights.log_weight, self._rules
        many = heapq.nsmallest(_DEEP_ITEMS, log_weight.items(), key=_most_popular_first)
        found, is_enough = enough(self._listable(many, stock), k + n_excluded, most)
        if is_enough or len(log_weight) <= _DEEP_ITEMS:
            return found
        return enough(self._listable(log_weight.items(), stock), k + n_excluded, most)[0]

    def _listable(self, items: Iterable[tuple[str, float]], stock: Stock | None) -> Iterator[PopularItem]:
        """Give those items that may be listed and are not pinned, the most popular first; a boost counts among those
        that are handed in.
        """
        pinned = self._rules.pinned
        rows = self._weighed(stock, [(item_id, log_weight) for item_id, log_weight in items if item_id not in pinned])
        rows.sort(key=_most_popular_first)
        yield from self._as_items(rows, stock)

    def _pinned(self, stock: Stock | None) -> Iterator[PopularItem]:
        """Give the pinned items that may be listed."""
        rows = [(item_id, self._weights.log_weight.get(item_id, -inf)) for item_id in self._rules.pinned]
        for item in self._as_items(self._weighed(stock, rows), stock):
            yield item._replace(is_pinned=True)

    @staticmethod
    def _weighed(stock: Stock | None, items: Sequence[tuple[str, float]]) -> list[_Weighed]:
        """Give those items that may be listed, with the log weights that they have there, and their hashes."""
        hashes = [item_hash(item_id) for item_id, _ in items]
        if stock is None:
            return [(item_id, log_weight, hashed) for (item_id, log_weight), hashed in zip(items, hashes, strict=True)]
        return [
            (item_id, log_weight + (log2(factor) if factor != 1.0 else 0.0), hashed)
            for (item_id, log_weight), hashed, factor in zip(items, hashes, stock.factors_of(hashes), strict=True)
            if factor > 0.0
        ]

    def _as_items(self, rows: Sequence[_Weighed], stock: Stock | None) -> Iterator[PopularItem]:
        """Give items one by one: mostly few are asked for."""
        is_bounded = self._rules.max_per_category > 0
        for begin in range(0, len(rows), _ITEMS_AT_ONCE):
            part = rows[begin : begin + _ITEMS_AT_ONCE]
            categories: Sequence[tuple[int, ...]] = [()] * len(part)
            if is_bounded and stock is not None:
                categories = stock.categories_of([hashed for _, _, hashed in part])
            for (item_id, log_weight, hashed), numbers in zip(part, categories, strict=True):
                yield PopularItem(item_id, self._share(log_weight), hashed, numbers)

    def _share(self, log_weight: float) -> float:
        return min(1.0, 2.0 ** (log_weight - self._weights.log_total)) if log_weight > -inf else 0.0

    def _raise_bar(self) -> None:
        first = self._weights.first(MAX_LIST)
        self._weights.leading = {item_id for item_id, _ in first}
        self._weights.bar = first[-1][1]

    def _forget_least_popular(self) -> None:
        """Forget the least popular items until there are MAX_ITEMS again, or until enough is done for one click.

        The heap's first item is the least popular one if its weight there is its true one. Otherwise it is put back
        with its true weight. Each click makes one weight in the heap untrue at most and mends up to 16 of them, so
        that MAX_ITEMS is exceeded by a fifteenth at worst.
        """
        weights = self._weights
        for _ in range(_LOOKS_PER_CLICK):
            last_seen_weight, item_id = weights.least[0]
            log_weight = weights.log_weight[item_id]
            if log_weight > last_seen_weight:
                heapq.heapreplace(weights.least, (log_weight, item_id))
                continue
            heapq.heappop(weights.least)
            del weights.log_weight[item_id]
            weights.leading.discard(item_id)
            if len(weights.log_weight) <= MAX_ITEMS:
                return


def prepare_seed(item_ids: Sequence[str], weights: "npt.NDArray[np.float64]") -> Weights:
    """Make what `Popularity.seed` takes: about 0.3 s for a million items, so call it in a thread.

    Args:
        item_ids: each once.
        weights: float64 (items,), not negative, in the same order.
    """
    order = weights.argsort(kind="stable")[-MAX_ITEMS:].tolist()  # rising
    prepared = Weights(log_total=_log(float(weights.sum())))
    for index in order:
        item_id, log_weight = item_ids[index], _log(float(weights[index]))
        prepared.log_weight[item_id] = log_weight
        prepared.least.append((log_weight, item_id))  # in rising order it is a heap
    first = heapq.nsmallest(MAX_LIST, prepared.log_weight.items(), key=_most_popular_first)
    prepared.leading = {item_id for item_id, _ in first}
    if len(order) > MAX_LIST:
        prepared.bar = first[-1][1]
    return prepared


def _log(weight: float) -> float:
    return log2(weight) if weight > 0.0 else -inf


def _log_of_sum(log_a: float, log_b: float) -> float:
    """Give log(a + b) from two logarithms to the base 2, of which the second is finite."""
    difference = log_b - log_a
    return log_a + log2(1.0 + 2.0**difference) if difference <= _DIGITS else log_b


def _most_popular_first(item: tuple[str, float] | _Weighed) -> tuple[float, str]:
    # The id breaks ties, so that the list is the same however the counts came together.
    return -item[1], item[0]
