"""What the training thread does: one round on the log as it stands, and the announcement if the bundle is better."""

import logging
import os
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from nextclick.errors import TemporaryError
from nextclick.manifest import Manifest
from nextclick.settings import Settings
from training.learning.cancellation import Cancellation, TrainingCancelled
from training.learning.training_data import LogSegment, TrainingData, select_training_data
from training.learning.training_round import Round, train_round
from training.learning.validation import Quality
from training.service.bundle_store import load_champion, remove_drafts, remove_old_bundles, store_bundle
from training.service.click_log import ClickLog
from training.service.log_files import LogFile
from training.service.metrics import TrainerMetrics
from training.service.models_topic import announce, read_champion
from training.service.publication import Decision, judge
from training.service.trainer_role import TrainerRole

_log = logging.getLogger(__name__)


def train_and_publish(
    settings: Settings,
    log: ClickLog,
    files: Sequence[LogFile],
    metrics: TrainerMetrics,
    role: TrainerRole,
    cancellation: Cancellation,
) -> None:
    """Train once; publish what is better than what is served.

    The topic `models` says what is served now: also where someone else announced a bundle in between. A broker that
    does not answer, or a role that is lost, ends this training only.

    Args:
        settings: of the trainer.
        log: the click log; only added to meanwhile.
        files: its files, as they stood when the training began.
        metrics: get the result.
        role: must be held to publish.
        cancellation: can end the training, quietly.

    Raises:
        PermanentError: the log cannot be read, or the bundle cannot be written.
    """
    began_s = time.monotonic()
    # One core is left to the stream and to the thread that reads.
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
    try:
        served = read_champion(settings, cancellation)
        # What a trainer that was killed left behind; this one holds the role.
        remove_drafts(settings.bundle_dir)
        remove_old_bundles(settings.bundle_dir, served.bundle_id if served else "")
        champion = load_champion(settings.bundle_dir, served)
        # Another sample of older clicks every time, yet the same for the same log.
        rng = np.random.default_rng([settings.seed, *(file.last for file in files)])
        segments = [LogSegment(file.partition, file.first, partial(log.read, [file])) for file in files]
        data = select_training_data(segments, settings.recent_window_clicks, settings.replay_share, rng)
        cancellation.check()
        outcome = train_round(data, champion, settings, cancellation)
        decision = judge(outcome.new, outcome.champion, outcome.popularity)
        manifest = _publish(settings, outcome, data, served, role, cancellation) if decision.publish else None
    except TrainingCancelled:
        _log.info("the training was stopped, nothing of it is kept")
        return
    except TemporaryError as error:
        metrics.rounds.labels("failed").inc()
        _log.warning("nothing was published: %s", error)
        return
    metrics.round.observe(time.monotonic() - began_s)
    _report(outcome, decision, manifest, time.monotonic() - began_s)
    _count(metrics, outcome, manifest)


def _publish(
    settings: Settings,
    outcome: Round,
    data: TrainingData,
    served: Manifest | None,
    role: TrainerRole,
    cancellation: Cancellation,
) -> Manifest:
    manifest = store_bundle(
        settings.bundle_dir,
        outcome.network,
        outcome.vocabulary,
        created_ms=time.time_ns() // 1_000_000,
        metrics=outcome.metrics(),
        parent=outcome.parent,
        log_range=data.log_range(outcome.n_clicks),
    )
    if read_champion(settings, cancellation) != served:
        raise TemporaryError(
            f"expected the topic {settings.models_topic} to name the bundle that the new one was compared with, found "
            "that another was announced meanwhile; the next training compares with that one"
        )
    role.confirm(cancellation)
    announce(settings, manifest, cancellation)
    remove_old_bundles(settings.bundle_dir, manifest.bundle_id)
    return manifest


def _report(outcome: Round, decision: Decision, manifest: Manifest | None, took_s: float) -> None:
    fields = {
        "bundle": manifest.bundle_id if manifest else "",
        "parent": outcome.parent,
        "clicks": outcome.n_clicks,
        "items": len(outcome.vocabulary),
        "epochs": outcome.fitted.epochs,
        "clicks_per_s": round(outcome.fitted.clicks_per_s),
        "predictions": outcome.new.n_predictions,
        "seconds": round(took_s, 1),
    }
    _log.info(
        "%s: %s; recall@20 new %.4f, current %s, popularity %.4f",
        "published" if manifest else "not published",
        decision.reason,
        outcome.new.recall,
        f"{outcome.champion.recall:.4f}" if outcome.champion else "none",
        outcome.popularity.recall,
        extra={"fields": fields},
    )


def _count(metrics: TrainerMetrics, outcome: Round, manifest: Manifest | None) -> None:
    metrics.rounds.labels("published" if manifest else "refused").inc()
    metrics.speed.set(outcome.fitted.clicks_per_s)
    qualities: dict[str, Quality | None] = {
        "new": outcome.new,
        "current": outcome.champion,
        "popularity": outcome.popularity,
    }
    for model, quality in qualities.items():
        if quality is not None:
            metrics.recall.labels(model).set(quality.recall)
    if manifest is not None:
        metrics.bundle.info({"bundle": manifest.bundle_id, "cell": str(manifest.network["cell"])})
        metrics.bundle_created.set(manifest.created_ms / 1000)
