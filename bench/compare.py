"""Compares the worker with what a user would pick instead: all in one run, in turn, in several rounds.

Of each program, from outside: how fast it goes through a backlog, what that costs, and how long clicks wait at shares
of its own capacity. A program that cannot run here, or that dies, has no figures but a reason.
"""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from bench import measure
from bench.backlog import N_ITEMS, work_off
from bench.contestants import Contestant, contestants
from bench.figures import Comparison, ProgramFigures
from bench.programs import ProgramDiedError, ProgramStuckError
from bench.steady import Rate, steady
from bench.tables import SHARES
from nextclick.settings import Settings

MODEL_ITEMS = 10_000
_WARM_S = 2.0  # before each rate but the first, which has the whole warm-up


class Effort(NamedTuple):
    """How much is measured.

    Attributes:
        n_rounds: of all programs in turn.
        seconds: at each rate.
        backlog_share: of the backlogs of a full run.
    """

    n_rounds: int
    seconds: float
    backlog_share: float


FULL, QUICK = Effort(3, 10.0, 1.0), Effort(1, 4.0, 0.4)


def compare(broker: str, effort: Effort, chosen: Sequence[Contestant], say: Callable[[str], None]) -> Comparison:
    """Measure programs in turn, forwards and backwards, so that no one always has the same neighbour before it.

    Args:
        broker: that all of them use.
        effort: how much is measured.
        chosen: the programs.
        say: gets a line on each measurement.
    """
    found = {each.name: ProgramFigures(each.name, each.n_items, each.missing()) for each in chosen}
    for number in range(effort.n_rounds):
        for contestant in chosen if number % 2 == 0 else reversed(chosen):
            figures = found[contestant.name]
            if not figures.not_run:
                try:
                    _measure(broker, effort, contestant, figures)
                except (ProgramDiedError, ProgramStuckError) as error:
                    figures.not_run = str(error)
            say(f"  round {number + 1}: {_progress(figures)}")
    return Comparison(effort.n_rounds, list(found.values()))


def main_contestants(quick: bool) -> list[Contestant]:
    """Give the programs of a quick or a full run."""
    return [each for each in contestants(MODEL_ITEMS) if each.is_main or not quick]


def capacity(figures: ProgramFigures) -> float:
    """Give the events/s of a program: the median of its rounds so far."""
    return statistics.median(each.events_per_s for each in figures.throughput)


def _measure(broker: str, effort: Effort, contestant: Contestant, figures: ProgramFigures) -> None:
    n_items = contestant.n_items or N_ITEMS
    with measure.own_topics(broker, stamped_by_broker=True) as settings:
        settings = _served(settings, contestant)
        count = int(contestant.n_clicks * effort.backlog_share)
        figures.throughput.append(work_off(settings, count, contestant.command(settings), n_items))
    rates = [
        Rate(capacity(figures) * share / 100, effort.seconds, n_items, *(() if share == SHARES[0] else (_WARM_S,)))
        for share in SHARES
    ]
    with measure.own_topics(broker, stamped_by_broker=True) as settings:
        settings = _served(settings, contestant)
        results = steady(settings, rates, contestant.command(settings))
    for share, result in zip(SHARES, results, strict=False):  # those after a rate that it cannot hold are missing
        figures.rates.setdefault(share, []).append(result)


def _served(settings: Settings, contestant: Contestant) -> Settings:
    return measure.with_bundle(settings, contestant.n_items) if contestant.n_items else settings


def _progress(figures: ProgramFigures) -> str:
    if figures.not_run:
        return f"{figures.name}: not run: {figures.not_run}"
    newest = figures.throughput[-1]
    waits = [f"{share}%: p50 {each[-1].latency.p50_ms:.0f} ms" for share, each in figures.rates.items()]
    return (
        f"{figures.name}: {newest.events_per_s:,.0f} events/s, {newest.cpu_us_per_event:.1f} us CPU, "
        f"{newest.max_rss_bytes / 1e6:,.0f} MB, {newest.machine_cores:.2f} cores of the machine; {', '.join(waits)}"
    )
