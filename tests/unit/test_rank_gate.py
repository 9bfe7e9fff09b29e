"""A gate moves to where its lists are better, as far as enough predictions show it."""

import pytest
import torch

from nextclick.mixture import Context, Mixture
from nextclick.network_config import N_AGES
from training.learning.rank_gate import Listed, _log_total, _quality, rank_better

N_ITEMS = 300
_SHARP = 0.7
_STEPS = 60
_SHARPNESSES = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Other tests share the cores."""
    torch.set_num_threads(1)


def listed(scores: torch.Tensor, of_newest_neighbours: torch.Tensor) -> Listed:
    """Predictions after one click each; the network's scores of all items, and what the click's neighbours say of
    them: (n, N_ITEMS) each. Item 0 is the one that is clicked next."""
    n = len(scores)
    index = torch.full((n, N_AGES), -1)
    index[:, 0] = N_ITEMS - 1
    of_counts = torch.zeros(n, N_ITEMS, 2 * N_AGES)
    of_counts[:, :, 0] = of_newest_neighbours
    totals = torch.stack([torch.logsumexp(scores * sharpness, 1) for sharpness in _SHARPNESSES], 1)
    context = Context(index, torch.zeros(n, N_AGES), torch.ones(n))
    support = torch.ones(n, N_AGES)
    return Listed(
        context, support, scores, _SHARPNESSES, totals, of_counts, torch.ones(n, N_ITEMS - 1, dtype=torch.bool)
    )


def mixture() -> Mixture:
    """A gate that has learnt nothing."""
    made = Mixture(N_ITEMS, 1)
    made.sharpness.fill_(_SHARP)
    return made


def weight_of_neighbours(gate: Mixture, of: Listed) -> float:
    with torch.inference_mode():
        return float(gate.log_weights(of.context, of.support).exp()[:, 1].mean())


def rank_of_clicked(gate: Mixture, of: Listed) -> int:
    """Of the first prediction, counted."""
    with torch.inference_mode():
        weights = gate.log_weights(of.context, of.support).exp()[0]
        probability = weights[0] * torch.softmax(of.scores[0] * gate.sharpness, 0) + of.of_counts[0] @ weights[1:]
    return int((probability >= probability[0]).sum())


def test_the_gate_moves_to_the_source_that_lists_what_is_clicked() -> None:
    """The neighbours know it, a little; the network is sure of 30 others, a little more."""
    scores, neighbours = torch.zeros(1_000, N_ITEMS), torch.zeros(1_000, N_ITEMS)
    scores[:, 1:31], neighbours[:, 0] = 3.0, 0.02
    of, gate = listed(scores, neighbours), mixture()
    before = weight_of_neighbours(gate, of)

    rank_better(gate, of, _STEPS)

    assert rank_of_clicked(mixture(), of) > 20
    assert rank_of_clicked(gate, of) <= 3
    assert weight_of_neighbours(gate, of) > before


def test_what_a_handful_of_predictions_shows_hardly_moves_the_gate() -> None:
    """It may be chance."""
    scores, neighbours = torch.zeros(3, N_ITEMS), torch.zeros(3, N_ITEMS)
    scores[:, 1:31], neighbours[:, 0] = 3.0, 0.02
    gate = mixture()
    before = {name: weight.detach().clone() for name, weight in gate.named_parameters()}

    rank_better(gate, listed(scores, neighbours), _STEPS)

    assert all((weight - before[name]).abs().max() < 0.1 for name, weight in gate.named_parameters())


def test_the_sharpness_stays_where_its_totals_are_known() -> None:
    """The sharper, the better the lists, as far as it goes."""
    scores, neighbours = torch.zeros(500, N_ITEMS), torch.zeros(500, N_ITEMS)
    scores[:, 0], scores[:, 1:31], neighbours[:, 1:31] = 2.0, 0.0, 0.03
    gate = mixture()
    gate.sharpness.fill_(_SHARPNESSES[-1])

    rank_better(gate, listed(scores, neighbours), _STEPS)

    assert _SHARPNESSES[0] <= gate.sharpness.item() <= _SHARPNESSES[-1]


@pytest.mark.parametrize("rank", [1, 4, 12, 40])
def test_the_smooth_quality_is_that_of_the_list(rank: int) -> None:
    """Where items are told apart clearly, and the clicked one does not stand at the list's end."""
    log_probability = torch.full((1, 60), -9.0)
    log_probability[:, 0], log_probability[:, 1:rank] = -4.0, -2.0

    quality = _quality(log_probability, torch.ones(1, 59, dtype=torch.bool))

    assert quality.item() == pytest.approx((1.0 + 1.0 / rank) if rank <= 20 else 0.0, abs=0.02)


def test_an_item_is_not_its_own_rival() -> None:
    """The one that is clicked is among the best items, too, and would stand half before itself."""
    log_probability = torch.tensor([[-2.0, -9.0, -2.0]])

    quality = _quality(log_probability, torch.tensor([[True, False]]))

    assert quality.item() == pytest.approx(2.0, abs=0.01)
    assert _quality(log_probability, torch.tensor([[True, True]])).item() < 1.8


def test_of_gates_with_equal_lists_the_more_probable_one_is_taken() -> None:
    """Neighbours and network both put what is clicked first, and the neighbours are surer of it."""
    scores, neighbours = torch.zeros(1_000, N_ITEMS), torch.zeros(1_000, N_ITEMS)
    scores[:, 0], neighbours[:, 0] = 4.0, 0.9
    of, gate = listed(scores, neighbours), mixture()
    before = weight_of_neighbours(gate, of)

    rank_better(gate, of, _STEPS)

    assert weight_of_neighbours(gate, of) > before + 0.1


@pytest.mark.parametrize("sharpness", [0.3, 0.6, 0.85, 1.1, 1.3])
def test_totals_between_two_sharpnesses_are_close(sharpness: float) -> None:
    """A straight line is enough: an error is the same for all items of the network."""
    torch.manual_seed(0)
    of = listed(2.0 * torch.randn(5, N_ITEMS), torch.zeros(5, N_ITEMS))

    found = _log_total(torch.tensor(sharpness), of)

    expected = torch.logsumexp(of.scores * sharpness, 1)
    assert torch.allclose(found, expected, atol=1e-5 if sharpness in _SHARPNESSES else 0.05)
