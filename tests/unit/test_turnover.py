"""Catalogues turn over: items that nobody clicks any more leave the next bundle, others keep what was learnt."""

from pathlib import Path
from threading import Event

import numpy as np
import pytest
import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.settings import Settings
from training.learning.cancellation import Cancellation
from training.learning.sequences import ClickColumns
from training.learning.training_data import TrainingData
from training.learning.training_round import Champion, Round, next_vocabulary, train_round

N_ITEMS, N_NEW, N_ROUNDS = 40, 8, 50
SETTINGS = Settings(hidden_size=8, epochs=1, neighbours=5, min_clicks=100)


def columns(items: list[str]) -> ClickColumns:
    """Clicks on these items, each of a user of its own."""
    item_ids = sorted(set(items))
    index = np.array([item_ids.index(item) for item in items])
    return ClickColumns(np.arange(len(items)), index, np.arange(len(items)) * 1_000, index * 0, item_ids)


def walks(first_item: int, seed: int, count: int = 400) -> TrainingData:
    """Users who go from item to item, one up each time; so many items are there, from the first one on."""
    rng = np.random.default_rng(seed)
    place = rng.integers(N_ITEMS, size=count // 10)
    user = rng.integers(len(place), size=count)
    item = np.zeros(count, dtype=np.int64)
    for number, who in enumerate(user):
        item[number] = place[who] = (place[who] + 1) % N_ITEMS
    # An item is always the neighbour of the same one: what leaves is at the end of the ring.
    ids = [f"item-{first_item + (number - first_item) % N_ITEMS:04}" for number in range(N_ITEMS)]
    clicks = ClickColumns(user, item, np.arange(count) * 500, item * 0, ids)
    return TrainingData(clicks, count, item * 0, np.arange(count))


def trained(data: TrainingData, champion: Champion | None, settings: Settings = SETTINGS) -> Round:
    torch.set_num_threads(1)
    return train_round(data, champion, settings, Cancellation(Event()))


def stored(folder: Path, outcome: Round) -> tuple[Champion, int]:
    """Store a round's bundle, load it again, and say how many bytes it takes."""
    manifest = save_bundle(folder, outcome.network, outcome.vocabulary, created_ms=1, metrics=outcome.metrics())
    path = folder / manifest.bundle_id
    return Champion(*load_network(path)), sum(file.stat().st_size for file in path.iterdir())


def test_a_bundle_does_not_grow_while_items_come_and_go(tmp_path: Path) -> None:
    """After 50 rounds in which a fifth of the items is new each time, it is as large as after the first."""
    champion, sizes = None, []
    for number in range(N_ROUNDS):
        before = champion
        data = walks(number * N_NEW, seed=number)
        outcome = trained(data, before)
        champion, n_bytes = stored(tmp_path, outcome)
        sizes.append(n_bytes)

        assert outcome.parent == (before.manifest.bundle_id if before is not None else "")
        assert set(champion.vocabulary.item_ids) == {data.clicks.item_ids[item] for item in data.clicks.item_index}

    assert champion is not None
    assert len(champion.vocabulary) == N_ITEMS
    assert max(sizes) < 1.02 * sizes[0]
    assert champion.network.item_bias.abs().max() < 10
    assert outcome.new.recall > outcome.popularity.recall


def test_items_that_stay_keep_their_vectors(tmp_path: Path) -> None:
    """By their ids, whatever rows they had and have: they move as little as when nothing leaves."""
    champion, _ = stored(tmp_path, trained(walks(0, seed=0), None))

    outcome = trained(walks(N_NEW, seed=1), champion)

    before, after = champion.vocabulary.index_of, outcome.vocabulary.index_of
    stayed = sorted(before.keys() & after.keys())
    old = champion.network.item_embedding.weight[[before[item_id] for item_id in stayed]]
    new = outcome.network.item_embedding.weight[[after[item_id] for item_id in stayed]]
    assert len(stayed) == N_ITEMS - N_NEW
    assert outcome.vocabulary.item_ids[: len(stayed)] == tuple(i for i in champion.vocabulary.item_ids if i in after)
    assert torch.nn.functional.cosine_similarity(old, new).min() > 0.8


def test_a_catalogue_of_which_little_is_left_is_learnt_from_nothing(tmp_path: Path) -> None:
    """The bundle of before knows less than half of the items; it is still what the new one is compared with."""
    champion, _ = stored(tmp_path, trained(walks(0, seed=0), None))

    little, nothing = (trained(walks(first, seed=1), champion) for first in (N_ITEMS // 2 + 1, 10 * N_ITEMS))

    for outcome in (little, nothing):
        assert outcome.parent == ""
        assert outcome.champion is not None
        assert all(weight.isfinite().all() for weight in outcome.network.state_dict().values())


@pytest.mark.parametrize(
    ("known", "clicked", "n_validation", "expected"),
    [
        ([], ["b", "a", "b"], 0, ["a", "b"]),
        (["c", "a", "b"], ["b", "c", "d"], 0, ["c", "b", "d"]),
        (["c", "a"], ["b", "c", "a", "d"], 2, ["c", "a", "b"]),
    ],
    ids=["new", "one left", "only in the validation part"],
)
def test_items_without_a_click_leave(
    known: list[str], clicked: list[str], n_validation: int, expected: list[str]
) -> None:
    """Known ones stay in their order; an item that is new in the newest part has nothing learnt yet."""
    assert next_vocabulary(known, columns(clicked), len(clicked) - n_validation, 0) == expected


@pytest.mark.parametrize(
    ("max_items", "expected"), [(0, ["c", "a", "b", "d"]), (4, ["c", "a", "b", "d"]), (2, ["a", "d"]), (1, ["a"])]
)
def test_beyond_the_bound_the_least_clicked_leave(max_items: int, expected: list[str]) -> None:
    """Of equally clicked ones those that were clicked longer ago, known or not."""
    clicks = columns(["a", "b", "c", "b", "a", "c", "d", "a", "d"])

    assert next_vocabulary(["c", "a"], clicks, 9, max_items) == expected


@pytest.mark.parametrize(("max_items", "is_known"), [(3, True), (1, False)])
def test_what_is_beyond_the_bound_is_not_trained_on(tmp_path: Path, max_items: int, is_known: bool) -> None:
    """The round goes on with the items that are left, also when none of the parent's is among them."""
    champion, _ = stored(tmp_path, trained(walks(0, seed=0), None))
    settings = Settings(hidden_size=8, epochs=1, neighbours=5, max_items=max_items)
    data = walks(0, seed=1)
    n_new = 50 * (1 - is_known)
    item = data.clicks.item_index.copy()
    item[:n_new] = N_ITEMS  # clicked most, and in no bundle yet
    clicks = data.clicks._replace(item_index=item, item_ids=[*data.clicks.item_ids, "new"])

    outcome = trained(data._replace(clicks=clicks), champion, settings)

    assert len(outcome.vocabulary) == outcome.network.config.n_items == max_items
    assert outcome.parent == (champion.manifest.bundle_id if is_known else "")
    assert all(weight.isfinite().all() for weight in outcome.network.state_dict().values())
