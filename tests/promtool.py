"""Prometheus' own tool, which checks and tries rules."""

import subprocess
from pathlib import Path

from tests.local_prometheus import PROMTOOL

PATIENCE_S = 900


def promtool(*arguments: str | Path) -> None:
    """Run it; what it prints is shown when it is not content."""
    done = subprocess.run([str(PROMTOOL), *map(str, arguments)], capture_output=True, text=True, timeout=PATIENCE_S)

    assert done.returncode == 0, done.stdout + done.stderr
