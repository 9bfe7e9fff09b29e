"""A bundle on trial in a worker: who gets it, and what is counted of it and of the champion. No clock, no broker.

A click is judged by the list that its user had seen, which the user's state holds with the bundle that made it. So it
counts for the bundle whose list it was, and not where the user was moved in between. Counted are only lists that were
made since this worker knows of the experiment, of both variants: else the champion alone would be judged by users who
come back after days.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from nextclick.advance import Advanced, LoggedClick, Outcome, UserKey
from nextclick.experiment import CHAMPION_VARIANT, Counts, Experiment, Place, Split, Tally, count, no_counts
from nextclick.user_state import UserState, place_shown
from stream.metrics import WorkerMetrics

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel


class Judged(NamedTuple):
    """A click, judged by two lists.

    Attributes:
        place: of its user.
        of_sent: where the item was in the list that the user had seen, from 0; None: nowhere.
        of_shadow: the same in the list that was not sent.
    """

    place: Place
    of_sent: int | None
    of_shadow: int | None


class Trial:
    """An experiment, and what this worker has counted of it.

    Attributes:
        experiment: that was announced.
        model: the bundle on trial; None: it could not be loaded, and its users get the champion.
        champion, challenger: what was counted.
        beside_champion, beside_challenger: of a canary's users, what the champion would have listed, and what it did.
        n_judged: how many clicks were judged, in all.
    """

    def __init__(self, experiment: Experiment, model: "ServedModel | None", metrics: WorkerMetrics) -> None:
        self.experiment = experiment
        self.model = model
        self.champion: Counts = no_counts()
        self.challenger: Counts = no_counts()
        self.beside_champion: Counts = no_counts()
        self.beside_challenger: Counts = no_counts()
        self.n_judged = 0
        self._split = Split(experiment)
        self._metrics = metrics
        self._champion_bundle = int(experiment.champion or "0", 16)
        self._began: dict[int, int] = {}  # by partition, the first offset since the experiment is known here

    @property
    def serves(self) -> bool:
        """Whether the bundle on trial is here."""
        return self.model is not None

    @property
    def answers(self) -> bool:
        """Whether users get lists of the bundle on trial."""
        return self.experiment.kind == "canary" and self.serves

    def places(self, clicks: Sequence[LoggedClick]) -> dict[UserKey, Place]:
        """Give the places of the users of a chunk; the offsets from where it counts are noted."""
        places: dict[UserKey, Place] = {}
        for logged in clicks:
            user = logged.user
            if user not in places:
                places[user] = self._split.place_of(user[1])
                self._began.setdefault(user[0], logged.offset)
        return places

    def note(
        self,
        clicks: Sequence[LoggedClick],
        places: Mapping[UserKey, Place],
        states: Mapping[UserKey, UserState],
        outcomes: Sequence[Outcome],
    ) -> None:
        """Judge the clicks of a chunk of a canary.

        Args:
            clicks: in order.
            places: of their users.
            states: before the chunk.
            outcomes: of the clicks.
        """
        sums = _Sums()
        for logged, outcome in zip(clicks, outcomes, strict=True):
            if not isinstance(outcome, Advanced) or outcome.hit is None:
                continue
            place, before = places[logged.user], states[logged.user]
            partition = logged.user[0]
            bundle = self.experiment.bundle if place.is_chosen else self._champion_bundle
            if before.bundle == bundle and before.partition == partition and before.offset >= self._began[partition]:
                found = place_shown(before.shown, logged.item_hash) if outcome.hit else None
                sums.add(self.challenger if place.is_chosen else self.champion, place, found)
        self._measure(sums)

    def note_both(self, judged: Sequence[Judged]) -> None:
        """Count clicks of users who are followed by a bundle that does not answer them, by both lists."""
        if self.experiment.kind == "canary":
            for place, of_sent, of_shadow in judged:
                count(self.beside_challenger, place.bucket, of_sent)
                count(self.beside_champion, place.bucket, of_shadow)
            self.n_judged += len(judged)
            return
        both = _Sums()
        for place, of_sent, of_shadow in judged:
            both.add(self.champion, place._replace(is_chosen=False), of_sent)
            both.add(self.challenger, place, of_shadow)
        self._measure(both)

    def tally(self, worker: str, at_ms: int) -> Tally:
        """Give all that was counted."""
        beside = self.beside_champion, self.beside_challenger
        return Tally(self.experiment.experiment_id, worker, at_ms, self.serves, self.champion, self.challenger, *beside)

    def _measure(self, sums: "_Sums") -> None:
        for is_chosen, (n_judged, n_hits, reciprocal) in sums.of.items():
            variant = self.experiment.kind if is_chosen else CHAMPION_VARIANT
            self._metrics.variant_judged.labels(variant).inc(n_judged)
            self._metrics.variant_hits.labels(variant).inc(n_hits)
            self._metrics.variant_reciprocal.labels(variant).inc(reciprocal)
            self.n_judged += int(n_judged)


class _Sums:
    """What a chunk adds: judged clicks, hits and reciprocal ranks, by whether the bundle on trial made the list."""

    def __init__(self) -> None:
        self.of = {False: [0.0, 0.0, 0.0], True: [0.0, 0.0, 0.0]}

    def add(self, counts: Counts, place: Place, found: int | None) -> None:
        """Judge a click; for `found` see `nextclick.experiment.count`."""
        count(counts, place.bucket, found)
        sums = self.of[place.is_chosen]
        sums[0] += 1
        if found is not None:
            sums[1] += 1
            sums[2] += 1 / (found + 1)
