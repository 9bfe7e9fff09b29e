"""`make bench`: prints every figure that the documentation quotes, and writes docs/benchmarks.md."""

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench import measure, pairs
from bench.backlog import N_ITEMS
from bench.compare import FULL, MODEL_ITEMS, QUICK, compare, main_contestants
from bench.contestants import Contestant
from bench.figures import Comparison, Figures, WorkerAtRates, this_machine, write_figures
from bench.parts import PARTS, WITHOUT_BROKER
from bench.programs import ProgramDiedError, ProgramStuckError, python
from bench.steady import Rate, steady
from bench.tables import compare_table, load_table, machine_line, ratio_table, steady_table, targets
from bench.write_docs import DEFAULT_FIGURES, write_docs
from demo.local_kafka import LocalKafka

RATES = (1_000, 3_000)
COMPARED = ("compare", "steady")
_AT_LEAST_1 = click.IntRange(min=1)


class Options(NamedTuple):
    """What the command line says; see its help."""

    quick: bool
    chosen: tuple[str, ...]
    broker: str | None
    against: str | None
    n_pairs: int
    n_items: int
    rates: tuple[int, ...]
    programs: tuple[str, ...]
    json_file: Path | None
    docs: bool


@click.command()
@click.option("--quick", is_flag=True, help="Fewer programs, events and rounds: a look, not a measurement.")
@click.option("--only", "chosen", type=click.Choice((*COMPARED, *PARTS)), multiple=True)
@click.option("--broker", metavar="HOST:PORT", help="A running Kafka, else a local one is started.")
@click.option("--against", metavar="COMMIT", help="Only this: the throughput of this tree and of a commit, in turn.")
@click.option("--pairs", "n_pairs", type=_AT_LEAST_1, default=7, show_default=True, help="How many such pairs.")
@click.option("--items", "n_items", default=0, show_default=True, help="Of the model in such pairs; 0: without one.")
@click.option("--rate", "rates", metavar="N", type=_AT_LEAST_1, multiple=True, help="Clicks/s of the part `steady`.")
@click.option("--program", "programs", metavar="NAME", multiple=True, help="Compare only those whose name has this.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write `compare` and `steady` as JSON.")
@click.option(
    "--write-docs", "docs", is_flag=True, help="Write docs/benchmarks.md from a JSON file; measures what --only names."
)
def bench(**given: Any) -> None:
    """Benchmarks, side by side in one run, the programs in turn. Times on a shared machine are noisy: read ratios."""
    options = Options(**given)
    file = options.json_file or (DEFAULT_FIGURES if options.docs else None)
    measures = bool(options.chosen or options.against or not options.docs)
    writes = measures and not options.against and not {*COMPARED}.isdisjoint(options.chosen or COMPARED)
    if options.docs and file is not None and not (writes or file.is_file()):
        raise click.ClickException(f"{file} is not there; a run with --json FILE writes one")
    _chosen_programs(options)  # says it now if there is no such program
    try:
        if measures:
            _measure(options, file)
        if options.docs and file is not None:
            write_docs(file)
    except (ProgramDiedError, ProgramStuckError, pairs.UnknownCommitError) as error:
        raise click.ClickException(str(error)) from None


def _measure(options: Options, file: Path | None) -> None:
    figures = Figures()
    parts: dict[str, Callable[[str], None]] = {
        "compare": lambda broker: _compare(broker, options, figures),
        "steady": lambda broker: _steady(broker, options, figures),
        "against": lambda broker: _against(broker, options),
    }
    chosen = ("against",) if options.against else options.chosen or (*COMPARED, *PARTS)
    if options.against:
        pairs.check_commit(options.against)
    kafka = None if options.broker or WITHOUT_BROKER.issuperset(chosen) else LocalKafka()
    if kafka is not None:
        kafka.start()
    try:
        broker = options.broker or (kafka.bootstrap if kafka else "")
        for name in chosen:
            if name in parts:
                parts[name](broker)
            else:
                PARTS[name](broker, options.quick)
            if file is not None and name in COMPARED:
                write_figures(file, figures)  # at once: the next part may take an hour, and fail
    finally:
        if kafka is not None:
            kafka.stop()


def _compare(broker: str, options: Options, figures: Figures) -> None:
    figures.machines["compare"] = this_machine()
    click.echo(f"\n{machine_line(figures.machines['compare'])}")
    click.echo("\nall programs in turn; events/s of a backlog, and latency at shares of that")
    effort = QUICK if options.quick else FULL
    figures.compare = compare(broker, effort, _chosen_programs(options), click.echo)
    _print_comparison(figures.compare)


def _chosen_programs(options: Options) -> list[Contestant]:
    chosen = main_contestants(options.quick)
    for part in options.programs:
        if not any(part in each.name for each in chosen):
            names = ", ".join(each.name for each in chosen)
            raise click.ClickException(f"no program has {part!r} in its name; there are: {names}")
    return [each for each in chosen if not options.programs or any(part in each.name for part in options.programs)]


def _print_comparison(found: Comparison) -> None:
    for table in (compare_table(found), ratio_table(found), load_table(found), targets(found)):
        click.echo(f"\n{table}")


def _steady(broker: str, options: Options, figures: Figures) -> None:
    click.echo("\nworker at a rate: latency from click record to update record, after the first 5 s")
    figures.machines["steady"] = this_machine()
    seconds = 10.0 if options.quick else 30.0
    for n_items in (0, MODEL_ITEMS):
        with measure.own_topics(broker) as settings:
            served = measure.with_bundle(settings, n_items) if n_items else settings
            rates = [Rate(events_per_s, seconds, n_items or N_ITEMS) for events_per_s in options.rates or RATES]
            results = steady(served, rates, python(*measure.WORKER))
        figures.steady.append(WorkerAtRates(n_items, results))
    with measure.own_topics(broker) as settings:
        figures.idle_cores = measure.idle_cores(settings, seconds)
    click.echo(f"\n{steady_table(figures.steady)}\n\ncores when idle: {figures.idle_cores:.3f}")


def _against(broker: str, options: Options) -> None:
    assert options.against is not None
    n_clicks = (20_000 if options.n_items else 250_000) // (5 if options.quick else 1)
    model = f"with {options.n_items:,} items" if options.n_items else "without a model"
    click.echo(f"\nthroughput {model}, {n_clicks:,} clicks: this tree against {options.against}, in turn")
    speeds, costs = [], []
    for here, there in pairs.runs(broker, options.against, pairs.Work(n_clicks, options.n_items), options.n_pairs):
        speeds.append(here.events_per_s / there.events_per_s)
        costs.append(here.cpu_us_per_event / there.cpu_us_per_event)
        click.echo(
            f"  {here.events_per_s:>9,.0f} and {there.events_per_s:>9,.0f} events/s, ratio {speeds[-1]:.3f}; "
            f"{here.cpu_us_per_event:5.1f} and {there.cpu_us_per_event:5.1f} us CPU, ratio {costs[-1]:.3f}"
        )
    click.echo(f"  median ratio: {statistics.median(speeds):.3f} of events/s, {statistics.median(costs):.3f} of CPU")


if __name__ == "__main__":
    bench()
