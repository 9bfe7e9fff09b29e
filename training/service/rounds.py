"""Rounds of training, from the trainer's side: the champion, a process that trains, the decision, the announcement."""

import contextlib
import logging
import resource
import time
import uuid
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from nextclick.errors import BundleError, PermanentError
from nextclick.experiment import Experiment
from nextclick.manifest import CHAMPION, Manifest
from nextclick.models_state import ModelsState
from nextclick.ranking_metrics import Quality
from nextclick.settings import Settings
from tools.tallies import refuse_without_tallies
from training.learning.cancellation import Cancellation, TrainingCancelled
from training.learning.judgement import Judgement
from training.service.bundle_store import BundleStore
from training.service.checkpoint_files import remove_checkpoints
from training.service.log_files import LogFile
from training.service.metrics import TrainerMetrics
from training.service.models_changes import CANARY_ROLLED_BACK, Held, begin_canary_of_trainer, refuse_if_held
from training.service.models_topic import ModelsTopic
from training.service.publication import Decision, judge
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

_LEAST_PREDICTIONS = 100  # of fewer a refusal is mostly chance: more clicks are on their way
_log = logging.getLogger(__name__)


class Result(Enum):
    """How a round ended; the values are a metric's label."""

    PUBLISHED = "published"
    REFUSED = "refused"
    FAILED = "failed"
    HELD = "held"  # by a pin or a canary
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
        self.models = ModelsTopic(settings, metrics, self._cancellation)
        self._store = BundleStore.of(settings, settings.app)
        self._thread: Thread | None = None
        self._ended = Ended(Result.STOPPED, "there was none")
        self._judgement: Judgement | None = None
        metrics.runs.set_function(lambda: self.is_running)
        metrics.recall.set_function(lambda: {model: each.recall for model, each in _qualities(self._judgement)})
        metrics.mrr.set_function(lambda: {model: each.mrr for model, each in _qualities(self._judgement)})
        metrics.lead.set_function(lambda: _lead(self._judgement))
        metrics.cpu.set_function(_cpu_s)
        metrics.memory.set_function(_peak_memory_bytes)

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
        except Held as held:
            _log.info("nothing is announced: %s", held)
            self._ended = Ended(Result.HELD, str(held))
        except Exception as error:  # whatever it is, clicks are logged on
            _log.debug("the training failed", exc_info=True)
            self._ended = Ended(Result.FAILED, one_line(error))
        self._metrics.rounds.labels(self._ended.result.value).inc()
        if self._ended.result in (Result.REFUSED, Result.FAILED):
            self._metrics.in_a_row.inc()
        elif self._ended.result is not Result.STOPPED:
            self._metrics.in_a_row.set(0)

    def _round(self, files: list[LogFile]) -> Ended:
        began_s = time.monotonic()
        self.models.settle()
        state = self.models.read()
        refuse_if_held(state)
        if self._settings.publish_as == "canary":
            refuse_without_tallies(self._settings)
        announced = state.champion
        self._store.note_in_use(state.in_use())
        remove_checkpoints(self._settings.log_dir, gone_on_from(state))
        champion = announced if announced is not None and announced.bundle_id != self._given_up else None
        if champion is not None:
            with contextlib.suppress(BundleError):  # the round says that it cannot be loaded, and the ways out
                self._store.fetch(champion)
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
            decision = judge(verdict.judgement)
            if decision.publish:
                self._publish(draft, verdict.manifest, state)
            elif verdict.judgement.new.n_predictions >= _LEAST_PREDICTIONS:
                # What goes on from the champion once more would be refused once more: the next round begins anew.
                remove_checkpoints(self._settings.log_dir, gone_on_from(state) - {state.champion_id})
        took_s = time.monotonic() - began_s
        self._count(verdict, decision, took_s)
        _report(verdict, decision, took_s)
        return Ended(Result.PUBLISHED if decision.publish else Result.REFUSED, decision.reason)

    def _publish(self, draft: Path, manifest: Manifest, before: ModelsState) -> None:
        """Workers must find the bundle before they hear of it; the one before may be on its way to one of them."""
        self._role.membership()  # who has lost the role leaves the note of bundles in use to its successor
        # Before it is there: its upload takes a while, in which a worker with the same folder may make room.
        self._store.note_in_use({manifest.bundle_id} | before.in_use())
        self._store.keep(draft, manifest.bundle_id, self._cancellation)
        try:
            champion = before.champion
            if self._settings.publish_as == "canary" and champion and champion.bundle_id != self._given_up:
                self._begin_canary(manifest, champion)
            else:
                self.models.announce(manifest, before.champion, self._role)
        except TrainingCancelled as stop:
            raise TrainingCancelled("it was stopped while it announced a bundle, or just before") from stop
        self._store.remove_old()
        # Not those of former champions: whoever goes back to one has a reason not to trust what was learnt since.
        kept = {manifest.bundle_id} | (gone_on_from(before) if self._settings.publish_as == "canary" else set())
        remove_checkpoints(self._settings.log_dir, kept)

    def _begin_canary(self, manifest: Manifest, before: Manifest) -> None:
        settings = self._settings
        canary = Experiment(
            experiment_id=uuid.uuid4().hex,
            kind="canary",
            manifest=manifest,
            champion=before.bundle_id,
            share=settings.canary_share,
            started_ms=time.time_ns() // 1_000_000,
            promote=settings.canary_promote,
            max_judged=settings.canary_clicks,
        )
        what = f"bundle {manifest.bundle_id} as a canary"
        self.models.change(lambda state: begin_canary_of_trainer(state, canary, before), what, self._role)

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
        metrics.last_s.set(took_s)
        metrics.last_clicks.set(verdict.n_clicks)
        metrics.device.info({"device": verdict.device, "name": verdict.device_name})
        self._count_decision(verdict, decision)
        metrics.clicks_learnt.inc(verdict.n_clicks)
        self._judgement = verdict.judgement
        if decision.publish:
            metrics.bundle.info({"bundle": manifest.bundle_id, "cell": str(manifest.network["cell"])})
            metrics.bundle_items.set(verdict.n_items)
            metrics.bundle_created.set(manifest.created_ms / 1000)

    def _count_decision(self, verdict: Trained, decision: Decision) -> None:
        labels = {"decision": "refused", "reason": ",".join(decision.refusals)}
        if decision.publish:
            labels = {"decision": "published", "reason": "better", "bundle": verdict.manifest.bundle_id}
        self._metrics.decision.info(labels)
        self._metrics.decided.set(time.time())
        for reason in decision.refusals:
            self._metrics.refusals.labels(reason).inc()


def _qualities(judgement: Judgement | None) -> Iterator[tuple[str, Quality]]:
    """Give the qualities that a training has found, by the values of the label `model`."""
    if judgement is not None:
        found = {
            "new": judgement.new,
            "current": judgement.champion,
            "popularity": judgement.popularity,
            "counts": judgement.counts,
        }
        yield from ((model, quality) for model, quality in found.items() if quality is not None)


def _lead(judgement: Judgement | None) -> float | None:
    return judgement.leads.recent.value if judgement is not None and judgement.leads is not None else None


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _peak_memory_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def gone_on_from(state: ModelsState) -> set[str]:
    """Give the bundles that the next round can go on from.

    Not the champion where a canary that came of it was worse: what goes on from there once more is worse once more.
    """
    on_trial = {state.experiment.bundle_id} if state.experiment is not None else set()
    is_dead_end = bool(state.history) and state.history[-1].what == CANARY_ROLLED_BACK
    return on_trial if is_dead_end else on_trial | {state.champion_id}


def _report(verdict: Trained, decision: Decision, took_s: float) -> None:
    fields = {
        "bundle": verdict.manifest.bundle_id if decision.publish else "",
        "parent": verdict.manifest.parent,
        "clicks": verdict.n_clicks,
        "items": verdict.n_items,
        "epochs": verdict.epochs,
        "clicks_per_s": round(verdict.clicks_per_s),
        "predictions": verdict.judgement.new.n_predictions,
        "seconds": round(took_s, 1),
    }
    _log.info(
        "%s: %s",
        "published" if decision.publish else "not published",
        decision.reason,
        extra={"fields": fields},
    )
