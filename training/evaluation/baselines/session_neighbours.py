"""Baselines that let similar past sessions vote, the nearest neighbours of the session: V-SkNN and STAN.

Both find these sessions by their items, in one index, which comes first.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences, flat_ranges

_MAX_CONTEXT = 20  # clicks; what is older in a long session is not looked at, which bounds the time of a prediction


class Context(NamedTuple):
    """A session until now.

    Attributes:
        item_index: int64 (n,), each once, in the order of their last clicks.
        place: int64 (n,), of an item's last click: 1 is the session's first click.
        length: clicks of the session.
    """

    item_index: Ints
    place: Ints
    length: int


class Matches(NamedTuple):
    """Past sessions that share an item with the present one, oldest first.

    Attributes:
        session: int64 (n,).
        overlap: float64 (n,), the sum of the weights of the shared items.
        place_here: int64 (n,), of the newest shared click in the present session.
        place_there: int64 (n,), of the newest shared click in the past one.
    """

    session: Ints
    overlap: npt.NDArray[np.float64]
    place_here: Ints
    place_there: Ints


class SessionIndex:
    """The sessions of the past, found by their items; numbered from the oldest to the newest by their last click.

    Of each item only the newest sessions can be among the newest of a query, so reading more of them changes nothing.
    Source: Kersbergen et al. 2022, "Serenade: low-latency session-based recommendation in e-commerce at scale"
    (VMIS-kNN), SIGMOD, doi:10.1145/3514221.3517901.

    Attributes:
        age: float64 (n_sessions,), of the last click, as a share of the log.
        n_different: int64 (n_sessions,), different items of each.
        idf: float64 (n_items,), logarithm of the number of sessions for each click of the item; 0 without any.
    """

    def __init__(self, train: Sequences, n_items: int) -> None:
        """Index sessions; takes about 50 bytes per click."""
        last_row = train.user_starts[1:] - 1
        by_age = np.argsort(train.age_rank[last_row], kind="stable")
        self.age = train.age_shares()[last_row[by_age]]
        n_sessions = len(by_age)
        number = np.empty(n_sessions, np.int64)
        number[by_age] = np.arange(n_sessions)
        key = np.repeat(number, np.diff(train.user_starts)) * n_items + train.item_index
        row = np.argsort(key, kind="stable")
        row = row[np.append(key[row][1:] != key[row][:-1], True)[: len(row)]]  # an item's last click in the session
        session, self._item = key[row] // n_items, train.item_index[row]
        self._place = row - train.first_row_of_user()[row] + 1
        self._session_starts = np.searchsorted(session, np.arange(n_sessions + 1))
        self.n_different = np.diff(self._session_starts)
        by_item = np.argsort(self._item, kind="stable")
        self._item_starts = np.searchsorted(self._item[by_item], np.arange(n_items + 1)).tolist()
        self._session_of_item, self._place_of_item = session[by_item], self._place[by_item]
        clicks = np.bincount(train.item_index, minlength=n_items)
        self.idf = np.log(n_sessions / np.maximum(clicks, 1)) * (clicks > 0)

    def matches(self, context: Context, weight: npt.NDArray[np.float64], sample_size: int) -> Matches:
        """Find the newest past sessions that share an item.

        Args:
            context: the present session.
            weight: float64 (n,), of each item of the context.
            sample_size: how many to give, at most.
        """
        ends = [self._item_starts[item + 1] for item in context.item_index]
        parts = [
            slice(max(self._item_starts[item], end - sample_size), end)
            for item, end in zip(context.item_index, ends, strict=True)
        ]
        n_of_item = [part.stop - part.start for part in parts]
        session, place = np.unique(np.concatenate([self._session_of_item[part] for part in parts]), return_inverse=True)
        overlap = np.bincount(place, np.repeat(weight, n_of_item), minlength=len(session)).astype(np.float64)
        place_here, place_there = np.zeros(len(session), np.int64), np.zeros(len(session), np.int64)
        np.maximum.at(place_here, place, np.repeat(context.place, n_of_item))
        np.maximum.at(place_there, place, np.concatenate([self._place_of_item[part] for part in parts]))
        newest = slice(max(0, len(session) - sample_size), None)
        return Matches(session[newest], overlap[newest], place_here[newest], place_there[newest])

    def items_of(self, sessions: Ints) -> tuple[Ints, Ints, Ints]:
        """Give the different items of some sessions.

        Returns:
            Three arrays of one length: where the session stands in `sessions`, the item, and the place of the item's
            last click in the session.
        """
        length = self.n_different[sessions]
        entries = flat_ranges(self._session_starts[sessions], length)
        return np.repeat(np.arange(len(sessions)), length), self._item[entries], self._place[entries]


def context_before(clicks: Sequences, row: int) -> Context:
    """Give the session of a click as it was before it."""
    first = int(clicks.user_starts[np.searchsorted(clicks.user_starts, row, side="right") - 1])
    first = max(first, row - _MAX_CONTEXT)
    place_of: dict[int, int] = {}
    for place, item in enumerate(clicks.item_index[first:row].tolist(), 1):
        place_of.pop(item, None)  # so that the order is that of the last clicks
        place_of[item] = place
    return Context(np.array(list(place_of), np.int64), np.array(list(place_of.values()), np.int64), row - first)


def nearest(similarity: npt.NDArray[np.float64], k: int) -> Ints:
    """Give the places of the k most similar sessions; of equals the newest."""
    return np.argsort(similarity, kind="stable")[-k:]


@dataclass(slots=True)
class SessionKnn:
    """V-SkNN: scores an item by the similarity of the past sessions that it was clicked in; clicks decay by place.

    Sources: Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms", arXiv:1803.09587, section
    3.2; Ludewig et al. 2021, "Empirical analysis of session-based recommendation algorithms", arXiv:1910.12781 (the
    weight by rarity).

    Attributes:
        k: past sessions that vote.
        sample_size: newest past sessions with a shared item, from which these are chosen.
        place_power: a click at place i of n weighs (i / n) ** place_power: 0 alike, 1 linear, 2 quadratic.
        match_power: a past session whose newest shared click is the j-th from the present session's end votes with
            j ** -match_power.
        idf_weight: how much more a rare item gets; 0: nothing.
    """

    k: int = 1_500
    sample_size: int = 5_000
    place_power: float = 1.0
    match_power: float = 1.0
    idf_weight: float = 5.0
    _index: SessionIndex = field(init=False, repr=False)
    _item_weight: Floats = field(init=False, repr=False)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Index the sessions, as `Recommender`."""
        self._index = SessionIndex(train, n_items)
        self._item_weight = (1.0 + self.idf_weight * self._index.idf).astype(np.float32)

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Let the neighbours vote, as `Recommender`."""
        scores = np.full((len(rows), len(self._item_weight)), -np.inf, dtype=np.float32)
        for row_scores, row in zip(scores, rows.tolist(), strict=True):
            context = context_before(clicks, row)
            weight = (context.place / context.length) ** self.place_power
            matches = self._index.matches(context, weight, self.sample_size)
            chosen = nearest(matches.overlap, self.k)
            from_end = context.length - matches.place_here[chosen] + 1
            vote = matches.overlap[chosen] * from_end.astype(np.float64) ** -self.match_power
            voter, item, _ = self._index.items_of(matches.session[chosen])
            votes = np.bincount(item, vote[voter], minlength=len(row_scores))
            voted = np.flatnonzero(votes > 0)
            row_scores[voted] = votes[voted] * self._item_weight[voted]
        return scores


@dataclass(slots=True)
class Stan:
    """As V-SkNN, with three decays: within the session, by age, around the shared item.

    A session's age is counted in clicks of the log instead of seconds, so that it needs no times; as the decay is
    exponential, how long ago the log ends is the same factor for all neighbours.
    Source: Garg et al. 2019, "Sequence and time aware neighborhood for session-based recommendations", SIGIR,
    doi:10.1145/3331184.3331322.

    Attributes:
        k: past sessions that vote.
        sample_size: newest past sessions with a shared item, from which these are chosen.
        place_decay: a click that is j clicks from the session's end weighs exp(-j / place_decay).
        age_decay: a past session of age a, as a share of the log, weighs exp(-a / age_decay).
        distance_decay: an item that is j clicks from the newest shared one, in the past session, gets
            exp(-j / distance_decay) of that session's vote.
    """

    k: int = 500
    sample_size: int = 5_000
    place_decay: float = 2.45
    age_decay: float = 0.5
    distance_decay: float = 9.8
    _index: SessionIndex = field(init=False, repr=False)
    _session_weight: "np.ndarray[tuple[int], np.dtype[np.float64]]" = field(init=False, repr=False)
    _n_items: int = field(init=False, repr=False)

    def fit(self, train: Sequences, n_items: int) -> None:
        """Index the sessions, as `Recommender`."""
        self._index = SessionIndex(train, n_items)
        # The present session's own length is left out: one factor for all.
        self._session_weight = np.exp(-self._index.age / self.age_decay) / np.sqrt(self._index.n_different)
        self._n_items = n_items

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        """Let the neighbours vote, as `Recommender`."""
        scores = np.full((len(rows), self._n_items), -np.inf, dtype=np.float32)
        for row_scores, row in zip(scores, rows.tolist(), strict=True):
            context = context_before(clicks, row)
            weight = np.exp((context.place - context.length) / self.place_decay)
            matches = self._index.matches(context, weight, self.sample_size)
            similarity = matches.overlap * self._session_weight[matches.session]
            chosen = nearest(similarity, self.k)
            voter, item, place = self._index.items_of(matches.session[chosen])
            distance = np.abs(place - matches.place_there[chosen][voter])
            vote = similarity[chosen][voter] * np.exp(-distance / self.distance_decay)
            votes = np.bincount(item, vote, minlength=self._n_items)
            voted = np.flatnonzero(votes > 0)
            row_scores[voted] = votes[voted]
        return scores
