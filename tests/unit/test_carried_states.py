"""A long history is learnt in windows; the state goes through all of them."""

import dataclasses

import numpy as np
import pytest
import torch

from nextclick.settings import Settings
from tests.networks import random_network
from training.learning.fit import network_config
from training.learning.sequences import ClickColumns, Sequences, TrainingSet, Windows, group_by_user, training_windows
from training.learning.step import Learner, TruncatedBackpropagationStates

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
        learner = Learner(network, TrainingSet(sequences, 11, 0), dataclasses.replace(SETTINGS, learning_rate=1e-9))
        losses.append([learner.step(window)[0] for window in learnt][-1])

    assert losses[0] != pytest.approx(losses[1], abs=1e-4)
