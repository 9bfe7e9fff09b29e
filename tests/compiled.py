"""Compiles what serving compiles at first use, and keeps it on disk: `python -m tests.compiled`.

Else every process of the tests would do so at the same time, each for minutes, and tests that wait would give up.
"""

import tempfile
from pathlib import Path

from nextclick.bundle import load_bundle
from tests.chaos.bundles import mixed_bundle, untrained_bundle

if __name__ == "__main__":
    for make_bundle in (mixed_bundle, untrained_bundle):
        with tempfile.TemporaryDirectory() as folder:
            manifest = make_bundle(Path(folder), [f"i{number}" for number in range(40)], seed=1)
            load_bundle(Path(folder) / manifest.bundle_id)[1].warm_up(explain=True)
