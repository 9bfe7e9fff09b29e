"""The simulator's catalogue: which items live, how popular they are, which item leads to which.

Pure: every random number comes from the generator that is handed in, time is counted in clicks.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

TOP = 20  # items in a list: the ceiling is a Recall@20


@dataclass(frozen=True, slots=True, kw_only=True)
class Law:
    """How simulated users choose. Shares are probabilities, `_clicks` counts clicks of the whole stream.

    The next item of a user is drawn from a mixture: a successor of the last item, an item that the user clicked
    lately, what is popular in the user's current interest, what is popular with everyone. A part that a user does
    not have yet (a first click has no last item) leaves its share to the others in proportion.
    """

    groups: int = 40  # interests; an item belongs to one
    items_per_group: int = 50  # so 2,000 items live at any time
    active_users: int = 2_000  # users in a session at any time
    resting_users: int = 6_000  # users between two sessions

    from_successors: float = 0.28
    from_recent: float = 0.15  # with those that the other parts hit, about 20% of all clicks are re-clicks
    from_interest: float = 0.37
    from_everyone: float = 0.20

    successors: int = 6  # strong successors of an item
    successors_elsewhere: int = 2  # how many of them lie in a related group
    recent_items: int = 8  # how far back re-clicks reach

    popularity_exponent: float = 0.7  # Zipf, within a group and between groups
    drift: float = 0.5  # standard deviation of a popularity's logarithm around its Zipf weight
    drift_clicks: float = 60_000  # after so many clicks a drift is mostly forgotten: 5 minutes at 200 clicks/s
    replacement_clicks: float = 1_000  # one item vanishes, and another appears, every so many clicks

    tastes: int = 3  # interests that a user goes back and forth between
    change_interest: float = 0.05  # per click
    follow_item: float = 0.20  # per click: the interest becomes the clicked item's group
    session_clicks: float = 12  # mean clicks of a session
    new_user: float = 0.30  # share of the starting sessions that belong to a user never seen before


class Catalogue:
    """The live items. An item lives in a slot, `group * items_per_group + place`, until another takes the slot."""

    def __init__(self, law: Law, rng: np.random.Generator) -> None:
        self._law = law
        groups, places = law.groups, law.items_per_group
        self.n_slots = groups * places
        self.item_number: Ints = np.arange(self.n_slots)
        self._next_number = self.n_slots
        self._zipf: Floats = -law.popularity_exponent * np.log(1 + np.arange(max(groups, places)))
        self._group_zipf = rng.permutation(self._zipf[:groups])
        self._place_zipf = np.array([rng.permutation(self._zipf[:places]) for _ in range(groups)])
        self._group_drift: Floats = law.drift / 2 * rng.standard_normal(groups)
        self._place_drift: Floats = law.drift * rng.standard_normal((groups, places))
        self.related: Ints = np.array([rng.permutation(groups)[:3] for _ in range(groups)])
        self._weigh()
        self.successors: Ints = np.zeros((self.n_slots, law.successors), dtype=np.int64)
        self.successor_share: Floats = np.zeros((self.n_slots, law.successors))
        for slot in range(self.n_slots):
            self._draw_successors(slot, rng)

    def advance(self, n_clicks: int, rng: np.random.Generator) -> Ints:
        """Let popularity drift and items come and go for as long as `n_clicks` take.

        Returns:
            The slots whose item vanished; each holds a new item now, which is a stranger to everyone.
        """
        law = self._law
        kept = np.exp(-n_clicks / law.drift_clicks)
        for drift, spread in ((self._group_drift, law.drift / 2), (self._place_drift, law.drift)):
            drift *= kept
            drift += spread * np.sqrt(1 - kept**2) * rng.standard_normal(drift.shape)
        n_vanished = min(int(rng.poisson(n_clicks / law.replacement_clicks)), self.n_slots)
        vanished: Ints = rng.choice(self.n_slots, n_vanished, replace=False)
        for slot in vanished.tolist():
            self.item_number[slot] = self._next_number
            self._next_number += 1
            group, place = divmod(slot, law.items_per_group)
            self._place_zipf[group, place] = self._zipf[rng.integers(law.items_per_group)]
            self._place_drift[group, place] = law.drift * rng.standard_normal()
        self._weigh()
        for slot in vanished.tolist():
            # Items that led to the old one lead to the new one: it is found through them, as a new edition is.
            self._draw_successors(slot, rng)
        return vanished

    def _weigh(self) -> None:
        """Turn Zipf weights and drifts into shares, and prepare what every draw and every ceiling needs."""
        law = self._law
        group_weight = np.exp(self._group_zipf + self._group_drift)
        place_weight = np.exp(self._place_zipf + self._place_drift)
        self.group_share: Floats = group_weight / group_weight.sum()  # (groups,)
        self.place_share: Floats = place_weight / place_weight.sum(axis=1, keepdims=True)  # (groups, places)
        self.place_cumulative: Floats = self.place_share.cumsum(axis=1)
        everyone = (self.group_share[:, None] * self.place_share).ravel()
        self.everyone_cumulative: Floats = everyone.cumsum()
        # (groups, slots): what a user of an interest clicks apart from successors and re-clicks.
        self.base: Floats = np.tile(law.from_everyone * everyone, (law.groups, 1))
        by_group = self.base.reshape(law.groups, law.groups, law.items_per_group)
        by_group[np.arange(law.groups), np.arange(law.groups)] += law.from_interest * self.place_share
        n_top = min(TOP, self.n_slots)
        self.base_top: Ints = np.argpartition(self.base, -n_top, axis=1)[:, -n_top:]

    def _draw_successors(self, slot: int, rng: np.random.Generator) -> None:
        law = self._law
        group = slot // law.items_per_group
        elsewhere = rng.choice(self.related[group], law.successors_elsewhere)
        chosen: list[int] = []
        for target in [group] * (law.successors - law.successors_elsewhere) + elsewhere.tolist():
            # A popular item is a likelier successor; the largest of log weight + Gumbel noise is a draw.
            noise = rng.gumbel(size=law.items_per_group)
            preference = 0.5 * np.log(self.place_share[target]) + noise
            first = target * law.items_per_group
            for taken in (slot, *chosen):
                if first <= taken < first + law.items_per_group:
                    preference[taken - first] = -np.inf
            chosen.append(first + int(preference.argmax()))
        self.successors[slot] = chosen
        self.successor_share[slot] = rng.dirichlet(np.full(law.successors, 2.0))
