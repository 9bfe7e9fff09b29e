"""From the rounds of a backtest to figures: means over its last third, against training anew, and what rounds cost.

The last third, because the first rounds show how a run begins: what a method loses from round to round shows later.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nextclick.ranking_metrics import Ranks
from training.evaluation.backtest.methods import REFERENCE
from training.evaluation.backtest.run import Round
from training.evaluation.figures import METRICS, Estimate, gains
from training.learning.comparison import Interval, Values, interval, p_value, resampled_means
from training.learning.validation import MISSED

SHOWN = ("recall@20", "mrr@20", "ndcg@20")
_COLUMNS = [METRICS.index(metric) for metric in SHOWN]
_MEBIBYTE = 2**20


class Against(NamedTuple):
    """A method's metric less that of `REFERENCE`, on the same predictions: the difference, its interval, its p."""

    difference: float
    interval: Interval
    p: float


class Cost(NamedTuple):
    """What a round took to learn, the mean over rounds and seeds."""

    wall_s: float
    cpu_s: float
    peak_mib: float


class RoundFigures(NamedTuple):
    """A method in one round; means over its seeds.

    Attributes:
        metrics: by the names in `SHOWN`; not a number where nothing was predicted.
        known: share of the predictions whose item the method knew.
        cost: of learning.
    """

    metrics: dict[str, float]
    known: float
    cost: Cost


class MethodFigures(NamedTuple):
    """A method in the whole backtest.

    Attributes:
        rounds: in their order.
        metrics: over the last third of the rounds.
        known: share of the predictions of these rounds whose item it knew.
        against: by metric; empty for `REFERENCE` itself, or without it.
        cost: of a round, the mean over all but the first, which begins everything; of the first if there is no other.
        times_reference: this cost as a share of that of `REFERENCE`, wall time and CPU time; None without it.
        times_reference_last: the same over the last third of the rounds, where the log is longest.
    """

    rounds: list[RoundFigures]
    metrics: dict[str, Estimate]
    known: float
    against: dict[str, Against]
    cost: Cost
    times_reference: tuple[float, float] | None
    times_reference_last: tuple[float, float] | None


class BacktestSummary(NamedTuple):
    """All of it.

    Attributes:
        methods: by name.
        n_predictions: of each round.
        first_compared: number of the first round of the last third, from 0.
    """

    methods: dict[str, MethodFigures]
    n_predictions: list[int]
    first_compared: int


def summarise_rounds(rounds: Sequence[Round], seed: int) -> BacktestSummary:
    """Work the figures out.

    Args:
        rounds: at least one, in their order.
        seed: of the bootstrap.
    """
    first = len(rounds) - math.ceil(len(rounds) / 3)
    names = list(rounds[0].ranks)
    estimates, drawn = _compared(rounds[first:], names, seed)
    has_reference = REFERENCE in names
    later = rounds[1:] or rounds
    methods = {}
    for name in names:
        against = {}
        if has_reference and name != REFERENCE:
            for column, metric in enumerate(SHOWN):
                differences = drawn[name][:, column] - drawn[REFERENCE][:, column]
                mean = estimates[name][metric].mean - estimates[REFERENCE][metric].mean
                against[metric] = Against(mean, interval(differences), p_value(differences))
        ratios = [_ratios(some, name) if has_reference else None for some in (later, rounds[first:])]
        of_rounds = [_figures_of_round(one, name) for one in rounds]
        known = _known(np.concatenate([one.ranks[name].ravel() for one in rounds[first:]]))
        methods[name] = MethodFigures(of_rounds, estimates[name], known, against, _cost(later, name), *ratios)
    return BacktestSummary(methods, [len(one.user) for one in rounds], first)


def _compared(
    rounds: Sequence[Round], names: list[str], seed: int
) -> tuple[dict[str, dict[str, Estimate]], dict[str, Values]]:
    """Give the means of some rounds together, and their resamples: (n_resamples, n_metrics) of each method."""
    users, user = np.unique(np.concatenate([one.user for one in rounds]), return_inverse=True)
    n_predictions = np.bincount(user, minlength=len(users)).astype(np.float64)
    by_seed, sums = {}, []
    for name in names:
        ranks = np.concatenate([one.ranks[name] for one in rounds], axis=1)  # (n_seeds, n_predictions)
        gained = np.stack([gains(of_seed)[:, _COLUMNS] for of_seed in ranks])
        by_seed[name] = gained.mean(axis=1)  # (n_seeds, n_metrics)
        mean_gain = gained.mean(axis=0).T
        sums.append(np.stack([np.bincount(user, column, minlength=len(users)) for column in mean_gain], axis=1))
    drawn = resampled_means(np.concatenate(sums, axis=1), n_predictions, seed)
    resamples = dict(zip(names, np.split(drawn, len(names), axis=1), strict=True))
    estimates = {
        name: {
            metric: Estimate(
                float(by_seed[name][:, column].mean()),
                interval(resamples[name][:, column]),
                by_seed[name][:, column].tolist(),
            )
            for column, metric in enumerate(SHOWN)
        }
        for name in names
    }
    return estimates, resamples


def _figures_of_round(one: Round, name: str) -> RoundFigures:
    ranks = one.ranks[name].ravel()
    means = gains(ranks)[:, _COLUMNS].mean(axis=0) if len(ranks) else np.full(len(SHOWN), np.nan)
    return RoundFigures(dict(zip(SHOWN, means.tolist(), strict=True)), _known(ranks), _cost([one], name))


def _known(ranks: Ranks) -> float:
    return float((ranks != MISSED).mean()) if len(ranks) else math.nan


def _cost(rounds: Sequence[Round], name: str) -> Cost:
    means = np.mean([cost for one in rounds for cost in one.costs[name]], axis=0)
    return Cost(float(means[0]), float(means[1]), float(means[2]) / _MEBIBYTE)


def _ratios(rounds: Sequence[Round], name: str) -> tuple[float, float]:
    cost, reference = _cost(rounds, name), _cost(rounds, REFERENCE)
    return cost.wall_s / max(reference.wall_s, 1e-9), cost.cpu_s / max(reference.cpu_s, 1e-9)
