"""STAN: nearest neighbours of the session, with three decays: within the session, by age, around the shared item.

Source: Garg et al. 2019, "Sequence and time aware neighborhood for session-based recommendations", SIGIR,
doi:10.1145/3331184.3331322. A session's age is counted in clicks of the log instead of seconds, so that it needs no
times; as the decay is exponential, how long ago the log ends is the same factor for all neighbours.
"""

from dataclasses import dataclass, field

import numpy as np

from training.evaluation.baselines.session_index import SessionIndex, history_before, nearest
from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences


@dataclass(slots=True)
class Stan:
    """Scores an item by the similarity of the past sessions that it was clicked in.

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
            history = history_before(clicks, row)
            weight = np.exp((history.place - history.length) / self.place_decay)
            matches = self._index.matches(history, weight, self.sample_size)
            similarity = matches.overlap * self._session_weight[matches.session]
            chosen = nearest(similarity, self.k)
            voter, item, place = self._index.items_of(matches.session[chosen])
            distance = np.abs(place - matches.place_there[chosen][voter])
            vote = similarity[chosen][voter] * np.exp(-distance / self.distance_decay)
            votes = np.bincount(item, vote, minlength=self._n_items)
            voted = np.flatnonzero(votes > 0)
            row_scores[voted] = votes[voted]
        return scores
