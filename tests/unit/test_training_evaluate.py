"""Evaluation: what is predicted, from what, and that it ranks as the stream would."""

from threading import Event

import numpy as np
import pytest
import torch

from nextclick.model import ServedModel
from nextclick.network import Network, NetworkConfig
from nextclick.ranking_metrics import ranks_of_targets
from nextclick.vocabulary import Vocabulary
from training.evaluate import (
    MISSED,
    Predictions,
    choose_predictions,
    network_ranks,
    popularity_ranks,
    quality_of,
)
from training.sequences import ClickColumns, Sequences, group_by_user
from training.training_round import popularity_weights
from training.watch import TrainingStopped, Watch

WATCH = Watch(Event())
N_ITEMS = 30


def random_clicks(n_clicks: int = 600, n_users: int = 25) -> ClickColumns:
    rng = np.random.default_rng(1)
    return ClickColumns(
        rng.integers(n_users, size=n_clicks),
        rng.integers(N_ITEMS, size=n_clicks),
        np.cumsum(rng.integers(90_000, size=n_clicks)),
        rng.integers(3, size=n_clicks),
        [f"item-{number}" for number in range(N_ITEMS)],
    )


def network() -> Network:
    torch.manual_seed(2)
    made = Network(NetworkConfig(N_ITEMS, 16))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    return made


def test_predicted_is_every_click_of_the_newest_part_but_users_first_ones() -> None:
    """History begins so many clicks before a user's first prediction, and not before the user's first click."""
    item = np.arange(8)
    user = np.array([0, 0, 0, 1, 0, 1, 0, 2])
    sequences = group_by_user(ClickColumns(user, item, item * 1_000, item * 0, [str(i) for i in item]))

    predictions = choose_predictions(sequences, from_rank=4, max_predictions=100, history=2)

    assert sequences.item[predictions.target].tolist() == [4, 6, 5]
    assert sequences.item[predictions.history_first].tolist() == [1, 1, 3]


def test_with_too_many_predictions_the_newest_are_kept() -> None:
    """A round stays quick however long the log is."""
    sequences = group_by_user(random_clicks())

    predictions = choose_predictions(sequences, from_rank=100, max_predictions=50, history=20)

    kept = sequences.age_rank[predictions.target]
    everything = choose_predictions(sequences, 100, 10_000, 20)
    assert len(kept) == 50
    assert kept.min() == np.sort(sequences.age_rank[everything.target])[-50]


def test_ranks_are_those_of_the_served_model_step_by_step() -> None:
    """With unknown items passed over, histories carried on, and users with many predictions cut into windows."""
    sequences, model_network = group_by_user(random_clicks(1_500, 9)), network()
    known = np.arange(N_ITEMS) % 5 != 0
    item_index = np.where(known, np.arange(N_ITEMS), -1)
    predictions = choose_predictions(sequences, from_rank=700, max_predictions=400, history=20)
    fallback = np.full(len(predictions.target), 7, dtype=np.int64)

    ranks = network_ranks(model_network, item_index, sequences, predictions, fallback, WATCH)

    served = ServedModel("1" * 16, model_network, Vocabulary([str(i) for i in range(N_ITEMS)], np.ones(N_ITEMS)))
    expected = [
        _rank_as_served(served, item_index, sequences, first, target)
        for first, target in zip(predictions.history_first, predictions.target, strict=True)
    ]
    # The served state is rounded to float16 after every click: a rank can move by a place.
    assert np.abs(np.minimum(ranks, 99) - np.minimum(expected, 99)).max() <= 2
    assert (ranks == expected).mean() > 0.95


def _rank_as_served(served: ServedModel, item_index: np.ndarray, sequences: Sequences, first: int, target: int) -> int:
    state = b""
    for row in range(first, target):
        index = int(item_index[sequences.item[row]])
        if index >= 0:
            [state] = served.step([state], [(index, int(sequences.gap_s[row]), int(sequences.event_type[row]))])
    index = int(item_index[sequences.item[target]])
    if not state:
        return 7
    return int(ranks_of_targets(served.scores([state]), np.array([index]))[0]) if index >= 0 else int(MISSED)


def test_where_the_network_knows_nothing_popularity_answers() -> None:
    """As in the stream; with a known history an unknown target is missed."""
    item = np.array([0, 1, 2])
    sequences = group_by_user(ClickColumns(item * 0, item, item * 1_000, item * 0, ["a", "b", "c"]))
    predictions = choose_predictions(sequences, 1, 10, 20)

    ranks = network_ranks(network(), np.array([-1, 1, -1]), sequences, predictions, np.array([5, 6]), WATCH)

    assert ranks.tolist() == [5, MISSED]


def test_popularity_counts_ties_against_itself_and_misses_what_was_never_clicked() -> None:
    """Like every other ranking here."""
    item = np.array([0, 1, 2, 3])
    sequences = group_by_user(ClickColumns(item * 0, item, item * 1_000, item * 0, list("abcd")))
    predictions = Predictions(np.array([0, 1, 2, 3]), np.array([0, 0, 0, 0]))

    ranks = popularity_ranks(np.array([3.0, 2.0, 2.0, 0.0]), sequences, predictions)

    assert ranks.tolist() == [1, 3, 3, MISSED]


def test_popularity_halves_with_every_half_life_and_sees_only_the_clicks_before() -> None:
    """The newest click counts 1."""
    item = np.array([0, 1, 1, 2])
    clicks = ClickColumns(item * 0, item, np.array([0, 60_000, 60_000, 120_000]), item * 0, list("abc"))

    assert popularity_weights(clicks, 3, half_life_s=60.0).tolist() == [0.5, 2.0, 0.0]
    assert popularity_weights(clicks, 0, half_life_s=60.0).tolist() == [0.0, 0.0, 0.0]


def test_quality_is_zero_without_predictions() -> None:
    """And no warning of an empty mean."""
    assert quality_of(np.zeros(0, dtype=np.int64)) == (0.0, 0.0, 0.0, 0)


def test_a_requested_stop_ends_an_evaluation() -> None:
    """Within a batch."""
    stop = Event()
    stop.set()
    sequences = group_by_user(random_clicks())
    predictions = choose_predictions(sequences, 300, 1_000, 20)

    with pytest.raises(TrainingStopped):
        network_ranks(
            network(), np.arange(N_ITEMS), sequences, predictions, np.ones(len(predictions.target)), Watch(stop)
        )
