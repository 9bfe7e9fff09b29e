"""From outcomes to figures: means over predictions, how sure they are, and what the lists were made of."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.ranking_metrics import Gains, Ranks, mrr_gains, ndcg_gains, recall_gains
from training.evaluation.offline_data import OfflineData
from training.evaluation.runs import Outcome
from training.learning.comparison import Interval, Values, interval, p_value, resampled_means, sums_of_users
from training.learning.sequences import Ints

CUTS = (1, 5, 10, 20)
_GAINS = {"recall": recall_gains, "mrr": mrr_gains, "ndcg": ndcg_gains}
METRICS = tuple(f"{name}@{cut}" for name in _GAINS for cut in CUTS)
LAST_POSITION = 20  # predictions from so many clicks and more are one group
COMPARED = ("recall@20", "mrr@20")


class Position(NamedTuple):
    """Predictions from equally many clicks of the session before; the last group's number is that many or more."""

    clicks_before: int
    predictions: int
    recall: float
    mrr: float


class Estimate(NamedTuple):
    """A mean over predictions.

    Attributes:
        mean: over seeds, too.
        interval: 95%, over test sessions.
        by_seed: the means of the runs.
    """

    mean: float
    interval: Interval
    by_seed: list[float]

    @property
    def half_width(self) -> float:
        """Half of the interval."""
        return (self.interval.high - self.interval.low) / 2

    @property
    def spread(self) -> float | None:
        """Standard deviation over the seeds; None with a single run."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None


class ModelFigures(NamedTuple):
    """How a model did; means over its runs.

    Attributes:
        metrics: by the names in `METRICS`.
        coverage: share of the items that any list held.
        popularity: of the lists' items, as a share of the most popular item's clicks.
        training_clicks_per_s: training clicks, times the passes over them, for each second of training.
        predictions_per_s: lists of 20 out of all items.
        fit_s: training time.
        positions: recall@20 and MRR@20 by the clicks before.
    """

    metrics: dict[str, Estimate]
    coverage: float
    popularity: float
    training_clicks_per_s: float
    predictions_per_s: float
    fit_s: float
    positions: list[Position]


class Comparison(NamedTuple):
    """Two models on the same test sessions: the difference of a metric, its 95% interval and its probability."""

    model: str
    other: str
    metric: str
    difference: float
    interval: Interval
    p: float


class Summary(NamedTuple):
    """All of it."""

    models: dict[str, ModelFigures]
    comparisons: list[Comparison]

    def best(self, metric: str) -> str:
        """Name the model with the highest mean."""
        return max(self.models, key=lambda name: self.models[name].metrics[metric].mean)


def summarise(outcomes: Mapping[str, list[Outcome]], data: OfflineData, seed: int) -> Summary:
    """Work the figures out.

    Args:
        outcomes: of each model, one per seed.
        data: that they are from.
        seed: of the bootstrap.
    """
    n_predictions = np.diff(data.test.user_starts) - 1.0
    sums = {
        name: np.stack([session_sums(outcome, len(n_predictions)) for outcome in runs])
        for name, runs in outcomes.items()
    }
    means = {name: runs.sum(axis=1) / n_predictions.sum() for name, runs in sums.items()}  # (n_seeds, n_metrics)
    stacked = np.concatenate([runs.mean(axis=0) for runs in sums.values()], axis=1)
    drawn = resampled_means(stacked, n_predictions, seed)
    resamples = {name: drawn[:, number * len(METRICS) :][:, : len(METRICS)] for number, name in enumerate(sums)}
    models = {name: _figures(runs, means[name], resamples[name], data) for name, runs in outcomes.items()}
    comparisons = []
    for (model, other), metric in itertools.product(itertools.combinations(models, 2), COMPARED):
        column = METRICS.index(metric)
        difference = resamples[model][:, column] - resamples[other][:, column]
        mean = float(means[model][:, column].mean() - means[other][:, column].mean())
        comparisons.append(Comparison(model, other, metric, mean, interval(difference), p_value(difference)))
    return Summary(models, comparisons)


def _figures(runs: list[Outcome], means: Values, resamples: Values, data: OfflineData) -> ModelFigures:
    metrics = {
        metric: Estimate(float(means[:, column].mean()), interval(resamples[:, column]), means[:, column].tolist())
        for column, metric in enumerate(METRICS)
    }
    n_runs, fit_s = len(runs), sum(run.fit_s for run in runs)
    return ModelFigures(
        metrics,
        float(np.mean([coverage(run.shown) for run in runs])),
        float(np.mean([popularity_of_lists(run.shown, data.train.item_index) for run in runs])),
        len(data.train) * sum(run.passes for run in runs) / max(fit_s, 1e-9),
        sum(len(run.rank) for run in runs) / max(sum(run.predict_s for run in runs), 1e-9),
        fit_s / n_runs,
        by_position(
            np.concatenate([run.rank for run in runs]), np.concatenate([run.clicks_before for run in runs]), n_runs
        ),
    )


def gains(rank: Ranks) -> Gains:
    """Give every metric of every prediction: float64 (n_predictions, n_metrics), in the order of `METRICS`."""
    return np.stack([gain(rank, cut) for gain in _GAINS.values() for cut in CUTS], axis=1)


def session_sums(outcome: Outcome, n_sessions: int) -> Gains:
    """Add the metrics up per test session: float64 (n_sessions, n_metrics)."""
    return sums_of_users(outcome.session, gains(outcome.rank), n_sessions)


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


def by_position(rank: Ranks, clicks_before: Ints, n_runs: int) -> list[Position]:
    """Give recall@20 and MRR@20 by the number of clicks that predictions were made from.

    Args:
        rank: int64 (n,), of the clicked items; of several runs over the same predictions one after another.
        clicks_before: int64 (n,), in the session.
        n_runs: how many runs.
    """
    group = np.minimum(clicks_before, LAST_POSITION)
    n_predictions = np.bincount(group)
    hits, reciprocal = (np.bincount(group, gain(rank, CUTS[-1])) for gain in (recall_gains, mrr_gains))
    return [
        Position(
            int(number),
            int(n_predictions[number]) // n_runs,
            float(hits[number] / n_predictions[number]),
            float(reciprocal[number] / n_predictions[number]),
        )
        for number in np.flatnonzero(n_predictions)
    ]
