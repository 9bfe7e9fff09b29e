"""Copies of announced bundles: verified, few, and there again at the next start."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from nextclick.bundle import MODEL_FILE, save_bundle
from nextclick.errors import BundleError
from nextclick.manifest import Manifest, encode_manifest
from nextclick.network_config import NetworkConfig
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network
from tools.bundle_copies import KEPT_COPIES, BundleCopies, newest_announcements

CONFIG = NetworkConfig(5, 4)


def published(folder: Path, number: int) -> Manifest:
    vocabulary = Vocabulary([f"i{item}" for item in range(5)], np.ones(5))
    return save_bundle(folder / "bundles", random_network(CONFIG, number), vocabulary, created_ms=number, metrics={})


@pytest.fixture
def copies(tmp_path: Path) -> BundleCopies:
    settings = Settings(bundle_dir=tmp_path / "bundles", served_dir=tmp_path / "served")
    return BundleCopies(settings, tmp_path / "own" / "copies")


def test_what_was_fetched_last_can_be_loaded_without_the_store(tmp_path: Path, copies: BundleCopies) -> None:
    """By the next start, whatever has become of the store in the meantime."""
    assert copies.last() is None
    manifest = published(tmp_path, 1)
    fetched, model = copies.fetch(manifest)
    (tmp_path / "bundles").rename(tmp_path / "gone")
    again, loaded = copies.load(copies.last() or "")

    assert fetched == again == manifest
    assert model.bundle_id == loaded.bundle_id == manifest.bundle_id


def test_few_copies_are_kept(tmp_path: Path, copies: BundleCopies) -> None:
    """The newest ones: a trainer publishes for years."""
    manifests = [published(tmp_path, number) for number in range(1, KEPT_COPIES + 3)]
    for manifest in manifests:
        copies.fetch(manifest)

    found = {path.name for path in (tmp_path / "own" / "copies").iterdir() if path.is_dir()}
    assert found == {manifest.bundle_id for manifest in manifests[-KEPT_COPIES:]}


def test_a_damaged_bundle_is_not_fetched(tmp_path: Path, copies: BundleCopies) -> None:
    """And the one before stays the last."""
    first, second = published(tmp_path, 1), published(tmp_path, 2)
    copies.fetch(first)
    damaged = tmp_path / "bundles" / second.bundle_id / MODEL_FILE
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")

    with pytest.raises(BundleError, match=f"{MODEL_FILE} is not what the manifest says"):
        copies.fetch(second)
    assert copies.last() == first.bundle_id


def test_a_bundle_that_cannot_be_loaded_is_not_the_one_to_start_with(tmp_path: Path, copies: BundleCopies) -> None:
    """Its files are what was announced, and no network: the next start takes the one before."""
    first, network = published(tmp_path, 1), random_network(CONFIG, 2)
    network.item_bias.data[0] = float("nan")
    vocabulary = Vocabulary([f"i{item}" for item in range(5)], np.ones(5))
    second = save_bundle(tmp_path / "bundles", network, vocabulary, created_ms=2, metrics={})
    copies.fetch(first)

    with pytest.raises(BundleError, match="NaN"):
        copies.fetch(second)
    assert copies.last() == first.bundle_id


def test_a_bundle_that_is_not_the_announced_one_is_not_fetched(tmp_path: Path, copies: BundleCopies) -> None:
    """Its files may be whole: what was announced has other metrics, or another parent."""
    announced = msgspec.structs.replace(published(tmp_path, 1), parent="0123456789abcdef")

    with pytest.raises(BundleError, match="is not the one that was announced"):
        copies.fetch(announced)


def test_a_folder_that_cannot_be_written_refuses_the_bundle(tmp_path: Path, copies: BundleCopies) -> None:
    """It does not end who asked for it."""
    (tmp_path / "own").write_text("a file where a folder should be")

    with pytest.raises(BundleError, match=r"copies cannot be written: (Not a directory|File exists)"):
        copies.fetch(published(tmp_path, 1))


def test_of_many_announcements_the_newest_that_can_be_read_counts(tmp_path: Path) -> None:
    """What cannot be read and came after it is handed on, too, so that somebody says so."""
    old, new = encode_manifest(published(tmp_path, 1)), encode_manifest(published(tmp_path, 2))

    assert list(newest_announcements([old, b"?", new])) == [new]
    assert list(newest_announcements([b"!", old, new, b"?", b"!"])) == [new, b"?", b"!"]
    assert list(newest_announcements([b"?", b"!"])) == [b"?", b"!"]
    assert list(newest_announcements([])) == []
