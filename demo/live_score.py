"""Judges what was really sent: was the user's next click in the list? Beside it, baselines on the same clicks. Pure.

Knows only the two topics. An update says which click caused it (`source`); the update before it is the list that the
user saw when making that click. A worker answers the clicks of one batch with one list, made after the last of them
(`produced_at_ms` is the same): the user saw the list before all of these.
"""

import heapq
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, TypeVar

from nextclick.hashing import item_hash
from nextclick.popularity import Popularity
from nextclick.updates import RNN, RecommendationUpdate

_LOW_BITS = 0xFFFFFFFF
_MAX_WAITING = 200_000  # clicks without their update yet, or the other way round: the oldest go first
_LATENCY_WINDOW = 5_000  # newest updates that the percentiles are taken over
_RECENT_CLICKS = 2_000  # newest judged clicks of the recent rates: some ten seconds of the demo, and 1% either way

# Association is counted as `training.evaluation.baselines.item_pairs` does: in one session, within so many clicks,
# either way round.
_MAX_DISTANCE = 20  # clicks
_SESSION_GAP_MS = 1_800_000  # a longer pause ends a session
_MAX_PAIRS = 1_000_000  # about 100 MB; beyond it counts are halved, and what was seen once is forgotten

_T = TypeVar("_T")


class Rates(NamedTuple):
    """Hit rates on the same clicks: of what was sent, of popularity, of association."""

    sent: float
    popularity: float
    association: float


class _JudgedClick(NamedTuple):
    item_id: str
    popularity_hit: bool
    association_hit: bool


class HitRate:
    """Hits of judged clicks, for what was sent and for baselines."""

    def __init__(self) -> None:
        self.judged = self.hits = self.popularity_hits = self.association_hits = 0

    def count(self, hit: bool, click: _JudgedClick) -> None:
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


class RecentHitRate:
    """The rates of the newest judged clicks alone."""

    def __init__(self) -> None:
        self._hits: deque[tuple[bool, bool, bool]] = deque(maxlen=_RECENT_CLICKS)

    def count(self, hit: bool, click: _JudgedClick) -> None:
        """Judge one click."""
        self._hits.append((hit, click.popularity_hit, click.association_hit))

    @property
    def rates(self) -> Rates | None:
        """None before anything was judged."""
        if not self._hits:
            return None
        return Rates(*(sum(column) / len(self._hits) for column in zip(*self._hits, strict=True)))


class LiveScore:
    """Follows clicks and updates, in any order between the two.

    Attributes:
        overall: every judged click.
        after_swap: those whose list was made when a bundle was served.
        recent: the newest judged clicks.
        n_updates: updates seen.
        n_network: of these, by the network.
        bundles: the bundles that were seen in updates, in order of appearance.
    """

    def __init__(self, popularity: Popularity, k: int) -> None:
        self.overall, self.after_swap, self.recent = HitRate(), HitRate(), RecentHitRate()
        self.n_updates = self.n_network = 0
        self.bundles: list[str] = []
        self._popularity = popularity
        self._association = LiveAssociation(k)
        self._k = k
        self._clicks: dict[tuple[int, int], _JudgedClick] = {}
        self._early: dict[tuple[int, int], RecommendationUpdate] = {}
        self._newest: dict[str, RecommendationUpdate] = {}
        self._seen: dict[str, RecommendationUpdate] = {}  # the one before the batch of the newest
        self._latencies_ms: deque[float] = deque(maxlen=_LATENCY_WINDOW)

    def click(self, source: tuple[int, int], user_id: str, item_id: str, timestamp_ms: int) -> None:
        """Take a click of the topic, by its partition and offset."""
        shown = self._popularity.ranked(self._k).shown
        popular = memoryview(shown).cast("I") if shown else ()
        popularity_hit = (item_hash(item_id) & _LOW_BITS) in popular
        association_hit = self._association.click(user_id, item_id, timestamp_ms)
        judged_click = _JudgedClick(item_id, popularity_hit, association_hit)
        self._popularity.add(user_id, item_id, timestamp_ms)
        early = self._early.pop(source, None)
        if early is not None:
            self._judge(early, judged_click)
        else:
            _keep(self._clicks, source, judged_click)

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

    def _judge(self, update: RecommendationUpdate, click: _JudgedClick) -> None:
        user_id, newest = update.user_id, self._newest.get(update.user_id)
        if newest is not None and update.sequence <= newest.sequence:
            return  # a repeated update, or one that was overtaken
        self._newest[user_id] = update
        if newest is None:
            return
        if update.sequence != newest.sequence + 1:  # there was a list that we did not see
            self._seen.pop(user_id, None)
            return
        if update.produced_at_ms != newest.produced_at_ms:
            self._seen[user_id] = newest
        seen = self._seen.get(user_id)
        if seen is None:
            return
        hit = any(item.item_id == click.item_id for item in seen.items[: self._k])
        self.overall.count(hit, click)
        self.recent.count(hit, click)
        if seen.bundle_id:
            self.after_swap.count(hit, click)


def _keep(waiting: dict[tuple[int, int], _T], source: tuple[int, int], value: _T) -> None:
    if len(waiting) >= _MAX_WAITING:
        del waiting[next(iter(waiting))]
    waiting[source] = value


class LiveAssociation:
    """Item-to-item association: guesses each click from the user's last one and all clicks before, then counts it."""

    def __init__(self, k: int) -> None:
        self._k = k
        self._n_pairs = 0
        self._counts: dict[str, dict[str, int]] = {}
        self._sessions: dict[str, tuple[int, deque[str]]] = {}  # newest click's time; clicks, the newest first

    def click(self, user_id: str, item_id: str, timestamp_ms: int) -> bool:
        """Take the next click of the log.

        Returns:
            Whether it is among the k items that are most often near the user's last item; False if there is none.
        """
        last_ms, session_items = self._sessions.get(user_id, (timestamp_ms, deque[str](maxlen=_MAX_DISTANCE)))
        hit = bool(session_items) and item_id in self._best(session_items[0])
        if timestamp_ms - last_ms > _SESSION_GAP_MS:
            session_items.clear()
        for neighbour in session_items:
            self._count(item_id, neighbour)
            self._count(neighbour, item_id)
        session_items.appendleft(item_id)
        self._sessions[user_id] = max(last_ms, timestamp_ms), session_items
        if self._n_pairs > _MAX_PAIRS:
            self._forget_rare_pairs()
        return hit

    def _best(self, item_id: str) -> list[str]:
        counts = self._counts.get(item_id, {})
        return heapq.nlargest(self._k, counts, key=counts.__getitem__)

    def _count(self, item_id: str, neighbour: str) -> None:
        counts = self._counts.setdefault(item_id, {})
        self._n_pairs += neighbour not in counts
        counts[neighbour] = counts.get(neighbour, 0) + 1

    def _forget_rare_pairs(self) -> None:
        halved = {
            item_id: {neighbour: count // 2 for neighbour, count in counts.items() if count > 1}
            for item_id, counts in self._counts.items()
        }
        self._counts = {item_id: counts for item_id, counts in halved.items() if counts}
        self._n_pairs = sum(map(len, self._counts.values()))
