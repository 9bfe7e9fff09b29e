"""How good the lists of a worker are, by what users click: counted chunk by chunk, beside what simple rules would show.

A click is judged by the list that its user had been shown before the batch. Beside it stand popularity, and the
neighbours of the item that the user had clicked last, as the bundle counted them: lists as long, filled up under the
rule that leaves out what a user knows. Neighbours are looked up for one chunk in eight, which counts for eight; so is
popularity, where that rule gives users popular lists of their own.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from nextclick.advance import Advanced, Limits, LoggedClick, Outcome, UserKey
from nextclick.popular_lists import PopularLists
from nextclick.rules import excluded_hashes
from nextclick.updates import POPULAR, RNN
from nextclick.user_state import RECENT_BYTES, UserState, place_shown
from stream.calibration import Calibration, is_sampled
from stream.metrics import HIT_PLACES, WorkerMetrics
from stream.shown_sample import ShownSample

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

ONE_IN = 8  # chunks with judged clicks: neighbours of all of them would cost more than all else that is counted
_NOTHING: frozenset[int] = frozenset()
_RECENT = np.dtype([("item_hash", "<u8"), ("gap_s", "<u4"), ("event_type", "u1")])

_Hashes = npt.NDArray[np.uint64]
_Longs = npt.NDArray[np.int64]
_Judged = tuple[LoggedClick, Advanced]  # a click, and what it led to


class LiveQuality:
    """Counts for one worker. Whatever is done for each click is written so that it costs little."""

    def __init__(self, metrics: WorkerMetrics, limits: Limits) -> None:
        self._metrics, self._limits = metrics, limits
        self._calibration = Calibration(metrics)
        self._shown = ShownSample()
        self._n_chunks = 0
        self._is_popular_shared = limits.rules.exclude == "none"
        popular_weight = 1 if self._is_popular_shared else ONE_IN
        self._of_network, self._of_popular = (
            _Strategy(metrics, strategy, popular_weight) for strategy in (RNN, POPULAR)
        )

    def show(self, n_items: Callable[[], int]) -> None:
        """Let the metrics show how varied the lists are.

        Args:
            n_items: gives how many items the bundle has; 0: none.
        """
        metrics, variety = self._metrics, self._shown.variety
        metrics.shown_items.set_function(lambda: variety().n_items)
        metrics.shown_coverage.set_function(lambda: _share(variety().n_items, n_items()))
        metrics.shown_concentration.set_function(lambda: variety().concentration)

    def count(
        self,
        clicks: Sequence[LoggedClick],
        states: Mapping[UserKey, UserState],
        outcomes: Sequence[Outcome],
        model: "ServedModel | None",
        popular: PopularLists,
    ) -> int:
        """Judge the clicks of a chunk.

        Args:
            clicks: in order.
            states: of their users, before the chunk.
            outcomes: of the clicks.
            model: that is served, for what is beside the lists.
            popular: the popular lists before the chunk.

        Returns:
            How many of the clicks were applied.
        """
        of_network, of_popular = self._of_network, self._of_popular
        looks, near, sampled = not self._n_chunks % ONE_IN, list[_Judged](), list[_Judged]()
        judges_popular = looks or self._is_popular_shared
        n_applied = n_unknown = n_new_users = n_judged = n_of_network = n_explored_places = 0
        for logged, outcome in zip(clicks, outcomes, strict=True):
            if type(outcome) is not Advanced:
                continue
            user, _, _, _, item_hash, _, _ = logged
            sequence, _, _, hit, by_network, is_new, n_explored, _ = outcome
            n_applied += 1
            n_unknown += is_new
            if hit is None:
                n_new_users += sequence == 1
                continue
            n_judged += 1
            n_of_network += by_network
            if hit:
                place = place_shown(states[user].shown, item_hash)
                (of_network if by_network else of_popular).shown.append(place or 0)
            if judges_popular and item_hash in popular:
                self._judge_popular(logged, outcome, states, popular)
            n_explored_places += n_explored
            if is_new or outcome.explored_hit:
                self._count_others(outcome)
            if looks:
                near.append((logged, outcome))
            if is_sampled(user):
                sampled.append((logged, outcome))
        if n_unknown:
            self._metrics.on_unknown_items.inc(n_unknown)
        if n_new_users:
            self._metrics.of_new_users.inc(n_new_users)
        self._metrics.explored_places.inc(n_explored_places)
        self._n_chunks += n_judged > 0
        if near and model is not None:
            self._judge_near(near, states, model)
        self._calibration.judge(sampled, states)
        of_network.count(n_of_network)
        of_popular.count(n_judged - n_of_network)
        self._calibration.note(clicks, outcomes)
        self._shown.note(outcomes)
        return n_applied

    def _judge_popular(
        self, logged: LoggedClick, outcome: Advanced, states: Mapping[UserKey, UserState], popular: PopularLists
    ) -> None:
        """Judge a click by the popular list that its user would have been shown."""
        place = popular.place(logged.item_hash, self._excluded(logged, states))
        if place is not None:
            (self._of_network if outcome.hit_by_network else self._of_popular).popular.append(place)

    def _judge_near(self, judged: Sequence[_Judged], states: Mapping[UserKey, UserState], model: "ServedModel") -> None:
        """Judge clicks by what the neighbours of their users' last items would have shown, too."""
        newest = b"".join([states[logged.user].recent[-RECENT_BYTES:] for logged, _ in judged])
        clicked = np.array([logged.item_hash for logged, _ in judged], np.uint64)
        last: npt.NDArray[np.uint64] = np.ascontiguousarray(np.frombuffer(newest, _RECENT)["item_hash"])
        places = model.neighbour_places(clicked, last)
        if self._limits.rules.exclude != "none":
            known = {row: self._excluded(judged[row][0], states) for row in np.flatnonzero(places >= 0).tolist()}
            self._move_up(places, known, clicked, last, model)
        for (_, outcome), place in zip(judged, places.tolist(), strict=True):
            if 0 <= place < self._limits.list_length:
                (self._of_network if outcome.hit_by_network else self._of_popular).near.append(place)

    @staticmethod
    def _move_up(
        places: _Longs, excluded: Mapping[int, Set[int]], clicked: _Hashes, last: _Hashes, model: "ServedModel"
    ) -> None:
        """Let the places among neighbours be those without what each user knows; what he knows has none, -1.

        Args:
            places: int64 (n,), of the clicked items; changed.
            excluded: hashes of what a user knows, by the rows whose clicked item is among the neighbours.
            clicked: uint64 (n,), hashes of the clicked items.
            last: uint64 (n,), hashes of what each user clicked before.
            model: that is served.
        """
        rows = np.array([row for row, hashes in excluded.items() for _ in hashes], np.int64)
        known = np.array([each for hashes in excluded.values() for each in hashes], np.uint64)
        known_places = model.neighbour_places(known, last[rows])
        is_ahead = (known_places >= 0) & (known_places < places[rows])
        is_clicked = known == clicked[rows]
        places -= np.bincount(rows[is_ahead], minlength=len(places))
        places[rows[is_clicked]] = -1

    def _excluded(self, logged: LoggedClick, states: Mapping[UserKey, UserState]) -> Set[int]:
        """Give the hashes of what a list, whoever makes it, would be without, for what its user did before."""
        exclude = self._limits.rules.exclude
        return excluded_hashes(states[logged.user].recent, exclude) if exclude != "none" else _NOTHING

    def _count_others(self, outcome: Advanced) -> None:
        """Count a click on an item that the bundle does not know, or that was shown to explore."""
        metrics = self._metrics
        if outcome.is_new:
            metrics.new_items_judged.inc()
            metrics.new_items_hits.inc(bool(outcome.hit))
        metrics.explored_hits.inc(outcome.explored_hit)


def _share(n_shown: int, n_items: int) -> float | None:
    """Give the share of a bundle's items that were shown: of lists of before it was swapped in there can be more."""
    return min(1.0, n_shown / n_items) if n_shown and n_items else None


class _Strategy:
    """What a chunk adds to the counts of one strategy's lists.

    Attributes:
        shown: places, from 0, that clicked items had in the lists that were shown.
        popular: the same in the popular list; of one chunk in `popular_weight`.
        near: the same among the neighbours of the user's last item; of one chunk in `ONE_IN`.
    """

    def __init__(self, metrics: WorkerMetrics, strategy: str, popular_weight: int) -> None:
        self.shown, self.popular, self.near = list[int](), list[int](), list[int]()
        self._judged = metrics.judged.labels(strategy)
        self._sums = [
            (places, weight, hits.labels(strategy), reciprocal.labels(strategy))
            for places, weight, hits, reciprocal in (
                (self.shown, 1, metrics.hits, metrics.reciprocal),
                (self.popular, popular_weight, metrics.popularity_hits, metrics.popularity_reciprocal),
                (self.near, ONE_IN, metrics.association_hits, metrics.association_reciprocal),
            )
        ]
        self._hits_at = [(k, metrics.hits_at.labels(strategy, k)) for k in HIT_PLACES]

    def count(self, n_judged: int) -> None:
        """Count a chunk with so many judged clicks, and begin anew."""
        if not n_judged:
            return
        self._judged.inc(n_judged)
        if self.shown:
            for k, counter in self._hits_at:
                counter.inc(sum([place < k for place in self.shown]))
        for places, weight, hits, reciprocal in self._sums:
            if places:
                hits.inc(weight * len(places))
                reciprocal.inc(weight * sum([1 / (place + 1) for place in places]))
                places.clear()
