"""The folder of bundles: writes a new one, finds the one that is served, removes those that nobody needs."""

import logging
import shutil
from pathlib import Path

from nextclick.bundle import load_network, save_bundle
from nextclick.errors import BundleError, PermanentError
from nextclick.manifest import Manifest, TrainedFrom
from nextclick.network import Network
from nextclick.vocabulary import Vocabulary
from tools.files import make_folder, sync
from training.learning.training_round import Champion

DRAFT_PREFIX = ".draft-"  # what `nextclick.bundle` writes under until a bundle is complete
KEPT_BUNDLES = 5  # a worker that is slow to fetch, or a way back
_log = logging.getLogger(__name__)


def load_champion(store: Path, announced: Manifest | None) -> Champion | None:
    """Load the bundle that was announced last; None when there is none that can be used."""
    if announced is None:
        return None
    try:
        return Champion(*load_network(store / announced.bundle_id))
    except BundleError as error:
        _log.warning("the announced bundle cannot be trained on, starting from nothing: %s", error)
        return None


def store_bundle(
    store: Path,
    network: Network,
    vocabulary: Vocabulary,
    *,
    created_ms: int,
    metrics: dict[str, float],
    parent: str,
    log_range: dict[str, tuple[int, int]],
) -> Manifest:
    """Write a bundle; on return it outlives a power cut.

    Raises:
        PermanentError: the folder cannot be written.
    """
    try:
        make_folder(store)
        manifest = save_bundle(
            store,
            network,
            vocabulary,
            created_ms=created_ms,
            metrics=metrics,
            trained_from=TrainedFrom(parent, log_range),
        )
        folder = store / manifest.bundle_id
        for path in (*folder.iterdir(), folder, store):
            sync(path)
        return manifest
    except OSError as error:
        raise PermanentError(
            f"expected to write a bundle below {store}, found: {error.strerror or error}; make room or correct the "
            "permissions, or choose another folder with --set bundle_dir=PATH. Nothing was announced"
        ) from error


def remove_drafts(store: Path) -> None:
    """Remove bundles that were never finished. Only for the one trainer that writes here, and not while it does."""
    for draft in store.glob(f"{DRAFT_PREFIX}*"):
        shutil.rmtree(draft, ignore_errors=True)


def remove_old_bundles(store: Path, champion: str) -> None:
    """Keep the newest bundles, and the champion."""
    if not store.exists():
        return
    bundles = [path for path in store.iterdir() if path.is_dir() and _is_bundle_id(path.name)]
    newest_first = sorted(bundles, key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest_first[KEPT_BUNDLES:]:
        if old.name != champion:
            shutil.rmtree(old, ignore_errors=True)


def _is_bundle_id(name: str) -> bool:
    return len(name) == 16 and not set(name) - set("0123456789abcdef")
