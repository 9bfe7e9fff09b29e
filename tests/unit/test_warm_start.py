"""Where a training begins: items that are clicked together are near, and the cell averages."""

import msgspec
import numpy as np
import pytest
import torch

from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from training.learning.associations import AssociationCounts, count_pairs
from training.learning.fit import spectral_item_vectors, start_as_fading_average
from training.learning.sequences import ClickColumns, group_by_user


def two_groups(n_items: int, n_users: int = 60, n_never: int = 0) -> AssociationCounts:
    """Users who click only items with even numbers, or only items with odd ones; and items that nobody clicks."""
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(n_users), 8)
    item = 2 * rng.integers(n_items // 2, size=len(user)) + user % 2
    grouped = group_by_user(ClickColumns(user, item, user * 0, user * 0, [str(i) for i in range(n_items)]))
    return count_pairs(grouped, n_items + n_never, len(grouped))


def test_items_that_are_clicked_together_point_the_same_way() -> None:
    """Nearer than any item of the other group."""
    vectors = torch.nn.functional.normalize(spectral_item_vectors(two_groups(20), 4, seed=0))

    cosine = vectors @ vectors.T
    same = (torch.arange(20)[:, None] - torch.arange(20)) % 2 == 0
    assert cosine[same].min() > cosine[~same].max() + 0.1


def test_vectors_have_about_length_1_and_are_shorter_where_little_is_known() -> None:
    """An item that was never clicked has no direction."""
    length = spectral_item_vectors(two_groups(20, n_never=1), 8, seed=0).norm(dim=1)

    assert (length[:20] > 0.5).all()
    assert (length <= 1.0).all()
    assert length[20] < 1e-3


@pytest.mark.parametrize("n_items", [2, 6, 30])
def test_with_fewer_items_than_the_width_the_rest_is_0(n_items: int) -> None:
    """There are no more directions than items."""
    vectors = spectral_item_vectors(two_groups(n_items), 32, seed=0)

    assert vectors.shape == (n_items, 32)
    assert vectors.isfinite().all()
    assert not vectors[:, n_items:].any()


def test_without_any_pair_there_are_no_directions() -> None:
    """All zeros, no NaN."""
    grouped = group_by_user(ClickColumns(np.arange(3), np.arange(3), np.arange(3), np.zeros(3, dtype=int), list("abc")))

    vectors = spectral_item_vectors(count_pairs(grouped, 3, 3), 8, seed=0)

    assert torch.equal(vectors, torch.zeros(3, 8))


def test_the_same_seed_gives_the_same_vectors() -> None:
    """To the last bit, and whatever other random numbers were drawn."""
    counts = two_groups(40)
    first = spectral_item_vectors(counts, 8, seed=1)
    torch.rand(3)

    assert torch.equal(spectral_item_vectors(counts, 8, seed=1), first)
    assert not torch.equal(spectral_item_vectors(counts, 8, seed=2), first)


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@torch.inference_mode()
def test_the_cell_begins_as_an_average_in_which_clicks_fade(cell: str) -> None:
    """Without the random part: the last click counts most, each one before it less, and no other item at all."""
    torch.manual_seed(0)
    network = Network(msgspec.convert({"n_items": 6, "hidden_size": 6, "cell": cell}, NetworkConfig))
    for weight in network.cell.parameters():
        weight.zero_()
    network.item_embedding.weight.copy_(torch.eye(6))

    start_as_fading_average(network)

    clicked = torch.tensor([[4, 1, 3]])
    outputs, _ = network.run(
        network.inputs(clicked, clicked * 0, clicked * 0), torch.zeros(1, network.config.state_size)
    )
    hidden = outputs[0, -1]
    assert hidden[3] > hidden[1] > hidden[4] > 0.04
    assert hidden[1] / hidden[3] == pytest.approx(0.7, abs=0.12)
    assert not hidden[[0, 2, 5]].any()


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_the_cell_keeps_a_part_of_its_random_weights(cell: str) -> None:
    """Else all its elements would learn the same."""
    torch.manual_seed(0)
    network = Network(msgspec.convert({"n_items": 6, "hidden_size": 6, "cell": cell}, NetworkConfig))
    before = network.cell.weight_hh_l0.detach().clone()

    start_as_fading_average(network)

    off_diagonal = ~torch.eye(6, dtype=torch.bool).repeat(len(before) // 6, 1)
    assert torch.allclose(network.cell.weight_hh_l0[off_diagonal], 0.3 * before[off_diagonal])
