"""Measures a feed beside a worker that has clicks to answer: reads, clicks that wait for their list, open streams."""

import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import msgspec

from bench import measure
from bench.backlog import UpdateCounter, send_backlog
from bench.http_load import HttpReport
from bench.load import N_USERS, prepared_load
from bench.programs import RunningProgram, python, running
from nextclick.settings import Settings
from tools.processes import dying_with_parent

N_ITEMS = 10_000
CLICKS_PER_S = 1_000.0
READS_PER_S = 1_000.0
N_STREAMS = 5_000
_FEED = ("-c", "from cli.main import main; main()", "feed")
_FIRST_CLICKS = 40_000  # of 20,000 users: nearly all have a list
_WRK_LINE = re.compile(r"Requests/sec:\s+([\d.]+)|\s+99%\s+([\d.]+)(us|ms|s)")
_MS = {"us": 0.001, "ms": 1.0, "s": 1_000.0}


class Row(NamedTuple):
    """A figure of the feed.

    Attributes:
        what: was asked.
        report: of the load.
        feed_cores: CPU of the feed meanwhile.
    """

    what: str
    report: HttpReport
    feed_cores: float


class Saturated(NamedTuple):
    """How many reads a feed answers at most.

    Attributes:
        n_connections: each of which asks again as soon as it is answered.
        per_s: answers a second.
        p99_ms: of the answers: with so many who wait all the time, mostly waiting for the others.
    """

    n_connections: int
    per_s: float
    p99_ms: float


@contextmanager
def beside_clicks(settings: Settings, seconds: float) -> "Iterator[tuple[RunningProgram, int]]":
    """Run a worker, a feed and a load of clicks; gives the feed and its port.

    Args:
        settings: with topics of their own.
        seconds: for which clicks come.
    """
    settings = replace(measure.with_bundle(settings, N_ITEMS), feed_dir=settings.data_dir.parent / "feed", feed_port=0)
    send_backlog(settings, _FIRST_CLICKS, N_ITEMS)
    with running(settings, python(*measure.WORKER)) as worker, running(settings, python(*_FEED)) as feed:
        _wait_until_answered(settings, worker)
        port = _port_of(feed)
        with prepared_load(settings, int(CLICKS_PER_S * seconds), CLICKS_PER_S, N_ITEMS) as load:
            load.start()
            yield feed, port
            worker.check()


def rows(feed: RunningProgram, port: int, seconds: float) -> Iterator[Row]:
    """Measure reads at a rate, clicks that wait, and open streams, one after the other."""
    for n_connections in (64, 1_000):
        what = f"{READS_PER_S:,.0f} reads/s, {n_connections:,} connections"
        yield _row(what, feed, ("reads", port, n_connections, READS_PER_S, seconds))
    yield _row("clicks that wait for their list, 50/s", feed, ("clicks", port, 64, 50.0, seconds))
    yield _row(f"events in {N_STREAMS:,} open streams", feed, ("streams", port, N_STREAMS, 0.0, seconds))


def saturated(port: int, n_connections: int, seconds: float) -> Saturated | None:
    """Ask as fast as wrk can; None where there is no wrk."""
    if shutil.which("wrk") is None:
        return None
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as script:
        script.write(
            f"request = function() return wrk.format('GET', '/v1/users/user-' .. math.random(0, {N_USERS - 1}) .. "
            "'/recommendations') end\n"
        )
        script.flush()
        command = ["wrk", "-t1", f"-c{n_connections}", f"-d{int(seconds)}s", "--latency", "-s", script.name]
        output = subprocess.run(
            [*command, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True
        ).stdout
    per_s = p99_ms = 0.0
    for found in _WRK_LINE.finditer(output):
        if found.group(1):
            per_s = float(found.group(1))
        else:
            p99_ms = float(found.group(2)) * _MS[found.group(3)]
    return Saturated(n_connections, per_s, p99_ms)


def _row(what: str, feed: RunningProgram, load: tuple[str, int, int, float, float]) -> Row:
    command = [sys.executable, "-m", "bench.http_load", *map(str, load), str(N_USERS)]
    process = subprocess.Popen(dying_with_parent(command), stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    if load[0] == "streams":
        process.stdout.readline()  # all are open
    cpu_s, began_s = feed.cpu_s(), time.monotonic()
    report = msgspec.json.decode(process.stdout.readline(), type=HttpReport)
    cores = (feed.cpu_s() - cpu_s) / (time.monotonic() - began_s)
    process.wait()
    feed.check()
    return Row(what, report, cores)


def _wait_until_answered(settings: Settings, worker: RunningProgram) -> None:
    counter, end_s = UpdateCounter(settings), time.monotonic() + measure.DEADLINE_S
    while counter.count() < _FIRST_CLICKS and time.monotonic() < end_s:
        worker.check()
        time.sleep(0.2)


def _port_of(feed: RunningProgram) -> int:
    end_s = time.monotonic() + measure.DEADLINE_S
    while time.monotonic() < end_s:
        feed.check()
        found = re.search(r'"port":(\d+)', feed.output())
        if found is not None and _is_ready(int(found.group(1))):
            return int(found.group(1))
        time.sleep(0.1)
    raise SystemExit(f"the feed was not ready; the last that it printed:\n{feed.tail()}")


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except OSError:
        return False
