"""The options that name a data set and its split: what is usual for a format, and what the user chose instead."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from training.evaluation.data_source import OTHER_RULE, USUAL_EVENTS, USUAL_RULES, DataSource, data_options

RETAILROCKET = "timestamp,visitorid,event,itemid,transactionid\n1433221332117,1,view,2,\n"


@click.command()
@click.option("--seed", default=0)
@data_options
def show(source: DataSource, seed: int) -> None:
    """Show what was asked for."""
    click.echo(json.dumps(source.configuration() | {"seed": seed}))


def test_a_format_brings_its_usual_rule(tmp_path: Path) -> None:
    """Without a word from the user."""
    shown = _shown(tmp_path, RETAILROCKET, "--seed", "3")

    assert shown["split"] == {
        "test_where": {},
        "test_hours": 168,
        "test_share": None,
        "session_gap_minutes": 30,
        "train_share": 1,
    }
    assert shown["file"]["file_format"] == "retailrocket"
    assert shown["file"]["choices"]["events"] == "view"
    assert shown["file"]["path"] == str(tmp_path / "clicks")
    assert shown["seed"] == 3


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        (["--test-hours", "5"], {"test_hours": 5}),
        (["--test-share", "0.2"], {"test_hours": None, "test_share": 0.2}),
        (
            ["--test-where", "event=view", "--test-where", "itemid=2"],
            {"test_hours": None, "test_where": {"event": "view", "itemid": "2"}},
        ),
        (["--session-gap-minutes", "0"], {"session_gap_minutes": 0}),
        (["--train-share", "0.25"], {"train_share": 0.25}),
    ],
)
def test_what_the_user_says_replaces_it(tmp_path: Path, options: list[str], changed: dict[str, object]) -> None:
    """And nothing else changes."""
    usual = _shown(tmp_path, RETAILROCKET)["split"]

    assert _shown(tmp_path, RETAILROCKET, *options)["split"] == usual | changed


def test_the_file_options_reach_the_file(tmp_path: Path) -> None:
    """Those that `nextclick replay` has too."""
    options = ["--user", "who", "--item", "what", "--time", "", "--where", "shop=x", "--format", "csv"]
    more = ["--events", "view,fav:like", "--no-header", "--separator", "\\t", "--no-quotes", "--skip-bad"]

    file = _shown(tmp_path, RETAILROCKET, *options, *more)["file"]

    assert file["file_format"] == "csv"
    assert file["choices"] == {
        "user": "who",
        "item": "what",
        "time": "",
        "event": None,
        "events": "view,fav:like",
        "where": {"shop": "x"},
        "separator": "\t",
        "has_header": False,
        "has_quotes": False,
        "skip_bad": True,
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--test-hours", "5", "--test-share", "0.1"],
            "--test-where, --test-hours and --test-share exclude each other",
        ),
        (["--test-where", "split"], "expected column=value, found 'split'"),
        (["--test-share", "1"], "--test-share"),
        (["--test-hours", "0"], "--test-hours"),
        (["--train-share", "0"], "--train-share"),
        (["--test-share", "nan"], "'nan' is not a number"),
        (["--test-hours", "nan"], "'nan' is not a number"),
        (["--train-share", "nan"], "'nan' is not a number"),
        (["--session-gap-minutes", "nan"], "'nan' is not a number"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    """Before anything is read."""
    result = _run(tmp_path, RETAILROCKET, *options)

    assert result.exit_code == 2
    assert message in result.output


def test_help_tells_what_is_usual() -> None:
    """The figures in the help are those of the rules."""
    text = " ".join(CliRunner().invoke(show, ["--help"]).output.split())

    weekly = ", ".join(name for name, rule in USUAL_RULES.items() if rule.test_hours == 168)
    viewed = list(USUAL_EVENTS)
    cut = {name: rule.session_gap_minutes for name, rule in USUAL_RULES.items() if rule.session_gap_minutes}
    shares = {rule.test_share for rule in USUAL_RULES.values() if rule.test_share}
    assert f"({OTHER_RULE.test_hours:g}; {weekly}: 168)" in text
    assert f"evaluate: view for {', '.join(viewed[:-1])} and {viewed[-1]})" in text
    assert cut == {"retailrocket": 30}
    assert "(0; retailrocket: 30)" in text
    assert shares == {0.1}
    assert USUAL_RULES["movielens"].test_share == 0.1
    assert "(movielens and others with whole users: 0.1)" in text


def _run(folder: Path, content: str, *options: str) -> Result:
    path = folder / "clicks"
    path.write_text(content)
    return CliRunner().invoke(show, [str(path), *options])


def _shown(folder: Path, content: str, *options: str) -> dict[str, dict[str, object]]:
    result = _run(folder, content, *options)
    assert result.exit_code == 0, result.output
    shown: dict[str, dict[str, object]] = json.loads(result.output)
    return shown
