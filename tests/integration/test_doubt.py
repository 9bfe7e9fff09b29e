"""A broker that goes away, a worker that is paused past its eviction, a chunk that hangs: wait, lose, or exit."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from demo.local_kafka import LocalKafka
from tests.simulated_clicks import simulated

STOP_S = 5.0
CHUNK = 50  # clicks that the paused worker takes at once
# Runs the worker command with one function of it replaced.
HANGING_WORKER = """
import asyncio
from stream.agent import ClickAgent
ClickAgent._advance = lambda *arguments: asyncio.sleep(3600)
from cli.main import main
main()
"""
BLOCKED_WORKER = """
import time
import stream.worker
from nextclick.updates import JSON_FORMAT
blocking = JSON_FORMAT._replace(encode_update=lambda *arguments: time.sleep(3600))
stream.worker.open_update_format = lambda settings: blocking
from cli.main import main
main()
"""


@pytest.mark.release
def test_a_broker_that_is_away_for_longer_than_the_session_is_waited_for(
    outage: Any, broker_to_stop: LocalKafka
) -> None:
    """Stopped, then paused, each time until the worker has lost its lease: the same process goes on."""
    worker = outage.worker()
    outage.send(simulated(2_000))
    outage.wait_until_answered()
    broker_to_stop.stop(keep_data=True)
    outage.wait_for_log("worker", "does not answer")
    broker_to_stop.start()
    outage.wait_for_log("worker", "answers again")
    outage.send(simulated(2_000, seed=1))
    broker_to_stop.pause()
    outage.wait_for(lambda: outage.log("worker").read_text().count("does not answer") == 2, "the pause is said")
    broker_to_stop.resume()
    outage.send(simulated(2_000, seed=2))
    updates = outage.wait_until_answered()

    assert worker.exit_status is None
    outage.assert_sequences_are_right(updates, after_a_crash=True)
    outage.assert_states_equal_offline()


def test_a_stop_without_a_broker_is_quick(outage: Any, broker_to_stop: LocalKafka) -> None:
    """SIGTERM: under 5 s, whatever is unfinished."""
    worker = outage.worker()
    outage.send(simulated(500))
    outage.wait_until_answered()
    broker_to_stop.pause()
    started_s = time.monotonic()
    os.kill(worker.pid, signal.SIGTERM)
    worker.wait(STOP_S + 5)
    took_s = time.monotonic() - started_s
    broker_to_stop.resume()

    assert took_s < STOP_S
    assert worker.exit_status == 0


def test_a_worker_that_wakes_up_after_its_eviction_writes_nothing_of_its_old_partitions(playground: Any) -> None:
    """Its batches are dropped with the lease, but for those that were on their way when it was stopped."""
    sleeper = playground.worker("sleeper", NEXTCLICK_MAX_CHUNK_RECORDS=str(CHUNK))
    playground.worker("other", NEXTCLICK_MAX_CHUNK_RECORDS=str(CHUNK))
    playground.wait_for_log("other", "partitions assigned")
    playground.send(simulated(6_000))
    playground.wait_for(lambda: playground.count(playground.settings.recommendations_topic) > 0, "a first update")
    os.kill(sleeper.pid, signal.SIGSTOP)
    try:
        playground.wait_until_answered()
        playground.send(simulated(2_000, seed=1))
        playground.wait_until_answered()
    finally:
        os.kill(sleeper.pid, signal.SIGCONT)
    playground.wait_for(
        lambda: playground.log("sleeper").read_text().count("partitions assigned") >= 2, "the sleeper has joined again"
    )
    playground.send(simulated(1_000, seed=2))
    updates = playground.wait_until_answered()

    playground.assert_sequences_are_right(updates, after_a_crash=True)
    playground.assert_states_equal_offline()
    report = playground.verify()
    # A request to the broker holds a batch of each partition at most; up to eight chunks were unfinished.
    assert report.repeated_older <= playground.settings.partitions * CHUNK


@pytest.mark.parametrize(
    ("program", "said"),
    [pytest.param(HANGING_WORKER, "stands still", marks=pytest.mark.release), (BLOCKED_WORKER, "Timeout")],
    ids=["a chunk that hangs", "a blocked event loop"],
)
def test_a_worker_that_hangs_ends_itself(playground: Any, program: str, said: str) -> None:
    """Guarantee 6: nothing of the hanging chunk is acknowledged, and a healthy worker answers it."""
    playground.send(simulated(100))
    log = Path(playground.folder) / "hanging.log"
    environment = dict(os.environ) | playground.settings.as_environment()
    environment |= {"NEXTCLICK_STALL_S": "2", "NEXTCLICK_DATA_DIR": str(playground.folder / "hanging")}
    with log.open("wb") as output:
        run = subprocess.run(
            [sys.executable, "-c", program, "stream"], env=environment, stderr=output, timeout=60, check=False
        )
    playground.worker()
    updates = playground.wait_until_answered()

    assert run.returncode == 1
    assert re.search(said, log.read_text())
    assert len(updates) == 100
