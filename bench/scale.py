"""Measures workers that share one topic of eight partitions: what one more of them adds, and what it takes."""

import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from bench import measure
from bench.backlog import DEADLINE_S, UpdateCounter, send_backlog
from bench.programs import ProgramStuckError, RunningProgram, python, running
from nextclick.settings import Settings

N_PARTITIONS = 8
_WARM_SHARE = 0.3  # of the clicks: by then every worker has its partitions
_LOOK_S = 0.05


class Scaled(NamedTuple):
    """How workers did together.

    Attributes:
        events_per_s: of all of them.
        cpu_us_per_event: of all of them.
        fair_mb: the memory of each, what they share divided by how many share it (PSS).
    """

    events_per_s: float
    cpu_us_per_event: float
    fair_mb: list[float]


def scaled(settings: Settings, n_workers: int, count: int, n_items: int) -> Scaled:
    """Let workers work off a backlog of so many clicks.

    Raises:
        ProgramDiedError: a worker ended.
        ProgramStuckError: they did not answer all clicks in time.
    """
    send_backlog(settings, count, n_items)
    counter, command = UpdateCounter(settings), python(*measure.WORKER)
    with ExitStack() as stack:
        own = [replace(settings, data_dir=settings.data_dir / str(number)) for number in range(n_workers)]
        workers = [stack.enter_context(running(each, command)) for each in own]
        warm = _wait_for(counter, int(count * _WARM_SHARE), workers)
        end = _wait_for(counter, count, workers)
        fair_mb = [_fair_mb(worker.pid) for worker in workers]
    n_updates = max(end.n_updates - warm.n_updates, 1)
    return Scaled(n_updates / (end.at_s - warm.at_s), (end.cpu_s - warm.cpu_s) / n_updates * 1e6, fair_mb)


class _Look(NamedTuple):
    n_updates: int
    at_s: float
    cpu_s: float


def _wait_for(counter: UpdateCounter, count: int, workers: list[RunningProgram]) -> _Look:
    end_s = time.monotonic() + DEADLINE_S
    while (n_updates := counter.count()) < count:
        for worker in workers:
            worker.check()
        if time.monotonic() > end_s:
            raise ProgramStuckError(f"{n_updates:,} of {count:,} clicks were answered in {DEADLINE_S:.0f} s")
        time.sleep(_LOOK_S)
    return _Look(n_updates, time.monotonic(), sum(worker.cpu_s() for worker in workers))


def _fair_mb(pid: int) -> float:
    lines = (line.split() for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return next(int(fields[1]) / 1024 for fields in lines if fields[0] == "Pss:")
