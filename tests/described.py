"""Compares a running feed with its own description: Schemathesis asks all that it allows and much that it does not."""

import os
import subprocess
import sys
from pathlib import Path

_CONFIG = Path(__file__).with_name("schemathesis.toml")
_SHOWN = 6_000  # characters of a report: a request alone can have tens of thousands


def assert_answers_as_described(url: str, folder: Path, *arguments: str, max_examples: int) -> None:
    """Ask with every route's examples, at every bound, at random, and in chains.

    Args:
        url: of the feed.
        folder: for what the program writes.
        arguments: of `schemathesis run`, more than the usual.
        max_examples: random requests for each route.
    """
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(_CONFIG), "run", f"{url}/openapi.json"]
    usual = ["--no-color", "--checks", "all", "--seed", "1", "--request-timeout", "20", "--max-examples"]
    done = subprocess.run(
        [*command, *usual, str(max_examples), *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=200,
    )
    lines = [line[:400] for line in (done.stdout + done.stderr).splitlines()]

    assert done.returncode == 0, "\n".join(lines)[-_SHOWN:]
    assert " passed" in done.stdout
