"""All 83,846 recorded clicks through `nextclick replay` at full speed, with a kill in the middle."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "yoochoose_100k.csv.gz"
pytestmark = pytest.mark.skipif(not RECORDED.exists(), reason=f"the recorded clicks are not at {RECORDED}")


@pytest.mark.release
def test_a_kill_in_the_middle_loses_and_doubles_no_recorded_click(playground: Any) -> None:
    """SIGKILL while the worker is at it; after a restart every state is as if nothing had been."""
    worker = playground.worker()
    playground.wait_for_log("worker", "partitions assigned")
    child = playground.start("replay", "replay", str(RECORDED), "--speed", "max")
    playground.wait_for(lambda: playground.count(playground.settings.recommendations_topic) > 10_000, "10,000 updates")
    os.kill(worker.pid, signal.SIGKILL)
    child.wait(120)
    assert child.exit_status == 0, child.log_tail
    n_before = playground.count(playground.settings.recommendations_topic)
    playground.worker()
    updates = playground.wait_until_answered()

    assert n_before < 83_846, "the kill came too late to mean anything"
    playground.assert_sequences_are_right(updates, after_a_crash=True)
    playground.assert_states_equal_offline()
