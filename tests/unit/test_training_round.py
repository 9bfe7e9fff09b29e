"""One whole training, without a broker."""

from pathlib import Path
from threading import Event

import numpy as np
import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.settings import Settings
from training.learning.cancellation import Cancellation
from training.learning.sequences import ClickColumns
from training.learning.training_data import TrainingData
from training.learning.training_round import Champion, Round, train_round
from training.service.decisions import judge

N_ITEMS = 60
SETTINGS = Settings(hidden_size=32, epochs=4)


def ring_clicks(count: int, n_items: int = N_ITEMS) -> TrainingData:
    """Users who mostly go three items on."""
    rng = np.random.default_rng(0)
    n_users = count // 10
    place = rng.integers(n_items, size=n_users)
    user = rng.integers(n_users, size=count)
    item = np.zeros(count, dtype=np.int64)
    for number, who in enumerate(user):
        item[number] = place[who]
        place[who] = rng.integers(n_items) if rng.random() < 0.1 else (place[who] + 3) % n_items
    ids = [f"item-{number}" for number in range(n_items)]
    clicks = ClickColumns(user, item, np.arange(count) * 500, np.zeros(count, dtype=np.int64), ids)
    return TrainingData(clicks, count, np.zeros(count, dtype=np.int64), np.arange(count))


def run(data: TrainingData, champion: Champion | None = None, settings: Settings = SETTINGS) -> Round:
    torch.set_num_threads(1)
    return train_round(data, champion, settings, Cancellation(Event()))


def is_published(outcome: Round) -> bool:
    """Decide as the trainer does."""
    return judge(outcome.new, outcome.champion, outcome.popularity).publish


def stored(folder: Path, outcome: Round) -> Champion:
    """Store a round's bundle and load it again."""
    manifest = save_bundle(folder, outcome.network, outcome.vocabulary, created_ms=1, metrics=outcome.metrics())
    return Champion(*load_network(folder / manifest.bundle_id))


def test_the_first_training_beats_popularity() -> None:
    """From nothing, on a few thousand clicks with structure."""
    outcome = run(ring_clicks(2_000))

    assert is_published(outcome)
    assert outcome.new.recall > 0.7 > outcome.popularity.recall
    assert (outcome.champion, outcome.parent) == (None, "")
    assert outcome.n_clicks == 1_800
    assert outcome.new.n_predictions > 150


def test_the_next_training_goes_on_from_the_bundle_and_is_compared_with_it(tmp_path: Path) -> None:
    """Items that are clicked stay in their order, new ones are appended; all three figures are in the metrics."""
    data = ring_clicks(3_000)
    columns = data.clicks
    short = data._replace(
        clicks=ClickColumns(*(column[:2_000] for column in columns[:4]), columns.item_ids), n_recent=2_000
    )
    champion = stored(tmp_path, run(short))
    ids = [*columns.item_ids[:-1], "an item of its own"]
    renamed = data._replace(clicks=columns._replace(item_ids=ids))

    outcome = run(renamed, champion)

    assert outcome.parent == champion.manifest.bundle_id
    stay = [item_id for item_id in champion.vocabulary.item_ids if item_id != "item-59"]
    assert outcome.vocabulary.item_ids == (*stay, "an item of its own")
    assert outcome.champion is not None
    assert outcome.metrics()["current_recall@20"] == outcome.champion.recall
    assert is_published(outcome) == (outcome.new.recall >= outcome.champion.recall)


def test_a_bundle_that_saw_little_is_replaced_and_not_trained_on(tmp_path: Path) -> None:
    """Starting anew is better then; it is still what the new one must not be worse than."""
    champion = stored(tmp_path, run(ring_clicks(500)))

    outcome = run(ring_clicks(1_500), champion)

    assert outcome.parent == ""
    assert outcome.champion is not None


def test_a_bundle_of_another_shape_is_compared_but_not_trained_on(tmp_path: Path) -> None:
    """Changed settings take effect with the next training."""
    champion = stored(tmp_path, run(ring_clicks(800)))

    outcome = run(ring_clicks(800), champion, Settings(hidden_size=16, epochs=2))

    assert outcome.parent == ""
    assert outcome.network.config.hidden_size == 16
    assert outcome.champion is not None


def test_items_that_appear_only_in_the_newest_part_are_not_in_the_bundle() -> None:
    """They have no learnt row, and as targets they are misses."""
    data = ring_clicks(2_000)
    item = data.clicks.item_index.copy()
    item[-150:] = N_ITEMS
    clicks = data.clicks._replace(item_index=item, item_ids=[*data.clicks.item_ids, "too new"])

    outcome = run(data._replace(clicks=clicks))

    assert "too new" not in outcome.vocabulary.index_of
    assert outcome.new.recall < 0.3


def test_the_same_clicks_and_seed_give_the_same_network() -> None:
    """A whole round repeats itself to the last bit."""
    first, second = (run(ring_clicks(800)).network.state_dict() for _ in range(2))

    assert all(torch.equal(first[name], second[name]) for name in first)


def test_users_with_one_click_each_give_nothing_to_publish() -> None:
    """No sequence, no prediction: no crash, no bundle."""
    data = ring_clicks(500)
    lonely = data._replace(clicks=data.clicks._replace(user=np.arange(500)))

    outcome = run(lonely)

    assert not is_published(outcome)


def test_the_newest_part_judges_and_is_not_learnt() -> None:
    """Other clicks there, the same network: after one pass, for more of them the best pass is chosen by that part."""
    data = ring_clicks(2_000)
    item = data.clicks.item_index.copy()
    item[-200:] = np.random.default_rng(9).integers(N_ITEMS, size=200)
    settings = Settings(hidden_size=16, epochs=1, negatives=5)

    first = run(data, settings=settings)
    second = run(data._replace(clicks=data.clicks._replace(item_index=item)), settings=settings)

    weights = second.network.state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in first.network.state_dict().items())
    assert first.new.recall != second.new.recall
