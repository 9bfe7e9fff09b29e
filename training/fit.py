"""Fits a network to windows of clicks: passes in time order, the best one kept, an early end when it gets no better."""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from nextclick.network import Network
from nextclick.settings import Settings
from training.learner import Learner
from training.sequences import Ints, Sequences, Windows, batches_in_time_order
from training.watch import Watch

_BATCH_WINDOWS = 64
_BLOCK_BATCHES = 8  # windows are mixed within so many batches only
_PATIENCE = 2  # passes without a better one before the end
_log = logging.getLogger(__name__)


class Fitted(NamedTuple):
    """What a fit was.

    Attributes:
        epochs: passes over the windows.
        clicks_per_s: predicted clicks per second of learning, without validation.
    """

    epochs: int
    clicks_per_s: float


def fit(
    network: Network,
    n_known: int,
    item_index: Ints,
    sequences: Sequences,
    windows: Windows,
    settings: Settings,
    validate: Callable[[Network], float],
    watch: Watch,
) -> Fitted:
    """Fit a network in place.

    Args:
        network: is changed to the best weights that `validate` saw.
        n_known: items whose rows were learnt in an earlier training.
        item_index: int64 (n,), for every row of the sequences its item in the network's vocabulary; -1 in rows that
            are not to be learnt.
        sequences: the clicks.
        windows: what is learnt, oldest first.
        settings: of the trainer.
        validate: says how good the network is, higher is better; called after each pass.
        watch: can end the fit.

    Raises:
        TrainingStopped: it did.
    """
    rng = np.random.default_rng(settings.seed)
    learner = Learner(network, n_known, item_index, sequences, settings)
    per_pass = int((windows.end - windows.first - 1).sum())  # 0 where every user clicked once
    best, best_weights, since_best = -np.inf, network.state_dict(), 0
    learning_s, epoch = 0.0, 0
    for epoch in range(1, settings.epochs + 1):
        began_s, loss_sum = time.perf_counter(), 0.0
        network.train()
        with watch.bar(f"training, pass {epoch} of at most {settings.epochs}", per_pass) as bar:
            for batch in batches_in_time_order(windows, _BATCH_WINDOWS, _BLOCK_BATCHES, rng):
                loss, n_clicks = learner.learn(batch)
                loss_sum += loss * n_clicks
                bar.advance(n_clicks)
        pass_s = time.perf_counter() - began_s
        learning_s += pass_s
        quality = validate(network)
        fields = {"loss": round(loss_sum / max(per_pass, 1), 3), "clicks_per_s": round(per_pass / pass_s)}
        _log.debug("pass %d: quality %.4f", epoch, quality, extra={"fields": fields})
        since_best += 1
        if quality > best:
            best, since_best = quality, 0
            best_weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        if since_best == _PATIENCE:
            break
    network.load_state_dict(best_weights)
    return Fitted(epoch, per_pass * epoch / max(learning_s, 1e-9))
