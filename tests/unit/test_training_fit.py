"""Fitting: it learns, it repeats itself with the same seed, it grows, it stops."""

from threading import Event

import numpy as np
import pytest
import torch

from nextclick.network import Network, NetworkConfig
from nextclick.settings import Settings
from training.fit import fit
from training.growth import grown_item_ids, grown_network
from training.losses import LOSSES
from training.sequences import ClickColumns, Sequences, group_by_user, training_windows
from training.watch import TrainingStopped, Watch

N_ITEMS = 40


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
    """Fit a new network to all clicks, without validation: the last pass is kept."""
    torch.manual_seed(settings.seed)
    config = NetworkConfig(n_items, settings.hidden_size, settings.cell, settings.tied)
    network = grown_network(None, config, np.bincount(sequences.item, minlength=n_items).astype(np.float64))
    passes = iter(range(1_000))
    windows = training_windows(sequences, len(sequences), 21)
    watch = Watch(stop or Event())
    fit(network, 0, sequences.item, sequences, windows, settings, lambda _: float(next(passes)), watch)
    return network


def recall_at_1(network: Network, sequences: Sequences) -> float:
    """Share of clicks, but each user's first, that the network ranks first."""
    network.eval()
    with torch.inference_mode():
        first, n_users = sequences.user_starts[:-1], len(sequences.user_starts) - 1
        rows = torch.from_numpy(first[:, None] + np.arange(sequences.user_starts[1]))
        item, event, gap = (
            torch.from_numpy(column)[rows] for column in (sequences.item, sequences.event_type, sequences.gap_s)
        )
        outputs, _ = network.run(network.inputs(item, event, gap), torch.zeros(n_users, network.config.state_size))
        best = network.scores(outputs[:, :-1].reshape(-1, network.config.hidden_size)).argmax(1)
        return (best == item[:, 1:].reshape(-1)).float().mean().item()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_every_cell_learns_which_item_follows(cell: str, tied: bool) -> None:
    """A certain successor is ranked first."""
    sequences = successor_sequences()
    settings = Settings(cell=cell, tied=tied, hidden_size=32, epochs=25, dropout=0.1)

    network = fitted(sequences, settings)

    assert recall_at_1(network, sequences) > 0.9


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_every_loss_learns_which_item_follows(cell: str, loss: str) -> None:
    """With every cell, a certain successor is ranked first, whenever it is asked for."""
    sequences = successor_sequences()
    settings = Settings(cell=cell, loss=loss, hidden_size=32, epochs=25, dropout=0.0)

    network = fitted(sequences, settings)

    assert recall_at_1(network, sequences) == 1.0


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
    sequences = successor_sequences(n_users=600, n_items=400)
    settings = Settings(loss=loss, negatives=40, hidden_size=32, epochs=20, dropout=0.1)

    network = fitted(sequences, settings, n_items=400)

    assert recall_at_1(network, sequences) > 0.9


@pytest.mark.parametrize("negatives", [5, 1_024])
def test_the_same_seed_gives_the_same_weights(negatives: int) -> None:
    """To the last bit, sampled or not; another seed gives others."""
    sequences = successor_sequences(n_users=40)

    first, second, other = (
        fitted(sequences, Settings(hidden_size=16, epochs=2, negatives=negatives, seed=seed)).state_dict()
        for seed in (3, 3, 4)
    )

    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not torch.equal(first["item_embedding.weight"], other["item_embedding.weight"])


def test_the_best_pass_is_kept_and_two_worse_ones_end_the_fit() -> None:
    """Quality 1, 3, 2, 2: four passes, the second one's weights."""
    sequences = successor_sequences(n_users=20)
    network = Network(NetworkConfig(N_ITEMS, 8))
    seen: list[torch.Tensor] = []

    def validate(network: Network) -> float:
        seen.append(network.item_embedding.weight.detach().clone())
        return [1.0, 3.0, 2.0, 2.0][len(seen) - 1]

    windows = training_windows(sequences, len(sequences), 21)
    result = fit(network, 0, sequences.item, sequences, windows, Settings(hidden_size=8), validate, Watch(Event()))

    assert result.epochs == 4
    assert torch.equal(network.item_embedding.weight, seen[1])


def test_a_requested_stop_ends_the_fit() -> None:
    """Within a batch."""
    stop = Event()
    stop.set()

    with pytest.raises(TrainingStopped):
        fitted(successor_sequences(n_users=20), Settings(hidden_size=8), stop=stop)


def test_known_items_keep_their_rows_when_the_vocabulary_grows() -> None:
    """New items are appended; every weight of the parent is where it was, and biases are on one level."""
    torch.manual_seed(0)
    parent = Network(NetworkConfig(3, 8))
    torch.nn.init.normal_(parent.item_bias)

    ids = grown_item_ids(["b", "a", "c"], ["d", "a", "0"])
    network = grown_network(parent, NetworkConfig(5, 8), np.array([5.0, 5.0, 5.0, 5.0, 5.0]))

    assert ids == ["b", "a", "c", "0", "d"]
    assert torch.equal(network.item_embedding.weight[:3], parent.item_embedding.weight)
    assert torch.equal(network.item_bias[:3], parent.item_bias)
    assert torch.equal(network.cell.weight_hh_l0, parent.cell.weight_hh_l0)
    assert torch.allclose(network.item_bias[3:], parent.item_bias.mean())
    assert network.item_embedding.weight[3:].abs().min() > 0


def test_rows_that_no_batch_touched_are_not_changed() -> None:
    """Training costs nothing for items that are not there."""
    sequences = successor_sequences(n_users=20)
    network = Network(NetworkConfig(5_000, 8))
    before = network.item_embedding.weight.detach().clone()
    windows = training_windows(sequences, len(sequences), 21)

    fit(
        network,
        0,
        sequences.item,
        sequences,
        windows,
        Settings(hidden_size=8, negatives=10, epochs=1),
        lambda _: 0.0,
        Watch(Event()),
    )

    changed = (network.item_embedding.weight != before).any(1)
    assert changed[:N_ITEMS].all()
    assert changed.sum() < 500


def test_rows_that_were_learnt_before_move_less_than_new_ones() -> None:
    """A bundle that is trained on keeps what it knows; new items catch up at full speed."""
    sequences = successor_sequences()
    torch.manual_seed(0)
    network = Network(NetworkConfig(N_ITEMS, 16))
    before = network.item_embedding.weight.detach().clone()
    windows = training_windows(sequences, len(sequences), 21)

    settings = Settings(hidden_size=16, epochs=1)
    fit(network, N_ITEMS // 2, sequences.item, sequences, windows, settings, lambda _: 0.0, Watch(Event()))

    moved = (network.item_embedding.weight - before).norm(dim=1)
    assert moved[: N_ITEMS // 2].max() < moved[N_ITEMS // 2 :].min()
