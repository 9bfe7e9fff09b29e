"""Runs a backtest: round by round, method after method, each in a process of its own with the same threads."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from nextclick.ranking_metrics import Ranks
from nextclick.settings import Settings
from training.evaluation.backtest.methods import METHODS
from training.evaluation.backtest.slices import rounds_of, slice_between
from training.evaluation.backtest.step import Costs, Job, run_in_process, write_log, write_pickled
from training.evaluation.models import Parameters, Value
from training.learning.sequences import ClickColumns, Ints


class BacktestPlan(NamedTuple):
    """What is compared.

    Attributes:
        names: of the methods, in `METHODS`.
        seeds: a method that depends on the seed runs once with each, others once.
        settings: of the trainer.
        presets: parameters by the names of `nextclick evaluate`, where they differ from settings and defaults; those
            of `network` are for all networks.
        max_predictions: of a round.
    """

    names: Sequence[str]
    seeds: Sequence[int]
    settings: Settings
    presets: Mapping[str, Parameters]
    max_predictions: int

    def parameters(self) -> dict[str, dict[str, Value]]:
        """Give what each method is made with, by its name; a seed is not among it."""
        return {name: {**METHODS[name].parameters(self.settings), **self.preset_of(name)} for name in self.names}

    def preset_of(self, name: str) -> Parameters:
        """Give the parameters of a method that differ from settings and defaults."""
        return self.presets.get("network" if METHODS[name].is_seeded else name, {})

    def seeds_of(self, name: str) -> Sequence[int]:
        """Give the seeds that a method runs with."""
        return self.seeds if METHODS[name].is_seeded else self.seeds[:1]


class Round(NamedTuple):
    """One round of all methods.

    Attributes:
        begin: clicks that were known; the slice begins here.
        end: the slice ends before this click.
        begin_ms: event time of its first click; 0 where there are none.
        user: int64 (n_predictions,), of each predicted click.
        ranks: by method, int64 (n_seeds, n_predictions), of the clicked items.
        costs: by method, of each seed.
    """

    begin: int
    end: int
    begin_ms: int
    user: Ints
    ranks: dict[str, Ranks]
    costs: dict[str, list[Costs]]


Report = Callable[[int, str, int, Ranks, Costs], None]


def run_backtest(plan: BacktestPlan, log: ClickColumns, borders: Ints, report: Report) -> list[Round]:
    """Run all rounds. Takes as long as the methods' learning.

    Args:
        plan: what is compared.
        log: all clicks, oldest first.
        borders: where the slices begin, and the end of the last one (`slice_borders`).
        report: is called after each step with the round's number from 0, the method, the seed, its ranks and costs.

    Raises:
        NextclickError: a step failed.
    """
    with TemporaryDirectory(prefix="nextclick-backtest-") as name:
        folder = Path(name)
        write_log(folder, log)
        for method, seed in _runs(plan):
            settings = dataclasses.replace(plan.settings, seed=seed)
            beginner = METHODS[method].make(settings, plan.preset_of(method))
            for path in (_beginner(folder, method, seed), _state(folder, method, seed)):
                write_pickled(path, beginner)
        return [_round(plan, log, folder, number, border, report) for number, border in enumerate(rounds_of(borders))]


def _round(
    plan: BacktestPlan, log: ClickColumns, folder: Path, number: int, border: tuple[int, int], report: Report
) -> Round:
    begin, end = border
    rng = np.random.default_rng([plan.settings.seed, number])
    ahead, user = slice_between(log, begin, end, plan.max_predictions, plan.settings.recent_clicks, rng)
    write_pickled(folder / "ahead", ahead)
    ranks: dict[str, list[Ranks]] = {name: [] for name in plan.names}
    costs: dict[str, list[Costs]] = {name: [] for name in plan.names}
    for method, seed in _runs(plan):
        states = (_beginner(folder, method, seed), _state(folder, method, seed))
        job = Job(folder, begin, folder / "ahead", *states, is_checked=number == 0)
        done = run_in_process(job, f"{method}, round {number + 1}")
        ranks[method].append(done.ranks)
        costs[method].append(done.costs)
        report(number, method, seed, done.ranks, done.costs)
    stacked = {name: np.stack(of_seeds) for name, of_seeds in ranks.items()}
    return Round(begin, end, int(log.timestamp_ms[begin]), user, stacked, costs)


def _runs(plan: BacktestPlan) -> list[tuple[str, int]]:
    return [(name, seed) for name in plan.names for seed in plan.seeds_of(name)]


def _beginner(folder: Path, method: str, seed: int) -> Path:
    return folder / f"{method}-{seed}.beginner"


def _state(folder: Path, method: str, seed: int) -> Path:
    return folder / f"{method}-{seed}.state"
