"""The recurrent network: every cell, with one item embedding or two."""

import msgspec
import pytest
import torch

from nextclick.clicks import EVENT_TYPES, OTHER_EVENT
from nextclick.mixture import Context
from nextclick.network import Network
from nextclick.network_config import N_AGES, N_EVENT_ROWS, N_GAP_BINS, NetworkConfig
from tests.networks import random_network

CELLS = ("gru", "lstm", "rnn")


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_step_by_step_equals_the_whole_sequence(cell: str, tied: bool) -> None:
    """The stream takes one click at a time, the trainer a sequence: the same arithmetic."""
    network = _network(cell, tied)
    items, events, gaps = torch.randint(0, 9, (3, 5)), torch.randint(0, 7, (3, 5)), torch.randint(0, 10**7, (3, 5))
    zero = torch.zeros(3, network.config.state_size)

    outputs, after = network.run(network.inputs(items, events, gaps), zero)
    state = zero
    for step in range(5):
        clicks = network.inputs(items[:, step], events[:, step], gaps[:, step]).unsqueeze(1)
        output, state = network.run(clicks, state)

        torch.testing.assert_close(output[:, 0], outputs[:, step])
        torch.testing.assert_close(network.hidden(state), outputs[:, step])
    torch.testing.assert_close(state, after)
    assert not zero.any()


@pytest.mark.parametrize("cell", CELLS)
@torch.inference_mode()
def test_what_the_cell_carries_has_the_configured_size(cell: str) -> None:
    """An LSTM carries two vectors, and items are scored with the first."""
    network = _network(cell)
    state = torch.arange(2.0 * network.config.state_size).reshape(2, -1)

    assert network.config.state_size == (8 if cell == "lstm" else 4)
    assert torch.equal(network.hidden(state), state[:, :4])
    _, after = network.run(torch.zeros(2, 1, 4), state)
    assert after.shape == state.shape


@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_scores_are_dot_products_plus_bias(tied: bool) -> None:
    """Tied scores use the input embedding, others one of their own."""
    network = _network("gru", tied)
    network.item_bias.copy_(torch.arange(9.0))
    output = torch.randn(2, 4)

    scores = network.scores(output)

    weights = network.item_embedding.weight if tied else network.output_embedding.weight
    torch.testing.assert_close(scores, output @ weights.T + torch.arange(9.0))
    assert torch.equal(network.item_embedding.weight, network.output_embedding.weight) is tied
    n_embeddings = sum(parameter.shape == (9, 4) for parameter in network.parameters())
    assert n_embeddings == (1 if tied else 2)


@torch.inference_mode()
def test_the_skip_adds_the_last_click_element_by_element() -> None:
    """Without one the features are what the cell puts out."""
    network, plain = _network("gru", skip=True), _network("gru")
    hidden, inputs = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[10.0, 20.0, 30.0, 40.0]])
    assert network.skip is not None
    network.skip.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5]))

    assert network.features(hidden, inputs).tolist() == [[1.0, 22.0, -27.0, 24.0]]
    assert plain.features(hidden, inputs) is hidden


@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_normalised_scores_are_cosines_times_the_scale_plus_bias(tied: bool) -> None:
    """How long the vectors are does not matter."""
    network = _network("gru", tied, normalised=True)
    network.output_embedding.weight.mul_(torch.arange(1.0, 10.0)[:, None])
    network.normalise()
    assert network.scale is not None
    network.scale.fill_(5.0)
    features = torch.randn(2, 4)

    scores = network.scores(features)

    weights = network.output_embedding.weight
    cosine = torch.cosine_similarity(features[:, None], weights, dim=2)
    torch.testing.assert_close(scores, 5 * cosine + network.item_bias)
    torch.testing.assert_close(network.scores(100 * features), scores)
    torch.testing.assert_close(weights.norm(dim=1), torch.ones(9))
    torch.testing.assert_close(network.item_embedding.weight.norm(dim=1), torch.ones(9))


@torch.inference_mode()
def test_vectors_that_are_not_compared_by_direction_keep_their_length() -> None:
    """There is nothing to bring to length 1."""
    network = _network("gru")
    before = network.item_embedding.weight.clone()

    network.normalise()

    assert torch.equal(network.item_embedding.weight, before)
    assert (before.norm(dim=1) - 1).abs().min() > 1e-3


@torch.inference_mode()
def test_sharpness_multiplies_scores_and_bias() -> None:
    """It stands for a temperature."""
    network, features = _network("gru", normalised=True), torch.randn(2, 4)

    torch.testing.assert_close(network.scores(features, 0.5), 0.5 * network.scores(features))


@torch.inference_mode()
def test_inputs_of_normalised_vectors_have_the_size_that_gates_like() -> None:
    """Four times as long as the vectors that are compared."""
    network = _network("gru", normalised=True)
    event, gap = network.event_embedding.weight[1], network.gap_embedding.weight[0]

    inputs = network.inputs(torch.tensor([3]), torch.tensor([1]), torch.tensor([0]))

    torch.testing.assert_close(inputs[0], 4.0 * network.item_embedding.weight[3] + event + gap)


@torch.inference_mode()
def test_probabilities_come_from_the_mixture_where_there_is_one() -> None:
    """Else they are the softmax of the scores."""
    plain, mixed = _network("gru"), _network("gru", n_neighbours=2)
    features = torch.randn(2, 4)
    context = Context(torch.full((2, N_AGES), 4), torch.zeros(2, N_AGES), torch.ones(2))
    assert mixed.mixture is not None

    expected = mixed.mixture.probabilities(mixed.scores(features) * mixed.mixture.sharpness, context)

    torch.testing.assert_close(plain.probabilities(features, context), plain.scores(features).softmax(1))
    torch.testing.assert_close(mixed.probabilities(features, context), expected)


@pytest.mark.parametrize(
    ("gap_s", "gap_bin"),
    [
        (0, 0),
        (1, 1),
        (2, 1),
        (3, 2),
        (6, 2),
        (7, 3),
        (2**22 - 1, 22),
        (2**23 - 2, 22),
        (2**23 - 1, 23),
        (2**32 - 1, 23),
    ],
)
@torch.inference_mode()
def test_gaps_fall_into_powers_of_two(gap_s: int, gap_bin: int) -> None:
    """Bins are exact at their edges: a rounding there would differ from machine to machine."""
    network = _network("gru")

    with_gap, without = (
        network.inputs(torch.tensor([3]), torch.tensor([0]), torch.tensor([gap])) for gap in (gap_s, 0)
    )

    rows = network.gap_embedding.weight
    assert rows.shape[0] == N_GAP_BINS
    torch.testing.assert_close(with_gap - without, (rows[gap_bin] - rows[0]).unsqueeze(0))


@pytest.mark.parametrize("event_type", [*range(len(EVENT_TYPES)), len(EVENT_TYPES), 200, OTHER_EVENT])
@torch.inference_mode()
def test_event_types_have_a_row_and_all_others_share_one(event_type: int) -> None:
    """A state written by a newer version may hold a type that this one does not know."""
    network = _network("gru")

    inputs = network.inputs(torch.tensor([3]), torch.tensor([event_type]), torch.tensor([0]))

    row = min(event_type, N_EVENT_ROWS - 1)
    expected = network.item_embedding.weight[3] + network.event_embedding.weight[row] + network.gap_embedding.weight[0]
    torch.testing.assert_close(inputs[0], expected)


def test_a_fresh_network_ignores_event_and_gap() -> None:
    """What they mean is learnt; before that they must not be noise."""
    network = Network(NetworkConfig(9, 4))

    assert not network.event_embedding.weight.any()
    assert not network.gap_embedding.weight.any()
    assert not network.item_bias.any()
    assert network.item_embedding.weight.any()


@pytest.mark.parametrize("cell", CELLS)
def test_every_weight_learns(cell: str) -> None:
    """Scores of the next item depend on every parameter."""
    network = _network(cell, tied=False, skip=True, normalised=True)
    clicks = (torch.randint(0, 9, (4, 3)), torch.randint(0, 7, (4, 3)), torch.randint(0, 10**7, (4, 3)))
    inputs = network.inputs(*clicks)
    outputs, _ = network.run(inputs, torch.zeros(4, network.config.state_size))

    names, weights = zip(*network.named_parameters(), strict=True)
    loss = network.scores(network.features(outputs, inputs)[:, -1]).logsumexp(dim=1).sum()
    gradients = torch.autograd.grad(loss, weights)

    assert [name for name, gradient in zip(names, gradients, strict=True) if not gradient.any()] == []


def _network(cell: str, tied: bool = True, **more: bool | int) -> Network:
    fields = {"n_items": 9, "hidden_size": 4, "cell": cell, "tied": tied}
    return random_network(msgspec.convert(fields | more, NetworkConfig), seed=7)
