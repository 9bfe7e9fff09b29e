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
    """With its default; a secret has none."""
    done = _nextclick("settings")

    assert done.returncode == 0
    for name, *_ in Settings.describe():
        assert re.search(rf"^{name} = ", done.stdout, re.MULTILINE)


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

    assert done.returncode == 1
    assert "hush-hush" not in done.stdout + done.stderr + listed.stdout + listed.stderr


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
