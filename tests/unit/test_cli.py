"""The command line as a user meets it: help at once, mistakes in one line, a status that says so."""

import json
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cli.main import COMMANDS
from nextclick.settings import Settings

# `main` as the console script runs it; at the end it tells which heavy modules were loaded.
_PROGRAM = """
import json, sys
from cli.main import main
sys.argv[0] = "nextclick"
heavy = {"torch", "faust", "mode", "aiokafka", "confluent_kafka", "pyarrow", "numpy", "rich", "jgo"}
try:
    main()
finally:
    if len(sys.argv) > 1 and sys.argv[-1] == "--help":
        print(json.dumps(sorted(heavy & set(sys.modules))))
"""
HELP_CPU_S = 0.7


@pytest.mark.parametrize("arguments", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "-")
def test_help_is_instant(arguments: list[str]) -> None:
    """No command loads what only its run needs. CPU time, because a busy machine must not fail the test."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = _nextclick(*arguments, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)

    text, heavy = done.stdout.rsplit("\n", 2)[:2]
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert done.returncode == 0, done.stderr
    assert text.startswith("Usage: nextclick")
    assert json.loads(heavy) == []
    assert cpu_s < HELP_CPU_S


def test_help_names_every_command() -> None:
    """From one table, without importing any of them."""
    done = _nextclick("--help")

    for name, (_, help_text) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(help_text[:40])}", done.stdout, re.MULTILINE)


def test_every_setting_is_listed() -> None:
    """In the order of the programs; nothing is marked where nothing was set."""
    done = _nextclick("settings")

    assert done.returncode == 0
    assert re.findall(r"^(\w+) = ", done.stdout, re.MULTILINE) == [name for name, *_ in Settings.describe()]
    assert "* from" not in done.stdout


def test_settings_in_force_say_where_they_come_from(tmp_path: Path) -> None:
    """Each way to give one has its own name, and the last one that gives it counts."""
    file = tmp_path / "shop.toml"
    file.write_text('partitions = 8\napp = "from-file"\nstall_s = 5\ncell = "lstm"')
    environment = {"NEXTCLICK_APP": "from-variable", "NEXTCLICK_STALL_S": "6", "NEXTCLICK_WORKER_PORT": "tcp://[::1]:1"}
    arguments = ["settings", "--config", str(file), "--set", "stall_s=7", "--broker", "kafka:9092"]

    text = _nextclick(*arguments, environment=environment).stdout
    rows = json.loads(_nextclick(*arguments, "--json", environment=environment).stdout)

    given = {row["name"]: (row["value"], row["source"], row["where"]) for row in rows if row["source"] != "default"}
    assert given == {
        "partitions": (8, "file", str(file)),
        "cell": ("lstm", "file", str(file)),
        "app": ("from-variable", "environment", "NEXTCLICK_APP"),
        "stall_s": (7.0, "command line", "--set"),
        "broker": ("kafka:9092", "command line", "--broker"),
    }
    assert {row["program"] for row in rows} == {"broker", "application", "clicks", "worker", "trainer", "feed"}
    assert f"partitions = 8  * from {file}; default: 4\n" in text
    assert len(re.findall(r"^\w+ = .*  \* from ", text, re.MULTILINE)) == len(given)


def test_settings_names_everything_that_is_wrong_and_lists_all_the_same() -> None:
    """Who is told to look there must be able to."""
    done = _nextclick("settings", "--set", "partition=8", "--set", "cell=x", "--set", "clicks_topic=models")

    assert done.returncode == 1
    assert "partitions = 4\n" in done.stdout
    assert "clicks_topic = models  * from --set" in done.stdout
    unknown, wrong, together = done.stderr.splitlines()
    assert "there is no setting 'partition' (did you mean 'partitions'?)" in unknown
    assert "setting cell cannot be 'x'" in wrong
    assert "must be five different topics" in together
    assert "has an empty part" in _nextclick("settings", "--set", "user_field=a..b").stderr


@pytest.mark.parametrize(
    "command", ["stream", "train", "topics", "repartition", "send", "simulate", "replay", "feed", "demo", "evaluate"]
)
def test_a_settings_file_reaches_every_command(command: str, tmp_path: Path) -> None:
    """Seen by what is refused, with the file and the key."""
    file, clicks = tmp_path / "shop.toml", tmp_path / "clicks.csv"
    file.write_text("partitions = 0")
    clicks.write_text("user_id,item_id\nu,i\n")
    arguments = {"send": ["u", "i"], "replay": [str(clicks)], "evaluate": [str(clicks)]}.get(command, [])

    done = _nextclick(command, *arguments, "--config", str(file))

    wrong = "setting partitions cannot be 0: it takes a whole number from 1 to 10,000"
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"nextclick: {wrong}; correct it in {file}\n"


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [
        (["topics", "--set", "partition=4"], {}, "there is no setting 'partition'"),
        (["topics"], {"NEXTCLICK_PARTITION": "4"}, "there is no setting 'partition'"),
        (["stream", "--set", "partitions=many"], {}, "setting partitions cannot be 'many': it takes a whole number"),
        (["stream", "--set", "partitions=0"], {}, "setting partitions cannot be 0: it takes a whole number from 1"),
        (["topics", "--set", "cell=x"], {}, "setting cell cannot be 'x': it takes one of gru, lstm, rnn"),
        (["topics", "--set", "security_protocol=SASL_SSL"], {}, "needs sasl_username and sasl_password"),
        (["stream", "--set", "data_dir=/dev/null/worker"], {}, "expects a folder that can be written"),
        (["send", "u1", "i1", "--set", "nope=1"], {}, "there is no setting 'nope'"),
        (["stream", "--set", "user_field=a..b"], {}, "has an empty part"),
        (["rekey", "web", "--set", "events=view:foo"], {}, "'foo'"),
        (["doctor", "--set", "item_field=a..b"], {}, "has an empty part"),
    ],
)
def test_a_wrong_setting_is_one_line(arguments: list[str], environment: dict[str, str], expected: str) -> None:
    """What was expected, what was found, what to do; status 1 and no stack trace."""
    done = _nextclick(*arguments, environment=environment)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("nextclick: ")
    assert expected in done.stderr


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["topics", "--nonsense"], "No such option: --nonsense"),
        (["topics", "--set", "partitions"], "expected name=value, found 'partitions'"),
        (["topics", "--broker"], "'--broker' requires an argument"),
        (["stream", "--start", "yesterday"], "'yesterday' is not one of"),
        (["send", "u1"], "Missing argument"),
    ],
)
def test_a_wrong_command_line_says_how_it_is_used(arguments: list[str], expected: str) -> None:
    """The last line names the mistake; status 2 and no stack trace."""
    done = _nextclick(*arguments)

    assert done.returncode == 2
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert expected in done.stderr.splitlines()[-1]


def test_set_wins_over_the_environment_and_broker_over_both() -> None:
    """Seen by what is refused: the value that counts is the one in the message."""
    environment = {"NEXTCLICK_PARTITIONS": "0", "NEXTCLICK_CELL": "x"}

    done = _nextclick("topics", "--set", "partitions=-7", "--set", "cell=gru", environment=environment)

    assert "setting partitions cannot be -7" in done.stderr


def test_a_password_is_never_printed() -> None:
    """Not even where the settings are wrong."""
    password = {"NEXTCLICK_SASL_PASSWORD": "hush-hush", "NEXTCLICK_SECURITY_PROTOCOL": "SASL_SSL"}

    done = _nextclick("topics", environment=password)
    listed = _nextclick("settings", environment=password)
    as_json = _nextclick("settings", "--json", environment=password)

    assert done.returncode == 1
    assert "sasl_password = (hidden)  * from NEXTCLICK_SASL_PASSWORD" in listed.stdout
    for part in (done, listed, as_json):
        assert "hush-hush" not in part.stdout + part.stderr


def test_the_version_is_told() -> None:
    """For a report of a bug."""
    done = _nextclick("--version")

    assert re.fullmatch(r"nextclick, version \d+\.\d+\.\d+\n", done.stdout)


def _nextclick(*arguments: str, environment: dict[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env=environment or {},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
