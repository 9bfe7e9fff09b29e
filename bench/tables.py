"""Figures as tables in Markdown, for the screen and for docs/benchmarks.md. Pure."""

import statistics
from collections.abc import Callable, Iterable, Sequence

from bench.contestants import PLAIN_LOOP, WORKER
from bench.figures import Comparison, Machine, ProgramFigures, WorkerAtRates
from bench.steady import Steady

LATE_MS = 10.0  # a load whose bursts leave later than that is part of what it measures
SHARES = (10, 50, 80)  # of a program's own capacity, in %


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Give a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def compare_table(comparison: Comparison) -> str:
    """Give throughput, costs and latency of all programs that ran, and why the others did not."""
    header = ["program", "events/s", "CPU per click", "memory", *(f"at {share}%" for share in SHARES)]
    ran = [each for each in comparison.programs if not each.not_run]
    table = markdown(header, [_compare_row(each) for each in ran])
    return "\n".join([table, *_not_run(comparison)])


def ratio_table(comparison: Comparison) -> str:
    """Give the worker's throughput against each program's with the same model or none, round by round."""
    by_name = {each.name: each for each in comparison.programs}
    rows = []
    for worker_name, suffix in ((WORKER, ""), (f"{WORKER}, model", ", model")):
        worker = by_name.get(worker_name)
        for other in comparison.programs:
            if worker is None or worker.not_run or other.not_run or other is worker or other.n_items != worker.n_items:
                continue
            ratios = _ratios(worker, other)
            name = other.name.removesuffix(suffix)
            rows.append(
                [
                    f"{'with' if suffix else 'without'} a model: {name}",
                    f"{statistics.median(ratios):.2f}",
                    f"{min(ratios):.2f} to {max(ratios):.2f}",
                ]
            )
    return markdown(["the worker against", "median", "rounds"], rows)


def load_table(comparison: Comparison) -> str:
    """Give what load and watcher used beside each program, at the highest rate that was sent."""
    rows = []
    for each in comparison.programs:
        if each.not_run or not each.rates:
            continue
        share = max(each.rates)
        results = each.rates[share]
        rows.append(
            [
                each.name,
                f"{_median(results, lambda result: result.events_per_s):,.0f} ({share}%)",
                f"{_median(results, lambda result: result.load.cores):.2f}",
                f"{_median(results, lambda result: result.load.late_p99_ms):.1f} ms",
                f"{_median(results, lambda result: result.load.broker_p50_ms):.1f} ms",
                f"{statistics.median(round_.watcher_cores for round_ in each.throughput):.3f}",
            ]
        )
    header = ["beside", "clicks/s", "cores of the load", "bursts late, p99", "in the broker after, p50"]
    return markdown([*header, "cores of the watcher of a backlog"], rows)


def steady_table(found: Sequence[WorkerAtRates]) -> str:
    """Give the worker at given rates."""
    rows = [
        [
            f"{each.n_items:,} items" if each.n_items else "none",
            f"{result.events_per_s:,.0f}",
            *_waits(result),
            f"{result.cores:.2f}" if result.cores >= 0.1 else f"{result.cores:.3f}",
            f"{result.max_rss_bytes / 1e6:,.0f} MB",
            f"{result.load.cores:.2f}",
            f"{result.load.late_p99_ms:.1f} ms",
            f"{result.machine_cores:.2f}",
        ]
        for each in found
        for result in each.rates
    ]
    header = ["model", "clicks/s", "p50", "p99", "longest", "cores", "memory", "cores of the load"]
    return markdown([*header, "bursts late, p99", "cores busy on the machine"], rows)


def machine_line(machine: Machine) -> str:
    """Say where figures were taken, and of what."""
    versions = ", ".join(f"{name} {number}" for name, number in machine.versions.items())
    return (
        f"Taken on {machine.taken_at} (UTC) at commit {machine.commit}, on {machine.n_cores} cores of "
        f"{machine.processor} with {machine.memory_gb:.0f} GB, which program, broker and load share; load average "
        f"before: {machine.load_before:.1f}. {versions}."
    )


def ratio(comparison: Comparison, name: str, other: str) -> float | None:
    """Give the median of two programs' ratios of events/s, round by round; None where one has no figures."""
    by_name = {each.name: each for each in comparison.programs if not each.not_run}
    if name not in by_name or other not in by_name:
        return None
    return statistics.median(_ratios(by_name[name], by_name[other]))


def targets(comparison: Comparison) -> str:
    """Give the two ratios that the worker is held to."""
    lines = []
    for suffix, least in (("", 1.0), (", model", 0.95)):
        found = ratio(comparison, WORKER + suffix, PLAIN_LOOP + suffix)
        if found is not None:
            model = "with a model" if suffix else "without a model"
            lines.append(f"Worker against the plain loop {model}: {found:.2f} (wanted: {least:.2f} or more).")
    return "\n".join(lines)


def _ratios(one: ProgramFigures, other: ProgramFigures) -> list[float]:
    rounds = zip(one.throughput, other.throughput, strict=True)
    return [ours.events_per_s / theirs.events_per_s for ours, theirs in rounds]


def _compare_row(figures: ProgramFigures) -> list[str]:
    rounds = figures.throughput
    held = [result for each in figures.rates.values() for result in each if result.keeps_up]
    lost = sum(each.n_unanswered for each in rounds) + sum(each.n_unanswered for each in held)
    return [
        f"{figures.name} (clicks never answered: {lost:,})" if lost else figures.name,
        f"{statistics.median(each.events_per_s for each in rounds):,.0f}",
        f"{statistics.median(each.cpu_us_per_event for each in rounds):,.1f} us",
        f"{statistics.median(each.max_rss_bytes for each in rounds) / 1e6:,.0f} MB",
        *(_share_cell(figures.rates.get(share, [])) for share in SHARES),
    ]


def _share_cell(results: Sequence[Steady]) -> str:
    """Give p50 and p99 of a rate, or that a program cannot hold it, with a word where the load was late."""
    if not results or not all(result.keeps_up for result in results):
        return "not held"
    p50_ms = _median(results, lambda result: result.latency.p50_ms)
    p99_ms = _median(results, lambda result: result.latency.p99_ms)
    late_ms = _median(results, lambda result: result.load.late_p99_ms)
    return f"{p50_ms:,.0f} / {p99_ms:,.0f} ms{' (load late)' if late_ms > LATE_MS else ''}"


def _waits(result: Steady) -> list[str]:
    if not result.keeps_up:
        return ["not held"] * 3
    latency = result.latency
    return [f"{value:,.0f} ms" for value in (latency.p50_ms, latency.p99_ms, latency.max_ms)]


def _not_run(comparison: Comparison) -> list[str]:
    lines: list[str] = []
    for each in comparison.programs:
        if each.not_run:
            first, *rest = each.not_run.splitlines()
            lines += ["", f"{each.name} was not run: {first}", *(["", "```", *rest, "```"] if rest else [])]
    return lines


def _median(results: Sequence[Steady], figure: Callable[[Steady], float]) -> float:
    return statistics.median(figure(result) for result in results)
