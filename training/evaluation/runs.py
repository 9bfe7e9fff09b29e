"""Runs models on the same data, one after another, and keeps what all figures are made of."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nextclick.ranking_metrics import Ranks, ranks_of_targets
from nextclick.settings import Settings
from training.evaluation.models import MODELS, Parameters, Value
from training.evaluation.offline_data import OfflineData
from training.evaluation.recommender import Floats, Recommender, SeveralPasses
from training.evaluation.shop_rules import OfflineRules
from training.learning.cancellation import progress_bar
from training.learning.sequences import Ints, Sequences

LIST_LENGTH = 20  # of the lists whose items are counted
NEVER = 2**31  # the rank of an item that is not to be recommended, however few there are
_BATCH_SCORES = 20_000_000  # numbers in a score matrix (float32: 80 MB)


class Outcome(NamedTuple):
    """How a recommender did; one entry per prediction, or per item.

    Attributes:
        rank: int64 (n_predictions,), of the clicked items.
        session: int64 (n_predictions,), number of the test session.
        clicks_before: int64 (n_predictions,), in the session.
        shown: float64 (n_items,), lists that held the item, a list of n items counting 1/n for each of them.
        fit_s: training time.
        passes: over the training clicks.
        predict_s: time to score all items and choose the best, all predictions together.
    """

    rank: Ranks
    session: Ints
    clicks_before: Ints
    shown: npt.NDArray[np.float64]
    fit_s: float
    passes: int
    predict_s: float


class Plan(NamedTuple):
    """Which models are run, and how each is made.

    Attributes:
        names: of the models, in `MODELS`.
        seeds: a model that depends on the seed runs once with each, others once.
        settings: of the networks.
        presets: parameters by model name, where they differ from the settings and defaults.
    """

    names: Sequence[str]
    seeds: Sequence[int]
    settings: Settings
    presets: Mapping[str, Parameters]

    def parameters(self) -> dict[str, dict[str, Value]]:
        """Give what each model is made with, by its name; a seed is not among it."""
        return {name: {**MODELS[name].parameters(self.settings), **self.presets.get(name, {})} for name in self.names}


def run_models(
    plan: Plan, data: OfflineData, report: Callable[[str, Recommender, Outcome], None]
) -> dict[str, list[Outcome]]:
    """Run models one after another.

    Args:
        plan: which ones.
        data: what all of them see.
        report: is called after each run, with its title, what was trained and how it went.

    Returns:
        The outcomes of each model, by seed.
    """
    outcomes: dict[str, list[Outcome]] = {}
    for name in plan.names:
        model, outcomes[name] = MODELS[name], []
        for seed in plan.seeds if model.is_seeded else plan.seeds[:1]:
            parameters = {**plan.presets.get(name, {}), **({"seed": seed} if model.is_seeded else {})}
            title = f"{name}, seed {seed}" if model.is_seeded and len(plan.seeds) > 1 else name
            recommender = model.make(plan.settings, parameters)
            outcome = run(recommender, data, title, OfflineRules.of(plan.settings, data))
            report(title, recommender, outcome)
            outcomes[name].append(outcome)
    return outcomes


def run(recommender: Recommender, data: OfflineData, title: str, rules: OfflineRules | None = None) -> Outcome:
    """Train on the training part, then predict every click of the test part but the sessions' first ones.

    Args:
        recommender: is trained.
        data: that it is trained on and judged by.
        title: for the progress bar.
        rules: of the lists; None: there are none.
    """
    began_s = time.perf_counter()
    recommender.fit(data.train, data.n_items)
    fit_s = time.perf_counter() - began_s
    rows = predicted_rows(data.test)
    session = np.searchsorted(data.test.user_starts, rows, side="right") - 1
    rank, shown, predict_s = np.empty(len(rows), np.int64), np.zeros(data.n_items), 0.0
    batch = max(1, _BATCH_SCORES // data.n_items)
    with progress_bar(f"{title}: predicting", len(rows)) as advance:
        for begin in range(0, len(rows), batch):
            part = slice(begin, begin + batch)
            began_s = time.perf_counter()
            scores = recommender.scores(data.test, rows[part])
            if rules is not None:
                scores = rules.apply(scores, data.test, rows[part])
            best, weight = _lists(scores)
            predict_s += time.perf_counter() - began_s
            targets = data.test.item_index[rows[part]]
            rank[part] = ranks_of_targets(scores, targets)
            if rules is not None and rules.exclude != "none":
                rank[part][np.isneginf(scores[np.arange(len(targets)), targets])] = NEVER
            shown += np.bincount(best.ravel(), weight.ravel(), minlength=data.n_items)
            advance(len(rank[part]))
    passes = recommender.passes if isinstance(recommender, SeveralPasses) else 1
    return Outcome(rank, session, rows - data.test.user_starts[session], shown, fit_s, passes, predict_s)


def predicted_rows(sessions: Sequences) -> Ints:
    """Give all rows but the sessions' first ones, rising."""
    is_predicted = np.ones(len(sessions), dtype=bool)
    is_predicted[sessions.user_starts[:-1]] = False
    return np.flatnonzero(is_predicted)


def _lists(scores: Floats) -> tuple[Ints, npt.NDArray[np.float64]]:
    """Give each row's best items, unordered, and each one's share of the list: 0 for what is not to be recommended."""
    length = min(LIST_LENGTH, scores.shape[1])
    writable = np.require(scores, requirements=["W"])  # else torch warns
    # Many times faster than numpy's partition where most scores are equal, as baselines' are.
    best = torch.topk(torch.from_numpy(writable), length, dim=1, sorted=False)
    is_shown = torch.isfinite(best.values).numpy()
    return best.indices.numpy(), is_shown / np.maximum(is_shown.sum(axis=1, keepdims=True), 1)
