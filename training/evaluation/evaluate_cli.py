"""The command `nextclick evaluate`."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nextclick.setting_sources import given_settings
from nextclick.settings import Settings
from tools.options import NumberRange, config_option, parse_assignments, set_option
from training.evaluation.command_parts import picture, print_tables, read_seeds, require_devices, require_place
from training.evaluation.data_source import data_options

if TYPE_CHECKING:
    from training.evaluation.data_source import DataSource
    from training.evaluation.models import Parameters
    from training.evaluation.offline_data import OfflineData
    from training.evaluation.recommender import Recommender
    from training.evaluation.runs import Outcome, Plan


_NOT_OF_TUNE = ("json_file", "plot", "by_history", "seeds", "save_bundle", "save_test", "validation")


@click.command()
@data_options
@click.option("--models", metavar="A,B,...", help="Models to compare (the usual ones); with --tune, to tune (network).")
@click.option(
    "--seeds", metavar="0,1,...", callback=read_seeds, help="Run the network once with each (setting `seed`)."
)
@click.option("--preset", metavar="NAME|FILE", help="Take models' parameters from a preset; --set wins.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Write all figures and the configuration.")
@click.option("--plot", type=click.Path(path_type=Path), callback=picture, help="Draw recall by position: .png, .svg.")
@click.option("--by-history", is_flag=True, help="Print a second table: by the clicks of the session before.")
@click.option(
    "--save-bundle", type=click.Path(path_type=Path), metavar="FOLDER", help="Write the network there as a bundle."
)
@click.option(
    "--save-test", type=click.Path(path_type=Path), metavar="FILE", help="Write the test clicks, for nextclick replay."
)
@click.option(
    "--validation", is_flag=True, help="Compare on the newest part of the training clicks; leave the test part alone."
)
@click.option("--tune", is_flag=True, help="Search parameters on a part of the training clicks, and write a preset.")
@click.option("--trials", type=click.IntRange(min=1), default=50, show_default=True, help="Of --tune, per model.")
@click.option(
    "--tune-minutes",
    type=NumberRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="After this time --tune begins no trial of a model any more.",
)
@click.option(
    "--preset-out", metavar="FILE", help="Where --tune writes (training/evaluation/presets/<name of DATA>.toml)."
)
@config_option
@set_option
def evaluate(
    source: "DataSource", config: Path | None, assignments: tuple[str, ...], tune: bool, **options: Any
) -> None:
    """Train models on recorded clicks and compare them on later ones, all in one table.

    Every click of a test session but the first is predicted from those before it, among all items. Hyper-parameters
    are chosen on the training clicks alone: --tune never looks at the test part. docs/evaluation.md explains the table.

    DATA is any file that `nextclick replay` reads (CSV with any separator, JSON lines, Parquet, data sets as they are
    published, plain or packed), or the folder of a data set.

    \b
      nextclick evaluate clicks.csv.gz --test-hours 24
      nextclick evaluate ratings.dat --models popularity,neighbours
      nextclick evaluate data.csv --no-header --user 1 --item 2 --time 5 --session-gap-minutes 30
      nextclick evaluate topic.jsonl --user visitor.id --item product.sku --events view
    """
    from training.evaluation.presets import load_preset, without_settings

    given = given_settings(os.environ, parse_assignments(assignments), config)
    settings = Settings.of(given)
    presets = without_settings(load_preset(options["preset"]), set(given)) if options["preset"] else {}
    if tune:
        if any(options[name] for name in _NOT_OF_TUNE):
            raise click.UsageError(
                "--tune compares no models: use it without --json, --plot, --by-history, --seeds, --save-bundle, "
                "--save-test and --validation"
            )
        _tune(source, settings, presets, options)
    else:
        _compare(source, settings, presets, options)


def _compare(
    source: "DataSource", settings: Settings, presets: "dict[str, Parameters]", options: dict[str, Any]
) -> None:
    from training.evaluation.export import save_test_clicks
    from training.evaluation.figures import summarise
    from training.evaluation.models import USUAL_MODELS, model_names
    from training.evaluation.offline_data import read_offline_data, validation_split
    from training.evaluation.report import document, history_table, plot_recall_by_position, table, write_json
    from training.evaluation.runs import Plan, run_models
    from training.evaluation.shop_rules import left_aside, rules_followed
    from training.learning.comparison import N_RESAMPLES

    names = model_names(options["models"]) if options["models"] else USUAL_MODELS
    plan = Plan(names, options["seeds"] or [settings.seed], settings, presets)
    _check_before_work(plan, options)
    require_devices(plan.parameters())
    data = read_offline_data(source)
    if options["validation"]:
        data = validation_split(data)
    rules = rules_followed(settings)
    under = "".join(f", {name}={value}" for name, value in rules.items())
    title = f"{source.file.path.name}: {_sizes(data)}{under}"
    click.echo(title, err=True)
    for name in left_aside(settings):
        click.echo(f"{name} is not followed: an evaluation knows neither categories nor what was shown", err=True)
    if options["save_test"]:
        save_test_clicks(options["save_test"], data)
    report = _saving_network(options["save_bundle"], data) if options["save_bundle"] else _report
    summary = summarise(run_models(plan, data, report), data, settings.seed)
    print_tables(table(summary, title), *([history_table(summary)] if options["by_history"] else []))
    if options["json_file"]:
        configuration = {
            "data": _described(source, data),
            "validation": options["validation"],
            "seeds": plan.seeds,
            "rules": rules,
            "bootstrap": {"resamples": N_RESAMPLES, "seed": settings.seed},
            "parameters": plan.parameters(),
        }
        write_json(options["json_file"], document(summary, configuration))
    if options["plot"]:
        plot_recall_by_position(summary, source.file.path.name, options["plot"])


def _tune(source: "DataSource", settings: Settings, presets: "dict[str, Parameters]", options: dict[str, Any]) -> None:
    from training.evaluation.models import model_names
    from training.evaluation.offline_data import read_offline_data, validation_split
    from training.evaluation.presets import FOLDER, load_preset, make_place, save_preset
    from training.evaluation.runs import Plan
    from training.evaluation.tune import Limits, require_search, tune

    names = model_names(options["models"] or "network")
    require_search(names, presets, settings)
    name_of_data = source.file.path.name.split(".")[0]
    out = Path(options["preset_out"] or FOLDER / f"{name_of_data}.toml")
    if out.suffix != ".toml":
        raise click.BadParameter(f"{str(out)!r} does not end with .toml", param_hint="--preset-out")
    found = load_preset(str(out)) if out.exists() else {}
    require_devices(Plan(names, [settings.seed], settings, presets).parameters())
    make_place(out)
    validation = validation_split(read_offline_data(source))
    click.echo(f"validation part of {source.file.path.name}: {_sizes(validation)}", err=True)
    comments = [f"Found by nextclick evaluate --tune, with seed {settings.seed}, for {name_of_data}:"]
    limits = Limits(options["trials"], options["tune_minutes"])
    for name in names:
        comment = ""
        for so_far in tune(name, presets.get(name, {}), settings, validation, limits):
            first, last, best = so_far.first, so_far.last, so_far.best
            click.echo(
                f"{name}, trial {so_far.n_trials}: Recall@20 {last.recall:.4f}, MRR@20 {last.mrr:.4f}; "
                f"best so far {best.recall:.4f}, {best.mrr:.4f}",
                err=True,
            )
            comment = (
                f"{name}: Recall@20 {best.recall:.4f}, MRR@20 {best.mrr:.4f} after {so_far.n_trials} trials on the "
                f"validation part; {first.recall:.4f}, {first.mrr:.4f} before."
            )
            # After every trial: who ends a long search keeps what it has found.
            found[name] = best.parameters
            save_preset(out, "\n".join([*comments, comment]), found)
        comments.append(comment)
        click.echo(comment)
    click.echo(f"written: {out}; use it with --preset {out}")


def _report(title: str, _trained: "Recommender", outcome: "Outcome") -> None:
    from nextclick.ranking_metrics import mrr_at, recall_at

    recall, mrr = recall_at(outcome.rank, 20), mrr_at(outcome.rank, 20)
    click.echo(
        f"{title}: Recall@20 {recall:.3f}, MRR@20 {mrr:.3f}, trained in {outcome.fit_s:.1f} s, "
        f"{len(outcome.rank):,} predictions in {outcome.predict_s:.1f} s",
        err=True,
    )


def _saving_network(store: Path, data: "OfflineData") -> Callable[[str, "Recommender", "Outcome"], None]:
    from training.evaluation.export import save_network
    from training.evaluation.network_recommender import NetworkRecommender

    def report(title: str, trained: "Recommender", outcome: "Outcome") -> None:
        _report(title, trained, outcome)
        if isinstance(trained, NetworkRecommender):
            folder = save_network(store, trained, data, outcome)
            click.echo(f"written: {folder}; serve it with nextclick stream --set bundle={folder}", err=True)

    return report


def _sizes(data: "OfflineData") -> str:
    n_sessions = len(data.test.user_starts) - 1
    return (
        f"{len(data.train):,} training clicks in {len(data.train.user_starts) - 1:,} sessions, {data.n_items:,} items; "
        f"{len(data.test) - n_sessions:,} predictions in {n_sessions:,} test sessions"
    )


def _described(source: "DataSource", data: "OfflineData") -> dict[str, Any]:
    sizes = {
        "training_clicks": len(data.train),
        "training_sessions": len(data.train.user_starts) - 1,
        "test_clicks": len(data.test),
        "test_sessions": len(data.test.user_starts) - 1,
        "items": data.n_items,
    }
    return {**source.configuration(), "sizes": sizes}


def _check_before_work(plan: "Plan", options: dict[str, Any]) -> None:
    """See that what is asked for can be written, before hours of work."""
    from training.evaluation.report import require_matplotlib

    if options["save_bundle"] and ("network" not in plan.names or len(plan.seeds) > 1):
        raise click.UsageError("--save-bundle writes one network: name network among --models, and give one seed")
    for option, path in {
        "--json": options["json_file"],
        "--plot": options["plot"],
        "--save-bundle": options["save_bundle"],
        "--save-test": options["save_test"],
    }.items():
        if path is not None:
            require_place(option, path)
    if options["plot"]:
        require_matplotlib()
