"""Bundles: folders with everything that serving needs. Written whole or not at all, verified before use, no pickle."""

import errno
import hashlib
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from nextclick.errors import BundleError
from nextclick.manifest import (
    MANIFEST_FILE,
    MAX_MANIFEST_BYTES,
    UNKNOWN_ORIGIN,
    BundleFile,
    Manifest,
    TrainedFrom,
    bundle_id_of,
    decode_manifest,
    encode_manifest,
)
from nextclick.model import ServedModel
from nextclick.network_config import NEIGHBOURS, NetworkConfig
from nextclick.served_form import ServedForm, fits, served_form
from nextclick.updates import JSON_FORMAT, UpdateFormat
from nextclick.vocabulary import MAX_FILE_BYTES as MAX_VOCABULARY_BYTES
from nextclick.vocabulary import Vocabulary

if TYPE_CHECKING:  # torch is for training only
    from nextclick.network import Network

Weights = dict[str, npt.NDArray[Any]]
FormOf = Callable[[str, Callable[[], ServedForm]], ServedForm]

_log = logging.getLogger(__name__)

MODEL_FILE = "model.safetensors"
VOCABULARY_FILE = "vocabulary.parquet"
MAX_MODEL_BYTES = 8 * 1024**3  # 4 million items of width 512: more does not fit the machines that this is for
# Then every sum that the network makes of its weights stays far below float32's limit, whatever the state: no score is
# NaN or infinite. Trained weights are below 100.
MAX_WEIGHT = 1e6
SHARES = "mixture.shares"
_COUNTS = (NEIGHBOURS, SHARES, "mixture.support")
_ROUNDING = 1e-4  # of a sum of float32
_MAX_BYTES = {MODEL_FILE: MAX_MODEL_BYTES, VOCABULARY_FILE: MAX_VOCABULARY_BYTES}


def save_bundle(
    store: Path,
    network: "Network",
    vocabulary: Vocabulary,
    *,
    created_ms: int,
    metrics: dict[str, float],
    trained_from: TrainedFrom = UNKNOWN_ORIGIN,
) -> Manifest:
    """Write a bundle below `store`, in a folder that is named by its id.

    The folder appears at once and complete: it is made under another name, the manifest last, and then renamed.

    Returns:
        Its manifest.

    Raises:
        BundleError: it is larger than a bundle may be.
        OSError: the store cannot be written.
    """
    from nextclick.vocabulary_file import save_vocabulary

    draft = store / f".draft-{created_ms}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        save_vocabulary(vocabulary, draft / VOCABULARY_FILE)
        _save_weights(network, draft / MODEL_FILE)
        # safetensors makes a file that only its owner may read; trainer and worker may be different users.
        (draft / MODEL_FILE).chmod((draft / VOCABULARY_FILE).stat().st_mode)
        files = tuple(_describe(draft / name, name) for name in (MODEL_FILE, VOCABULARY_FILE))
        config = msgspec.to_builtins(network.config)
        manifest = Manifest(
            bundle_id=bundle_id_of(files, config, created_ms),
            created_ms=created_ms,
            network=config,
            files=files,
            metrics=metrics,
            parent=trained_from.parent,
            log_range=dict(trained_from.log_range),
            judgement=trained_from.judgement,
            settings=dict(trained_from.settings),
            versions=dict(trained_from.versions),
        )
        (draft / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
        draft.rename(store / manifest.bundle_id)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def _in_own_memory(bundle_id: str, prepare: Callable[[], ServedForm]) -> ServedForm:
    return prepare()


def load_bundle(
    folder: Path, form_of: FormOf = _in_own_memory, output: UpdateFormat = JSON_FORMAT
) -> tuple[Manifest, ServedModel]:
    """Load a bundle for serving.

    Args:
        folder: of the bundle.
        form_of: gives the form of a bundle by its id; is told how to prepare it, which verifies and reads all files.
            The id vouches for a form that was prepared before.
        output: how the model writes lists.

    Raises:
        BundleError: the bundle is missing, incomplete or damaged.
    """

    manifest = read_manifest(folder)
    config = _config_of(folder, manifest)

    def prepare() -> ServedForm:
        found, _, weights, vocabulary = _load(folder)
        if found != manifest:  # what is prepared is kept under the id that was read first
            raise BundleError(f"bundle {folder} was replaced while it was read; load it again")
        return served_form(config, weights, vocabulary)

    form = form_of(manifest.bundle_id, prepare)
    if not fits(config, form):
        _log.warning(
            "the served form of bundle %s does not fit its configuration: it is not used; remove it from served_dir",
            manifest.bundle_id,
        )
        form = prepare()
    return manifest, ServedModel.of_form(manifest.bundle_id, config, form, output)


def load_network(folder: Path) -> "tuple[Manifest, Network, Vocabulary]":
    """Verify a bundle and load its parts, for training on.

    Raises:
        BundleError: it is missing, incomplete or damaged.
    """
    import torch

    from nextclick.network import Network

    manifest, config, weights, vocabulary = _load(folder)
    network = Network(config)
    tensors = {name: torch.from_numpy(weight) for name, weight in weights.items()}
    network.load_state_dict(tensors, strict=not config.tied)
    return manifest, network, vocabulary


def _load(folder: Path) -> tuple[Manifest, NetworkConfig, Weights, Vocabulary]:
    import safetensors

    from nextclick.vocabulary_file import load_vocabulary

    manifest = verify_bundle(folder)
    vocabulary = load_vocabulary(folder / VOCABULARY_FILE)
    config = _config_of(folder, manifest)
    try:
        if config.n_items != len(vocabulary):
            raise BundleError(f"expected {config.n_items} items in the vocabulary, found {len(vocabulary)}")
        weights = _read_weights(folder / MODEL_FILE, config)
    except (ValueError, TypeError, KeyError, RuntimeError, safetensors.SafetensorError, OSError) as error:
        raise _unfit(folder, error) from error
    _check_values(folder, config, weights)
    return manifest, config, weights, vocabulary


def _config_of(folder: Path, manifest: Manifest) -> NetworkConfig:
    try:
        return msgspec.convert(manifest.network, NetworkConfig)
    except msgspec.ValidationError as error:
        raise _unfit(folder, error) from error


def _unfit(folder: Path, error: Exception) -> BundleError:
    return BundleError(f"bundle {folder} does not fit its configuration: {error!s:.300}; train a new one")


def read_manifest(folder: Path) -> Manifest:
    """Read a bundle's manifest, whose parts vouch for each other; the files are not looked at.

    Raises:
        BundleError: it is missing, or is none.
    """
    with _read_errors(folder):
        with _open_plain(folder / MANIFEST_FILE) as file:
            manifest = decode_manifest(file.read(MAX_MANIFEST_BYTES + 1))
        expected_id = bundle_id_of(manifest.files, manifest.network, manifest.created_ms)
        if manifest.bundle_id != expected_id:
            raise BundleError(
                f"bundle {folder}: expected the id {expected_id}, which its content gives, "
                f"found {manifest.bundle_id}; publish it again"
            )
    return manifest


def verify_bundle(folder: Path) -> Manifest:
    """Check that a bundle is complete and is what its manifest says.

    Raises:
        BundleError: it is not.
    """
    manifest = read_manifest(folder)
    with _read_errors(folder):
        if sorted(file.name for file in manifest.files) != sorted(_MAX_BYTES):
            raise BundleError(f"bundle {folder}: expected files {MODEL_FILE} and {VOCABULARY_FILE} in the manifest")
        for expected in manifest.files:
            if _describe(folder / expected.name, expected.name, expected.size_bytes) != expected:
                raise BundleError(f"bundle {folder}: {expected.name} is not what the manifest says; fetch it again")
    return manifest


@contextmanager
def _read_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a path with NUL
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"bundle {folder} cannot be read: {reason}; check it") from error


def copy_bundle(source: Path, destination: Path) -> None:
    """Copy a bundle whole, so that a reader never finds half of it at the destination.

    Raises:
        BundleError: the source cannot be read.
        OSError: the destination cannot be written.
    """
    verify_bundle(source)
    draft = destination.with_name(f".draft-{destination.name}")
    shutil.rmtree(draft, ignore_errors=True)
    destination.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft.mkdir()
        for name in (*_MAX_BYTES, MANIFEST_FILE):  # and nothing else, whatever lies there
            with _open_plain(source / name) as original, (draft / name).open("wb") as copy:
                shutil.copyfileobj(original, copy)
        verify_bundle(draft)
        shutil.rmtree(destination, ignore_errors=True)
        draft.rename(destination)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _check_values(folder: Path, config: NetworkConfig, weights: Weights) -> None:
    """Make sure that no score is NaN or infinite, no neighbour an item that there is not, and no share of no whole."""
    at_most = {NEIGHBOURS: config.n_items - 1, SHARES: 1}
    for name, weight in weights.items():
        least, most = weight.min(), weight.max()
        low, high = 0 if name in _COUNTS else -MAX_WEIGHT, at_most.get(name, MAX_WEIGHT)
        if not (least >= low and most <= high):  # NaN neither
            raise BundleError(
                f"bundle {folder}: expected weights between {low:g} and {high:g}, found NaN, infinity or others in "
                f"{name}; train a new one"
            )
    if config.n_neighbours and (total := float(weights[SHARES].sum(axis=1).max())) > 1 + _ROUNDING:
        raise BundleError(
            f"bundle {folder}: expected shares that add up to at most 1 per item, found {total:g} in {SHARES}; "
            "train a new one"
        )


def _save_weights(network: "Network", path: Path) -> None:
    import safetensors.numpy

    weights = {name: np.asarray(weight, order="C") for name, weight in network.arrays().items()}
    try:
        safetensors.numpy.save_file(weights, path)
    except safetensors.SafetensorError as error:  # how it tells of a full disk
        raise OSError(f"{path} cannot be written: {error}") from error


def _read_weights(path: Path, config: NetworkConfig) -> Weights:
    """Read a network's weights; their names, types and shapes are judged before any is unpacked."""
    import safetensors

    expected = config.weights()
    with safetensors.safe_open(path, framework="np") as file:
        names = set(file.keys())
        if names != set(expected):
            missing, unexpected = sorted(set(expected) - names), sorted(names - set(expected))
            raise BundleError(f"weights missing: {missing[:3]}, unexpected: {unexpected[:3]!r:.200}")
        for name, (kind, shape) in expected.items():
            tensor = file.get_slice(name)
            if tensor.get_dtype() != kind or tuple(tensor.get_shape()) != shape:
                raise BundleError(
                    f"expected {name} of {kind} {shape}, found {tensor.get_dtype()} {tuple(tensor.get_shape())!r:.200}"
                )
        return {name: file.get_tensor(name) for name in expected}


@contextmanager
def _open_plain(path: Path) -> Iterator[BufferedReader]:
    """Open a file for reading that must be one: a named pipe or a device is refused instead of waited for."""
    with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, f"{path.name} that is no plain file")
        yield file


def _describe(path: Path, name: str, expected_bytes: int | None = None) -> BundleFile:
    """Give what a manifest says of a file; without its digest if its size is not the expected one already."""
    with _open_plain(path) as file:
        size_bytes = os.fstat(file.fileno()).st_size
        if size_bytes > _MAX_BYTES[name]:
            raise BundleError(
                f"a bundle expects at most {_MAX_BYTES[name]} bytes in {name}, found {size_bytes}; train a smaller one"
            )
        if expected_bytes not in (None, size_bytes):
            return BundleFile(name, "", size_bytes)
        return BundleFile(name, hashlib.file_digest(file, "sha256").hexdigest(), size_bytes)
