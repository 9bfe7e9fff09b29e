"""A round of training, in the process that runs it: clicks of the log in, a bundle and a verdict out.

Whatever goes wrong here becomes a verdict, or the end of this process: both are one line in the trainer's log.
"""

import logging
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from threading import Event

import msgspec
import numpy as np
import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.errors import BundleError
from nextclick.manifest import TrainedFrom
from nextclick.settings import Settings
from tools.logs import set_up_logs
from training.learning.cancellation import Cancellation
from training.learning.training_data import LogSegment, select_training_data
from training.learning.training_round import Champion, train_round
from training.service.bundle_store import store_errors
from training.service.log_files import read_rows
from training.service.round_process import (
    ChampionUnusable,
    RoundFailed,
    RoundTask,
    Trained,
    Verdict,
    decode_task,
    one_line,
)

_SIGN_EVERY_S = 1.0
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
    """Run one round. Takes minutes.

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
    # Another sample of older clicks every time, yet the same for the same log.
    rng = np.random.default_rng([settings.seed, *(file.last for file in task.files)])
    segments = [LogSegment(file.partition, file.first, partial(read_rows, file)) for file in task.files]
    now_ms = time.time_ns() // 1_000_000
    data = select_training_data(
        segments, settings.recent_window_clicks, settings.replay_share, settings.recent_clicks, now_ms, rng
    )
    cancellation.check()
    outcome = train_round(data, champion, settings, cancellation)
    with store_errors(settings.bundle_dir):
        manifest = save_bundle(
            task.draft,
            outcome.network,
            outcome.vocabulary,
            created_ms=time.time_ns() // 1_000_000,
            metrics=outcome.metrics(),
            trained_from=TrainedFrom(outcome.parent, data.log_range(outcome.n_clicks)),
        )
    # What cannot be loaded would be refused by every worker, and would close publication as the next champion.
    load_network(task.draft / manifest.bundle_id)
    return Trained(
        manifest,
        outcome.n_clicks,
        len(outcome.vocabulary),
        outcome.fitted.epochs,
        outcome.fitted.clicks_per_s,
        outcome.new,
        outcome.champion,
        outcome.popularity,
    )


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
