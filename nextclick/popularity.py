"""Recency-weighted popularity: what is served when the network knows nothing of a user, and a baseline everywhere."""

import heapq
from collections.abc import Iterable, Mapping

from nextclick.hashing import item_hash
from nextclick.updates import POPULAR, RankedList, Recommendation, ranked_list

MAX_ITEMS = 200_000  # bounds the memory; beyond it the least popular half is forgotten
_LOW_BITS = 0xFFFFFFFF
_RESCALE_AFTER = 500.0  # half-lives; then the growing weight of new clicks is brought back to 1, below float64's limit
_NOTHING = -1_000.0  # half-lives ago: still a number above 0


class Popularity:
    """Counts of clicks per item that halve with every half-life of event time.

    Old counts do not shrink; instead a new click weighs more than an old one, so that adding is one operation.
    """

    def __init__(self, half_life_s: float) -> None:
        self._half_life_ms = half_life_s * 1000.0
        self._weights: dict[str, float] = {}
        self._total = 0.0
        self._origin_ms: int | None = None
        self._added_since_ranking = 0
        self._ranked: RankedList | None = None
        self._ranked_k = 0

    def __len__(self) -> int:
        return len(self._weights)

    def add(self, item_id: str, timestamp_ms: int) -> None:
        """Count a click of an item at its event time."""
        if self._origin_ms is None:
            self._origin_ms = timestamp_ms
        exponent = (timestamp_ms - self._origin_ms) / self._half_life_ms
        if exponent > _RESCALE_AFTER:
            self._rescale(exponent, timestamp_ms)
            exponent = 0.0
        weight = 2.0 ** max(exponent, _NOTHING)
        self._weights[item_id] = self._weights.get(item_id, 0.0) + weight
        self._total += weight
        self._added_since_ranking += 1
        if len(self._weights) > MAX_ITEMS:
            self._forget_rare_items()

    def seed(self, weights: Mapping[str, float]) -> None:
        """Start from known weights, for as long as nothing has been counted yet; later they fade like clicks do."""
        if self._origin_ms is None:
            self._weights = dict(weights)
            self._total = sum(self._weights.values())
            self._ranked = None

    def weights(self) -> dict[str, float]:
        """The weights as they stand, comparable with each other only."""
        return dict(self._weights)

    def ranked(self, k: int) -> RankedList:
        """Give the k most popular items.

        The list is made anew after a share of new clicks (a twentieth of the number of items, at most 2,000), so
        that its cost per click stays small however many items there are.
        """
        stale_after = max(1, min(len(self._weights) // 20, 2_000))
        if self._ranked is None or self._ranked_k != k or self._added_since_ranking >= stale_after:
            self._ranked = self._rank(k)
            self._ranked_k = k
            self._added_since_ranking = 0
        return self._ranked

    def _rank(self, k: int) -> RankedList:
        best = heapq.nsmallest(k, self._weights.items(), key=_most_popular_first)
        total = self._total or 1.0
        items = [Recommendation(item_id, weight / total) for item_id, weight in best]
        return ranked_list(POPULAR, items, [item_hash(item_id) & _LOW_BITS for item_id, _ in best])

    def _rescale(self, half_lives: float, timestamp_ms: int) -> None:
        self._weights = {item_id: weight * 2.0**-half_lives for item_id, weight in self._weights.items()}
        self._total = sum(self._weights.values())
        self._origin_ms = timestamp_ms

    def _forget_rare_items(self) -> None:
        kept: Iterable[tuple[str, float]] = heapq.nsmallest(
            MAX_ITEMS // 2, self._weights.items(), key=_most_popular_first
        )
        self._weights = dict(kept)
        self._total = sum(self._weights.values())


def _most_popular_first(item: tuple[str, float]) -> tuple[float, str]:
    # The id breaks ties, so that the list is the same however the counts came together.
    return -item[1], item[0]
