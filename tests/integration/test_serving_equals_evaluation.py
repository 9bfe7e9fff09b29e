"""What `nextclick evaluate` measured is what a worker that serves the same network does with the same clicks."""

import csv
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from demo.simulator import Law, Simulator
from nextclick.bundle import load_network
from nextclick.updates import RNN, RecommendationUpdate
from tests.integration.test_stream import worker_port
from tests.scrapes import scrape, value_of
from tests.simulated_clicks import NOW_MS
from training.evaluation.network_recommender import NetworkRecommender
from training.evaluation.runs import predicted_rows
from training.learning.sequences import ClickColumns, group_by_user

Doubles = npt.NDArray[np.float64]

RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "yoochoose_100k.csv.gz"
# The worker keeps a user's state in float16. That moves scores by 0.1% at most, which is hardly ever seen in a list.
RECALL_TOLERANCE = 0.002
SCORE_TOLERANCE = 0.005  # as a share; a gap, an age or an event type that is not what training saw moves some by 5%
LIST_LENGTH = 20  # the setting list_length
QUICK = ("--set", "hidden_size=32", "--set", "epochs=1", "--set", "device=cpu")


@pytest.mark.release
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


@pytest.mark.release
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
    playground.worker("worker", "--set", f"bundle={bundle}", "--set", "max_chunk_records=10")
    playground.start("replay", "replay", str(test)).wait(60)
    playground.wait_until_answered()
    counted = hits_in_metrics(scrape(worker_port(playground)))
    compared = compare(playground, bundle)

    assert counted == live_hits(playground)
    assert len(compared.evaluated) == sizes["test_clicks"] - sizes["test_sessions"] > 1_000
    assert recall > 0.1, "a network that hits nothing shows nothing"
    assert np.mean(compared.evaluated) == pytest.approx(recall, abs=RECALL_TOLERANCE)
    served = np.array(compared.served)
    assert len(served) > 500
    assert served[:, 1].mean() == pytest.approx(served[:, 0].mean(), abs=RECALL_TOLERANCE)
    assert np.concatenate(compared.errors).max() < SCORE_TOLERANCE


def live_hits(playground: Any) -> tuple[int, int]:
    """Count the clicks on an item of the list before their batch, and all clicks that had one."""
    updates = {(update.source.partition, update.source.offset): update for update in playground.updates()}
    newest: dict[bytes, RecommendationUpdate] = {}
    seen: dict[bytes, RecommendationUpdate] = {}
    hits = judged = 0
    for click in playground.clicks():
        user, update = click.user[1], updates[click.user[0], click.offset]
        assert update.strategy == RNN
        if user in newest and not are_of_one_batch(newest[user], update):
            seen[user] = newest[user]
        newest[user] = update
        if user in seen:
            judged += 1
            hits += click.click.item_id in {item.item_id for item in seen[user].items}
    return hits, judged


def are_of_one_batch(first: RecommendationUpdate, second: RecommendationUpdate) -> bool:
    """Tell whether two updates of a user come from one batch: it has one list, and a millisecond can have two."""
    return first.produced_at_ms == second.produced_at_ms and first.items == second.items


class Compared(NamedTuple):
    """What the evaluator's network says of the clicks that the worker has answered.

    Attributes:
        evaluated: for each prediction, whether it is a hit.
        served: the same for those where the worker has sent a list between the click before and this one, and whether
            that list was one.
        errors: of the scores in these lists, as shares.
    """

    evaluated: list[bool]
    served: list[tuple[bool, bool]]
    errors: list[Doubles]


def compare(playground: Any, bundle: Path) -> Compared:
    """Let the evaluator predict every click but users' first ones."""
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
    compared = Compared([], [], [])
    for row, scores in zip(rows, recommender.scores(clicks, rows), strict=True):
        before, click = logged[clicks.age_rank[row - 1]], logged[clicks.age_rank[row]]
        target = vocabulary.index_of[click.click.item_id]
        is_hit = bool((scores >= scores[target]).sum() <= LIST_LENGTH)  # ties count against the network
        compared.evaluated.append(is_hit)
        answer = updates[before.user[0], before.offset]
        if answer.produced_at_ms == updates[click.user[0], click.offset].produced_at_ms:
            continue  # of one batch: the list knows the click already
        compared.served.append((is_hit, click.click.item_id in {item.item_id for item in answer.items}))
        expected = scores[[vocabulary.index_of[item.item_id] for item in answer.items]]
        compared.errors.append(np.abs(np.array([item.score for item in answer.items]) / expected - 1.0))
    return compared


def hits_in_metrics(text: str) -> tuple[int, int]:
    """Read what the worker says of lists that its network made."""
    names = ("nextclick_live_hits_total", "nextclick_live_judged_total")
    hits, judged = (int(value_of(text, f'{name}{{strategy="{RNN}"}}') or 0) for name in names)
    return hits, judged
