"""A step of fixed shape, as a GPU does it: what it computes is what tensor operations on the batch as it is compute.

On a CPU the same step runs operation by operation; with a GPU also as a graph.
"""

import dataclasses
from typing import Literal

import numpy as np
import pytest
import torch

from nextclick.network import Network
from nextclick.settings import Settings
from tests.networks import random_network
from training.learning import step
from training.learning.fit import network_config
from training.learning.optimizer import RowAdagrad
from training.learning.sequences import ClickColumns, Sequences, Windows, group_by_user, training_windows
from training.learning.step import Learner
from training.learning.step_on_gpu import _rounded_up

N_ITEMS = 300
SETTINGS = Settings(
    hidden_size=16, recent_clicks=10, neighbours=0, dropout=0.0, negatives=60, negatives_power=0.5, batch_windows=40
)
CHANGES: list[dict[str, object]] = [
    {},
    {"cell": "lstm"},
    {"cell": "rnn"},
    {"tied": False},
    {"normalised": False},
    {"skip": False},
    {"negatives": 200},  # all items are candidates
    {"recent_clicks": 1},  # one step
]
Way = Literal["fixed", "at once"]


def some_sequences(n_users: int = 90) -> Sequences:
    """Users with two to twenty-four clicks each, so that windows have all lengths and some states are carried."""
    rng = np.random.default_rng(2)
    user = np.repeat(np.arange(n_users), rng.integers(2, 25, size=n_users))
    item = (N_ITEMS * rng.random(len(user)) ** 3).astype(np.int64)
    time_ms = np.cumsum(rng.integers(1, 5_000, size=len(user))) * 1_000
    ids = [str(number) for number in range(N_ITEMS)]
    return group_by_user(ClickColumns(user, item, time_ms, user * 0, ids))


def learnt(settings: Settings, way: Way, *, n_passes: int = 1) -> tuple[list[float], Network]:
    """Pass over batches of 40 windows, the last one of fewer; give the losses and the network."""
    sequences = some_sequences()
    network = random_network(network_config(settings, N_ITEMS), seed=1)
    network.normalise()
    learner = Learner(network, sequences, settings)
    learner._parts = None
    learner._on_gpu = learner._step_on_gpu(settings) if way == "fixed" else None
    losses = []
    for _ in range(n_passes):
        for batch in some_batches(sequences, settings):
            n_predicted = learner.step(batch)
            losses.append(learner.take_loss_sum() / n_predicted)
    learner.copy_back()
    if n_passes > 1 and learner._on_gpu is not None and settings.device == "cuda":
        assert all(learner._on_gpu._graphs.values())
    return losses, network


def some_batches(sequences: Sequences, settings: Settings) -> list[Windows]:
    """Short windows first, so that batches differ in their steps."""
    windows = training_windows(sequences, len(sequences), settings.recent_clicks + 1)
    windows = windows.take(np.argsort(windows.end - windows.first, kind="stable"))
    borders = range(settings.batch_windows, len(windows), settings.batch_windows)
    return [windows.take(places) for places in np.split(np.arange(len(windows)), borders)]


def assert_equal(one: tuple[list[float], Network], other: tuple[list[float], Network]) -> None:
    """Losses and weights, but for rounding."""
    assert one[0] == pytest.approx(other[0], rel=1e-4)
    for name, weight in other[1].state_dict().items():
        torch.testing.assert_close(one[1].state_dict()[name], weight, rtol=2e-3, atol=2e-4)


@pytest.fixture(autouse=True)
def _in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine finds faster is chance."""
    monkeypatch.setattr(step, "bfloat16_pays", lambda device: False)


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_a_step_of_fixed_shape_is_a_step_at_once(changed: dict[str, object]) -> None:
    """The same losses and weights but for rounding, whatever the network is like, however much is padding."""
    settings = dataclasses.replace(SETTINGS, device="cpu", **changed)

    assert_equal(learnt(settings, "fixed"), learnt(settings, "at once"))


def test_an_item_that_comes_again_moves_to_the_same_place_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU writes in no order: whichever of the places is written last, the row must hold the same."""
    moved: list[int] = []
    really_move = RowAdagrad.step_alike

    def move(table: RowAdagrad, rows: torch.Tensor, gradient: torch.Tensor) -> None:
        for row in rows.unique():
            of_row = gradient[rows == row]
            assert torch.equal(of_row, of_row[:1].expand_as(of_row))
        moved.append(len(rows) - len(rows.unique()))
        really_move(table, rows, gradient)

    monkeypatch.setattr(RowAdagrad, "step_alike", move)
    losses, _ = learnt(dataclasses.replace(SETTINGS, device="cpu"), "fixed")

    assert len(moved) == 3 * len(losses)
    assert all(n_repeated > 20 for n_repeated in moved)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_a_graph_computes_what_single_operations_do(
    changed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the GPU; from the second pass on all shapes are graphs. What is rounded there must be the same for both."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    settings = dataclasses.replace(SETTINGS, device="cuda", **changed)

    assert_equal(learnt(settings, "fixed", n_passes=3), learnt(settings, "at once", n_passes=3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_graph_drops_something_else_each_time() -> None:
    """Its generators go on from one replay to the next: else masks and candidates would be the same for ever."""
    settings = dataclasses.replace(SETTINGS, device="cuda", dropout=0.5, learning_rate=0.0, batch_windows=1_000)

    losses, _ = learnt(settings, "fixed", n_passes=6)

    assert len(set(losses)) == len(losses)


@pytest.mark.parametrize("way", ["fixed", "at once"])
def test_the_sum_of_losses_is_of_all_clicks_since_it_was_taken(way: Way) -> None:
    """With a rate of 0 each batch has the same loss again; what was taken is not counted twice."""
    settings = dataclasses.replace(SETTINGS, device="cpu", learning_rate=0.0, negatives=200, recent_clicks=30)

    losses, _ = learnt(settings, way, n_passes=2)

    half = len(losses) // 2
    assert losses[:half] == pytest.approx(losses[half:], rel=1e-6)


def test_steps_are_rounded_to_few_shapes() -> None:
    """Never down, never beyond the longest window, and the longest window stays itself: its last state is kept."""
    shapes = [_rounded_up(n_steps, 50) for n_steps in range(1, 51)]

    assert all(n_steps <= shape <= max(1.25 * n_steps, 8) for n_steps, shape in enumerate(shapes, 1))
    assert len(set(shapes)) == 19
    assert _rounded_up(50, 50) == 50
