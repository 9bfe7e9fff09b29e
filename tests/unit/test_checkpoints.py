"""What a round leaves for the next one is read as it was written, or not at all."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network
from training.learning.associations import count_pairs
from training.learning.checkpoint import Checkpoint
from training.learning.fit import network_config
from training.learning.item_statistics import no_statistics
from training.learning.optimizer import Optimizers
from training.learning.sequences import ClickColumns, group_by_user
from training.service.checkpoint_files import checkpoints_of, remove_checkpoints
from training.service.checkpoints import CheckpointNote, load_checkpoint, save_checkpoint

N_ITEMS, BUNDLE = 7, "0123456789abcdef"
SETTINGS = Settings(hidden_size=4, neighbours=3)
NOTE = CheckpointNote({0: 12, 3: 5}, {"0": (0, 12), "3": (1, 5)}, 1_700_000_000_000, 40, 38_000)


def some_checkpoint(settings: Settings = SETTINGS) -> Checkpoint:
    """After 40 clicks of 5 users."""
    place = np.arange(40)
    ids = [str(number) for number in range(N_ITEMS)]
    clicks = ClickColumns(place % 5, place * 3 % N_ITEMS, place * 1_000, place * 0, ids)
    statistics = no_statistics(N_ITEMS).later(clicks, 0, np.arange(N_ITEMS), 12.0, 1e6)
    network = random_network(network_config(settings, N_ITEMS), seed=1)
    squares = {name: torch.rand_like(square) for name, square in Optimizers(network, 0.1).squares().items()}
    counts = count_pairs(group_by_user(clicks), N_ITEMS, 40)
    return Checkpoint(network, Vocabulary(ids, statistics.popularity), squares, counts, statistics)


def saved(folder: Path, checkpoint: Checkpoint, bundle_id: str = BUNDLE) -> Path:
    save_checkpoint(folder, bundle_id, checkpoint, NOTE)
    (path,) = checkpoints_of(folder, bundle_id)
    return path


@pytest.mark.parametrize("changed", [{}, {"tied": False}, {"cell": "lstm"}, {"neighbours": 0}], ids=str)
def test_a_checkpoint_comes_back_as_it_was(changed: dict[str, object], tmp_path: Path) -> None:
    """Number by number, with the bundle's network and vocabulary in it."""
    before = some_checkpoint(dataclasses.replace(SETTINGS, **changed))
    saved(tmp_path, before)

    found = load_checkpoint(tmp_path, BUNDLE, before.network, before.vocabulary)

    assert found is not None
    after, note = found
    assert note == NOTE
    assert (after.network, after.vocabulary) == (before.network, before.vocabulary)
    assert after.squares.keys() == before.squares.keys()
    assert all(torch.equal(after.squares[name], square) for name, square in before.squares.items())
    for name in ("code", "count", "total"):
        np.testing.assert_array_equal(getattr(after.counts, name), getattr(before.counts, name))
    for one, other in zip(after.items, before.items, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("place", [3, 200, -1])
def test_one_changed_bit_makes_it_unusable(place: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In its head or in its numbers; it is said, and the round begins anew."""
    before = some_checkpoint()
    path = saved(tmp_path, before)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)

    assert load_checkpoint(tmp_path, BUNDLE, before.network, before.vocabulary) is None
    assert "learnt anew" in caplog.text


def test_half_a_checkpoint_is_none(tmp_path: Path) -> None:
    """Cut off, or empty."""
    before = some_checkpoint()
    path = saved(tmp_path, before)
    for length in (0, 7, len(path.read_bytes()) // 2):
        path.write_bytes(path.read_bytes()[:length])

        assert load_checkpoint(tmp_path, BUNDLE, before.network, before.vocabulary) is None


def test_a_checkpoint_that_does_not_fit_the_bundle_is_none(tmp_path: Path) -> None:
    """Of other items, or of another network."""
    before = some_checkpoint()
    saved(tmp_path, before)
    wider = random_network(network_config(Settings(hidden_size=5, neighbours=3), N_ITEMS), seed=1)

    assert load_checkpoint(tmp_path, BUNDLE, wider, before.vocabulary) is None
    assert load_checkpoint(tmp_path, BUNDLE, before.network, Vocabulary(["a"], np.ones(1))) is None


def test_only_those_of_some_bundles_are_kept(tmp_path: Path) -> None:
    """Nor what a killed round was writing."""
    before, other = some_checkpoint(), "f" * 16
    kept = saved(tmp_path, before)
    saved(tmp_path, before, other)
    (kept.parent / f".writing-{other}-0.safetensors.17").write_bytes(b"half")

    remove_checkpoints(tmp_path, {BUNDLE, ""})

    assert list(kept.parent.iterdir()) == [kept]


def test_a_log_without_checkpoints_has_none_to_remove(tmp_path: Path) -> None:
    """As before the first round."""
    remove_checkpoints(tmp_path, set())

    assert list(tmp_path.iterdir()) == []
