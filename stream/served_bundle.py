"""The bundle that is served, and how a newer one takes its place: announced, copied, verified, loaded, then swapped.

The agent reads `ServedBundle.current` once per chunk, so a swap always falls between two batches. A bundle that cannot
be loaded is refused, counted and logged, and the worker keeps the one it has. It is tried again: a file system that was
away, a disk that was full or a copy that comes late is no reason to serve another bundle than other workers do.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nextclick.errors import BundleError
from nextclick.experiment import EXPERIMENT, Experiment, decode_experiment
from nextclick.manifest import CHAMPION, Manifest, decode_manifest
from nextclick.popularity import Weights, prepare_seed
from nextclick.settings import Settings
from nextclick.updates import JSON_FORMAT, UpdateFormat
from stream.metrics import WorkerMetrics
from stream.trial import Trial
from tools.bundle_copies import BundleCopies

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

# What was refused is tried again: soon, for bundles are often only late, then as seldom as costs nothing.
FIRST_AGAIN_S, MOST_AGAIN_S = 1.0, 60.0
_log = logging.getLogger(__name__)


class ServedBundle:
    """Holds the model that is served and replaces it. One task alone tells it what was announced, and to try again.

    Attributes:
        current: what the next chunk is served with; None means popularity.
        trial: a bundle that is tried on some users beside it.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: WorkerMetrics,
        on_swap: Callable[[Weights], None],
        output: UpdateFormat = JSON_FORMAT,
        prepare: "Callable[[ServedModel], None]" = lambda model: None,
    ) -> None:
        """Serve nothing yet.

        Args:
            settings: of the worker.
            metrics: count swaps.
            on_swap: gets the popularity of a bundle that begins to be served.
            output: how models write lists.
            prepare: gets a model before it is served; in a thread, and may take a while.
        """
        self._prepare = prepare
        self._bundle = settings.bundle
        self._metrics = metrics
        self._on_swap = on_swap
        self._copies = BundleCopies(settings, settings.data_dir / "bundles", explain=settings.explain, output=output)
        self._wanted: Manifest | None = None  # was announced, and cannot be served yet
        self._again_s, self._pause_s = float("inf"), FIRST_AGAIN_S
        self._refused: dict[str, str] = {}  # why, by bundle: the same again is no news
        self.current: ServedModel | None = None
        self.trial: Trial | None = None

    def start_with(self) -> None:
        """Serve the bundle named in the settings, else the last verified local copy, else none.

        Raises:
            BundleError: the bundle that the settings name cannot be used.
        """
        if self._bundle:
            self._swap(*self._prepared(*self._copies.load_folder(Path(self._bundle))))
            return
        bundle_id = self._copies.last()
        if bundle_id is not None:
            try:
                self._swap(*self._prepared(*self._copies.load(bundle_id)))
            except BundleError as error:
                self._refuse(CHAMPION, bundle_id, error)

    async def announced(self, value: bytes) -> None:
        """Serve a bundle that was announced, unless it is served already or cannot be used."""
        try:
            self._wanted = decode_manifest(value)
        except BundleError as error:
            self._refuse(CHAMPION, "?", error)
            return
        self._news(self._wanted.bundle_id)
        await self._serve_wanted()

    async def experiment_announced(self, value: bytes | None) -> None:
        """Try a bundle on some users, or end that; one that cannot be used is tried on nobody until it can."""
        self._metrics.refused.labels(EXPERIMENT).set(0)
        try:
            experiment = decode_experiment(value) if value is not None else None
        except BundleError as error:
            self._refuse(EXPERIMENT, "?", error)
            experiment = None
        before = self.trial
        if before is not None and before.experiment == experiment and before.model is not None:
            return
        self.trial = None
        if experiment is not None:
            self._news(experiment.bundle_id)
            self._begin(Trial(experiment, await self._model_on_trial(experiment), self._metrics))
        else:
            self._metrics.trial.info({})
            if before is not None:
                _log.info("no bundle is on trial any more", extra={"fields": _described(before)})

    def again_in_s(self) -> float:
        """Give how long to wait before `try_again`; endless where nothing was refused."""
        is_refused = self._wanted is not None or (self.trial is not None and self.trial.model is None)
        return max(0.0, self._again_s - time.monotonic()) if is_refused else float("inf")

    async def try_again(self) -> None:
        """Load what was announced and could not be loaded, where that is due."""
        if self.again_in_s() > 0.0:
            return
        self._pause_s = min(2 * self._pause_s, MOST_AGAIN_S)
        await self._serve_wanted()
        trial = self.trial
        if trial is not None and trial.model is None:
            model = await self._model_on_trial(trial.experiment)
            if model is not None:
                self._begin(Trial(trial.experiment, model, self._metrics))
        self._again_s = time.monotonic() + self._pause_s

    def _news(self, bundle_id: str) -> None:
        """Let a bundle that was announced be tried as if it had never been refused."""
        self._refused.pop(bundle_id, None)
        self._pause_s = FIRST_AGAIN_S
        self._again_s = time.monotonic() + self._pause_s

    async def _serve_wanted(self) -> None:
        """Serve the champion that was announced last; where that cannot be, it stays wanted."""
        wanted = self._wanted
        if wanted is None:
            return
        if self.current is None or self.current.bundle_id != wanted.bundle_id:
            try:
                self._swap(*await asyncio.to_thread(self._fetch, wanted))
            except BundleError as error:
                self._refuse_to_load(CHAMPION, wanted.bundle_id, error)
                return
        self._wanted = None
        self._metrics.refused.labels(CHAMPION).set(0)

    def _begin(self, trial: Trial) -> None:
        self.trial = trial
        self._metrics.trial.info(_described(trial))
        if trial.model is not None:
            self._metrics.refused.labels(EXPERIMENT).set(0)
            _log.info("a bundle is on trial", extra={"fields": _described(trial)})

    async def _model_on_trial(self, experiment: Experiment) -> "ServedModel | None":
        try:
            return await asyncio.to_thread(self._fetch_on_trial, experiment.manifest)
        except BundleError as error:
            self._refuse_to_load(EXPERIMENT, experiment.bundle_id, error)
            return None

    def _fetch_on_trial(self, announced: Manifest) -> "ServedModel":
        _, model = self._copies.fetch(announced, on_trial=True)
        self._prepare(model)
        return model

    def _fetch(self, announced: Manifest) -> "tuple[Manifest, ServedModel, Weights]":
        tried = self.trial.model if self.trial is not None else None
        if tried is not None and tried.bundle_id == announced.bundle_id:  # promoted: it is here
            self._copies.promoted(announced.bundle_id)
            return announced, tried, prepare_seed(tried.item_ids, tried.popularity)
        return self._prepared(*self._copies.fetch(announced))

    def _swap(self, manifest: Manifest, model: "ServedModel", popularity: Weights) -> None:
        self._on_swap(popularity)
        self.current = model
        self._metrics.bundle.info({"bundle": manifest.bundle_id, "cell": str(manifest.network.get("cell", ""))})
        self._metrics.bundle_items.set(len(model.item_ids))
        self._metrics.bundle_created.set(manifest.created_ms / 1000)
        self._metrics.swaps.labels("swapped").inc()
        fields = {"bundle": manifest.bundle_id, "items": len(model.item_ids)}
        _log.info("serving a new bundle", extra={"fields": fields})

    def _refuse_to_load(self, announced: str, bundle_id: str, error: BundleError) -> None:
        """Say and count why, unless it is the same as before."""
        if self._refused.get(bundle_id) != str(error):
            self._refused[bundle_id] = str(error)
            self._refuse(announced, bundle_id, error)

    def _refuse(self, announced: str, bundle_id: str, error: BundleError) -> None:
        self._metrics.refused.labels(announced).set(1)
        served = self.current.bundle_id if self.current is not None else ""
        _log.error("bundle refused: %s", error, extra={"fields": {"bundle": bundle_id, "still_served": served}})
        self._metrics.swaps.labels("refused").inc()

    def _prepared(self, manifest: Manifest, model: "ServedModel") -> "tuple[Manifest, ServedModel, Weights]":
        """Add what takes long of what a swap needs: called in a thread once clicks are served."""
        self._prepare(model)
        return manifest, model, prepare_seed(model.item_ids, model.popularity)


def _described(trial: Trial) -> dict[str, str]:
    experiment = trial.experiment
    return {"bundle": experiment.bundle_id, "kind": experiment.kind, "share": str(experiment.share)}
