"""Judges what was really sent: was the user's next click in the list? Beside it, baselines on the same clicks. Pure.

Knows only the two topics. An update says which click caused it (`source`); the update before it is the list that the
user saw when making that click.
"""

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from demo.live_association import LiveAssociation
from nextclick.hashing import item_hash
from nextclick.popularity import Popularity
from nextclick.updates import RNN, RecommendationUpdate

_LOW_BITS = 0xFFFFFFFF
_MAX_WAITING = 200_000  # clicks without their update yet, or the other way round: the oldest go first
_LATENCY_WINDOW = 5_000  # newest updates that the percentiles are taken over

_T = TypeVar("_T")


class _SeenClick(NamedTuple):
    item_id: str
    popularity_hit: bool
    association_hit: bool


class HitRate:
    """Hits of judged clicks, for what was sent and for baselines."""

    def __init__(self) -> None:
        self.judged = self.hits = self.popularity_hits = self.association_hits = 0

    def count(self, hit: bool, click: _SeenClick) -> None:
        """Judge one click."""
        self.judged += 1
        self.hits += hit
        self.popularity_hits += click.popularity_hit
        self.association_hits += click.association_hit

    @property
    def rate(self) -> float:
        """Share of judged clicks that were on the list that was sent."""
        return self.hits / self.judged if self.judged else 0.0

    @property
    def popularity_rate(self) -> float:
        """The same for the popularity of that moment."""
        return self.popularity_hits / self.judged if self.judged else 0.0

    @property
    def association_rate(self) -> float:
        """The same for item-to-item association, as learnt by that moment."""
        return self.association_hits / self.judged if self.judged else 0.0


class LiveScore:
    """Follows clicks and updates, in any order between the two.

    Attributes:
        overall: every judged click.
        after_swap: those whose list was made when a bundle was served.
        n_updates: updates seen.
        n_network: of these, by the network.
        bundles: the bundles that were seen in updates, in order of appearance.
    """

    def __init__(self, popularity: Popularity, k: int) -> None:
        self.overall, self.after_swap = HitRate(), HitRate()
        self.n_updates = self.n_network = 0
        self.bundles: list[str] = []
        self._popularity = popularity
        self._association = LiveAssociation(k)
        self._k = k
        self._clicks: dict[tuple[int, int], _SeenClick] = {}
        self._early: dict[tuple[int, int], RecommendationUpdate] = {}
        self._shown: dict[str, RecommendationUpdate] = {}
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCY_WINDOW)

    def click(self, source: tuple[int, int], user_id: str, item_id: str, timestamp_ms: int) -> None:
        """Take a click of the topic, by its partition and offset."""
        shown = self._popularity.ranked(self._k).shown
        popular = memoryview(shown).cast("I") if shown else ()
        popularity_hit = (item_hash(item_id) & _LOW_BITS) in popular
        association_hit = self._association.click(user_id, item_id, timestamp_ms)
        seen = _SeenClick(item_id, popularity_hit, association_hit)
        self._popularity.add(item_id, timestamp_ms)
        early = self._early.pop(source, None)
        if early is not None:
            self._judge(early, seen)
        else:
            _keep(self._clicks, source, seen)

    def update(self, update: RecommendationUpdate, received_ms: float) -> None:
        """Take an update of the topic."""
        self.n_updates += 1
        self.n_network += update.strategy == RNN
        if update.bundle_id and update.bundle_id not in self.bundles:
            self.bundles.append(update.bundle_id)
        self._latencies_ms.append(received_ms - update.clicked_at_ms)
        source = (update.source.partition, update.source.offset)
        click = self._clicks.pop(source, None)
        if click is not None:
            self._judge(update, click)
        else:
            _keep(self._early, source, update)

    def latency_ms(self, shares: Iterable[float]) -> list[float]:
        """Give percentiles of click to received update, over the newest updates."""
        ordered = sorted(self._latencies_ms)
        return [ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0 for share in shares]

    def _judge(self, update: RecommendationUpdate, click: _SeenClick) -> None:
        before = self._shown.get(update.user_id)
        if before is not None and update.sequence <= before.sequence:
            return  # a repeated update, or one that was overtaken
        self._shown[update.user_id] = update
        if before is None or update.sequence != before.sequence + 1:
            return
        hit = any(item.item_id == click.item_id for item in before.items[: self._k])
        self.overall.count(hit, click)
        if before.bundle_id:
            self.after_swap.count(hit, click)


def _keep(waiting: dict[tuple[int, int], _T], source: tuple[int, int], value: _T) -> None:
    if len(waiting) >= _MAX_WAITING:
        del waiting[next(iter(waiting))]
    waiting[source] = value
