"""The worker of this tree against the worker of another commit, in turn, on one broker: which of both is faster?

Times on a shared machine wander, by more than what is looked for; the ratio of two runs that follow each other
wanders less, and the median of many such ratios least.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.measure import Throughput

HERE = Path(__file__).parents[1]
ONE_RUN = """
import json, sys
from bench import measure
with measure.own_topics(sys.argv[1]) as settings:
    print(json.dumps(measure.throughput(settings, int(sys.argv[2]), *measure.WORKER)))
"""


def runs(broker: str, commit: str, count: int, n_pairs: int) -> Iterator[tuple[Throughput, Throughput]]:
    """Run pairs of workers on a backlog of so many clicks each; gives this tree's and the other's figures.

    Each tree measures itself, so that settings and topics are those that it knows. Which one goes first alternates.
    """
    with _checked_out(commit) as other:
        for number in range(n_pairs):
            trees = (HERE, other) if number % 2 else (other, HERE)
            results = {tree: _run(tree, broker, count) for tree in trees}
            yield results[HERE], results[other]


@contextmanager
def _checked_out(commit: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nextclick-bench-") as folder:
        tree = Path(folder) / "tree"
        subprocess.run(["git", "worktree", "add", "--quiet", "--detach", tree, commit], cwd=HERE, check=True)
        try:
            yield tree
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=HERE, check=True)


def _run(tree: Path, broker: str, count: int) -> Throughput:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", ONE_RUN, broker, str(count)]
    printed = subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return Throughput(*json.loads(printed.splitlines()[-1]))
