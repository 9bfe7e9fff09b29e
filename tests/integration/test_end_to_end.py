"""The main job, end to end: feed, train, swap, and every click is answered with the bundle named."""

import json
from pathlib import Path
from typing import Any

import pytest

from demo.simulator import Law, Simulator
from tests.trainers import announced as announcements
from tools.click_files.choices import ClickFile
from tools.click_files.read import read_clicks

NOW_MS = 1_700_000_000_000
YOOCHOOSE = Path(__file__).parents[2].parent / "shared" / "data" / "yoochoose_100k.csv.gz"
Click = tuple[str, str, int]


def run_the_loop(playground: Any, clicks: list[Click]) -> None:
    """Half of the clicks, a training, the other half: what is asked of the main job."""
    half = len(clicks) // 2
    playground.worker()
    playground.send(clicks[:half])
    before = playground.wait_until_answered()
    trainer = playground.start("trainer", "train", "--once", "--set", "min_clicks=1000", "--set", "hidden_size=64")
    trainer.wait(120)
    assert trainer.exit_status == 0, trainer.log_tail
    [announced] = announcements(playground)
    playground.wait_for_log("worker", announced.bundle_id)
    playground.send(clicks[half:])
    updates = playground.wait_until_answered()

    assert {update.bundle_id for update in before} == {""}
    assert len(updates) == len(clicks)
    assert {update.bundle_id for update in updates[len(before) :]} <= {"", announced.bundle_id}
    after = [update for update in updates if update.bundle_id]
    assert len(after) == len(clicks) - half
    assert {update.bundle_id for update in after} == {announced.bundle_id}
    assert sum(update.strategy == "rnn" for update in after) > len(after) / 2
    assert announced.metrics["recall@20"] > announced.metrics["popularity_recall@20"]
    errors = [
        line for line in playground.log("worker").read_text().splitlines() if json.loads(line)["level"] == "error"
    ]
    assert errors == []


@pytest.mark.skipif(YOOCHOOSE.exists(), reason="recorded clicks are there")
def test_the_loop_on_simulated_clicks(playground: Any) -> None:
    """Where they are not: 5,000 clicks of the simulator."""
    simulator = Simulator(Law(), 1)
    run_the_loop(playground, [(c.user_id, c.item_id, c.timestamp_ms) for c in simulator.next_clicks(NOW_MS, 5_000)])


@pytest.mark.skipif(not YOOCHOOSE.exists(), reason=f"the recorded clicks are not at {YOOCHOOSE}")
def test_the_loop_on_recorded_clicks(playground: Any) -> None:
    """Where the data is: the first 12,000 clicks of yoochoose, in time order."""
    recorded = read_clicks(ClickFile(path=YOOCHOOSE, file_format="csv"))
    run_the_loop(playground, [(user, item, time_ms or 0) for user, item, time_ms, _ in recorded.between(0, 12_000)])
