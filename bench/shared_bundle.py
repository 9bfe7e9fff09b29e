"""Measures what the model of a worker takes: memory of its own, memory that it shares, and how long it takes to load.

Workers of one machine are processes that do with a bundle what a worker does, without a broker: it is loaded, warm,
and serves some users.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

LIST_LENGTH = 20
_USERS = 256
_SMAPS = Path("/proc/self/smaps_rollup")


class Taken(NamedTuple):
    """What one worker takes.

    Attributes:
        imported_mb: resident memory when everything is imported and nothing is loaded.
        resident_mb: resident memory while it serves, all of it.
        fair_mb: the same, but what several processes map is divided by their number (PSS).
        own_mb: of it, what no other process can share, because it was written (private, dirty).
        load_s: from the bundle on disk to a model that is warm.
    """

    imported_mb: float
    resident_mb: float
    fair_mb: float
    own_mb: float
    load_s: float


def take(n_items: int, n_workers: int, *, shared: bool) -> list[Taken]:
    """Let workers serve a bundle at the same time, one loaded after the other.

    Args:
        n_items: of the bundle.
        n_workers: how many.
        shared: whether they map one form of the bundle, or have it in memory of their own.
    """
    with tempfile.TemporaryDirectory(prefix="nextclick-bench-") as folder:
        made = subprocess.run(_command("make", folder, str(n_items)), check=True, capture_output=True, text=True)
        served = Path(folder) / "served" if shared else ""
        command = _command("serve", made.stdout.strip(), str(served))
        workers = []
        for _ in range(n_workers):
            workers.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            _said(workers[-1])
        for worker in workers:
            _say(worker)  # everyone is there: measure
        taken = [msgspec.json.decode(_said(worker), type=Taken) for worker in workers]
        for worker in workers:
            worker.communicate()
    return taken


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "bench.shared_bundle", *arguments]


def _said(worker: "subprocess.Popen[str]") -> str:
    assert worker.stdout is not None
    line = worker.stdout.readline()
    if not line:
        raise RuntimeError("a worker ended before it was measured")
    return line


def _say(worker: "subprocess.Popen[str]") -> None:
    assert worker.stdin is not None
    worker.stdin.write("\n")
    worker.stdin.flush()


def _memory_mb() -> dict[str, float]:
    lines = [line.split() for line in _SMAPS.read_text().splitlines()[1:]]
    return {fields[0].rstrip(":"): int(fields[1]) / 1024 for fields in lines}


@click.group(invoke_without_command=True)
@click.option("--quick", is_flag=True, help="Without the largest catalogue.")
@click.pass_context
def main(context: click.Context, quick: bool) -> None:
    """Memory and load times of one worker and of two, sharing a bundle or not."""
    if context.invoked_subcommand is None:
        report(quick=quick)


def report(*, quick: bool) -> None:
    """Print the figures."""
    click.echo("\nmodel of a worker: load s, resident MB, its fair part (PSS), its own (private and written)")
    for n_items in (10, 10_000, 100_000) if quick else (10, 10_000, 100_000, 1_000_000):
        for shared, n_workers in ((False, 1), (False, 2), (True, 1), (True, 2)):
            for number, taken in enumerate(take(n_items, n_workers, shared=shared)):
                click.echo(
                    f"  {n_items:>9,} items, {'shared' if shared else 'own   '}, worker {number + 1} of {n_workers}: "
                    f"{taken.load_s:6.2f} s  {taken.resident_mb:6,.0f}  {taken.fair_mb:6,.0f}  {taken.own_mb:6,.0f} MB"
                    f"  (imported: {taken.imported_mb:,.0f} MB)"
                )


@main.command(hidden=True)
@click.argument("folder", type=Path)
@click.argument("n_items", type=int)
def make(folder: Path, n_items: int) -> None:
    """Make a bundle of the size and shape of a trained one; prints its folder."""
    import numpy as np

    from bench.model_step import full_network
    from nextclick.bundle import save_bundle
    from nextclick.vocabulary import Vocabulary

    vocabulary = Vocabulary([f"item-{number}" for number in range(n_items)], np.random.default_rng(0).random(n_items))
    click.echo(folder / save_bundle(folder, full_network(n_items), vocabulary, created_ms=1, metrics={}).bundle_id)


@main.command(hidden=True)
@click.argument("folder", type=Path)
@click.argument("served_dir")
def serve(folder: Path, served_dir: str) -> None:
    """Be a worker: load, say so, and on a line of input measure; prints a `Taken`."""
    import numpy as np

    import stream.worker  # noqa: F401 - what a worker imports
    from nextclick.bundle import load_bundle
    from nextclick.popularity import prepare_seed
    from tools.shared_forms import SharedForms

    imported_mb = _memory_mb()["Rss"]
    began_s = time.perf_counter()
    _, model = load_bundle(folder, SharedForms(Path(served_dir)).form_of) if served_dir else load_bundle(folder)
    model.warm_up()
    seed = prepare_seed(model.item_ids, model.popularity)
    load_s = time.perf_counter() - began_s
    clicks = [[(int(item), 30, 0)] for item in np.random.default_rng(0).integers(len(model.item_ids), size=_USERS)]
    model.rank(model.run([b""] * _USERS, clicks), [b""] * _USERS, LIST_LENGTH)
    click.echo(f"serves {len(seed.log_weight)} popular items")
    sys.stdin.readline()
    memory = _memory_mb()
    taken = Taken(imported_mb, memory["Rss"], memory["Pss"], memory["Private_Dirty"], load_s)
    click.echo(msgspec.json.encode(taken).decode())
    sys.stdin.read()


if __name__ == "__main__":
    main()
