"""The command `nextclick backtest`."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from nextclick.rules import rules_in_words, rules_of
from nextclick.setting_sources import given_settings
from nextclick.settings import Settings
from tools.click_files.choices import ClickFile
from tools.options import NumberRange, config_option, parse_assignments, set_option
from training.evaluation.backtest.slice_rule import SliceRule, read_every
from training.evaluation.command_parts import picture, print_tables, read_seeds, require_devices, require_place
from training.evaluation.data_source import log_options

if TYPE_CHECKING:
    from nextclick.ranking_metrics import Ranks
    from training.evaluation.backtest.run import BacktestPlan, Report
    from training.evaluation.backtest.step import Costs
    from training.learning.sequences import ClickColumns, Ints

_USUAL_ROUNDS = 8


def _every(_context: click.Context, _parameter: click.Parameter, text: str | None) -> dict[str, float | int] | None:
    every = None if text is None else read_every(text)
    if text is not None and every is None:
        raise click.BadParameter(f"{text!r} is neither a time, like 6h, 90m or 1d, nor a number of clicks, like 10000")
    return every


@click.command()
@log_options
@click.option(
    "--every",
    metavar="6h|CLICKS",
    callback=_every,
    help="A round every 6h (90m, 1d) of event time, or every so many clicks.",
)
@click.option("--rounds", type=click.IntRange(min=1), help=f"So many rounds of as many clicks each ({_USUAL_ROUNDS}).")
@click.option(
    "--newest-share",
    type=NumberRange(0, 1, min_open=True),
    default=1.0,
    show_default=True,
    help="Only the newest share of the clicks, for less time.",
)
@click.option(
    "--first-share",
    type=NumberRange(0, 1, min_open=True, max_open=True),
    default=0.2,
    show_default=True,
    help="The first bundle learns this share of the clicks; the rounds divide the others.",
)
@click.option(
    "--predictions",
    type=click.IntRange(min=1),
    default=20_000,
    show_default=True,
    help="Of a round, about so many at most; of more, users are drawn, the same for every model.",
)
@click.option("--models", metavar="A,B,...", help="Models to compare (those above).")
@click.option("--seeds", metavar="0,1,...", callback=read_seeds, help="Run networks once with each (setting `seed`).")
@click.option("--preset", metavar="NAME|FILE", help="Take models' parameters from a preset; --set wins.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures and the configuration.")
@click.option(
    "--plot", type=click.Path(path_type=Path), callback=picture, help="Draw quality and time by round: .png, .svg."
)
@config_option
@set_option
def backtest(
    click_file: ClickFile, session_gap_minutes: float, config: Path | None, assignments: tuple[str, ...], **options: Any
) -> None:
    """Live through recorded clicks, round by round, as the trainer would have: what does keeping up to date bring?

    The clicks are taken in their order. Each round, every model learns what came since the last one, and then predicts
    the clicks of the next slice; only then does anybody learn those. A user's click is predicted from all that the user
    clicked before, a first click is not predicted, and an item that a model does not know is a miss for it.

    \b
      frozen       the first bundle, which never learns again
      continual    learns in each round what is new, from the checkpoint of the round before
      anew         trained from nothing in every round, on the trainer's window; what the others are compared with
      popularity   the most clicked items of the window; association, session-knn and all other counting models of
                   nextclick evaluate count the window anew, too

    Shown are the figures of the last third of the rounds, the difference to anew with its 95% interval and its p
    (bootstrap over users, paired), and what a round costs to learn: compare CPU seconds, if the machine has other work.
    Every step is a process of its own, with the same threads. docs/evaluation.md explains the tables.

    DATA is any file that `nextclick replay` reads; `nextclick simulate --to FILE` writes one with a known drift.

    \b
      nextclick backtest clicks.csv.gz --every 6h
      nextclick backtest sequences.csv.gz --where split=train --every 50000 --models frozen,anew,popularity
      nextclick backtest clicks.csv.gz --rounds 8 --seeds 0,1,2 --json out.json --plot rounds.svg
    """
    from training.evaluation.backtest.methods import METHODS, USUAL_METHODS
    from training.evaluation.backtest.run import BacktestPlan
    from training.evaluation.models import model_names
    from training.evaluation.presets import load_preset, without_settings

    given = given_settings(os.environ, parse_assignments(assignments), config)
    settings = Settings.of(given)
    presets = without_settings(load_preset(options["preset"]), set(given)) if options["preset"] else {}
    if options["every"] and options["rounds"]:
        raise click.UsageError("--every and --rounds exclude each other; choose one of them")
    names = model_names(options["models"], METHODS) if options["models"] else USUAL_METHODS
    plan = BacktestPlan(names, options["seeds"] or [settings.seed], settings, presets, options["predictions"])
    if ruled := rules_in_words(rules_of(settings)):
        click.echo(f"{' and '.join(ruled)}: not followed; a backtest compares rankings without rules", err=True)
    every = options["every"] or {"rounds": options["rounds"] or _USUAL_ROUNDS}
    rule = SliceRule(**every, newest_share=options["newest_share"], first_share=options["first_share"])
    _check_before_work(plan, options)
    _run(click_file, session_gap_minutes, rule, plan, options)


def _check_before_work(plan: "BacktestPlan", options: dict[str, Any]) -> None:
    from training.evaluation.report import require_matplotlib

    for option, path in {"--json": options["json_file"], "--plot": options["plot"]}.items():
        if path is not None:
            require_place(option, path)
    if options["plot"]:
        require_matplotlib()
    require_devices(plan.parameters())


def _run(
    click_file: ClickFile, session_gap_minutes: float, rule: SliceRule, plan: "BacktestPlan", options: dict[str, Any]
) -> None:
    from dataclasses import asdict

    from tools.click_files.read import read_clicks
    from training.evaluation.backtest.figures import summarise_rounds
    from training.evaluation.backtest.report import backtest_document, plot_rounds, rounds_table, summary_table
    from training.evaluation.backtest.run import run_backtest
    from training.evaluation.backtest.slices import log_of, newest_clicks, slice_borders
    from training.evaluation.report import write_json
    from training.learning.comparison import N_RESAMPLES

    recorded = read_clicks(click_file)
    has_times = recorded.timestamp_ms is not None
    log = newest_clicks(log_of(recorded, session_gap_minutes), rule.newest_share)
    borders = slice_borders(log, has_times, rule)
    title = f"{click_file.path.name}: {_sizes(log, borders)}"
    click.echo(title, err=True)
    with _cleaning_up_at_sigterm():
        rounds = run_backtest(plan, log, borders, _reporter(len(borders) - 1))
    summary = summarise_rounds(rounds, plan.settings.seed)
    print_tables(rounds_table(summary, rounds, has_times), summary_table(summary, title))
    if options["json_file"]:
        configuration = {
            "data": {"file": asdict(click_file) | {"path": str(click_file.path)}, "clicks": len(log.item_index)},
            "session_gap_minutes": session_gap_minutes,
            "slices": asdict(rule),
            "seeds": plan.seeds,
            "bootstrap": {"resamples": N_RESAMPLES, "seed": plan.settings.seed},
            "parameters": plan.parameters(),
            "window": {name: getattr(plan.settings, name) for name in ("recent_window_clicks", "replay_share")},
        }
        write_json(options["json_file"], backtest_document(summary, rounds, configuration))
    if options["plot"]:
        plot_rounds(summary, rounds, has_times, click_file.path.name, options["plot"])


@contextmanager
def _cleaning_up_at_sigterm() -> Iterator[None]:
    """Let SIGTERM end the program as Ctrl-C does: what is on disk goes, and so does the process that learns."""

    def end(_number: int, _frame: object) -> NoReturn:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _sizes(log: "ClickColumns", borders: "Ints") -> str:
    import numpy as np

    n_users, n_items = len(np.unique(log.user)), len(np.unique(log.item_index))
    return (
        f"{len(log.item_index):,} clicks of {n_users:,} users on {n_items:,} items; "
        f"the first bundle learns {borders[0]:,}, then {len(borders) - 1} rounds"
    )


def _reporter(n_rounds: int) -> "Report":
    def report(number: int, method: str, seed: int, ranks: "Ranks", costs: "Costs") -> None:
        from nextclick.ranking_metrics import mrr_at, recall_at

        click.echo(
            f"round {number + 1} of {n_rounds}, {method}, seed {seed}: Recall@20 {recall_at(ranks, 20):.3f}, MRR@20 "
            f"{mrr_at(ranks, 20):.3f} of {len(ranks):,} predictions; learnt in {costs.cpu_s:.1f} s of CPU, "
            f"{costs.wall_s:.1f} s, {costs.peak_bytes / 2**20:,.0f} MiB",
            err=True,
        )

    return report
