"""The bundle that is served, and how a newer one takes its place: announced, copied, verified, loaded, then swapped.

The agent reads `ServedBundle.current` once per chunk, so a swap always falls between two batches. A bundle that cannot
be loaded is refused, counted and logged, and the worker keeps the one it has.
"""

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nextclick.errors import BundleError
from nextclick.manifest import CHAMPION, Manifest, decode_manifest
from nextclick.popularity import Weights, prepare_seed
from nextclick.settings import Settings
from stream.metrics import WorkerMetrics
from tools.files import write_whole

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

_log = logging.getLogger(__name__)

KEPT_COPIES = 2  # the served bundle and the one before


class ServedBundle:
    """Holds the model that is served and replaces it.

    Attributes:
        current: what the next chunk is served with; None means popularity.
    """

    def __init__(self, settings: Settings, metrics: WorkerMetrics, on_swap: Callable[[Weights], None]) -> None:
        self._settings = settings
        self._metrics = metrics
        self._on_swap = on_swap
        self._copies = settings.data_dir / "bundles"
        self._champion_file = self._copies / CHAMPION
        self.current: ServedModel | None = None

    def start_with(self) -> None:
        """Serve the bundle named in the settings, else the last verified local copy, else none.

        Raises:
            BundleError: the bundle that the settings name cannot be used.
        """
        if self._settings.bundle:
            self._swap(*self._load(Path(self._settings.bundle)))
            return
        with contextlib.suppress(FileNotFoundError):
            bundle_id = self._champion_file.read_text(errors="replace").strip()
            try:
                self._swap(*self._load(self._copies / bundle_id))
            except BundleError as error:
                self._refuse(bundle_id, error)

    async def announced(self, value: bytes) -> None:
        """Serve a bundle that was announced, unless it is served already or cannot be used."""
        bundle_id = "?"
        try:
            manifest = decode_manifest(value)
            bundle_id = manifest.bundle_id
            if self.current is not None and self.current.bundle_id == bundle_id:
                return
            self._swap(*await asyncio.to_thread(self._fetch, manifest))
        except BundleError as error:
            self._refuse(bundle_id, error)
        except OSError as error:  # the copy could not be written: the stream can go on without it
            self._refuse(bundle_id, BundleError(f"{self._copies} cannot be written: {error.strerror or error}"))

    def _fetch(self, announced: Manifest) -> "tuple[Manifest, ServedModel, Weights]":
        from nextclick.bundle import copy_bundle, verify_bundle

        source = self._settings.bundle_dir / announced.bundle_id
        if verify_bundle(source) != announced:
            raise BundleError(f"bundle {source} is not the one that was announced; publish it again")
        copy = self._copies / announced.bundle_id
        copy_bundle(source, copy)
        loaded = self._load(copy)
        write_whole(self._champion_file, announced.bundle_id.encode())
        copies = sorted(
            (path for path in self._copies.iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime
        )
        for old in [copy for copy in copies[:-KEPT_COPIES] if copy.name != announced.bundle_id]:
            shutil.rmtree(old, ignore_errors=True)
        return loaded

    def _load(self, folder: Path) -> "tuple[Manifest, ServedModel, Weights]":
        """Load all of a bundle that a swap needs; takes seconds, so that it runs in a thread once clicks are served."""
        from nextclick.bundle import load_bundle
        from stream.shared_forms import SharedForms

        manifest, model = load_bundle(folder, SharedForms(self._settings.served_dir).form_of)
        model.warm_up()
        return manifest, model, prepare_seed(model.item_ids, model.popularity)

    def _swap(self, manifest: Manifest, model: "ServedModel", popularity: Weights) -> None:
        self._on_swap(popularity)
        self.current = model
        self._metrics.bundle.info({"bundle": manifest.bundle_id, "cell": str(manifest.network.get("cell", ""))})
        self._metrics.bundle_created.set(manifest.created_ms / 1000)
        self._metrics.swaps.labels("swapped").inc()
        fields = {"bundle": manifest.bundle_id, "items": len(model.item_ids)}
        _log.info("serving a new bundle", extra={"fields": fields})

    def _refuse(self, bundle_id: str, error: BundleError) -> None:
        self._metrics.swaps.labels("refused").inc()
        served = self.current.bundle_id if self.current is not None else ""
        _log.error("bundle refused: %s", error, extra={"fields": {"bundle": bundle_id, "still_served": served}})
