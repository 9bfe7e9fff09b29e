"""The modules of the demo's page that decide something, in Node's own test runner."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1] / "page"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_modules_of_the_page() -> None:
    """tests/page has the tests."""
    done = subprocess.run(
        ["node", "--test", "--test-timeout=20000", "--test-reporter=tap", str(TESTS / "page.test.mjs")],
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"^# pass (\d+)$", done.stdout, re.MULTILINE)[1]) >= 23  # type: ignore[index]
