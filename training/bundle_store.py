"""The folder of bundles: writes a new one, finds the one that is served, removes those that nobody needs."""

import logging
import shutil
from pathlib import Path
from typing import NamedTuple

from nextclick.bundle import load_network, save_bundle
from nextclick.errors import BundleError, PermanentError
from nextclick.manifest import Manifest
from nextclick.network import Network
from nextclick.vocabulary import Vocabulary

KEPT_BUNDLES = 5  # a worker that is slow to fetch, or a way back
_log = logging.getLogger(__name__)


class Champion(NamedTuple):
    """The bundle that is served, loaded."""

    manifest: Manifest
    network: Network
    vocabulary: Vocabulary


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
    """Write a bundle.

    Raises:
        PermanentError: the folder cannot be written.
    """
    try:
        return save_bundle(
            store,
            network,
            vocabulary,
            created_ms=created_ms,
            metrics=metrics,
            parent=parent,
            log_range=log_range,
        )
    except OSError as error:
        raise PermanentError(
            f"expected to write a bundle below {store}, found: {error.strerror or error}; make room or correct the "
            "permissions, or choose another folder with --set bundle_dir=PATH. Nothing was announced"
        ) from error


def remove_old_bundles(store: Path, champion: str) -> None:
    """Keep the newest bundles, and the champion."""
    bundles = [path for path in store.iterdir() if path.is_dir() and _is_bundle_id(path.name)]
    newest_first = sorted(bundles, key=lambda path: path.stat().st_mtime, reverse=True)
    for old in newest_first[KEPT_BUNDLES:]:
        if old.name != champion:
            shutil.rmtree(old, ignore_errors=True)


def _is_bundle_id(name: str) -> bool:
    return len(name) == 16 and not set(name) - set("0123456789abcdef")
