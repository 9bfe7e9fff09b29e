"""Fitting: it learns, it repeats itself with the same seed, it grows, it stops."""

import dataclasses
from threading import Event
from typing import Any

import numpy as np
import pytest
import torch

from nextclick.mixture import Context
from nextclick.network import Network
from nextclick.network_config import N_AGES, NetworkConfig
from nextclick.ranking_metrics import recall_at
from nextclick.settings import Settings
from training.learning.associations import count_pairs
from training.learning.cancellation import Cancellation, TrainingCancelled
from training.learning.fit import Passes, _Schedule, fit, network_config
from training.learning.losses import LOSSES
from training.learning.sequences import ClickColumns, Sequences, TrainingSet, group_by_user, training_windows
from training.learning.validation import MISSED, Contexts, choose_predictions, network_ranks

N_ITEMS = 40
PLAIN: dict[str, Any] = {"skip": False, "normalised": False, "neighbours": 0}  # the network as it was at first


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Other tests share the cores."""
    torch.set_num_threads(1)


def successor_sequences(n_users: int = 150, n_clicks: int = 10, n_items: int = N_ITEMS) -> Sequences:
    """Users who walk through the items by one fixed permutation: the next click is certain."""
    rng = np.random.default_rng(5)
    successor = np.roll(rng.permutation(n_items), 1)[np.argsort(rng.permutation(n_items))]
    place = rng.integers(n_items, size=n_users)
    items = []
    for _ in range(n_clicks):
        items.append(place)
        place = successor[place]
    item = np.array(items)  # (n_clicks, n_users): all users click in turn
    user = np.tile(np.arange(n_users), n_clicks)
    time_ms = np.arange(item.size) * 1_000
    ids = [str(number) for number in range(n_items)]
    return group_by_user(ClickColumns(user, item.reshape(-1), time_ms, np.zeros(item.size, dtype=np.int64), ids))


def fitted(sequences: Sequences, settings: Settings, n_items: int = N_ITEMS, stop: Event | None = None) -> Network:
    """Fit a new network to all clicks."""
    torch.manual_seed(settings.seed)
    network = Network(network_config(settings, n_items))
    fit(network, training_set(sequences), settings, Cancellation(stop or Event()))
    return network


def training_set(sequences: Sequences) -> TrainingSet:
    """All clicks of some sequences."""
    return TrainingSet(sequences, len(sequences))


def recall_at_1(network: Network, sequences: Sequences, from_rank: int = 0) -> float:
    """Share of clicks, but each user's first, that the network ranks first."""
    predictions = choose_predictions(sequences, from_rank, len(sequences), 1_000_000, 20)
    fallback = np.full(len(predictions.target), MISSED)
    ranks = network_ranks(network, sequences, predictions, fallback, Cancellation(Event()))
    return recall_at(ranks, 1)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_every_cell_learns_which_item_follows(cell: str, tied: bool) -> None:
    """A certain successor is ranked first. Without any learning, the first of the list is never right."""
    sequences = successor_sequences(n_users=80)
    settings = Settings(
        cell=cell,
        tied=tied,
        hidden_size=32,
        epochs=12,
        batch_windows=8,
        dropout=0.1,
        feature_dropout=0.0,
        neighbours=0,
    )

    network = fitted(sequences, settings)

    assert recall_at_1(network, sequences) > 0.9


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_every_loss_learns_which_item_follows(cell: str, loss: str) -> None:
    """With every cell, a certain successor is ranked first, nearly whenever it is asked for."""
    sequences = successor_sequences(n_users=40, n_items=20)
    settings = Settings(
        cell=cell,
        loss=loss,
        hidden_size=32,
        epochs=8,
        batch_windows=8,
        dropout=0.0,
        feature_dropout=0.0,
        neighbours=0,
        skip=False,
        normalised=loss != "bpr_max",  # which pulls scores to zero: a cosine times 14 has none to spare
    )

    network = fitted(sequences, settings, n_items=20)

    assert recall_at_1(network, sequences) > 0.9


def test_the_setting_says_which_loss_is_learnt() -> None:
    """Each leads to other weights."""
    sequences = successor_sequences(n_users=40)

    weights = [fitted(sequences, Settings(loss=loss, hidden_size=8, epochs=1)).item_bias for loss in LOSSES]

    assert not any(torch.equal(weights[one], weights[other]) for one, other in ((0, 1), (0, 2), (1, 2)))


def test_the_setting_has_every_loss() -> None:
    """The core names them, training has them."""
    (choices,) = [row[2] for row in Settings.describe() if row[0] == "loss"]

    assert choices.split(" | ") == list(LOSSES)


@pytest.mark.parametrize("loss", LOSSES)
def test_sampled_negatives_learn_it_too(loss: str) -> None:
    """With far more items than negatives."""
    sequences = successor_sequences(n_users=150, n_items=120)
    settings = Settings(
        loss=loss,
        negatives=20,
        hidden_size=32,
        epochs=12,
        batch_windows=8,
        dropout=0.0,
        feature_dropout=0.0,
        **PLAIN,
    )

    network = fitted(sequences, settings, n_items=120)

    assert recall_at_1(network, sequences) > 0.9


@pytest.mark.parametrize("negatives", [5, 1_024])
def test_the_same_seed_gives_the_same_weights(negatives: int) -> None:
    """To the last bit on a CPU, sampled or not; another seed gives others. A GPU sums in no fixed order."""
    sequences = successor_sequences(n_users=40)
    settings = Settings(hidden_size=16, epochs=2, negatives=negatives, device="cpu")

    first, second, other = (
        fitted(sequences, dataclasses.replace(settings, seed=seed)).state_dict() for seed in (3, 3, 4)
    )

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["item_embedding.weight"], other["item_embedding.weight"])


def test_there_are_as_many_passes_as_the_setting_says() -> None:
    """None is left out, and they are counted."""
    sequences = successor_sequences(n_users=20)
    settings = Settings(hidden_size=8, epochs=3)

    result = fit(Network(network_config(settings, N_ITEMS)), training_set(sequences), settings, Cancellation(Event()))

    assert result.epochs == 3
    assert result.clicks_per_s > 0


def test_the_newest_clicks_are_learnt_too() -> None:
    """Other ones there lead to other weights, also where there is but one pass."""
    sequences = successor_sequences(n_users=60)
    is_newest = sequences.age_rank >= 0.95 * len(sequences)
    others = dataclasses.replace(
        sequences, item_index=np.where(is_newest, (sequences.item_index + 1) % N_ITEMS, sequences.item_index)
    )
    settings = Settings(hidden_size=8, epochs=1, neighbours=0, device="cpu")
    weights = []
    for clicks in (sequences, sequences, others):
        torch.manual_seed(0)
        network = Network(network_config(settings, N_ITEMS))
        fit(network, training_set(clicks), settings, Cancellation(Event()))
        weights.append(network.item_embedding.weight)

    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize("recent_clicks", [20, 3])
def test_every_pass_has_every_click_before_the_newest_ones(recent_clicks: int) -> None:
    """Also of users who were there to the end: of each click but a user's first once, and nothing newer."""
    sequences, settings = successor_sequences(n_users=30), Settings(hidden_size=8, recent_clicks=recent_clicks)
    network = Network(network_config(settings, N_ITEMS))

    windows = _Schedule(network, training_set(sequences), settings, Cancellation(Event())).first

    targets = [row for first, end in zip(windows.first, windows.end, strict=True) for row in range(first + 1, end)]
    is_first = np.arange(len(sequences)) == sequences.first_row_of_user()
    assert sorted(targets) == np.flatnonzero((sequences.age_rank < 270) & ~is_first).tolist()


def test_the_mixture_gets_the_counts_of_all_clicks() -> None:
    """Also of the newest: what judged the gate is what is served."""
    sequences = successor_sequences(n_users=40)

    network = fitted(sequences, Settings(hidden_size=8, epochs=1, neighbours=5))

    counts = count_pairs(sequences, N_ITEMS, len(sequences))
    assert network.mixture is not None
    for found, expected in zip(
        (network.mixture.neighbours, network.mixture.shares, network.mixture.support),
        counts.neighbour_lists(5),
        strict=True,
    ):
        assert np.array_equal(found.numpy(), expected)


@pytest.mark.parametrize("follows_the_rule", [True, False])
def test_the_gate_is_fitted_with_counts_that_have_not_seen_its_clicks(follows_the_rule: bool) -> None:
    """Where the newest clicks follow another rule, the counts of them would be right, and those before them are not."""
    sequences = successor_sequences(n_users=400)
    if not follows_the_rule:
        is_newest = sequences.age_rank >= 0.9 * len(sequences)  # the last click of every user
        item = np.where(is_newest, (sequences.item_index + 1) % N_ITEMS, sequences.item_index)
        sequences = dataclasses.replace(sequences, item_index=item)
    settings = Settings(hidden_size=8, epochs=1)

    network = fitted(sequences, settings)

    context = Contexts(sequences).of(sequences.user_starts[1:] - 1)
    support = torch.full(context.item_index.shape, 4.0)
    trust = []
    for each in (network.mixture, Network(network_config(settings, N_ITEMS)).mixture):
        assert each is not None
        with torch.inference_mode():
            trust.append(each.log_weights(context, support).exp()[:, 1].mean().item())
    assert (trust[0] > trust[1]) is follows_the_rule


def test_counts_are_worth_more_than_a_pass_of_the_network() -> None:
    """With the mixture the first pass ranks better than without."""
    sequences = successor_sequences(n_users=60)

    with_counts, without = (
        recall_at_1(fitted(sequences, Settings(hidden_size=8, epochs=1, neighbours=neighbours)), sequences)
        for neighbours in (10, 0)
    )

    assert with_counts > without + 0.1


def few_clicks(clicks: list[tuple[int, int]]) -> Sequences:
    """Clicks (user, item), oldest first."""
    user, item = np.array(clicks, dtype=np.int64).reshape(-1, 2).T
    return group_by_user(ClickColumns(user, item, np.arange(len(clicks)) * 1_000, item * 0, list("abcdef")))


@pytest.mark.parametrize(
    "clicks",
    [
        [],
        [(0, 0)],
        [(0, 0), (0, 1)],
        [(0, 0), (0, 0)],
        [(0, 0), (0, 1), (0, 2), (0, 1)],
        [(user, user % 3) for user in range(30)],
        [(0, 0), (0, 1), *[(1 + user, user % 3) for user in range(30)]],
        [*[(1 + user, user % 3) for user in range(30)], (0, 0), (0, 1)],
    ],
    ids=["none", "one", "two", "the same item", "one user", "all alone", "none that is new", "only one that is new"],
)
@pytest.mark.parametrize("more", [{"neighbours": 3}, {"neighbours": 0}, {"skip": False, "normalised": False}], ids=str)
def test_little_to_learn_is_no_error(clicks: list[tuple[int, int]], more: dict[str, Any]) -> None:
    """What comes out gives probabilities."""
    settings = dataclasses.replace(Settings(hidden_size=8, epochs=2), **more)

    check_served(fitted(few_clicks(clicks), settings, n_items=3))


@pytest.mark.parametrize("n_items", [1, 2, 6])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_a_few_items_are_enough(cell: str, tied: bool, n_items: int) -> None:
    """Fewer than the width, than the neighbour lists are long, and than negatives are drawn."""
    sequences = few_clicks([(user, (user + step) % n_items) for step in range(4) for user in range(12)])
    settings = Settings(cell=cell, tied=tied, hidden_size=8, epochs=2)

    network = fitted(sequences, settings, n_items=n_items)

    check_served(network)
    assert recall_at_1(network, sequences) >= 0.9 or n_items > 2


def check_served(network: Network) -> None:
    """Make sure that every weight is a number, and every probability one."""
    assert all(weight.isfinite().all() for weight in network.state_dict().values())
    context = Context(torch.zeros(1, N_AGES, dtype=torch.int64), torch.zeros(1, N_AGES), torch.ones(1))
    with torch.inference_mode():
        probabilities = network.probabilities(torch.ones(1, network.config.hidden_size), context)
    assert (probabilities >= 0).all()
    assert 0.05 < probabilities.sum() < 1 + 1e-5


def test_a_requested_stop_ends_the_fit() -> None:
    """Within a batch."""
    stop = Event()
    stop.set()

    with pytest.raises(TrainingCancelled):
        fitted(successor_sequences(n_users=20), Settings(hidden_size=8), stop=stop)


def test_a_new_network_begins_warm() -> None:
    """Its vectors are those of counts, before anything is learnt."""
    sequences = successor_sequences(n_users=60)
    settings = Settings(hidden_size=8, epochs=1, learning_rate=1e-6, dropout=0.0)
    torch.manual_seed(0)
    network = Network(network_config(settings, N_ITEMS))
    before = network.item_embedding.weight.detach().clone()

    fit(network, training_set(sequences), settings, Cancellation(Event()))

    assert not torch.allclose(network.item_embedding.weight, before, atol=1e-3)


def test_rows_that_no_batch_touched_are_not_changed() -> None:
    """Training on costs nothing for items that are not there."""
    sequences = successor_sequences(n_users=20)
    network = Network(NetworkConfig(5_000, 8))
    before = network.item_embedding.weight.detach().clone()

    settings = Settings(hidden_size=8, negatives=10)
    passes = Passes(network, sequences, settings, Cancellation(Event()))
    passes.learn(training_windows(sequences, len(sequences), 21), "a pass")

    changed = (network.item_embedding.weight != before).any(1)
    assert changed[:N_ITEMS].all()
    assert changed.sum() < 500


def test_the_gate_is_fitted_on_items_that_were_there_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an item whose first click is among the newest ones no source can know anything."""
    sequences = successor_sequences()
    item = sequences.item_index.copy()
    newest = sequences.age_rank >= int(0.9 * len(sequences))
    item[np.flatnonzero(newest)[::2]] = N_ITEMS  # new there
    sequences = dataclasses.replace(sequences, item_index=item)
    seen: list[np.ndarray[Any, Any]] = []
    monkeypatch.setattr(
        "training.learning.fit.fit_mixture",
        lambda network, sequences, predictions, *more: seen.append(predictions.target) or torch.zeros(1),
    )

    fitted(sequences, Settings(hidden_size=8, epochs=1), N_ITEMS + 1)

    expected = np.flatnonzero(newest & (item != N_ITEMS))
    assert [target.tolist() for target in seen] == [expected.tolist()]
