"""A worker that waits for its bundle: it can be asked, and it can be stopped."""

import fcntl
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from nextclick.bundle import save_bundle
from nextclick.network_config import NetworkConfig
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network

ROOT = Path(__file__).parents[2]
PROGRAM = """
import asyncio, sys
from pathlib import Path
import uvloop
from nextclick.errors import NextclickError
from nextclick.settings import Settings
from nextclick.updates import JSON_FORMAT
from stream.worker import _Worker
from tools.kafka import TopicIdentity
folder, bundle, port = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
settings = Settings(
    broker="127.0.0.1:1", data_dir=folder / "worker", served_dir=folder / "served", bundle=bundle, worker_port=port
)
worker = _Worker(settings, TopicIdentity("clicks", "id", 1), "instance", JSON_FORMAT)
with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
    try:
        runner.run(worker.run())
    except NextclickError as error:
        sys.exit(f"nextclick: {error}")
"""

Start = Callable[[Path], "subprocess.Popen[str]"]


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


@pytest.fixture
def start(tmp_path: Path, port: int) -> Iterator[Start]:
    """Start a worker with a bundle; there is no broker."""
    started: list[subprocess.Popen[str]] = []

    def start_worker(bundle: Path) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(bundle), str(port)]
        environment = os.environ | {"PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment))
        return started[-1]

    yield start_worker
    for process in started:
        process.kill()
        process.communicate()


def answer(port: int, path: str) -> str | None:
    """Give what the worker answers; None if it does not."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
    try:
        connection.request("GET", path)
        return connection.getresponse().read().decode()
    except OSError:
        return None
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_waits_for_another_ones_bundle_answers_and_can_be_stopped(
    tmp_path: Path, start: Start, port: int, number: signal.Signals
) -> None:
    """It waits for two minutes: a supervisor has killed it by then, and a probe has given it up."""
    config = NetworkConfig(5, 4)
    vocabulary = Vocabulary([f"i{item}" for item in range(5)], np.ones(5))
    manifest = save_bundle(tmp_path, random_network(config, 1), vocabulary, created_ms=1, metrics={})
    (tmp_path / "served").mkdir(mode=0o755)
    with (tmp_path / "served" / "lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as a worker does that prepares a large bundle
        worker = start(tmp_path / manifest.bundle_id)
        end_s = time.monotonic() + 30
        while (ready := answer(port, "/readyz")) is None and worker.poll() is None and time.monotonic() < end_s:
            time.sleep(0.05)
        healthy = answer(port, "/healthz")
        worker.send_signal(number)
        status = worker.wait(10)

    assert ready == '{"status": "starting"}'
    assert healthy == '{"status": "running"}'
    assert status == 0


def test_a_bundle_that_was_asked_for_and_cannot_be_used_ends_the_worker(tmp_path: Path, start: Start) -> None:
    """With a line that names it, and no stack trace."""
    worker = start(tmp_path / "nothing")
    _, said = worker.communicate(timeout=60)

    assert worker.returncode == 1
    assert [line for line in said.splitlines() if "nothing cannot be read" in line]
    assert "Traceback" not in said
