"""Bundles: folders with everything that serving needs. Written whole or not at all, verified before use, no pickle."""

import hashlib
import shutil
from pathlib import Path

import msgspec
import safetensors
import safetensors.torch
import torch

from nextclick.errors import BundleError
from nextclick.manifest import (
    MANIFEST_FILE,
    BundleFile,
    Manifest,
    bundle_id_of,
    decode_manifest,
    encode_manifest,
)
from nextclick.model import ServedModel
from nextclick.network import Network, NetworkConfig
from nextclick.vocabulary import Vocabulary

MODEL_FILE = "model.safetensors"
VOCABULARY_FILE = "vocabulary.parquet"
MAX_MANIFEST_BYTES = 1_000_000  # a broker's limit for a record: what is larger cannot have been announced


def save_bundle(
    store: Path,
    network: Network,
    vocabulary: Vocabulary,
    *,
    created_ms: int,
    metrics: dict[str, float],
    parent: str = "",
    log_range: dict[str, tuple[int, int]] | None = None,
) -> Manifest:
    """Write a bundle below `store`, in a folder that is named by its id.

    The folder appears at once and complete: it is made under another name, the manifest last, and then renamed.

    Returns:
        Its manifest.

    Raises:
        OSError: the store cannot be written.
    """
    draft = store / f".draft-{created_ms}"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        vocabulary.save(draft / VOCABULARY_FILE)
        _save_weights(network, draft / MODEL_FILE)
        # safetensors makes a file that only its owner may read; trainer and worker may be different users.
        (draft / MODEL_FILE).chmod((draft / VOCABULARY_FILE).stat().st_mode)
        files = tuple(_describe(draft / name) for name in (MODEL_FILE, VOCABULARY_FILE))
        config = msgspec.to_builtins(network.config)
        manifest = Manifest(
            bundle_id=bundle_id_of(files, config, created_ms),
            created_ms=created_ms,
            network=config,
            files=files,
            metrics=metrics,
            parent=parent,
            log_range=log_range or {},
        )
        (draft / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
        draft.rename(store / manifest.bundle_id)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return manifest


def load_bundle(folder: Path) -> tuple[Manifest, ServedModel]:
    """Verify a bundle and load it for serving.

    Raises:
        BundleError: it is missing, incomplete or damaged.
    """
    manifest, network, vocabulary = load_network(folder)
    return manifest, ServedModel(manifest.bundle_id, network, vocabulary)


def load_network(folder: Path) -> tuple[Manifest, Network, Vocabulary]:
    """Verify a bundle and load its parts, for training on.

    Raises:
        BundleError: it is missing, incomplete or damaged.
    """
    manifest = verify_bundle(folder)
    vocabulary = Vocabulary.load(folder / VOCABULARY_FILE)
    try:
        config = msgspec.convert(manifest.network, NetworkConfig)
        if config.n_items != len(vocabulary):
            raise BundleError(f"expected {config.n_items} items in the vocabulary, found {len(vocabulary)}")
        network = Network(config)
        missing, unexpected = network.load_state_dict(safetensors.torch.load_file(folder / MODEL_FILE), strict=False)
    except (ValueError, TypeError, KeyError, RuntimeError, safetensors.SafetensorError, OSError) as error:
        raise BundleError(f"bundle {folder} does not fit its configuration: {error}; train a new one") from error
    # With tied embeddings the output embedding is the input embedding and is saved once.
    if unexpected or set(missing) != ({"output_embedding.weight"} if config.tied else set()):
        raise BundleError(f"bundle {folder}: weights missing {missing} or unexpected {unexpected}; train a new one")
    if not all(torch.isfinite(weights).all() for weights in network.parameters()):
        raise BundleError(f"bundle {folder}: expected weights that are numbers, found NaN or infinity; train a new one")
    return manifest, network, vocabulary


def verify_bundle(folder: Path) -> Manifest:
    """Check that a bundle is complete and is what its manifest says.

    Raises:
        BundleError: it is not.
    """
    try:
        data = (folder / MANIFEST_FILE).read_bytes()
        if len(data) > MAX_MANIFEST_BYTES:
            raise BundleError(f"bundle {folder}: expected a manifest of at most {MAX_MANIFEST_BYTES} bytes")
        manifest = decode_manifest(data)
        expected_id = bundle_id_of(manifest.files, manifest.network, manifest.created_ms)
        if manifest.bundle_id != expected_id:
            raise BundleError(
                f"bundle {folder}: expected the id {expected_id}, which its content gives, "
                f"found {manifest.bundle_id}; publish it again"
            )
        for expected in manifest.files:
            if _describe(folder / expected.name) != expected:
                raise BundleError(f"bundle {folder}: {expected.name} is not what the manifest says; fetch it again")
    except OSError as error:
        raise BundleError(
            f"bundle {folder} expected to be readable, found: {error.strerror or error}; check it"
        ) from error
    if {file.name for file in manifest.files} != {MODEL_FILE, VOCABULARY_FILE}:
        raise BundleError(f"bundle {folder}: expected files {MODEL_FILE} and {VOCABULARY_FILE} in the manifest")
    return manifest


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
        shutil.copytree(source, draft)
        verify_bundle(draft)
        shutil.rmtree(destination, ignore_errors=True)
        draft.rename(destination)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _save_weights(network: Network, path: Path) -> None:
    weights = {name: tensor.contiguous() for name, tensor in _own_weights(network).items()}
    try:
        safetensors.torch.save_file(weights, path)
    except safetensors.SafetensorError as error:  # how it tells of a full disk
        raise OSError(f"{path} cannot be written: {error}") from error


def _own_weights(network: Network) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = network.state_dict()
    if network.config.tied:
        del weights["output_embedding.weight"]
    return weights


def _describe(path: Path) -> BundleFile:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return BundleFile(path.name, digest, path.stat().st_size)
