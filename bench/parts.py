"""The benchmarks of single parts: each prints its figures."""

import signal
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import click

from bench import (
    canary,
    click_files,
    costs,
    exact_lists,
    failover,
    feed,
    formats,
    gate,
    hot_user,
    items,
    learning,
    measure,
    metrics,
    model_step,
    new_items,
    popularity,
    ruled_worker,
    rules,
    scale,
    shared_bundle,
    shops,
    swap,
)
from bench.figures import this_machine
from bench.model_step import LIST_LENGTH
from bench.tables import machine_line
from nextclick.settings import Settings


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


def _scale(broker: str, quick: bool) -> None:
    click.echo(f"\nworkers that share a topic of {scale.N_PARTITIONS} partitions, with a model of 10,000 items")
    for n_workers in (1, 2, 4):
        with measure.own_topics(broker, partitions=scale.N_PARTITIONS) as settings:
            settings = measure.with_bundle(settings, 10_000)
            result = scale.scaled(settings, n_workers, 20_000 if quick else 100_000, 10_000)
        click.echo(
            f"  {n_workers} worker(s) {result.events_per_s:>9,.0f} events/s {result.cpu_us_per_event:7.1f} us CPU, "
            f"fair part of the memory {', '.join(f'{each:,.0f}' for each in result.fair_mb)} MB"
        )


def _swap(broker: str, quick: bool) -> None:
    click.echo("\na bundle is announced while 1,000 clicks/s come: how long they wait, fetching and loading included")
    for n_items in (10_000,) if quick else (10_000, 100_000):
        with measure.own_topics(broker) as settings:
            result = swap.swap(settings, 1_000, n_items, 5 if quick else 15)
        for name, waits in (("before it", result.before), ("from then on", result.after)):
            click.echo(
                f"  {n_items:>7,} items, {name:12} p50 {waits.p50_ms:>6,.0f} ms, p99 {waits.p99_ms:>6,.0f} ms, "
                f"max {waits.max_ms:>6,.0f} ms"
            )


def _items(broker: str, quick: bool) -> None:
    with measure.own_topics(broker) as settings:
        late = items.lateness(settings, 50 if quick else 300)
    click.echo(
        f"\n{late.n_withdrawn} items withdrawn, two workers, {items.CLICKS_PER_S} clicks/s: {late.n_late} of "
        f"{late.n_lists:,} lists still had one, the last {late.latest_ms} ms after it was withdrawn"
    )
    n_items = 100_000 if quick else 1_000_000
    with measure.own_topics(broker) as settings:
        cost = items.cost(settings, n_items)
    click.echo(
        f"{n_items:,} items: a worker is ready after {cost.read_s:.1f} s, {cost.without_s:.1f} without, and "
        f"{cost.cpu_s:.1f} s of CPU, {cost.without_cpu_s:.1f} without; at most "
        f"{(cost.rss_bytes - cost.without_bytes) / n_items:.0f} bytes more for each ({cost.rss_bytes / 1e6:,.0f} MB, "
        f"{cost.without_bytes / 1e6:,.0f} without)"
    )


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


def _costs(broker: str, quick: bool) -> None:
    click.echo("\nwhat a click, an item and a user cost: the figures that `nextclick capacity` reckons with")
    click.echo(machine_line(this_machine()))
    found = costs.measured(broker, 20_000 if quick else 200_000)
    click.echo(f"\nfor nextclick/capacity.py; then run `python -m contracts --write`:\n\n{costs.block(found)}")


def _step(broker: str, quick: bool) -> None:
    click.echo("\na step of 256 users on one thread; the product of their and all items' vectors in float32")
    for n_items in (10_000, 50_000):
        took = model_step.Bench(n_items).step(256, 10 if quick else 50)
        click.echo(
            f"  {n_items:>9,} items: step {took.step_ms:6.1f} ms, product {took.product_ms:6.1f} ms, ratio "
            f"{took.step_ms / took.product_ms:.2f}; a user's state takes {took.state_bytes} bytes"
        )
        click.echo(
            f"    with reasons {took.explained_ms:6.1f} ms, ratio {took.explained_ms / took.step_ms:.2f} to the step; "
            f"a list takes {took.explained_bytes:,.0f} bytes, without {took.list_bytes:,.0f}"
        )


def _rules(broker: str, quick: bool) -> None:
    click.echo(f"\na step of {rules.N_USERS} users on one thread under a shop's rules, beside the same without any")
    for n_items in (10_000, 50_000):
        click.echo(f"  {n_items:,} items")
        for cost in rules.costs(n_items, 5 if quick else 25):
            click.echo(f"    {cost.rule:32} {cost.step_ms:6.1f} ms, ratio {cost.ratio:.2f}")


def _ruled_worker(broker: str, quick: bool) -> None:
    click.echo(
        f"\na worker with {ruled_worker.N_ITEMS:,} items under rules of a shop, beside one without, in turn; "
        "medians of the rounds' ratios"
    )
    speeds: dict[str, list[float]] = defaultdict(list)
    costs: dict[str, list[float]] = defaultdict(list)
    for found in ruled_worker.rounds(broker, 20_000 if quick else 80_000, 1 if quick else 5):
        without = found[ruled_worker.NONE]
        click.echo(f"  without {without.events_per_s:,.0f} clicks/s, {without.cpu_us_per_event:.1f} us CPU")
        for rule, under in found.items():
            speeds[rule].append(under.events_per_s / without.events_per_s)
            costs[rule].append(under.cpu_us_per_event / without.cpu_us_per_event)
    for rule in speeds:
        if rule != ruled_worker.NONE:
            speed, cost = statistics.median(speeds[rule]), statistics.median(costs[rule])
            click.echo(f"  {rule:28} {speed:.3f} of the clicks/s, {cost:.3f} of the CPU")


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
    click.echo(f"\n{found.n_lists:,} lists of a trained model against a full sort of all probabilities in float64")
    click.echo(
        f"  {found.n_same:,} are the same, {found.n_ties:,} differ by ties below float32's resolution, "
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


def _new_items(broker: str, quick: bool) -> None:
    new_items.report("simulated", new_items.simulated(40_000 if quick else 200_000), 0.5, Settings())
    for n_items in (10_000,) if quick else (10_000, 50_000):
        new_items.report_cost(n_items, 10 if quick else 50)


def _learning(broker: str, quick: bool) -> None:
    click.echo(f"\nlearning, the network alone, width {Settings().hidden_size}, {learning.N_ITEMS:,} items")
    for device, clicks_per_s in learning.clicks_per_s(20_000 if quick else 100_000).items():
        click.echo(f"  {device:19} {clicks_per_s:>9,.0f} clicks/s")
    in_parts, whole = learning.parts_against_whole(10_000 if quick else 40_000)
    click.echo(
        f"  the median step on all cores, in turn: {in_parts:,.0f} clicks/s, and {whole:,.0f} where every operation is "
        f"cut among the threads; ratio {in_parts / whole:.1f}"
    )
    table = learning.step_table(10_000 if quick else 40_000)
    click.echo(f"  a step on one core, {sum(table.values()):.1f} ms of CPU time:")
    for name, ms in sorted(table.items(), key=lambda row: -row[1]):
        click.echo(f"    {ms:6.1f} ms  {name}")
    n_clicks = 1_000_000 if quick else 10_000_000
    took = learning.long_log(n_clicks, 100_000)
    click.echo(
        f"  the start on {n_clicks:,} clicks and 100,000 items, of CPU time: counts {took.counts_s:.0f} s, neighbours "
        f"{took.lists_s:.0f} s, vectors {took.vectors_s:.0f} s; {took.memory_mb:,.0f} MB at most"
    )


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


def _formats(broker: str, quick: bool) -> None:
    click.echo(f"\nan update in each format: CPU of a list of {LIST_LENGTH} items, of the rest of it, and its bytes")
    for name, cost in formats.costs(10 if quick else 200).items():
        click.echo(
            f"  {name:11} {cost.list_us:5.2f} + {cost.update_us:4.2f} us, {cost.n_bytes:6,.0f} bytes; "
            f"a list with reasons {cost.explained_us:5.2f} us"
        )
    click.echo(f"\na worker in each format, with a model of {formats.N_ITEMS:,} items")
    for name, result in formats.workers(broker, 5_000 if quick else 60_000):
        click.echo(f"  {name:11} {result.events_per_s:>9,.0f} events/s {result.cpu_us_per_event:9.1f} us CPU")


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


def _feed(broker: str, quick: bool) -> None:
    seconds = 5.0 if quick else 15.0
    click.echo(
        f"\na feed beside a worker with {feed.N_ITEMS:,} items that {feed.CLICKS_PER_S:,.0f} clicks/s come to, all on "
        "this machine"
    )
    with measure.own_topics(broker) as settings, feed.beside_clicks(settings, 12 * seconds + 60.0) as (program, port):
        for row in feed.rows(program, port, seconds):
            found = row.report
            click.echo(
                f"  {row.what:42} {found.per_s:>8,.0f}/s, p50 {found.p50_ms:6.1f} ms, p99 {found.p99_ms:6.1f} ms, max "
                f"{found.max_ms:6.1f} ms, {found.n_failed} failed; feed {row.feed_cores:.2f} cores, load "
                f"{found.cores:.2f}, late {found.late_p99_ms:.1f} ms"
            )
        for n_connections in (64, 1_000):
            most = feed.saturated(port, n_connections, seconds)
            click.echo(
                f"  as many reads as can be, {n_connections:,} connections: "
                + (f"{most.per_s:,.0f}/s, p99 {most.p99_ms:.1f} ms" if most else "not measured, wrk is not installed")
            )


def _metrics(broker: str, quick: bool) -> None:
    click.echo("\nwhat a worker's metrics take of its CPU time, for each click")
    n_clicks = 10_000 if quick else 50_000
    for n_items in (0, metrics.N_ITEMS):
        with measure.own_topics(broker) as settings:
            served = measure.with_bundle(settings, n_items) if n_items else settings
            worker_us = measure.throughput(served, n_clicks, *measure.WORKER).cpu_us_per_event
        for chunk in (16, 256):
            us = metrics.cost_us(chunk, 20 if quick else 100)
            what = f"{n_items:,} items" if n_items else "popularity"
            click.echo(
                f"  {what:12} chunks of {chunk:>3} clicks {us:5.2f} us of {worker_us:6.1f} us: {us / worker_us:5.1%}"
            )
    with measure.own_topics(broker, stamped_by_broker=True) as settings:
        found = metrics.backlog(settings)
    click.echo(
        f"a worker that was paused for 25 s at {metrics.CLICKS_PER_S} clicks/s: p99 of {found.n_updates:,} updates by "
        f"its metrics {found.panel_s:.2f} s, by the topics {found.topics_s:.2f} s, ratio "
        f"{found.panel_s / found.topics_s:.3f}"
    )


# By name on the command line. Each gets the broker's address, and whether a look is enough.
PARTS: dict[str, Callable[[str, bool], None]] = {
    "catalogue": _catalogue,
    "costs": _costs,
    "hot-user": _hot_user,
    "swap": _swap,
    "scale": _scale,
    "shops": _shops,
    "step": _step,
    "rules": _rules,
    "ruled-worker": _ruled_worker,
    "sizes": _sizes,
    "exact": _exact,
    "popularity": _popularity,
    "new-items": _new_items,
    "learning": _learning,
    "trainer": _trainer,
    "failover": _failover,
    "feed": _feed,
    "files": _files,
    "formats": _formats,
    "items": _items,
    "metrics": _metrics,
    "memory": lambda _, quick: shared_bundle.report(quick=quick),
    "gate": lambda _, quick: gate.report(quick=quick),
    "canary": lambda broker, quick: canary.report(broker, quick=quick),
}
WITHOUT_BROKER = {
    "shops",
    "step",
    "rules",
    "sizes",
    "exact",
    "popularity",
    "new-items",
    "learning",
    "files",
    "memory",
    "gate",
}
