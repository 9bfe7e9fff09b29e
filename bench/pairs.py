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
from typing import NamedTuple

from bench.backlog import Throughput

HERE = Path(__file__).parents[1]
# Runs in either tree. Settings and topics are those that it knows; how it is measured is always this tree's.
ONE_RUN = """
import json, sys
import bench
from bench import measure
bench.__path__.insert(0, sys.argv[4])
from bench.backlog import work_off
from bench.programs import python
with measure.own_topics(sys.argv[1]) as settings:
    if int(sys.argv[3]):
        settings = measure.with_bundle(settings, int(sys.argv[3]))
    print(json.dumps(work_off(settings, int(sys.argv[2]), python(*measure.WORKER))))
"""


class UnknownCommitError(Exception):
    """There is no such commit. The message says so."""


class Work(NamedTuple):
    """What both workers do.

    Attributes:
        n_clicks: of a backlog.
        n_items: of the model; 0: without one.
    """

    n_clicks: int
    n_items: int


def check_commit(commit: str) -> None:
    """Return if there is such a commit.

    Raises:
        UnknownCommitError: there is none, or git cannot tell.
    """
    command = ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", f"{commit}^{{commit}}"]
    if subprocess.run(command, cwd=HERE, capture_output=True, check=False).returncode:
        raise UnknownCommitError(f"{commit} is no commit, branch or tag of this repository; see `git log --oneline`")


def runs(broker: str, commit: str, work: Work, n_pairs: int) -> Iterator[tuple[Throughput, Throughput]]:
    """Run pairs of workers; gives this tree's and the other's figures. Which one goes first alternates."""
    with _checked_out(commit) as other:
        for number in range(n_pairs):
            trees = (HERE, other) if number % 2 else (other, HERE)
            results = {tree: _run(tree, broker, work) for tree in trees}
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


def _run(tree: Path, broker: str, work: Work) -> Throughput:
    environment = os.environ | {"PYTHONPATH": str(tree)}
    command = [sys.executable, "-c", ONE_RUN, broker, str(work.n_clicks), str(work.n_items), str(HERE / "bench")]
    printed = subprocess.run(command, cwd=tree, env=environment, check=True, stdout=subprocess.PIPE).stdout
    return Throughput(*json.loads(printed.splitlines()[-1]))
