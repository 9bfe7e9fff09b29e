"""The bundle that is served, and how a newer one takes its place: announced, copied, verified, loaded, then swapped.

The agent reads `ServedBundle.current` once per chunk, so a swap always falls between two batches. A bundle that cannot
be loaded is refused, counted and logged, and the worker keeps the one it has.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nextclick.errors import BundleError
from nextclick.manifest import Manifest, decode_manifest
from nextclick.popularity import Weights, prepare_seed
from nextclick.settings import Settings
from nextclick.updates import JSON_FORMAT, UpdateFormat
from stream.metrics import WorkerMetrics
from tools.bundle_copies import BundleCopies

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

_log = logging.getLogger(__name__)


class ServedBundle:
    """Holds the model that is served and replaces it.

    Attributes:
        current: what the next chunk is served with; None means popularity.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: WorkerMetrics,
        on_swap: Callable[[Weights], None],
        output: UpdateFormat = JSON_FORMAT,
    ) -> None:
        """Serve nothing yet.

        Args:
            settings: of the worker.
            metrics: count swaps.
            on_swap: gets the popularity of a bundle that begins to be served.
            output: how models write lists.
        """
        self._bundle = settings.bundle
        self._metrics = metrics
        self._on_swap = on_swap
        self._copies = BundleCopies(settings, settings.data_dir / "bundles", explain=settings.explain, output=output)
        self.current: ServedModel | None = None

    def start_with(self) -> None:
        """Serve the bundle named in the settings, else the last verified local copy, else none.

        Raises:
            BundleError: the bundle that the settings name cannot be used.
        """
        if self._bundle:
            self._swap(*_with_popularity(*self._copies.load_folder(Path(self._bundle))))
            return
        bundle_id = self._copies.last()
        if bundle_id is not None:
            try:
                self._swap(*_with_popularity(*self._copies.load(bundle_id)))
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

    def _fetch(self, announced: Manifest) -> "tuple[Manifest, ServedModel, Weights]":
        return _with_popularity(*self._copies.fetch(announced))

    def _swap(self, manifest: Manifest, model: "ServedModel", popularity: Weights) -> None:
        self._on_swap(popularity)
        self.current = model
        self._metrics.bundle.info({"bundle": manifest.bundle_id, "cell": str(manifest.network.get("cell", ""))})
        self._metrics.bundle_created.set(manifest.created_ms / 1000)
        self._metrics.swaps.labels("swapped").inc()
        fields = {"bundle": manifest.bundle_id, "items": len(model.item_ids)}
        _log.info("serving a new bundle", extra={"fields": fields})

    def _refuse(self, bundle_id: str, error: BundleError) -> None:
        served = self.current.bundle_id if self.current is not None else ""
        _log.error("bundle refused: %s", error, extra={"fields": {"bundle": bundle_id, "still_served": served}})
        self._metrics.swaps.labels("refused").inc()


def _with_popularity(manifest: Manifest, model: "ServedModel") -> "tuple[Manifest, ServedModel, Weights]":
    """Add what takes long of what a swap needs: called in a thread once clicks are served."""
    return manifest, model, prepare_seed(model.item_ids, model.popularity)
