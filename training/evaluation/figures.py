"""From outcomes to figures: means over predictions, and what the lists were made of."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.ranking_metrics import Gains, Ranks, mrr_gains, ndcg_gains, recall_gains
from training.evaluation.outcome import Outcome
from training.learning.sequences import Ints

CUTS = (1, 5, 10, 20)
_GAINS = {"recall": recall_gains, "mrr": mrr_gains, "ndcg": ndcg_gains}
METRICS = tuple(f"{name}@{cut}" for name in _GAINS for cut in CUTS)
LAST_POSITION = 20  # predictions from so many clicks and more are one group


class Position(NamedTuple):
    """Predictions from equally many clicks of the session before; the last group's number is that many or more."""

    clicks_before: int
    predictions: int
    recall: float


def gains(rank: Ranks) -> Gains:
    """Give every metric of every prediction: float64 (n_predictions, n_metrics), in the order of `METRICS`."""
    return np.stack([gain(rank, cut) for gain in _GAINS.values() for cut in CUTS], axis=1)


def session_sums(outcome: Outcome, n_sessions: int) -> Gains:
    """Add the metrics up per test session: float64 (n_sessions, n_metrics)."""
    return np.stack(
        [np.bincount(outcome.session, column, minlength=n_sessions) for column in gains(outcome.rank).T], axis=1
    )


def coverage(shown: npt.NDArray[np.float64]) -> float:
    """Share of all items that any list held (catalogue coverage, Ge et al. 2010, doi:10.1145/1864708.1864761)."""
    return float((shown > 0).mean())


def popularity_of_lists(shown: npt.NDArray[np.float64], train_item: Ints) -> float:
    """Average recommendation popularity: the mean training clicks of a list's items, averaged over the lists.

    As a share of the clicks of the most clicked item, so that data sets can be compared, as session-rec does.
    Source: Yin et al. 2012, "Challenging the long tail recommendation", arXiv:1205.6700; Abdollahpouri et al. 2019,
    "Managing popularity bias in recommender systems with personalized re-ranking", arXiv:1901.07555 (ARP).
    """
    clicks = np.bincount(train_item, minlength=len(shown))
    return float((shown * clicks).sum() / max(shown.sum(), 1e-9) / max(clicks.max(initial=0), 1))


def recall_by_position(rank: Ranks, clicks_before: Ints, n_runs: int) -> list[Position]:
    """Give recall@20 by the number of clicks that predictions were made from.

    Args:
        rank: int64 (n,), of the clicked items; of several runs over the same predictions one after another.
        clicks_before: int64 (n,), in the session.
        n_runs: how many runs.
    """
    group = np.minimum(clicks_before, LAST_POSITION)
    n_predictions = np.bincount(group)
    hits = np.bincount(group, recall_gains(rank, CUTS[-1]))
    return [
        Position(int(number), int(n_predictions[number]) // n_runs, float(hits[number] / n_predictions[number]))
        for number in np.flatnonzero(n_predictions)
    ]
