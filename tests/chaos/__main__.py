"""`make chaos`: kills, pauses and starves workers and broker while clicks flow, and judges what is in the topics."""

import dataclasses
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

from demo.children import Child
from tests.chaos.broken_worker import MECHANISMS
from tests.chaos.broken_worker import broken as broken_worker
from tests.chaos.report import Report
from tests.chaos.run import PARTITIONS, Plan, Result, run
from tests.chaos.schedule import FULL, SESSION_TIMEOUT_S, SHORT, Amounts, make_schedule

CLICKS, SECONDS = 50_000, 200.0
SHORT_CLICKS, SHORT_SECONDS = 6_000, 30.0


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--seed", "seeds", type=int, multiple=True, help="Run this seed; may be repeated. [default: 1]")
@click.option("--seeds", "seed_list", metavar="N,N,...", default="", help="Run these seeds, one after another.")
@click.option("--short", is_flag=True, help="The short schedule that CI runs.")
@click.option("--clicks", type=click.IntRange(1), help=f"Valid clicks to send. [default: {CLICKS:,}]")
@click.option("--seconds", type=click.FloatRange(1), help=f"Time over which they are sent. [default: {SECONDS:.0f}]")
@click.option("--schedule", "only_print", is_flag=True, help="Print the schedule of each seed and do nothing.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the figures here.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep logs and data in this folder.")
@click.option("--broken", type=click.Choice(list(MECHANISMS)), help="Switch a mechanism off, to see the run fail.")
@click.option("--port", default=0, help="Port of the broker. [default: a free one]")
def chaos(
    seeds: tuple[int, ...],
    seed_list: str,
    short: bool,
    clicks: int | None,
    seconds: float | None,
    only_print: bool,
    json_file: Path | None,
    keep: Path | None,
    broken: str | None,
    port: int,
) -> None:
    """Kill, pause and starve workers and broker on a seeded schedule while clicks flow; then judge the topics.

    Exit status 1 if anything was lost, doubled, unanswered, out of order or else not as it must be. A seed that failed
    is run again alone with `--seed N`: the same steps at the same times, though processes are never quite as fast.
    """
    try:
        chosen = [*seeds, *(int(seed) for seed in seed_list.split(",") if seed)] or [1]
    except ValueError:
        raise click.BadParameter("expected whole numbers with commas", param_hint="--seeds") from None
    clicks = clicks or (SHORT_CLICKS if short else CLICKS)
    seconds = seconds or (SHORT_SECONDS if short else SECONDS)
    amounts = SHORT if short else FULL
    start_child = broken_worker(broken) if broken else Child
    results: dict[int, Result] = {}
    for seed in chosen:
        plan = Plan(seed, clicks, seconds, make_schedule(seed, seconds, amounts), start_child)
        if only_print:
            click.echo("\n".join([f"seed {seed}", *(f"{step.at_s:7.1f} s  {step}" for step in plan.steps)]))
            continue
        results[seed] = _run(plan, keep, port)
        if json_file is not None:
            json_file.write_text(json.dumps(_as_json(results, clicks, seconds, amounts), indent=2) + "\n")
    if results:
        _print_table(results)
    sys.exit(any(result.problems for result in results.values()))


def _run(plan: Plan, keep: Path | None, port: int) -> Result:
    click.echo(f"seed {plan.seed}: {plan.clicks:,} clicks in {plan.seconds:.0f} s, {len(plan.steps)} steps")
    with tempfile.TemporaryDirectory(prefix="nextclick-chaos-") as temporary:
        folder = (keep or Path(temporary)) / f"seed-{plan.seed}"
        folder.mkdir(parents=True)
        return run(plan, folder, click.echo, port)


def _print_table(results: dict[int, Result]) -> None:
    rows: list[tuple[str, list[Any]]] = [("seed", list(results))]
    reports = [result.report for result in results.values()]
    for field in dataclasses.fields(Report):
        if field.type == "int" or field.type is int:
            rows.append((field.name.replace("_", " "), [getattr(report, field.name) for report in reports]))
    for name in ("kills", "terms"):
        rows.append((name, [getattr(result, name) for result in results.values()]))
    rows.append(("slow stops", [len(result.slow_stops) for result in results.values()]))
    rows.append(("ended by themselves", [len(result.exits) for result in results.values()]))
    rows.append(("bad stops", [len(result.bad_stops) for result in results.values()]))
    rows.append(("repartition runs", [result.repartitions[0] for result in results.values()]))
    rows.append(("of them killed", [result.repartitions[1] for result in results.values()]))
    rows.append(("leaderless s", [result.leaderless_s for result in results.values()]))
    rows.append(("lists of the canary", [result.of_canary for result in results.values()]))
    rows.append(("seconds", [result.wall_s for result in results.values()]))
    rows.append(("verdict", ["BAD" if result.problems else "good" for result in results.values()]))
    click.echo()
    for name, values in rows:
        click.echo(
            f"{name:20}" + "".join(f"{value:>12,}" if isinstance(value, int) else f"{value:>12}" for value in values)
        )
    for seed, result in results.items():
        for problem in result.problems:
            click.echo(f"seed {seed}: {problem}")


def _as_json(results: dict[int, Result], clicks: int, seconds: float, amounts: Amounts) -> dict[str, Any]:
    return {
        "configuration": {
            "clicks": clicks,
            "seconds": seconds,
            "partitions": PARTITIONS,
            "session_timeout_s": SESSION_TIMEOUT_S,
            "episodes": amounts._asdict(),
            "python": platform.python_version(),
            "machine": platform.platform(),
        },
        "runs": [
            {
                "seed": seed,
                "problems": result.problems,
                "violations": result.report.violations,
                "report": result.report.as_dict(),
                "kills": result.kills,
                "terms": result.terms,
                "slow_stops": [dataclasses.asdict(ended) for ended in result.slow_stops],
                "actions": dict(result.done),
                "exits": [dataclasses.asdict(ended) for ended in result.exits],
                "bad_stops": [dataclasses.asdict(ended) for ended in result.bad_stops],
                "repartitions": dict(zip(("runs", "killed"), result.repartitions, strict=True)),
                "leaderless_s": result.leaderless_s,
                "of_canary": result.of_canary,
                "wall_s": result.wall_s,
            }
            for seed, result in results.items()
        ],
    }


if __name__ == "__main__":
    chaos()
