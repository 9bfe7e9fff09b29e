"""Bundles: written whole or not at all, and refused when anything about them is not as the manifest says."""

import json
import math
import os
import resource
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

import nextclick.bundle
from nextclick.bundle import (
    MAX_WEIGHT,
    MODEL_FILE,
    VOCABULARY_FILE,
    copy_bundle,
    load_bundle,
    load_network,
    save_bundle,
    verify_bundle,
)
from nextclick.errors import BundleError
from nextclick.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    BundleFile,
    Manifest,
    TrainedFrom,
    bundle_id_of,
    decode_manifest,
    encode_manifest,
)
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.served_form import ServedForm
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network

ITEMS = ("a", "b", "c", "d", "e")
FILES = (MODEL_FILE, VOCABULARY_FILE, MANIFEST_FILE)
FULL = {"skip": True, "normalised": True, "n_neighbours": 3}


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("more", [{}, FULL], ids=["plain", "full"])
def test_a_saved_bundle_is_read_back(tmp_path: Path, cell: str, tied: bool, more: dict[str, Any]) -> None:
    """Weights, vocabulary and manifest, for serving and for training on."""
    network = _network(cell, tied, more=more)
    manifest = save_bundle(
        tmp_path,
        network,
        Vocabulary(ITEMS, np.arange(5.0)),
        created_ms=12,
        metrics={"recall_at_20": 0.5},
        trained_from=TrainedFrom("00000000000000aa", {"0": (3, 9)}),
    )

    folder = tmp_path / manifest.bundle_id
    loaded_manifest, loaded_network, vocabulary = load_network(folder)
    served_manifest, model = load_bundle(folder)

    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    assert loaded_manifest == served_manifest == manifest
    assert (manifest.parent, manifest.log_range, manifest.metrics) == (
        "00000000000000aa",
        {"0": (3, 9)},
        {"recall_at_20": 0.5},
    )
    assert vocabulary.item_ids == ITEMS
    assert vocabulary.popularity.tolist() == [0, 1, 2, 3, 4]
    assert loaded_network.config == network.config
    for name, weight in network.state_dict().items():
        assert torch.equal(loaded_network.state_dict()[name], weight)
    assert model.bundle_id == manifest.bundle_id
    assert [path.name for path in tmp_path.iterdir()] == [manifest.bundle_id]


def test_who_may_read_one_file_may_read_all(tmp_path: Path) -> None:
    """Trainer and worker may run as different users: no file is more private than the others."""
    folder = _saved(tmp_path)

    assert len({stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}) == 1


def test_a_tied_network_stays_tied_after_loading(tmp_path: Path) -> None:
    """Its one embedding is saved once and shared again, so that training goes on with one."""
    folder = _saved(tmp_path)

    _, network, _ = load_network(folder)

    assert network.output_embedding.weight is network.item_embedding.weight


def test_another_content_is_another_bundle(tmp_path: Path) -> None:
    """An id names one content for ever: weights, items, popularity, configuration and time."""
    network = _network()
    ids = {
        save_bundle(tmp_path, saved, Vocabulary(items, np.full(5, often)), created_ms=at_ms, metrics={}).bundle_id
        for saved, items, often, at_ms in [
            (network, ITEMS, 1.0, 1),
            (network, ITEMS, 1.0, 2),
            (network, ITEMS, 2.0, 1),
            (network, ITEMS[::-1], 1.0, 1),
            (_network(seed=9), ITEMS, 1.0, 1),
        ]
    }

    assert len(ids) == 5


@pytest.mark.parametrize("name", [MODEL_FILE, VOCABULARY_FILE])
def test_every_flipped_byte_is_noticed(tmp_path: Path, name: str) -> None:
    """Anywhere in the files that the manifest vouches for."""
    folder = _saved(tmp_path)
    original = (folder / name).read_bytes()

    for position in range(len(original)):
        _flip(folder / name, original, position)
        with pytest.raises(BundleError, match=f"{name} is not what the manifest says"):
            verify_bundle(folder)


def test_a_flipped_manifest_is_refused_or_serves_the_same(tmp_path: Path) -> None:
    """Id, files, configuration and time vouch for each other; the rest is only told, never used to serve."""
    folder = _saved(tmp_path)
    manifest = verify_bundle(folder)
    original = (folder / MANIFEST_FILE).read_bytes()

    changed = []
    for position in range(len(original)):
        _flip(folder / MANIFEST_FILE, original, position)
        try:
            found, _ = load_bundle(folder)
        except BundleError:
            continue
        if _identity(found) != _identity(manifest):
            changed.append(original[:position].decode() + "[here]")
    assert changed == []


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused(tmp_path: Path, name: str) -> None:
    """A copy that stopped half-way."""
    folder = _saved(tmp_path)
    original = (folder / name).read_bytes()

    for length in (0, 1, len(original) // 2, len(original) - 1):
        (folder / name).write_bytes(original[:length])
        with pytest.raises(BundleError):
            load_bundle(folder)
    (folder / name).write_bytes(original)
    load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", ["nothing", "a folder"])
def test_a_missing_file_is_refused(tmp_path: Path, name: str, instead: str) -> None:
    """Or one that is no file."""
    folder = _saved(tmp_path)
    (folder / name).unlink()
    if instead == "a folder":
        (folder / name).mkdir()

    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(folder)


def test_a_missing_bundle_is_refused_with_its_path(tmp_path: Path) -> None:
    """The message names what was looked for."""
    with pytest.raises(BundleError, match="nowhere cannot be read: No such file"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "..", "a\0b"])
def test_a_manifest_that_names_files_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    """Nothing outside the folder is ever opened."""
    folder = _saved(tmp_path)
    (tmp_path / "outside").write_text("x")

    _change_manifest(folder, files=[{"name": name, "sha256": "0" * 64, "size_bytes": 1}])

    with pytest.raises(BundleError, match="plain names"):
        load_bundle(folder)


@pytest.mark.parametrize("n_files", [0, 1])
def test_a_manifest_must_vouch_for_every_file(tmp_path: Path, n_files: int) -> None:
    """Files that it does not list would be used unchecked."""
    folder = _saved(tmp_path)
    files = json.loads((folder / MANIFEST_FILE).read_bytes())["files"]

    _change_manifest(folder, files=files[:n_files])

    with pytest.raises(BundleError):
        load_bundle(folder)


def test_a_huge_manifest_is_refused(tmp_path: Path) -> None:
    """It could never have been announced."""
    folder = _saved(tmp_path)
    _change_manifest(folder, metrics={f"m{number}": 1.0 for number in range(100_000)})

    assert (folder / MANIFEST_FILE).stat().st_size > MAX_MANIFEST_BYTES
    with pytest.raises(BundleError, match="at most"):
        load_bundle(folder)


@pytest.mark.parametrize(
    "network",
    [
        {"cell": "transformer"},
        {"cell": "rnn"},
        {"n_items": 6},
        {"hidden_size": 5},
        {"hidden_size": 0},
        {"hidden_size": -4},
        {"hidden_size": 10**12},
        {"hidden_size": 10**30},
        {"hidden_size": "wide"},
        {"tied": False},
        {"skip": True},
        {"normalised": True},
        {"n_neighbours": 3},
        {"n_neighbours": -1},
        {"n_neighbours": 10**9},
    ],
    ids=str,
)
def test_a_configuration_that_does_not_fit_the_weights_is_refused(tmp_path: Path, network: dict[str, Any]) -> None:
    """Never served with weights that were made up to fill a hole."""
    folder = _saved(tmp_path)

    _change_manifest(folder, network={"n_items": 5, "hidden_size": 4, "cell": "gru", "tied": True} | network)

    with pytest.raises(BundleError):
        load_bundle(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("instead", ["a pipe", "/dev/zero", "a link to itself"])
def test_what_never_ends_is_refused(tmp_path: Path, name: str, instead: str) -> None:
    """A worker would wait for it for ever, or read until its memory is full."""
    folder = _saved(tmp_path)
    (folder / name).unlink()
    if instead == "a pipe":
        os.mkfifo(folder / name)
    else:
        (folder / name).symlink_to("/dev/zero" if instead == "/dev/zero" else name)

    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(folder)
    with pytest.raises(BundleError, match="cannot be read"):
        copy_bundle(folder, tmp_path / "copy")


@pytest.mark.parametrize("name", FILES)
def test_a_file_of_terabytes_is_refused_unread(tmp_path: Path, name: str) -> None:
    """Its size alone says so, even where the manifest agrees with it."""
    folder = _saved(tmp_path)
    with (folder / name).open("r+b") as file:
        file.truncate(2**43)
    if name != MANIFEST_FILE:
        _sign(folder, name, 2**43)

    with pytest.raises(BundleError, match="at most"):
        load_bundle(folder)


def test_a_link_to_a_sound_file_is_as_good_as_the_file(tmp_path: Path) -> None:
    """What the digest vouches for may lie elsewhere."""
    folder = _saved(tmp_path)
    shutil.move(folder / MODEL_FILE, tmp_path / "elsewhere")
    (folder / MODEL_FILE).symlink_to(tmp_path / "elsewhere")

    copy_bundle(folder, tmp_path / "copies" / folder.name)

    load_bundle(folder)
    assert not (tmp_path / "copies" / folder.name / MODEL_FILE).is_symlink()


def test_only_the_files_of_a_bundle_are_copied(tmp_path: Path) -> None:
    """Whatever else lies in its folder would fill a worker's disk, or never end."""
    source = _saved(tmp_path / "store")
    os.mkfifo(source / "pipe")
    (source / "endless").symlink_to("/dev/zero")
    (source / "large").touch()
    os.truncate(source / "large", 2**43)

    copy_bundle(source, tmp_path / "copies" / source.name)

    assert sorted(path.name for path in (tmp_path / "copies" / source.name).iterdir()) == sorted(FILES)


def test_a_path_that_can_be_none_is_refused() -> None:
    """The name of the last served bundle comes from a file of the worker's, which may be damaged."""
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(Path("a\0b"))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 2 * MAX_WEIGHT, -2 * MAX_WEIGHT, 3e38])
@pytest.mark.parametrize("name", ["item_bias", "item_embedding.weight", "cell.weight_hh_l0"])
def test_weights_that_give_no_numbers_are_refused(tmp_path: Path, name: str, value: float) -> None:
    """Finite weights too, where what the network makes of them is not."""
    network = _network()
    with torch.no_grad():
        network.state_dict()[name].view(-1)[1] = value
    manifest = save_bundle(tmp_path, network, Vocabulary(ITEMS, np.ones(5)), created_ms=1, metrics={})

    with pytest.raises(BundleError, match=f"expected weights between .* in {name}"):
        load_bundle(tmp_path / manifest.bundle_id)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_weights_of_another_type_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    """They would be turned into float32 without a word."""
    network = _network()
    network.to(dtype)
    manifest = save_bundle(tmp_path, network, Vocabulary(ITEMS, np.ones(5)), created_ms=1, metrics={})

    with pytest.raises(BundleError, match="of F32"):
        load_bundle(tmp_path / manifest.bundle_id)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("neighbours", -1),
        ("neighbours", len(ITEMS)),
        ("neighbours", 2**31 - 1),
        ("shares", -0.001),
        ("shares", 1.001),
        ("shares", math.nan),
        ("shares", math.inf),
        ("support", -0.001),
        ("support", 2 * MAX_WEIGHT),
        ("support", math.nan),
        ("sharpness", math.inf),
        ("of_age", math.nan),
        ("of_term", -2 * MAX_WEIGHT),
    ],
)
def test_a_mixture_that_gives_no_probabilities_is_refused(tmp_path: Path, name: str, value: float) -> None:
    """Neighbours are rows of the items, shares take from nobody and are at most the whole, the gate is numbers."""
    network = _network(more=FULL)
    with torch.no_grad():
        network.state_dict()[f"mixture.{name}"].view(-1)[0] = value
    manifest = save_bundle(tmp_path, network, Vocabulary(ITEMS, np.ones(5)), created_ms=1, metrics={})

    with pytest.raises(BundleError, match=rf"expected .* between .* in mixture\.{name}"):
        load_bundle(tmp_path / manifest.bundle_id)


def test_neighbours_whose_shares_are_more_than_the_whole_are_refused(tmp_path: Path) -> None:
    """Each is below 1, together they would make probabilities that add up to more; rounding is allowed for."""
    network = _network(more=FULL)
    assert network.mixture is not None
    vocabulary = Vocabulary(ITEMS, np.ones(5))
    network.mixture.shares.copy_(torch.full((5, 3), 1 / 3))
    sound = save_bundle(tmp_path, network, vocabulary, created_ms=1, metrics={})
    network.mixture.shares[4] = torch.tensor([0.4, 0.4, 0.21])
    unsound = save_bundle(tmp_path, network, vocabulary, created_ms=2, metrics={})

    load_bundle(tmp_path / sound.bundle_id)
    with pytest.raises(BundleError, match=r"expected shares .* at most 1 .* in mixture\.shares"):
        load_bundle(tmp_path / unsound.bundle_id)


@pytest.mark.parametrize(
    ("name", "dtype", "expected"),
    [
        ("neighbours", torch.int64, "I32"),
        ("neighbours", torch.float32, "I32"),
        ("shares", torch.float64, "F32"),
        ("shares", torch.float16, "F32"),
        ("support", torch.int32, "F32"),
    ],
)
def test_a_mixture_of_another_type_is_refused(tmp_path: Path, name: str, dtype: torch.dtype, expected: str) -> None:
    """They would be turned into the right one without a word."""
    network = _network(more=FULL)
    assert network.mixture is not None
    setattr(network.mixture, name, getattr(network.mixture, name).to(dtype))
    manifest = save_bundle(tmp_path, network, Vocabulary(ITEMS, np.ones(5)), created_ms=1, metrics={})

    with pytest.raises(BundleError, match=rf"expected mixture\.{name} of {expected}"):
        load_bundle(tmp_path / manifest.bundle_id)


def test_weights_that_are_not_there_are_not_made_room_for(tmp_path: Path) -> None:
    """A manifest can claim any width: an LSTM of this one would take 8 GB before the weights are looked at."""
    network = _network()
    network.config = NetworkConfig(len(ITEMS), hidden_size=16_383, cell="lstm")
    manifest = save_bundle(tmp_path, network, Vocabulary(ITEMS, np.ones(5)), created_ms=1, metrics={})
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(BundleError, match="expected item_embedding"):
        load_bundle(tmp_path / manifest.bundle_id)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 500_000


def test_a_bundle_that_no_worker_would_load_is_not_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trainer says so at once, and announces nothing."""
    monkeypatch.setitem(nextclick.bundle._MAX_BYTES, MODEL_FILE, 1_000)

    with pytest.raises(BundleError, match=r"at most 1000 bytes in model\.safetensors"):
        _saved(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("cell", ["gru", "lstm", "rnn"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("more", [{}, *({name: value} for name, value in FULL.items()), FULL], ids=str)
def test_type_and_shape_of_weights_are_known_before_a_network_is_made(
    cell: str, tied: bool, more: dict[str, Any]
) -> None:
    """They are what the network has."""
    network = _network(cell, tied, more=more)
    kinds = {torch.float32: "F32", torch.int32: "I32"}
    weights = {name: (kinds[weight.dtype], tuple(weight.shape)) for name, weight in network.state_dict().items()}
    if tied:
        del weights["output_embedding.weight"]

    assert network.config.weights() == weights


def test_a_full_disk_leaves_nothing_of_a_new_bundle(tmp_path: Path) -> None:
    """Neither a folder that looks like a bundle nor a draft that fills the disk further."""
    with _files_limited_to(1_000), pytest.raises(OSError):  # noqa: PT011 - which one is the system's business
        save_bundle(tmp_path, _network(), Vocabulary(ITEMS, np.ones(5)), created_ms=1, metrics={})

    assert list(tmp_path.iterdir()) == []


def test_what_is_prepared_is_what_was_asked_for(tmp_path: Path) -> None:
    """A form is kept under the id that was read first: it may not be that of a bundle that took the folder since."""
    folder, other = _saved(tmp_path / "a"), _saved(tmp_path / "b", seed=2)

    def replaced(bundle_id: str, prepare: Callable[[], ServedForm]) -> ServedForm:
        for name in FILES:
            shutil.copy(other / name, folder / name)
        return prepare()

    with pytest.raises(BundleError, match="was replaced while it was read"):
        load_bundle(folder, replaced)


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever interrupts it, here in the middle of a file."""

    def interrupted(vocabulary: Vocabulary, path: Path) -> None:
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("nextclick.vocabulary_file.save_vocabulary", interrupted)

    with pytest.raises(KeyboardInterrupt):
        save_bundle(tmp_path, _network(), Vocabulary(ITEMS, np.ones(5)), created_ms=1, metrics={})

    assert list(tmp_path.iterdir()) == []


def test_a_draft_of_a_killed_process_is_no_obstacle(tmp_path: Path) -> None:
    """What a kill left behind is replaced."""
    draft = tmp_path / ".draft-1"
    draft.mkdir()
    (draft / MODEL_FILE).write_text("half")

    folder = _saved(tmp_path)

    load_bundle(folder)
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_copy_is_the_same_bundle(tmp_path: Path) -> None:
    """Also over a damaged or older one at the destination, and with folders made as needed."""
    source = _saved(tmp_path)
    destination = tmp_path / "some" / "where" / source.name
    destination.mkdir(parents=True)
    (destination / MANIFEST_FILE).write_text("damaged")

    copy_bundle(source, destination)

    assert verify_bundle(destination) == verify_bundle(source)
    assert [path.name for path in destination.parent.iterdir()] == [source.name]


def test_a_damaged_bundle_is_not_copied(tmp_path: Path) -> None:
    """What is at the destination stays."""
    good = _saved(tmp_path)
    destination = tmp_path / "copies" / good.name
    copy_bundle(good, destination)
    (good / MODEL_FILE).write_bytes(b"damaged")

    with pytest.raises(BundleError):
        copy_bundle(good, destination)

    load_bundle(destination)
    assert [path.name for path in destination.parent.iterdir()] == [good.name]


def test_a_bundle_that_is_not_there_is_not_copied(tmp_path: Path) -> None:
    """What is missing is a bundle's fault, not the disk's, and makes no folder."""
    with pytest.raises(BundleError, match="cannot be read"):
        copy_bundle(tmp_path / "nowhere", tmp_path / "copies" / "nowhere")

    assert list(tmp_path.iterdir()) == []


def test_a_copy_on_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The caller hears of the disk, not of a bad bundle."""
    source = _saved(tmp_path)
    destination = tmp_path / "copies" / source.name

    with _files_limited_to(1_000), pytest.raises(OSError):  # noqa: PT011 - as above
        copy_bundle(source, destination)

    assert list(destination.parent.iterdir()) == []


def test_a_moved_bundle_is_the_same_bundle(tmp_path: Path) -> None:
    """A user may name any folder with --set bundle=PATH."""
    folder = _saved(tmp_path)
    moved = Path(shutil.move(folder, tmp_path / "my best bundle"))

    manifest, model = load_bundle(moved)

    assert model.bundle_id == manifest.bundle_id == folder.name


def _network(cell: str = "gru", tied: bool = True, seed: int = 5, more: dict[str, Any] | None = None) -> Network:
    fields = {"n_items": len(ITEMS), "hidden_size": 4, "cell": cell, "tied": tied}
    return random_network(msgspec.convert(fields | (more or {}), NetworkConfig), seed)


def _saved(store: Path, seed: int = 5) -> Path:
    manifest = save_bundle(store, _network(seed=seed), Vocabulary(ITEMS, np.ones(5)), created_ms=1, metrics={"m": 0.5})
    return store / manifest.bundle_id


def _sign(folder: Path, name: str, size_bytes: int) -> None:
    """Let the manifest vouch for a size, and its id for the manifest."""
    manifest = decode_manifest((folder / MANIFEST_FILE).read_bytes())
    files = tuple(
        BundleFile(file.name, file.sha256, size_bytes if file.name == name else file.size_bytes)
        for file in manifest.files
    )
    bundle_id = bundle_id_of(files, manifest.network, manifest.created_ms)
    signed = msgspec.structs.replace(manifest, files=files, bundle_id=bundle_id)
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(signed))


def _flip(path: Path, original: bytes, position: int) -> None:
    flipped = bytearray(original)
    flipped[position] ^= 1
    path.write_bytes(flipped)


def _identity(manifest: Manifest) -> tuple[Any, ...]:
    return manifest.bundle_id, manifest.created_ms, manifest.network, manifest.files


def _change_manifest(folder: Path, **fields: Any) -> None:
    path = folder / MANIFEST_FILE
    path.write_text(json.dumps(json.loads(path.read_bytes()) | fields))


@contextmanager
def _files_limited_to(n_bytes: int) -> Iterator[None]:
    """Let every write beyond the limit fail as on a full disk (the system says EFBIG instead of ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
