"""A seeded stream of simulated clicks whose law is known, and with it the best that any recommender can do.

Pure: no clock, no broker. Every random number comes from a generator that is handed in or seeded; time is counted in
clicks. The sequence of (user, item, event type) depends on the law and the seed alone, not on how many clicks are asked
for at a time. Gaps between sessions come from who is active: a user rests while others click.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

USER_PREFIX = "user-"
TOP = 20  # items in a list: the ceiling is a Recall@20
_BLOCK_CLICKS = 128  # clicks that are drawn together, each of another user; large enough for numpy to pay
_ADVANCE_CLICKS = 512  # the catalogue changes in steps of so many clicks
_NONE = -1  # no item at this place of a user's recent items
_EVENT_TYPES = ("view", "cart", "purchase")
_EVENT_CUMULATIVE = np.array([0.92, 0.98, 1.0])


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


class SimulatedClick(NamedTuple):
    """One click, ready to be sent."""

    user_id: str
    item_id: str
    timestamp_ms: int
    event_type: str


class Ceiling(NamedTuple):
    """What the best possible recommender would have reached on the clicks given out so far."""

    clicks: int  # clicks whose user had clicked before: only those can be predicted
    recall_at_20: float  # mean probability of the 20 likeliest next items, given all that the law knows of the user
    realised_recall_at_20: float  # share of these clicks that really were among those 20


@dataclass(frozen=True, slots=True)
class Choice:
    """The distribution of the next item for each row (user) of a block; every row sums to one."""

    catalogue: Catalogue
    interest: Ints  # (rows,)
    base_scale: Floats  # (rows,): times catalogue.base[interest]
    special: Ints  # (rows, successors + recent items): slots, or _NONE
    special_share: Floats  # the same shape; 0 where there is none
    n_successors: int  # the first columns of `special`, distinct; the rest, distinct too, are recent items

    def draw(self, law: Law, rng: np.random.Generator) -> Ints:
        """Draw each row's next item."""
        catalogue = self.catalogue
        n_rows, n_special = self.special.shape
        pick, place, anywhere = rng.random((3, n_rows))
        parts = np.column_stack(
            [self.special_share, self.base_scale * law.from_interest, self.base_scale * law.from_everyone]
        )
        column = _first_above(parts.cumsum(axis=1), pick)
        in_interest = self.interest * law.items_per_group + _first_above(
            catalogue.place_cumulative[self.interest], place
        )
        of_everyone = catalogue.everyone_cumulative.searchsorted(anywhere).clip(max=catalogue.n_slots - 1)
        drawn = np.where(column == n_special, in_interest, of_everyone)
        is_special = column < n_special
        drawn[is_special] = self.special[is_special, column[is_special]]
        return drawn

    def best(self) -> tuple[Ints, Floats]:
        """Give each row's 20 likeliest items and the probability of each; exact.

        An item that is neither special nor among the base's first 20 has 20 items above it, so these candidates
        are enough.
        """
        catalogue = self.catalogue
        candidates = np.concatenate([self.special, catalogue.base_top[self.interest]], axis=1)  # (rows, C)
        same = candidates[:, :, None] == self.special[:, None, :]  # (rows, C, specials)
        probability = self.base_scale[:, None] * catalogue.base[self.interest[:, None], candidates]
        probability += (same * self.special_share[:, None, :]).sum(axis=2)
        n_special = self.special.shape[1]
        is_repeat = np.zeros(candidates.shape, dtype=bool)
        is_repeat[:, self.n_successors : n_special] = same[:, self.n_successors : n_special, : self.n_successors].any(
            axis=2
        )
        is_repeat[:, n_special:] = same[:, n_special:].any(axis=2)
        probability[is_repeat | (candidates == _NONE)] = 0.0
        top = np.argpartition(probability, -TOP, axis=1)[:, -TOP:]
        return np.take_along_axis(candidates, top, axis=1), np.take_along_axis(probability, top, axis=1)


class Simulator:
    """Users who click by a law. Rows of the arrays are users; a row gets a new user when its old one is gone."""

    def __init__(self, law: Law, seed: int) -> None:
        self._law = law
        self._rng = np.random.default_rng(seed)
        self._catalogue = Catalogue(law, self._rng)
        n_rows = law.active_users + law.resting_users
        self._row_of: Ints = np.arange(n_rows)  # the first `active_users` places are in a session
        self._user_number: Ints = np.arange(n_rows)
        self._next_user_number = n_rows
        self._tastes = self._draw_tastes(n_rows)
        self._interest: Ints = self._tastes[:, 0].copy()
        self._recent: Ints = np.full((n_rows, law.recent_items), _NONE, dtype=np.int64)  # slots, newest first
        self._has_clicked = np.zeros(n_rows, dtype=bool)
        # A re-click goes rarely to the item just left, else the more likely the newer.
        self._recall = 0.75 ** np.arange(law.recent_items)
        self._recall[0] *= 0.4
        self._clicks_since_advance = 0
        self._waiting: list[tuple[str, str, str]] = []
        self._waiting_scores: Floats = np.zeros((0, 3))  # (clicks, [counts, probability of the top, hit])
        self._scores: Floats = np.zeros(3)

    @property
    def ceiling(self) -> Ceiling:
        """The ceiling over the clicks that `next_clicks` gave out."""
        clicks, mass, hits = self._scores.tolist()
        return Ceiling(int(clicks), mass / clicks if clicks else 0.0, hits / clicks if clicks else 0.0)

    def next_clicks(self, now_ms: int, n: int) -> list[SimulatedClick]:
        """Give the next n clicks of the stream, all with the event time `now_ms`."""
        while len(self._waiting) < n:
            self._draw_block()
        taken, self._waiting = self._waiting[:n], self._waiting[n:]
        self._scores += self._waiting_scores[:n].sum(axis=0)
        self._waiting_scores = self._waiting_scores[n:]
        return [SimulatedClick(user_id, item_id, now_ms, event) for user_id, item_id, event in taken]

    def _draw_block(self) -> None:
        law, rng, catalogue = self._law, self._rng, self._catalogue
        if self._clicks_since_advance >= _ADVANCE_CLICKS:
            vanished = catalogue.advance(self._clicks_since_advance, rng)
            self._recent[np.isin(self._recent, vanished)] = _NONE
            self._clicks_since_advance = 0
        # A fraction of the active users: else all would click in turn.
        n_clicks = max(1, min(_BLOCK_CLICKS, law.active_users // 4))
        places = rng.choice(law.active_users, n_clicks, replace=False)
        rows = self._row_of[places]
        changes = rows[rng.random(n_clicks) < law.change_interest]
        self._interest[changes] = self._tastes[changes, rng.integers(law.tastes, size=len(changes))]
        choice = self.choice(rows)
        items = choice.draw(law, rng)
        best, probability = choice.best()
        counts = self._has_clicked[rows]
        hits = (best == items[:, None]).any(axis=1) & counts
        scores = np.column_stack([counts, probability.sum(axis=1) * counts, hits])
        events = _EVENT_CUMULATIVE.searchsorted(rng.random(n_clicks))
        users, numbers = self._user_number[rows].tolist(), catalogue.item_number[items].tolist()
        self._waiting += [
            (f"{USER_PREFIX}{user}", f"item-{item}", _EVENT_TYPES[event])
            for user, item, event in zip(users, numbers, events.tolist(), strict=True)
        ]
        self._waiting_scores = np.concatenate([self._waiting_scores, scores])
        self._remember(rows, items)
        self._end_sessions(places)
        self._clicks_since_advance += n_clicks

    def choice(self, rows: Ints) -> Choice:
        """Give what the law says of the next item of the users in these rows."""
        law, catalogue = self._law, self._catalogue
        recent = self._recent[rows]
        last = recent[:, 0]
        has_last = last != _NONE
        recall = np.where(recent != _NONE, self._recall, 0.0)
        recall_sum = recall.sum(axis=1, keepdims=True)
        has_recent = recall_sum[:, 0] > 0
        total = law.from_interest + law.from_everyone
        total = total + has_last * law.from_successors + has_recent * law.from_recent  # (rows,)
        successor_share = catalogue.successor_share[last] * has_last[:, None] * law.from_successors
        recent_share = recall / np.where(recall_sum > 0, recall_sum, 1.0) * law.from_recent
        return Choice(
            catalogue,
            self._interest[rows],
            1 / total,
            np.concatenate([np.where(has_last[:, None], catalogue.successors[last], _NONE), recent], axis=1),
            np.concatenate([successor_share, recent_share], axis=1) / total[:, None],
            law.successors,
        )

    def _remember(self, rows: Ints, items: Ints) -> None:
        """Put each clicked item first among its user's recent items, which stay distinct."""
        law, recent = self._law, self._recent[rows]
        is_known = recent == items[:, None]
        position = np.where(is_known.any(axis=1), is_known.argmax(axis=1), law.recent_items - 1)
        shifted = np.concatenate([items[:, None], recent[:, :-1]], axis=1)
        keeps = np.arange(law.recent_items) > position[:, None]
        self._recent[rows] = np.where(keeps, recent, shifted)
        self._has_clicked[rows] = True
        follows = self._rng.random(len(rows)) < law.follow_item
        self._interest[rows[follows]] = items[follows] // law.items_per_group

    def _end_sessions(self, places: Ints) -> None:
        """Send some of the users to rest; for each a resting user comes back, or a new one comes."""
        law, rng = self._law, self._rng
        ending = places[rng.random(len(places)) < 1 / law.session_clicks][: law.resting_users]
        n_ending = len(ending)
        resting = law.active_users + rng.choice(law.resting_users, n_ending, replace=False)
        self._row_of[ending], self._row_of[resting] = self._row_of[resting], self._row_of[ending]
        rows = self._row_of[ending]
        self._interest[rows] = self._tastes[rows, rng.integers(law.tastes, size=n_ending)]
        newcomers = rows[rng.random(n_ending) < law.new_user]
        self._user_number[newcomers] = self._next_user_number + np.arange(len(newcomers))
        self._next_user_number += len(newcomers)
        self._tastes[newcomers] = self._draw_tastes(len(newcomers))
        self._interest[newcomers] = self._tastes[newcomers, 0]
        self._recent[newcomers] = _NONE
        self._has_clicked[newcomers] = False

    def _draw_tastes(self, n_users: int) -> Ints:
        law = self._law
        drawn: Ints = self._rng.choice(law.groups, (n_users, law.tastes), p=self._catalogue.group_share)
        return drawn


def _first_above(cumulative: Floats, uniform: Floats) -> Ints:
    """Give, for each row, the first column whose cumulative share is above the row's number."""
    n_columns = cumulative.shape[1]
    column: Ints = (cumulative <= uniform[:, None]).sum(axis=1).clip(max=n_columns - 1)
    return column
