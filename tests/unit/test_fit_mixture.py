"""The gate trusts whom the clicks that nobody has seen show to be right."""

import math
from collections.abc import Callable
from threading import Event

import numpy as np
import pytest
import torch

from nextclick.network import Network
from nextclick.network_config import N_AGES, NetworkConfig
from training.learning.associations import count_pairs
from training.learning.cancellation import Cancellation, TrainingCancelled
from training.learning.fit_mixture import (
    _FIT_SCORES,
    _RANK_SCORES,
    _affordable,
    _largest,
    _sums_near,
    _thinned,
    fit_mixture,
    refit_mixture,
)
from training.learning.sequences import ClickColumns, Ints, Sequences, group_by_user
from training.learning.validation import Contexts, Predictions

N_ITEMS = 10
COUNTS = {"mixture.neighbours", "mixture.shares", "mixture.support"}  # set by the tests
SUCCESSOR = np.roll(np.arange(N_ITEMS), 1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Other tests share the cores."""
    torch.set_num_threads(1)


def pairs(first: Ints, second: Ints) -> Sequences:
    """Users who click two items each, one user after the other."""
    item = np.stack([first, second], 1).ravel()
    user = np.repeat(np.arange(len(first)), 2)
    return group_by_user(ClickColumns(user, item, user * 1_000, user * 0, [str(i) for i in range(N_ITEMS)]))


def network_that_says(scores: torch.Tensor) -> Network:
    """A network whose scores after an item are a row of (N_ITEMS, N_ITEMS), whatever was clicked before."""
    torch.manual_seed(0)
    network = Network(NetworkConfig(N_ITEMS, N_ITEMS, tied=False, skip=True, n_neighbours=N_ITEMS))
    with torch.no_grad():
        for weight in network.cell.parameters():
            weight.zero_()
        network.item_embedding.weight.copy_(torch.eye(N_ITEMS))
        network.output_embedding.weight.copy_(scores.T)
    return network


def fit_on(
    network: Network,
    older: Sequences,
    newer: Sequences,
    cancellation: Cancellation | None = None,
    fit: Callable[..., None] = fit_mixture,
) -> torch.Tensor:
    """Fit the gate on newer clicks with counts of older ones; give the weights of the terms there."""
    n_older, user = len(older), np.arange(len(older) + len(newer)) // 2
    item = np.concatenate([older.item_index, newer.item_index])
    all_clicks = group_by_user(ClickColumns(user, item, user * 1_000, user * 0, [str(i) for i in range(N_ITEMS)]))
    counts = count_pairs(all_clicks, N_ITEMS, n_older)
    mixture = network.mixture
    assert mixture is not None
    lists = counts.neighbour_lists(mixture.neighbours.shape[1])
    for buffer, array in zip((mixture.neighbours, mixture.shares, mixture.support), lists, strict=True):
        buffer.copy_(torch.from_numpy(array))
    target = np.arange(n_older + 1, len(all_clicks), 2)
    predictions = Predictions(target, target - 1)
    fit(network, all_clicks, predictions, counts, cancellation or Cancellation(Event()))
    context = Contexts(all_clicks).of(target)
    with torch.inference_mode():
        return mixture.log_weights(context, mixture.support[context.item_index.clamp(min=0)]).exp()


def random_items(n: int, seed: int = 1) -> Ints:
    return np.random.default_rng(seed).integers(N_ITEMS, size=n)


def test_where_the_counts_know_what_comes_the_gate_trusts_them() -> None:
    """A network that finds all items alike is worth little beside them; nobody clicks an item again."""
    first = random_items(600)

    weights = fit_on(
        network_that_says(torch.zeros(N_ITEMS, N_ITEMS)), pairs(first, SUCCESSOR[first]), pairs(first, SUCCESSOR[first])
    )

    assert weights[:, 1].min() > 0.9
    assert weights[:, 1 + N_AGES].max() < 0.03


def test_where_the_network_knows_what_comes_the_gate_trusts_it() -> None:
    """Counts of clicks that followed another rule say nothing of these."""
    first = random_items(600)
    scores = 9.0 * torch.eye(N_ITEMS)[torch.from_numpy(SUCCESSOR)]

    weights = fit_on(network_that_says(scores), pairs(first, first[::-1].copy()), pairs(first, SUCCESSOR[first]))

    assert weights[:, 0].min() > 0.95


def test_where_users_click_again_what_they_clicked_the_gate_sees_it() -> None:
    """Neither counts, which have no item beside itself, nor the network say so."""
    first = random_items(600)

    weights = fit_on(
        network_that_says(torch.zeros(N_ITEMS, N_ITEMS)), pairs(first, SUCCESSOR[first]), pairs(first, first)
    )

    assert weights[:, 1 + N_AGES].min() > 0.9


def test_the_gate_tells_items_with_counts_from_those_without() -> None:
    """Where half of the items were never seen before, the network answers for them alone."""
    first = random_items(800)
    known = first[first < N_ITEMS // 2]
    scores = 1.0 * torch.eye(N_ITEMS)[torch.from_numpy(SUCCESSOR)]
    scores[: N_ITEMS // 2] = 0.0  # of items with counts, the network knows nothing

    weights = fit_on(network_that_says(scores), pairs(known, SUCCESSOR[known]), pairs(first, SUCCESSOR[first]))

    has_counts, is_known = np.isin(first, [*known, *SUCCESSOR[known]]), np.isin(first, known)
    assert not weights[torch.from_numpy(~has_counts), 1].any()
    assert weights[torch.from_numpy(is_known), 1].min() > 0.7


def test_a_gate_that_is_fitted_again_keeps_what_it_found_and_follows_what_is_new() -> None:
    """Clicks of the same kind leave it where it is; when users begin to click items again, it moves there."""
    first = random_items(600)
    older, other = pairs(first, SUCCESSOR[first]), random_items(600, seed=2)
    network = network_that_says(torch.zeros(N_ITEMS, N_ITEMS))
    fit_on(network, older, pairs(first, SUCCESSOR[first]))

    same = fit_on(network, older, pairs(other, SUCCESSOR[other]), fit=refit_mixture)
    few = fit_on(network, older, pairs(other[:3], other[:3]), fit=refit_mixture)
    changed = fit_on(network, older, pairs(other, other), fit=refit_mixture)

    assert same[:, 1].min() > 0.9
    assert few[:, 1].min() > 0.9
    assert changed[:, 1 + N_AGES].min() > 2 * same[:, 1 + N_AGES].max()


def test_a_few_predictions_leave_the_gate_near_its_beginning() -> None:
    """What three clicks show may be chance."""
    first = random_items(600)
    older, few = pairs(first, SUCCESSOR[first]), pairs(first[:3], SUCCESSOR[first[:3]])
    network = network_that_says(torch.zeros(N_ITEMS, N_ITEMS))
    assert network.mixture is not None
    before = {name: weight.detach().clone() for name, weight in network.mixture.named_parameters()}
    before["of_term"][1 : 1 + N_AGES] += math.log(2.0)  # the factor that is usual

    fit_on(network, older, few)

    moved = {name: (weight - before[name]).abs().max() for name, weight in network.mixture.named_parameters()}
    assert max(moved.values()) < 0.2


def test_without_a_prediction_nothing_changes() -> None:
    """The sharpness neither."""
    network = network_that_says(torch.zeros(N_ITEMS, N_ITEMS))
    weights = {name: weight for name, weight in network.state_dict().items() if name not in COUNTS}
    before = {name: weight.clone() for name, weight in weights.items()}
    first = random_items(20)

    fit_on(network, pairs(first, SUCCESSOR[first]), pairs(first[:0], first[:0]))

    assert all(torch.equal(weight, before[name]) for name, weight in weights.items())


@pytest.mark.parametrize(
    ("n_items", "n_predictions", "n_scores", "expected"),
    [
        (1_000, 20_000, _RANK_SCORES, 20_000),
        (40_000, 20_000, _RANK_SCORES, 10_000),
        (10**8, 20_000, _RANK_SCORES, 4_000),
        (9, 3, _RANK_SCORES, 3),
        (100_000, 20_000, _FIT_SCORES, 20_000),
        (200_000, 20_000, _FIT_SCORES, 10_000),
    ],
)
def test_both_fits_see_fewer_predictions_of_a_large_catalogue(
    n_items: int, n_predictions: int, n_scores: int, expected: int
) -> None:
    """Scoring takes time by items; yet 4,000 remain, for what fewer show is chance. Old and new ones stay alike."""
    target = np.arange(n_predictions)

    some = _thinned(Predictions(target, target), _affordable(n_items, n_scores))

    assert len(some.target) == expected
    assert some.target[0] == 0
    assert np.unique(np.diff(some.target)).size == 1


@pytest.mark.parametrize("sharpness", [0.3, 0.5, 0.9, 1.3])
def test_a_round_moves_gate_and_sharpness_and_neither_far(sharpness: float) -> None:
    """Also from the ends of where a sharpness can be. What is clicked is what the network says, but too softly."""
    first = random_items(600)
    network = network_that_says(2.0 * torch.eye(N_ITEMS)[torch.from_numpy(SUCCESSOR)])
    assert network.mixture is not None
    network.mixture.sharpness.fill_(sharpness)
    before = {name: weight.detach().clone() for name, weight in network.mixture.named_parameters()}

    fit_on(network, pairs(first, first[::-1].copy()), pairs(first, SUCCESSOR[first]), fit=refit_mixture)

    assert min(sharpness, 1.29) < network.mixture.sharpness.item() <= min(max(sharpness, 0.5) + 0.2, 1.3) + 1e-6
    assert any(not torch.equal(weight, before[name]) for name, weight in network.mixture.named_parameters())


@pytest.mark.parametrize("sharpness", [0.3, 0.6, 0.85, 1.3])
def test_sums_near_a_sharpness_are_what_they_would_be_counted(sharpness: float) -> None:
    """Nearly: what mean and variance leave out is less than what the straight line between two of them does."""
    torch.manual_seed(0)
    scores = 3.0 * torch.randn(5, 2_000)

    of_network, sharpnesses, found = _sums_near(sharpness, scores)

    expected = torch.stack([torch.logsumexp(scores * each, 1) for each in sharpnesses], 1)
    assert sharpnesses[0] - 1e-6 <= sharpness <= sharpnesses[-1] + 1e-6
    assert torch.allclose(found[:, 1], expected[:, 1], atol=1e-5)
    assert torch.allclose(found, expected, atol=0.05)
    assert torch.allclose(of_network, torch.softmax(scores * sharpnesses[1], 1), atol=1e-6)


@pytest.mark.parametrize(("n", "k"), [(7, 3), (60, 60), (479, 60), (480, 60), (1_003, 60), (1_003, 1)])
def test_the_largest_numbers_are_those_of_topk(n: int, k: int) -> None:
    """Of equal ones any."""
    torch.manual_seed(n)
    numbers = torch.randint(500, (20, n)).float()

    found = _largest(numbers, k)

    assert all(len(set(row)) == k for row in found.tolist())
    assert torch.equal(numbers.gather(1, found).sort(1).values, numbers.topk(k).values.sort(1).values)


def test_only_the_gate_is_changed() -> None:
    """Network and counts are held still."""
    first = random_items(100)
    network = network_that_says(torch.zeros(N_ITEMS, N_ITEMS))
    before = {name: weight.clone() for name, weight in network.state_dict().items()}

    fit_on(network, pairs(first, SUCCESSOR[first]), pairs(first, SUCCESSOR[first]))

    changed = {name for name, weight in network.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed
    assert all(name.startswith("mixture.") for name in changed)
    assert changed - COUNTS


def test_a_requested_stop_ends_the_fit_of_the_gate() -> None:
    """Before the next temperature."""
    stop = Event()
    stop.set()
    first = random_items(20)

    with pytest.raises(TrainingCancelled):
        fit_on(
            network_that_says(torch.zeros(N_ITEMS, N_ITEMS)),
            pairs(first, SUCCESSOR[first]),
            pairs(first, SUCCESSOR[first]),
            Cancellation(stop),
        )
