"""The parts of a step: states that go on from window to window, dropout, and Adagrad by rows."""

import dataclasses

import numpy as np
import pytest
import torch

from nextclick.settings import Settings
from tests.networks import random_network
from training.learning.fit import network_config
from training.learning.optimizer import RowAdagrad
from training.learning.sequences import ClickColumns, Sequences, Windows, group_by_user, training_windows
from training.learning.step import Dropout, Learner, TruncatedBackpropagationStates

N_ITEMS = 30
MAX_CLICKS = 6
SETTINGS = Settings(hidden_size=8, recent_clicks=MAX_CLICKS - 1, neighbours=0, dropout=0.0)


def random_sequences(*n_clicks: int) -> Sequences:
    """Users with so many clicks each."""
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(len(n_clicks)), n_clicks)
    item, gap_s = rng.integers(N_ITEMS, size=len(user)), rng.integers(1, 5_000, size=len(user))
    ids = [str(number) for number in range(N_ITEMS)]
    return group_by_user(ClickColumns(user, item, np.cumsum(gap_s) * 1_000, user * 0, ids))


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
def test_windows_with_the_carried_state_say_what_an_unbroken_run_says(cell: str) -> None:
    """For users with long and short histories, in turn; backpropagation ends at the border."""
    sequences = random_sequences(23, 3, 11, 17)
    network = random_network(network_config(dataclasses.replace(SETTINGS, cell=cell), N_ITEMS), seed=1)
    states = TruncatedBackpropagationStates(sequences, MAX_CLICKS, network.config.state_size, torch.device("cpu"))
    windows = training_windows(sequences, len(sequences), MAX_CLICKS)
    in_turn = np.lexsort((sequences.user_starts.searchsorted(windows.first, side="right"), windows.first))

    for place in in_turn:
        window = windows.take(np.array([place]))
        rows = torch.arange(int(window.first[0]), int(window.end[0]) - 1)
        before = states.before(window)
        assert not before.requires_grad
        hidden, after = run(network, sequences, rows[None], before)
        states.keep(window, after)

        user = int(np.searchsorted(sequences.user_starts, window.first[0], side="right")) - 1
        unbroken = torch.arange(int(sequences.user_starts[user]), int(window.end[0]) - 1)
        expected, _ = run(network, sequences, unbroken[None], torch.zeros_like(before))
        torch.testing.assert_close(hidden, expected[:, -hidden.shape[1] :])


def run(network: torch.nn.Module, sequences: Sequences, rows: torch.Tensor, state: torch.Tensor):  # type: ignore[no-untyped-def]
    """Advance states by rows of clicks."""
    columns = (
        torch.from_numpy(column)[rows] for column in (sequences.item_index, sequences.event_type, sequences.gap_s)
    )
    return network.run(network.inputs(*columns), state)  # type: ignore[operator]


def test_a_state_is_used_for_the_window_that_follows_only() -> None:
    """Not for a later one, nor for another user's; short windows, whose state padding has spoilt, keep none."""
    sequences = random_sequences(23, 23, 4)
    states = TruncatedBackpropagationStates(sequences, MAX_CLICKS, 2, torch.device("cpu"))
    full, short = Windows(np.array([0, 23]), np.array([6, 29])), Windows(np.array([46]), np.array([50]))

    states.keep(full, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    states.keep(short, torch.tensor([[5.0, 6.0]]))

    asked = Windows(np.array([28, 5, 10, 46]), np.array([34, 11, 16, 50]))
    assert states.before(asked).tolist() == [[3.0, 4.0], [1.0, 2.0], [0.0, 0.0], [0.0, 0.0]]


def test_the_learner_carries_states() -> None:
    """What a window's loss is depends on the user's window before."""
    sequences = random_sequences(11)
    first, second = (training_windows(sequences, 11, MAX_CLICKS).take(np.array([place])) for place in range(2))
    losses = []
    for learnt in ([second], [first, second]):
        network = random_network(network_config(SETTINGS, N_ITEMS), seed=1)
        learner = Learner(network, sequences, dataclasses.replace(SETTINGS, learning_rate=1e-9))
        for window in learnt:
            n_predicted = learner.step(window)
            loss_sum = learner.take_loss_sum()
        losses.append(loss_sum / n_predicted)

    assert losses[0] != pytest.approx(losses[1], abs=1e-4)


@pytest.mark.parametrize("share", [0.1, 0.4, 0.95])
def test_a_share_is_set_to_zero_and_the_mean_stays(share: float) -> None:
    """The others grow by what is dropped; everywhere alike."""
    values = Dropout(share, torch.Generator().manual_seed(1))(torch.ones(1_000, 203))

    assert (values == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert values.mean().item() == pytest.approx(1.0, abs=0.02)
    assert len(values.unique()) == 2
    assert (values == 0).float().mean(0).sub(share).abs().max() < 0.08
    assert (values == 0).float().mean(1).sub(share).abs().max() < 0.2


def test_dropping_nothing_draws_nothing() -> None:
    """The values themselves."""
    generator, values = torch.Generator().manual_seed(1), torch.ones(3, 5)
    before = generator.get_state()

    assert Dropout(0.0, generator)(values) is values
    assert torch.equal(generator.get_state(), before)


def test_the_same_generator_drops_the_same_and_then_something_else() -> None:
    """Randomness comes from it alone."""
    one, other = (Dropout(0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    values = torch.ones(7, 9)
    first, second, again = one(values), one(values), other(values)

    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_gradients_pass_where_values_do() -> None:
    """As large as the factor, and none where something was dropped."""
    values = torch.ones(50, requires_grad=True)

    dropped = Dropout(0.5, torch.Generator().manual_seed(1))(values)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)

    assert torch.equal(gradient, dropped.detach())
    assert set(gradient.tolist()) == {0.0, 2.0}


def test_steps_shrink_with_the_squares_of_the_gradients_so_far() -> None:
    """Element by element: first the rate itself, then the rate over the root of 2."""
    table = torch.zeros(3, 2)
    adagrad = RowAdagrad(table, 1.0)
    gradient = torch.tensor([[3.0, -2.0], [5.0, 0.0]])

    adagrad.step(torch.tensor([0, 1]), gradient)
    first = table.clone()
    adagrad.step(torch.tensor([0]), gradient[:1])

    torch.testing.assert_close(first, torch.tensor([[-1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(table, torch.tensor([[-1 - 0.5**0.5, 1 + 0.5**0.5], [-1.0, 0.0], [0.0, 0.0]]))


def test_steps_go_on_as_small_as_they_had_become() -> None:
    """From the squares that were kept; they are copied, for whoever else goes on from them."""
    one, other = torch.zeros(2, 3), torch.zeros(2, 3)
    rows, gradient = torch.arange(2), torch.randn(2, 3)
    before = RowAdagrad(one, 1.0)
    before.step(rows, gradient)
    other.copy_(one)
    kept = before.squares.clone()

    RowAdagrad(other, 1.0, before.squares).step(rows, gradient)
    assert torch.equal(before.squares, kept)
    before.step(rows, gradient)

    assert torch.equal(one, other)


def test_all_rows_at_once_are_the_same_as_some() -> None:
    """For a table of any number of dimensions; also of one."""
    for shape in ((4,), (4, 3)):
        gradient, some, every = torch.randn(shape), torch.zeros(shape), torch.zeros(shape)
        one, other = RowAdagrad(some, 1.0), RowAdagrad(every, 1.0)
        for _ in range(2):
            one.step(torch.arange(4), gradient)
            other.step_all(gradient)

        torch.testing.assert_close(some, every)
        assert some.all()


def test_rows_that_moved_are_brought_back_to_length_1_and_others_stay() -> None:
    """Where only directions are compared."""
    table = torch.full((2, 2), 3.0)

    RowAdagrad(table, 1.0, normalised=True).step(torch.tensor([1]), torch.tensor([[1.0, -1.0]]))

    assert table[0].tolist() == [3.0, 3.0]
    assert table[1].tolist() == pytest.approx([2 / 20**0.5, 4 / 20**0.5])


def test_rows_are_a_copy() -> None:
    """What is computed with them does not move the table."""
    table = torch.zeros(3, 2)

    RowAdagrad(table, 1.0).rows(torch.tensor([1])).fill_(7.0)

    assert not table.any()
