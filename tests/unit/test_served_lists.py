"""Lists as serving would make them: the same as training's ranks say, and counted by hand."""

from threading import Event

import numpy as np
import pytest
import torch

from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.ranking_metrics import Ranks
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network
from training.learning.cancellation import Cancellation
from training.learning.judgement import Lists
from training.learning.sequences import ClickColumns, Sequences, group_by_user
from training.learning.served_lists import lists_as_served, most_popular, users_before
from training.learning.validation import Predictions, choose_predictions, network_ranks

CANCELLATION = Cancellation(Event())
N_ITEMS, N_KNOWN, N_RECENT = 200, 160, 20
ITEM_IDS = [f"item-{number}" for number in range(N_ITEMS)]
VOCABULARY = Vocabulary(ITEM_IDS[:N_KNOWN], np.ones(N_KNOWN))


def network() -> Network:
    made = random_network(NetworkConfig(N_KNOWN, 16, skip=True, normalised=True, n_neighbours=6), 2)
    with torch.no_grad():
        made.item_embedding.weight.normal_()
    made.normalise()
    return made


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    rng = np.random.default_rng(1)
    clicks = ClickColumns(
        rng.integers(60, size=2_000),
        rng.integers(N_ITEMS, size=2_000),
        np.cumsum(rng.integers(90_000, size=2_000)),
        rng.integers(3, size=2_000),
        ITEM_IDS,
    )
    return group_by_user(clicks)


@pytest.fixture(scope="module")
def predictions(sequences: Sequences) -> Predictions:
    return choose_predictions(sequences, 1_200, 2_000, 1_000, N_RECENT)


def known(sequences: Sequences) -> Sequences:
    return sequences.renumbered(np.where(np.arange(N_ITEMS) < N_KNOWN, np.arange(N_ITEMS), -1))


def lists(model: Network, sequences: Sequences, predictions: Predictions, popular: list[str]) -> Lists:
    users = users_before(sequences, predictions, ITEM_IDS, N_RECENT)
    target = np.where(users.target < N_KNOWN, users.target, -1)
    of_known = known(sequences)
    return lists_as_served(model, VOCABULARY, of_known, users._replace(target=target), popular, CANCELLATION)


def ranks(model: Network, sequences: Sequences, predictions: Predictions) -> Ranks:
    fallback = np.full(len(predictions.target), 1_000, dtype=np.int64)
    return network_ranks(model, known(sequences), predictions, fallback, CANCELLATION)


def test_hits_are_those_that_training_counts(sequences: Sequences, predictions: Predictions) -> None:
    """States, recent clicks and the served engine say the same of every user as the network says in training.

    All but a few: the state is rounded once, and a rank of 20 can become one of 21.
    """
    model = network()

    made = lists(model, sequences, predictions, [])

    assert made.n_lists == len(predictions.target)
    assert made.hits == pytest.approx((ranks(model, sequences, predictions) <= 20).sum(), abs=3)
    assert made.hits > 50


def test_what_the_lists_hold_is_counted(sequences: Sequences, predictions: Predictions) -> None:
    """With a bias that puts 20 items into every list, these are all there is."""
    model = network()
    with torch.no_grad():
        model.item_bias[:20] += 60.0
        assert model.mixture is not None
        model.mixture.of_term[0] += 60.0  # counts count for nothing

    made = lists(model, sequences, predictions, [*ITEM_IDS[15:25], "an item that nobody knows"])

    assert (made.n_items, made.n_known) == (20, N_KNOWN)
    assert made.popular_share == pytest.approx(5 / 20)
    is_known = sequences.item_index[predictions.target] < N_KNOWN
    assert made.expected_hits == pytest.approx(is_known.sum(), rel=1e-3)
    assert made.step_ms > 0.0


def test_users_of_whom_nothing_is_known_get_no_list() -> None:
    """They see popular items."""
    item = np.array([N_KNOWN, N_KNOWN + 1, 3])
    sequences = group_by_user(ClickColumns(item * 0, item, item * 0, item * 0, ITEM_IDS))

    made = lists(network(), sequences, choose_predictions(sequences, 1, 3, 10, N_RECENT), ITEM_IDS[:20])

    assert made == Lists(0, 0, N_KNOWN, 0.0, 0.0, 0, 0.0)


def test_no_prediction_is_no_list(sequences: Sequences) -> None:
    """And no error."""
    nothing = choose_predictions(sequences, 5_000, 6_000, 10, N_RECENT)

    assert lists(network(), sequences, nothing, []).n_lists == 0


def test_the_most_popular_items_are_those_with_the_highest_weights() -> None:
    """At most 20, and none that nobody clicked."""
    weights = np.zeros(N_ITEMS)
    weights[[7, 9]] = [1.0, 2.0]

    assert most_popular(weights, ITEM_IDS) == ["item-9", "item-7"]
    assert len(most_popular(np.ones(N_ITEMS), ITEM_IDS)) == 20
