"""Nearest neighbours of the session, with decays: V-SkNN, found through VMIS-kNN's index.

Sources: Ludewig & Jannach 2018, "Evaluation of session-based recommendation algorithms", arXiv:1803.09587, section 3.2
(V-SkNN); Ludewig et al. 2021, "Empirical analysis of session-based recommendation algorithms", arXiv:1910.12781
(the weight by rarity); Kersbergen et al. 2022, doi:10.1145/3514221.3517901 (VMIS-kNN, the same lists from an index).
"""

from dataclasses import dataclass, field

import numpy as np

from training.evaluation.baselines.session_index import SessionIndex, history_before, nearest
from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences


@dataclass(slots=True)
class SessionKnn:
    """Scores an item by the similarity of the past sessions that it was clicked in.

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
            history = history_before(clicks, row)
            weight = (history.place / history.length) ** self.place_power
            matches = self._index.matches(history, weight, self.sample_size)
            chosen = nearest(matches.overlap, self.k)
            from_end = history.length - matches.place_here[chosen] + 1
            vote = matches.overlap[chosen] * from_end.astype(np.float64) ** -self.match_power
            voter, item, _ = self._index.items_of(matches.session[chosen])
            votes = np.bincount(item, vote[voter], minlength=len(row_scores))
            voted = np.flatnonzero(votes > 0)
            row_scores[voted] = votes[voted] * self._item_weight[voted]
        return scores
