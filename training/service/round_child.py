"""A round of training, in the process that runs it: clicks of the log in, a bundle and a verdict out.

Whatever goes wrong here becomes a verdict, or the end of this process: both are one line in the trainer's log.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from threading import Event

import msgspec
import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.errors import BundleError
from nextclick.manifest import TrainedFrom
from nextclick.settings import Settings
from tools.logs import set_up_logs
from training.learning.cancellation import Cancellation
from training.learning.checkpoint import Checkpoint
from training.learning.device import chosen_device, device_name
from training.learning.training_round import Champion
from training.service.bundle_store import store_errors
from training.service.checkpoints import CheckpointNote, save_checkpoint
from training.service.publication import judge
from training.service.round_process import (
    ChampionUnusable,
    RoundFailed,
    RoundTask,
    Trained,
    Verdict,
    decode_task,
    one_line,
)
from training.service.round_work import run_round

_SIGN_EVERY_S = 1.0
_VERSIONS = ("nextclick", "torch", "numpy")  # that a manifest names
_log = logging.getLogger("training.service.round_child")  # not __main__, which it is when it runs


class SignsOfLife(Cancellation):
    """Never requested, because the trainer kills. Whenever the training asks, the trainer hears that it is alive."""

    def __init__(self, tell: Callable[[], object]) -> None:
        """Begin.

        Args:
            tell: called once a second at most.
        """
        super().__init__(Event())
        self._tell = tell
        self._next_s = 0.0

    def check(self) -> None:
        """Give a sign of life, unless the last one was given just now."""
        now_s = time.monotonic()
        if now_s >= self._next_s:
            self._next_s = now_s + _SIGN_EVERY_S
            self._tell()


def run_task(task: RoundTask, cancellation: Cancellation) -> Verdict:
    """Run one round. Takes minutes, or seconds where it goes on from a checkpoint.

    Raises:
        Exception: whatever a training can raise.
    """
    settings = Settings.load(task.settings)
    champion = None
    if task.champion:
        try:
            champion = Champion(*load_network(settings.bundle_dir / task.champion))
        except BundleError as error:
            return ChampionUnusable(one_line(error))
    cancellation.check()
    outcome, parent, note = run_round(task.files, champion, settings, time.time_ns() // 1_000_000, cancellation)
    decision = judge(outcome.judgement)
    made = outcome.made
    with store_errors(settings.bundle_dir):
        manifest = save_bundle(
            task.draft,
            made.network,
            made.vocabulary,
            created_ms=time.time_ns() // 1_000_000,
            metrics=outcome.metrics(),
            trained_from=TrainedFrom(
                parent,
                note.log_range,
                decision.reason,
                settings.of_learning(),
                {name: version(name) for name in _VERSIONS},
            ),
        )
    if decision.publish:
        # What cannot be loaded would be refused by every worker, and would close publication as the next champion.
        load_network(task.draft / manifest.bundle_id)
        if outcome.has_learnt_all:
            _keep_checkpoint(settings, manifest.bundle_id, made.checkpoint, note)
    device = chosen_device(settings.device)
    return Trained(
        manifest,
        outcome.n_clicks,
        len(made.vocabulary),
        outcome.fitted.epochs,
        outcome.fitted.clicks_per_s,
        outcome.judgement,
        device.type,
        device_name(device),
    )


def _keep_checkpoint(settings: Settings, bundle_id: str, checkpoint: Checkpoint, note: CheckpointNote) -> None:
    try:
        save_checkpoint(settings.log_dir, bundle_id, checkpoint, note)
    except OSError as error:
        _log.warning("no checkpoint can be written, so the next round learns everything anew: %s", error)


def main() -> None:
    """Read a task, run it, write the verdict."""
    verdicts = os.dup(1)
    os.dup2(2, 1)  # what a library prints is no verdict
    # One core is left to the stream and to the trainer.
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) - 1))
    verdict: Verdict
    try:
        task = decode_task(sys.stdin.buffer.read())
        set_up_logs("trainer", verbose=task.is_verbose)
        verdict = run_task(task, SignsOfLife(partial(os.write, verdicts, b"\n")))
    except Exception as error:
        _log.debug("the training failed", exc_info=True)
        verdict = RoundFailed(one_line(error))
    with open(verdicts, "wb") as output:
        output.write(msgspec.json.encode(verdict))


if __name__ == "__main__":
    main()
