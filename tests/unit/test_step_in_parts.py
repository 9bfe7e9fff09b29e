"""A step in parts: what it computes is what tensor operations on the whole batch compute, however many threads."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.nn import functional

from nextclick.network import Network
from nextclick.settings import Settings
from tests.networks import random_network
from training.learning import step
from training.learning.fit import network_config
from training.learning.sequences import ClickColumns, Sequences, Windows, group_by_user, training_windows
from training.learning.step import Learner
from training.learning.step_in_parts import _parts, _Room, _Team

N_ITEMS = 300
SETTINGS = Settings(
    hidden_size=16, recent_clicks=7, neighbours=0, dropout=0.0, negatives=60, negatives_power=0.5, device="cpu"
)


def some_sequences(n_users: int = 90) -> Sequences:
    """Users with two to fifteen clicks each, so that windows have all lengths and some states are carried."""
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(n_users), rng.integers(2, 16, size=n_users))
    item = (N_ITEMS * rng.random(len(user)) ** 3).astype(np.int64)
    time_ms = np.cumsum(rng.integers(1, 5_000, size=len(user))) * 1_000
    ids = [str(number) for number in range(N_ITEMS)]
    return group_by_user(ClickColumns(user, item, time_ms, user * 0, ids))


def learnt(
    settings: Settings, n_threads: int, *, at_once: bool = False, n_steps: int = 3
) -> tuple[list[float], Network]:
    """Take a few steps; give the losses and the network."""
    before = torch.get_num_threads()
    torch.set_num_threads(n_threads)
    try:
        sequences = some_sequences()
        network = random_network(network_config(settings, N_ITEMS), seed=1)
        network.normalise()
        learner = Learner(network, sequences, settings)
        if at_once:
            learner._parts = None
        windows = training_windows(sequences, len(sequences), settings.recent_clicks + 1)
        losses = []
        for part in _batches(windows, n_steps):
            n_predicted = learner.step(part)
            losses.append(learner.take_loss_sum() / n_predicted)
        return losses, network
    finally:
        torch.set_num_threads(before)


def _batches(windows: Windows, n_batches: int) -> list[Windows]:
    return [windows.take(places) for places in np.array_split(np.arange(len(windows)), n_batches)]


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine finds faster is chance."""
    monkeypatch.setattr(step, "bfloat16_pays", lambda device: False)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"cell": "lstm"},
        {"cell": "rnn"},
        {"tied": False},
        {"normalised": False},
        {"skip": False},
        {"negatives": 200},  # all items are candidates
    ],
    ids=str,
)
def test_a_step_in_parts_is_a_step_at_once(changed: dict[str, object], n_threads: int) -> None:
    """The same losses and the same weights but for rounding, whatever the network is like."""
    settings = dataclasses.replace(SETTINGS, **changed)

    losses, network = learnt(settings, n_threads)

    expected_losses, expected = learnt(settings, 1, at_once=True)
    assert losses == pytest.approx(expected_losses, rel=1e-5)
    for name, weight in expected.state_dict().items():
        torch.testing.assert_close(network.state_dict()[name], weight, rtol=1e-3, atol=1e-4)


def test_a_step_in_bfloat16_is_nearly_one_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """The products have three digits."""
    exact, _ = learnt(SETTINGS, 2)
    monkeypatch.setattr(step, "bfloat16_pays", lambda device: True)

    losses, network = learnt(SETTINGS, 2)

    assert losses == pytest.approx(exact, rel=0.02)
    assert losses != exact
    assert all(weight.isfinite().all() for weight in network.state_dict().values())


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_the_same_seed_gives_the_same_weights_in_any_number_of_threads(n_threads: int) -> None:
    """To the last bit, with dropout: which thread is ready first decides nothing."""
    settings = dataclasses.replace(SETTINGS, dropout=0.3, feature_dropout=0.1)

    (first_losses, first), (second_losses, second) = (learnt(settings, n_threads) for _ in range(2))

    assert first_losses == second_losses
    assert all(torch.equal(first.state_dict()[name], second.state_dict()[name]) for name in first.state_dict())


def test_threads_that_compute_alone_leave_torch_as_many_threads_as_there_were() -> None:
    """What comes after learning is computed as before, here and in threads that begin later; in a part, by one."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        team = _Team(3)
        with ThreadPoolExecutor(1) as later:
            found = (
                team.run(torch.get_num_threads),
                torch.get_num_threads(),
                later.submit(torch.get_num_threads).result(),
            )
    finally:
        torch.set_num_threads(before)

    assert found == ([1], 3, 3)


@pytest.mark.parametrize("n_threads", [1, 2, 5, 64])
@pytest.mark.parametrize("n_windows", [1, 15, 40, 96])
def test_parts_hold_every_target_once(n_windows: int, n_threads: int) -> None:
    """In order, none is empty, and rows of scores are whole blocks."""
    length = np.random.default_rng(n_windows).integers(1, 21, size=n_windows)

    parts = _parts(length, n_threads)

    assert [parts[0].windows.start, parts[0].targets.start, parts[0].scored.start] == [0, 0, 0]
    assert [parts[-1].windows.stop, parts[-1].targets.stop] == [n_windows, length.sum()]
    for part, following in pairwise(parts):
        assert part.windows.stop == following.windows.start
        assert part.targets.stop == following.targets.start
        assert part.scored.stop == following.scored.start
    for part in parts:
        n_targets = part.targets.stop - part.targets.start
        assert n_targets == length[part.windows].sum() > 0
        assert part.n_steps == length[part.windows].max()
        n_rows = part.scored.stop - part.scored.start
        assert n_rows in range(n_targets, n_targets + 32)
        assert n_rows % 32 == 0


def test_memory_is_used_again() -> None:
    """It grows to the largest matrix and stays."""
    room = _Room(torch.float32)

    small, large = room.of(2, 3), room.of(4, 5)

    assert (small.shape, large.shape) == ((2, 3), (4, 5))
    assert room.of(5, 2).data_ptr() == large.data_ptr()


def test_what_a_task_raises_is_raised() -> None:
    """After all tasks have ended."""

    def fails() -> None:
        functional.normalize(torch.zeros(1), dim=3)

    with pytest.raises(IndexError):
        _Team(2).run(lambda: 1, fails)


def test_a_team_of_which_a_thread_cannot_start_ends_instead_of_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system allows no more threads: those that began would keep the process from ending."""
    begun: list[threading.Thread] = []
    really_start = threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if len(begun) == 2:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        really_start(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        _Team(4)
    for thread in begun:
        thread.join(10.0)

    assert len(begun) == 2
    assert not [thread for thread in begun if thread.is_alive()]
