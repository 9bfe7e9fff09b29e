"""All figures of an evaluation: of each model alone, and of each pair of models."""

import itertools
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from training.evaluation.bootstrap import Interval, Values, interval, p_value, resampled_means
from training.evaluation.data import OfflineData
from training.evaluation.figures import (
    METRICS,
    Position,
    coverage,
    popularity_of_lists,
    recall_by_position,
    session_sums,
)
from training.evaluation.outcome import Outcome

COMPARED = ("recall@20", "mrr@20")


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
        positions: recall@20 by the clicks before.
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
        recall_by_position(
            np.concatenate([run.rank for run in runs]), np.concatenate([run.clicks_before for run in runs]), n_runs
        ),
    )
