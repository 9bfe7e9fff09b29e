"""`make bench`: prints every figure that the documentation quotes."""

import signal
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench import (
    click_files,
    exact_lists,
    failover,
    hot_user,
    learning,
    measure,
    model_step,
    pairs,
    popularity,
    shops,
    steady,
)
from bench.programs import python
from demo.local_kafka import LocalKafka
from nextclick.settings import Settings

RATES = (1_000, 3_000)
STEADY_ITEMS = 10_000
PARTS = (
    "throughput",
    "catalogue",
    "hot-user",
    "shops",
    "step",
    "sizes",
    "exact",
    "popularity",
    "steady",
    "learning",
    "trainer",
    "failover",
    "files",
)
WITHOUT_BROKER = {"shops", "step", "sizes", "exact", "popularity", "learning", "files"}


class Options(NamedTuple):
    """What the command line says; see its help."""

    quick: bool
    chosen: tuple[str, ...]
    broker: str | None
    against: str | None
    n_pairs: int
    n_items: int
    rates: tuple[int, ...]


@click.command()
@click.option("--quick", is_flag=True, help="Fewer events and rounds: a look, not a measurement.")
@click.option("--only", "chosen", type=click.Choice(PARTS), multiple=True)
@click.option("--broker", metavar="HOST:PORT", help="A running Kafka, else a local one is started.")
@click.option("--against", metavar="COMMIT", help="Only this: the throughput of this tree and of a commit, in turn.")
@click.option("--pairs", "n_pairs", default=7, show_default=True, help="How many such pairs.")
@click.option("--items", "n_items", default=0, show_default=True, help="Of the model in such pairs; 0: without one.")
@click.option("--rate", "rates", metavar="N", type=int, multiple=True, help="Clicks/s of the part `steady`.")
def bench(**given: Any) -> None:
    """Benchmarks, side by side in one run, the programs in turn. Times on a shared machine are noisy: read ratios."""
    options = Options(**given)
    broker, quick, chosen, against = options.broker, options.quick, options.chosen, options.against
    parts: dict[str, Callable[[str, bool], None]] = {
        "throughput": _throughput,
        "catalogue": _catalogue,
        "hot-user": _hot_user,
        "shops": _shops,
        "step": _step,
        "sizes": _sizes,
        "exact": _exact,
        "popularity": _popularity,
        "steady": lambda broker, quick: _steady(broker, options.rates or RATES, quick),
        "learning": _learning,
        "trainer": _trainer,
        "failover": _failover,
        "files": _files,
    }
    if against is not None:
        work = pairs.Work((20_000 if options.n_items else 250_000) // (5 if quick else 1), options.n_items)
        parts["against"] = lambda broker, _: _against(broker, against, work, options.n_pairs)
        chosen = ("against",)
    kafka = None if broker or WITHOUT_BROKER.issuperset(chosen or PARTS) else LocalKafka()
    if kafka is not None:
        kafka.start()
    try:
        for name in chosen or parts:
            parts[name](broker or (kafka.bootstrap if kafka else ""), quick)
    finally:
        if kafka is not None:
            kafka.stop()


def _throughput(broker: str, quick: bool) -> None:
    programs = {
        "naive Faust": (measure.NAIVE_FAUST, 4_000 if quick else 10_000),
        "plain confluent-kafka loop": (measure.PLAIN_LOOP, 50_000 if quick else 200_000),
        "worker": (measure.WORKER, 50_000 if quick else 200_000),
    }
    results: dict[str, list[measure.Throughput]] = {name: [] for name in programs}
    for _ in range(1 if quick else 3):
        for name, (arguments, count) in programs.items():
            with measure.own_topics(broker) as settings:
                results[name].append(measure.throughput(settings, count, *arguments))
    click.echo("\nthroughput without a model: validation, state, changelog, one update per event")
    naive = statistics.median(result.events_per_s for result in results["naive Faust"])
    for name, rounds in results.items():
        events_per_s = statistics.median(result.events_per_s for result in rounds)
        cpu_us = statistics.median(result.cpu_us_per_event for result in rounds)
        click.echo(
            f"  {name:28} {events_per_s:>9,.0f} events/s  {events_per_s / naive:6.1f} x naive  {cpu_us:7.1f} us CPU"
        )


def _against(broker: str, commit: str, work: pairs.Work, n_pairs: int) -> None:
    model = f"with {work.n_items:,} items" if work.n_items else "without a model"
    click.echo(f"\nthroughput {model}, {work.n_clicks:,} clicks: this tree against {commit}, in turn")
    speeds, costs = [], []
    for here, there in pairs.runs(broker, commit, work, n_pairs):
        speeds.append(here.events_per_s / there.events_per_s)
        costs.append(here.cpu_us_per_event / there.cpu_us_per_event)
        click.echo(
            f"  {here.events_per_s:>9,.0f} and {there.events_per_s:>9,.0f} events/s, ratio {speeds[-1]:.3f}; "
            f"{here.cpu_us_per_event:5.1f} and {there.cpu_us_per_event:5.1f} us CPU, ratio {costs[-1]:.3f}"
        )
    click.echo(f"  median ratio: {statistics.median(speeds):.3f} of events/s, {statistics.median(costs):.3f} of CPU")


def _catalogue(broker: str, quick: bool) -> None:
    click.echo(f"\nworker with a model of width {Settings().hidden_size}, by catalogue")
    for n_items in (10_000, 50_000):
        with measure.own_topics(broker) as settings:
            settings = measure.with_bundle(settings, n_items)
            result = measure.throughput(settings, 4_000 if quick else 20_000, *measure.WORKER)
        click.echo(
            f"  {n_items:>7,} items {result.events_per_s:>9,.0f} events/s  {result.cpu_us_per_event:9.1f} us CPU"
        )


def _hot_user(broker: str, quick: bool) -> None:
    n_clicks = 5_000 if quick else 20_000
    with measure.own_topics(broker) as settings:
        result = hot_user.run(settings, n_clicks)
    click.echo(f"\n{hot_user.PEOPLE} people who click, and {n_clicks:,} clicks of one user; {hot_user.N_ITEMS:,} items")
    for name, waits in (
        ("people alone", result.alone),
        ("beside them, same partition", result.same_partition),
        ("beside them, other partitions", result.other_partitions),
    ):
        click.echo(f"  {name:30} p50 {waits.p50:>6,.0f} ms, p99 {waits.p99:>6,.0f} ms, max {waits.longest:>6,.0f} ms")
    click.echo(f"  the one user {result.updates_per_s:>9,.0f} updates/s {result.cpu_us:9.1f} us CPU")


def _shops(broker: str, quick: bool) -> None:
    click.echo(f"\na crawler with {shops.N_CRAWLED:,} clicks of a day beside {shops.N_PEOPLES_CLICKS:,} of people")
    for n_items in (1, shops.LIST_LENGTH, shops.N_CRAWLED):
        places = shops.crawled_places(n_items)
        click.echo(f"  {n_items:>5,} crawled items: {places} of {shops.LIST_LENGTH} places in the list of new users")
    sizes = list(shops.bundle_bytes(5 if quick else 50))
    click.echo(
        f"{len(sizes)} trainings, a fifth of {shops.N_ITEMS} items new each time: bundles of {sizes[0] / 1000:,.0f} kB "
        f"after the first, {max(sizes) / 1000:,.0f} kB at most, {sizes[-1] / 1000:,.0f} kB after the last"
    )


def _step(broker: str, quick: bool) -> None:
    click.echo("\na step of 256 users on one thread; the product of their and all items' vectors in float32")
    for n_items in (10_000, 50_000):
        took = model_step.Bench(n_items).step(256, 10 if quick else 50)
        click.echo(
            f"  {n_items:>9,} items: step {took.step_ms:6.1f} ms, product {took.product_ms:6.1f} ms, ratio "
            f"{took.step_ms / took.product_ms:.2f}; a user's state takes {took.state_bytes} bytes"
        )


def _sizes(broker: str, quick: bool) -> None:
    click.echo("\na step by catalogue and users, on one thread: ms per user, and the product alone in float32")
    for n_items in (10_000, 100_000) if quick else (10_000, 100_000, 1_000_000):
        bench = model_step.Bench(n_items)
        for n_users in (1, 16, 256):
            took = bench.step(n_users, 5)
            click.echo(
                f"  {n_items:>9,} items, {n_users:>3} users: {took.step_ms / n_users:7.3f} ms per user, product "
                f"{took.product_ms / n_users:7.3f} ms; {took.model_bytes / 1e6:,.0f} MB"
            )


def _exact(broker: str, quick: bool) -> None:
    found = exact_lists.compare(10_000 if quick else 40_000, 1_000 if quick else 10_000)
    click.echo(f"\n{found.n_lists:,} lists of a trained model against a full sort of all probabilities in float32")
    click.echo(
        f"  {found.n_same:,} are the same, {found.n_ties:,} differ by ties below its resolution, "
        f"{found.n_lists - found.n_same - found.n_ties:,} otherwise; probabilities differ by {found.sum_error:.1e} at "
        "most, relative"
    )


def _popularity(broker: str, quick: bool) -> None:
    click.echo("\npopularity on the event loop, worst call of its thread's CPU time")
    for n_items in (2_000, 200_000, 1_000_000):
        took = popularity.worst(n_items, 50_000 if quick else 300_000)
        click.echo(
            f"  {n_items:>9,} items: swap {took.seed_ms:4.1f} ms, click {took.add_ms:4.1f} ms, "
            f"list {took.rank_ms:4.1f} ms; a click {took.click_us:4.1f} us on average; "
            f"prepared in a thread in {took.prepare_ms:.0f} ms"
        )


def _steady(broker: str, rates: tuple[int, ...], quick: bool) -> None:
    click.echo("\nworker at a rate: latency from click record to update record, after the first 5 s")
    for n_items in (0, STEADY_ITEMS):
        click.echo(f"  with a model of {n_items:,} items" if n_items else "  without a model")
        for events_per_s in rates:
            with measure.own_topics(broker) as settings:
                served = measure.with_bundle(settings, n_items) if n_items else settings
                rate = steady.Rate(events_per_s, 10 if quick else 30, n_items or measure.N_ITEMS)
                result = steady.steady(served, rate, python(*measure.WORKER))
            click.echo(_steady_line(result))
    with measure.own_topics(broker) as settings:
        cores = measure.idle_cores(settings, 10 if quick else 30)
    click.echo(f"  idle: {cores:.3f} cores")


def _steady_line(result: steady.Steady) -> str:
    latency, load = result.latency, result.load
    return (
        f"    {result.events_per_s:>6,.0f} clicks/s: p50 {latency.p50_ms:3.0f} ms, p99 {latency.p99_ms:4.0f} ms, "
        f"max {latency.max_ms:4.0f} ms; {result.cores:.3f} cores, {result.max_rss_bytes / 1e6:,.0f} MB; "
        f"machine {result.machine_cores:.2f} cores\n"
        f"           load: {load.cores:.3f} cores, bursts late by p99 {load.late_p99_ms:.1f} ms, max "
        f"{load.late_max_ms:.0f} ms; broker had clicks after p50 {load.broker_p50_ms:.1f} ms, p99 "
        f"{load.broker_p99_ms:.1f} ms"
    )


def _learning(broker: str, quick: bool) -> None:
    click.echo(f"\nlearning, the network alone, width {Settings().hidden_size}, {learning.N_ITEMS:,} items")
    for device, clicks_per_s in learning.clicks_per_s(20_000 if quick else 100_000).items():
        click.echo(f"  {device:8} {clicks_per_s:>9,.0f} clicks/s")


def _trainer(broker: str, quick: bool) -> None:
    count = 20_000 if quick else 200_000
    with measure.own_topics(broker) as settings:
        clicks_per_s = measure.trained_clicks_per_s(settings, count)
    click.echo(f"\ntrainer, width {Settings().hidden_size}, {count:,} simulated clicks: {clicks_per_s:,.0f} clicks/s")


def _failover(broker: str, quick: bool) -> None:
    n_users = 20_000 if quick else 200_000
    with measure.own_topics(broker) as settings:
        n_bytes = failover.write_states(settings, n_users)
        took = failover.recovery(settings)
    click.echo(
        f"\nstates of {n_users:,} users, {n_bytes} bytes each: from a worker's start until every partition answers"
    )
    click.echo(f"  cold, all read from the changelog: {took.cold_s:.1f} s; warm, kept on disk: {took.warm_s:.1f} s")
    click.echo(
        f"two workers, session timeout {Settings().session_timeout_s:.0f} s: until a lost one's users are served"
    )
    for number in (signal.SIGTERM, signal.SIGKILL):
        with measure.own_topics(broker) as settings:
            failover.write_states(settings, n_users)
            seconds = failover.failover(settings, number)
        click.echo(f"  after {number.name}: {seconds:.1f} s")


def _files(broker: str, quick: bool) -> None:
    n_clicks = 1_000_000 if quick else 33_000_000
    with tempfile.TemporaryDirectory(prefix="nextclick-bench-") as folder:
        path = Path(folder) / "clicks.csv"
        click_files.write_clicks(path, n_clicks)
        took = click_files.read_in_a_process(path)
        n_bytes = path.stat().st_size
    click.echo(f"\na CSV file of {n_clicks:,} clicks ({n_bytes / 1e9:.2f} GB), read and sorted by time")
    click.echo(
        f"  {took.clicks_per_s:>11,.0f} clicks/s  {took.cpu_us_per_click:.2f} us CPU  {took.memory_mb:,.0f} MB at most"
    )


if __name__ == "__main__":
    bench()
