"""Rounds of training, from the trainer's side: the champion, a process that trains, the decision, the announcement."""

import logging
import time
from collections.abc import Sequence
from enum import Enum
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from nextclick.errors import PermanentError
from nextclick.manifest import CHAMPION, Manifest
from nextclick.settings import Settings
from training.learning.cancellation import Cancellation, TrainingCancelled
from training.service.bundle_store import BundleStore
from training.service.decisions import Decision, judge
from training.service.log_files import LogFile
from training.service.metrics import TrainerMetrics
from training.service.models_topic import ModelsTopic
from training.service.round_process import (
    ChampionUnusable,
    RoundFailed,
    RoundTask,
    Trained,
    one_line,
    run_in_process,
    settings_for_round,
)
from training.service.trainer_role import TrainerRole

_log = logging.getLogger(__name__)


class Result(Enum):
    """How a round ended; the values are a metric's label."""

    PUBLISHED = "published"
    REFUSED = "refused"
    FAILED = "failed"
    STOPPED = "stopped"


class Ended(NamedTuple):
    """A round that is over.

    Attributes:
        result: how it ended.
        reason: in one line.
    """

    result: Result
    reason: str


class Rounds:
    """Runs rounds, one at a time, each in a thread of its own that only waits. Called by the trainer's loop."""

    def __init__(self, settings: Settings, role: TrainerRole, metrics: TrainerMetrics, given_up: str) -> None:
        """Do nothing yet.

        Args:
            settings: of the trainer.
            role: must be held to publish.
            metrics: get the results.
            given_up: id of a champion that may be replaced though it cannot be loaded; or empty.
        """
        self._settings = settings
        self._role = role
        self._metrics = metrics
        self._given_up = given_up
        self._stop = Event()
        self._cancellation = Cancellation(self._stop)
        self._models = ModelsTopic(settings, metrics, self._cancellation)
        self._store = BundleStore(settings.bundle_dir, settings.app)
        self._thread: Thread | None = None
        self._ended = Ended(Result.STOPPED, "there was none")

    @property
    def is_running(self) -> bool:
        """Whether a round was begun whose end was not asked for yet."""
        return self._thread is not None

    def begin(self, files: Sequence[LogFile]) -> None:
        """Begin a round on some files of the log, which must stay until it has ended. Does not block."""
        self._ended = Ended(Result.FAILED, "its thread ended without a result")  # unless it says something else
        # A daemon: whatever it waits for, it does not keep the trainer from leaving.
        self._thread = Thread(target=self._run, args=(list(files),), name="round", daemon=True)
        self._thread.start()

    def ended(self, timeout_s: float = 0.0) -> Ended | None:
        """Give the end of the round, once; None while it goes on, or without one. Blocks for the timeout at most."""
        if self._thread is None:
            return None
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            return None
        self._thread = None
        return self._ended

    def stop(self, patience_s: float) -> Ended | None:
        """End the round that goes on, if any, and begin no other.

        Returns:
            Its end; None if there was no round, or if it has not ended in time.
        """
        self._stop.set()
        return self.ended(patience_s)

    def _run(self, files: list[LogFile]) -> None:
        try:
            self._ended = self._round(files)
        except TrainingCancelled as stop:
            self._ended = Ended(Result.STOPPED, str(stop) or "it was stopped, nothing of it is kept")
            return
        except Exception as error:  # whatever it is, clicks are logged on
            _log.debug("the training failed", exc_info=True)
            self._ended = Ended(Result.FAILED, one_line(error))
        self._metrics.rounds.labels(self._ended.result.value).inc()

    def _round(self, files: list[LogFile]) -> Ended:
        began_s = time.monotonic()
        self._models.settle()
        announced = self._models.champion()
        self._store.note_in_use({announced.bundle_id} if announced is not None else set())
        champion = announced if announced is not None and announced.bundle_id != self._given_up else None
        with self._store.draft() as draft:
            task = RoundTask(
                settings_for_round(self._settings),
                files,
                champion.bundle_id if champion is not None else "",
                draft,
                _log.isEnabledFor(logging.DEBUG),
            )
            verdict = run_in_process(task, self._settings.training_stall_s, self._cancellation)
            if isinstance(verdict, ChampionUnusable):
                raise PermanentError(self._ways_out(task.champion, verdict.reason))
            if isinstance(verdict, RoundFailed):
                return Ended(Result.FAILED, verdict.reason)
            decision = judge(verdict.new, verdict.champion, verdict.popularity)
            if decision.publish:
                self._publish(draft, verdict.manifest, announced)
        took_s = time.monotonic() - began_s
        self._count(verdict, decision, took_s)
        _report(verdict, decision, took_s)
        return Ended(Result.PUBLISHED if decision.publish else Result.REFUSED, decision.reason)

    def _publish(self, draft: Path, manifest: Manifest, before: Manifest | None) -> None:
        """Workers must find the bundle before they hear of it; the one before may be on its way to one of them."""
        self._role.membership()  # who has lost the role leaves the note of bundles in use to its successor
        self._store.keep(draft, manifest.bundle_id)
        self._store.note_in_use({manifest.bundle_id} | ({before.bundle_id} if before is not None else set()))
        try:
            self._models.announce(manifest, before, self._role)
        except TrainingCancelled as stop:
            raise TrainingCancelled("it was stopped while it announced a bundle, or just before") from stop
        self._store.remove_old()

    def _ways_out(self, champion: str, reason: str) -> str:
        settings = self._settings
        return (
            f"the champion {champion} cannot be loaded: {reason}. Nothing is published over it. Restore its folder "
            f"below {settings.bundle_dir} (a worker has a copy, in its data_dir below bundles); or let the next bundle "
            f"take its place with `nextclick train --give-up-champion {champion}`, or with a tombstone for the key "
            f"{CHAMPION} on {settings.models_topic}"
        )

    def _count(self, verdict: Trained, decision: Decision, took_s: float) -> None:
        metrics, manifest = self._metrics, verdict.manifest
        metrics.round.observe(took_s)
        metrics.speed.set(verdict.clicks_per_s)
        qualities = {"new": verdict.new, "current": verdict.champion, "popularity": verdict.popularity}
        for model, quality in qualities.items():
            if quality is not None:
                metrics.recall.labels(model).set(quality.recall)
        if decision.publish:
            metrics.bundle.info({"bundle": manifest.bundle_id, "cell": str(manifest.network["cell"])})
            metrics.bundle_created.set(manifest.created_ms / 1000)


def _report(verdict: Trained, decision: Decision, took_s: float) -> None:
    fields = {
        "bundle": verdict.manifest.bundle_id if decision.publish else "",
        "parent": verdict.manifest.parent,
        "clicks": verdict.n_clicks,
        "items": verdict.n_items,
        "epochs": verdict.epochs,
        "clicks_per_s": round(verdict.clicks_per_s),
        "predictions": verdict.new.n_predictions,
        "seconds": round(took_s, 1),
    }
    _log.info(
        "%s: %s; recall@20 new %.4f, champion %s, popularity %.4f",
        "published" if decision.publish else "not published",
        decision.reason,
        verdict.new.recall,
        f"{verdict.champion.recall:.4f}" if verdict.champion else "none",
        verdict.popularity.recall,
        extra={"fields": fields},
    )
