"""What `nextclick evaluate` measured is what a worker that serves the same network does with the same clicks."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from demo.simulator import Law, Simulator
from nextclick.bundle import load_network
from nextclick.updates import RNN
from tests.integration.test_stream import fetch, worker_port
from tests.simulated_clicks import NOW_MS
from training.evaluation.network_recommender import NetworkRecommender
from training.evaluation.runs import predicted_rows
from training.learning.sequences import ClickColumns, group_by_user

Doubles = npt.NDArray[np.float64]

RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "yoochoose_100k.csv.gz"
# The worker keeps a user's state in float16. That moves scores by 0.1% at most, which is hardly ever seen in a list.
RECALL_TOLERANCE = 0.002
SCORE_TOLERANCE = 0.005  # as a share; a gap, an age or an event type that is not what training saw moves some by 5%
QUICK = ("--set", "hidden_size=32", "--set", "epochs=1", "--set", "device=cpu")


def test_a_worker_hits_as_often_as_the_evaluation_says(playground: Any, tmp_path: Path) -> None:
    """Simulated users with their pauses and event types, each one long session."""
    data = tmp_path / "simulated.csv"
    simulator, n_clicks, step_s = Simulator(Law(active_users=100, resting_users=300), seed=1), 6_000, 8
    with data.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["user_id", "item_id", "timestamp", "event_type"])
        for number in range(n_clicks):
            (click,) = simulator.next_clicks(NOW_MS + number * step_s * 1000, 1)
            writer.writerow([click.user_id, click.item_id, click.timestamp_ms, click.event_type])

    assert_serving_equals_evaluation(playground, tmp_path, data, "--test-share", "0.5")


@pytest.mark.skipif(not RECORDED.exists(), reason=f"the recorded clicks are not at {RECORDED}")
def test_a_worker_hits_as_often_as_the_evaluation_says_on_recorded_clicks(playground: Any, tmp_path: Path) -> None:
    """Sessions of a shop's last day, trained on a part of those before."""
    assert_serving_equals_evaluation(playground, tmp_path, RECORDED, "--train-share", "0.1")


def assert_serving_equals_evaluation(playground: Any, folder: Path, data: Path, *split: str) -> None:
    """Train, serve, replay the test part, and compare hits and scores; the worker's own count of hits is as ours."""
    store, test, figures = folder / "evaluated", folder / "test.csv", folder / "figures.json"
    saving = ("--save-bundle", str(store), "--save-test", str(test), "--json", str(figures))
    evaluate = playground.start(
        "evaluate", "evaluate", str(data), *split, "--models", "network", *QUICK, *saving, OMP_NUM_THREADS="1"
    )
    evaluate.wait(60)
    assert evaluate.exit_status == 0, evaluate.log_tail
    found = json.loads(figures.read_text())
    recall = found["models"]["network"]["metrics"]["recall@20"]["mean"]
    sizes = found["data"]["sizes"]
    (bundle,) = store.iterdir()
    playground.worker("worker", "--set", f"bundle={bundle}")
    playground.start("replay", "replay", str(test)).wait(60)
    playground.wait_until_answered()
    hits, judged = live_hits(playground)
    counted_hits, counted_judged = hits_in_metrics(fetch(worker_port(playground), "/metrics"))

    assert judged == sizes["test_clicks"] - sizes["test_sessions"] > 1_000
    assert recall > 0.1, "a network that hits nothing shows nothing"
    assert hits / judged == pytest.approx(recall, abs=RECALL_TOLERANCE)
    assert (counted_hits, counted_judged) == (hits, judged)
    assert score_errors(playground, bundle).max() < SCORE_TOLERANCE


def live_hits(playground: Any) -> tuple[int, int]:
    """Count the clicks on an item of the list before, and all clicks but users' first ones."""
    updates = {(update.source.partition, update.source.offset): update for update in playground.updates()}
    shown: dict[bytes, set[str]] = {}
    hits = judged = 0
    for click in playground.clicks():
        if click.user[1] in shown:
            judged += 1
            hits += click.click.item_id in shown[click.user[1]]
        update = updates[click.user[0], click.offset]
        assert update.strategy == RNN
        shown[click.user[1]] = {item.item_id for item in update.items}
    return hits, judged


def score_errors(playground: Any, bundle: Path) -> Doubles:
    """For every recommendation before a click: how far its score is from the evaluator's, as a share of it."""
    logged = playground.clicks()
    updates = {(update.source.partition, update.source.offset): update for update in playground.updates()}
    _, network, vocabulary = load_network(bundle)
    _, user = np.unique([click.user[1] for click in logged], return_inverse=True)
    columns = [
        (vocabulary.index_of[click.click.item_id], click.click.timestamp_ms, click.click.event_type) for click in logged
    ]
    clicks = group_by_user(ClickColumns(user, *np.array(columns).T, vocabulary.item_ids))
    recommender = NetworkRecommender(playground.settings)
    recommender.network = network
    rows = predicted_rows(clicks)
    errors = []
    for row, scores in zip(rows, recommender.scores(clicks, rows), strict=True):
        before = logged[clicks.age_rank[row - 1]]
        items = updates[before.user[0], before.offset].items
        expected = scores[[vocabulary.index_of[item.item_id] for item in items]]
        errors.append(np.array([item.score for item in items]) / expected - 1.0)
    return np.abs(np.concatenate(errors))


def hits_in_metrics(text: str) -> tuple[int, int]:
    """Read what the worker says of lists that its network made."""
    names = ("nextclick_live_hits_total", "nextclick_live_judged_total")
    values = (re.search(rf'^{name}{{strategy="{RNN}"}} (\S+)$', text, re.MULTILINE) for name in names)
    hits, judged = (int(float(value[1])) if value else 0 for value in values)
    return hits, judged
