"""One method in one round, in a process of its own: learns, is measured, and ranks what is ahead.

A process of its own, because a peak of memory is one of a process: what another method took before must not count. The
process is forked from a server that has loaded all programs, and first lets a new method of the same kind learn a few
clicks, so that what is loaded, compiled and tried out once in a process is not in the figures. What is measured:

- seconds: from the beginning to the end of `learn`, and the CPU's time of all threads in between;
- memory: how far the peak of the process is above what it had before it loaded the method's state: so the state, what
  is read of the log and what learning takes, without the programs.
"""

import os
import pickle
import resource
import signal
import sys
import time
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from threading import Thread
from typing import NamedTuple

import numpy as np
import psutil

from nextclick.errors import NextclickError, PermanentError
from nextclick.ranking_metrics import Ranks
from training.evaluation.backtest.methods import Method
from training.evaluation.backtest.slices import Slice, first_clicks
from training.learning.sequences import ClickColumns

_PEAK_UNIT_BYTES = 1 if sys.platform == "darwin" else 1024
_COLUMNS = ("user", "item_index", "timestamp_ms", "event_type")
_WARM_UP_CLICKS = (1_000, 1_200)  # are learnt before anything is measured: from nothing, and then what is new
_CHECKED_PREDICTIONS = 200  # of the first slice
_DECOYS = 5  # for each of them
_LIST_LENGTH = 20  # ranks beyond a list are alike: sums in another order let them differ a little
_MAX_DIFFERENT_SHARE = 0.05


class Costs(NamedTuple):
    """What it took to learn."""

    wall_s: float
    cpu_s: float
    peak_bytes: int


class Job(NamedTuple):
    """A step, as files.

    Attributes:
        log: folder of `write_log`.
        n_known: so many of its clicks are known.
        ahead: a pickled `Slice`.
        beginner: the pickled method before it has learnt anything.
        state: the pickled method, which is replaced.
        is_checked: whether it is seen that the method does not look ahead.
    """

    log: Path
    n_known: int
    ahead: Path
    beginner: Path
    state: Path
    is_checked: bool


class Done(NamedTuple):
    """What came of a step."""

    ranks: Ranks
    costs: Costs


def write_log(folder: Path, log: ClickColumns) -> None:
    """Write a log so that processes can read any part of it."""
    for name in _COLUMNS:
        np.save(folder / f"{name}.npy", getattr(log, name))
    write_pickled(folder / "item_ids", log.item_ids)


def write_pickled(path: Path, content: object) -> None:
    """Write any object."""
    with path.open("wb") as file:
        pickle.dump(content, file, protocol=pickle.HIGHEST_PROTOCOL)


def _read_pickled(path: Path) -> object:
    with path.open("rb") as file:
        return pickle.load(file)


def _read_log(folder: Path, n_known: int) -> ClickColumns:
    columns = {name: np.load(folder / f"{name}.npy", mmap_mode="r").view(np.ndarray) for name in _COLUMNS}
    item_ids = _read_pickled(folder / "item_ids")
    assert isinstance(item_ids, list)
    return first_clicks(ClickColumns(**columns, item_ids=item_ids), n_known)


def run_in_process(job: Job, title: str) -> Done:
    """Run a step in a process of its own. Blocks until it has ended; ends it if this is interrupted.

    Args:
        job: what is done.
        title: says what failed.

    Raises:
        NextclickError: it failed for a reason that the user can understand.
        PermanentError: it ended without a result.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__, "torch._dynamo"])  # what an optimizer of torch loads
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(job, sender), daemon=True)
    process.start()
    sender.close()
    try:
        result = receiver.recv()
    except EOFError:
        process.join()
        raise PermanentError(
            f"{title}: its process ended with status {process.exitcode} and no result (-9: killed, mostly for want of "
            "memory)"
        ) from None
    finally:
        process.terminate()
        process.join()
        receiver.close()
    if isinstance(result, NextclickError):
        raise result
    assert isinstance(result, Done)
    return result


def _run(job: Job, sender: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program, which ends this process
    Thread(target=_end_with_program, daemon=True).start()
    try:
        sender.send(run(job))
    except NextclickError as error:
        sender.send(error)


def _end_with_program() -> None:
    """Wait until the program has ended, however it did: nobody wants what is learnt here then."""
    program = parent_process()
    assert program is not None
    wait([program.sentinel])
    os._exit(1)


def run(job: Job) -> Done:
    """Run a step in this process.

    Raises:
        PermanentError: the method's ranks depend on other clicks of the slice.
    """
    log = _read_log(job.log, job.n_known)
    _warm_up(job, log)
    held_bytes = psutil.Process().memory_info().rss
    method: Method = _read_pickled(job.state)  # type: ignore[assignment]
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    method.learn(log)
    costs = Costs(time.perf_counter() - began_s, time.process_time() - cpu_began_s, max(0, _peak_bytes() - held_bytes))
    write_pickled(job.state, method)
    ahead = _read_pickled(job.ahead)
    assert isinstance(ahead, Slice)
    ranks = method.ranks(ahead)
    if job.is_checked:
        _check_no_look_ahead(method, ahead, ranks)
    return Done(ranks, costs)


def _warm_up(job: Job, log: ClickColumns) -> None:
    beginner: Method = _read_pickled(job.beginner)  # type: ignore[assignment]
    for n_clicks in _WARM_UP_CLICKS:
        beginner.learn(first_clicks(log, n_clicks))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _PEAK_UNIT_BYTES


def _check_no_look_ahead(method: Method, ahead: Slice, ranks: Ranks) -> None:
    """See that predictions stay as they are where the clicks around them are others.

    Raises:
        PermanentError: they do not, so that the method must have learnt from them.
    """
    n = len(ranks)
    chosen = np.unique(np.linspace(0, n - 1, min(n, _CHECKED_PREDICTIONS)).astype(np.int64))
    among_decoys, real = ahead.with_decoys(chosen, _DECOYS, np.random.default_rng(0))
    found = method.ranks(among_decoys)[real]
    different = np.minimum(found, _LIST_LENGTH + 1) != np.minimum(ranks[chosen], _LIST_LENGTH + 1)
    if n and different.mean() > _MAX_DIFFERENT_SHARE:
        raise PermanentError(
            f"{type(method).__name__} looks ahead: {different.mean():.0%} of its ranks change when the clicks that are "
            "predicted are others; it must learn in `learn` alone"
        )
