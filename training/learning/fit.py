"""Fits a network to the clicks of a log, in passes in time order: what is learnt last is what is true now.

A new network with counts beside it first learns all but the newest clicks. There, on clicks that neither has seen, the
gate that mixes the two is fitted. Then the most recent part of the log is learnt again, with the newest clicks in it.
"""

import logging
import time
from typing import NamedTuple

import numpy as np
import torch

from nextclick.network import Network
from nextclick.settings import Settings
from training.learning.associations import AssociationCounts
from training.learning.evaluate import choose_predictions
from training.learning.fit_mixture import fit_mixture
from training.learning.learner import Learner
from training.learning.sequences import Ints, Sequences, Windows, batches_in_time_order, training_windows
from training.learning.warm_start import spectral_item_vectors, start_as_fading_average
from training.learning.watch import Watch

_BLOCK_BATCHES = 8  # windows are mixed within so many batches only
_NEWEST_SHARE = 0.1  # of the clicks, for the gate
_RANDOM_SHARE = 0.01
_RECENT_SHARE = 0.3  # of the clicks, learnt once more, last of all
_GATE_PREDICTIONS = 20_000  # a gate has 85 weights
_log = logging.getLogger(__name__)


class Fitted(NamedTuple):
    """What a fit was.

    Attributes:
        epochs: passes over the windows.
        clicks_per_s: predicted clicks per second of learning, without validation.
    """

    epochs: int
    clicks_per_s: float


class Lesson(NamedTuple):
    """What is to be learnt.

    Attributes:
        item_index: int64 (n,), for every row of the sequences its item in the network's vocabulary; -1 in rows that
            are not to be learnt: those from `n_clicks` on.
        sequences: the clicks.
        n_clicks: those with a lower `age_rank` are learnt.
        n_known: items, the first of the vocabulary, that were learnt in an earlier training.
    """

    item_index: Ints
    sequences: Sequences
    n_clicks: int
    n_known: int


def fit(network: Network, lesson: Lesson, settings: Settings, watch: Watch) -> Fitted:
    """Fit a network in place.

    Args:
        network: is changed.
        lesson: the clicks.
        settings: of the trainer.
        watch: can end the fit.

    Raises:
        TrainingStopped: it did.
    """
    course = _Course(network, lesson, settings, watch)
    is_new = not lesson.n_known
    if is_new:
        course.start_warm()
    for number in range(1, settings.epochs + 1):
        course.learn(course.first, f"training, pass {number} of {settings.epochs}")
    if course.holds_out:
        course.fit_gate()
    if is_new:
        course.learn(course.recent, "training, recent clicks")
    if network.mixture is not None:
        course.take_counts(lesson.n_clicks)
    return Fitted(settings.epochs, course.n_learnt / max(course.learning_s, 1e-9))


class _Course:
    """The parts of a lesson, and the steps of a fit."""

    def __init__(self, network: Network, lesson: Lesson, settings: Settings, watch: Watch) -> None:
        self._network, self._lesson, self._settings, self._watch = network, lesson, settings, watch
        sequences, n_clicks = lesson.sequences, lesson.n_clicks
        self.holds_out = network.mixture is not None and not lesson.n_known
        self._first_clicks = int(n_clicks * (1.0 - _NEWEST_SHARE)) if self.holds_out else n_clicks
        # Cut anew for the first passes: of users who were there to the end, what they clicked before counts too.
        self.first = training_windows(sequences, self._first_clicks, settings.recent_clicks + 1)
        windows = training_windows(sequences, n_clicks, settings.recent_clicks + 1)
        last_click = sequences.age_rank[windows.end - 1]
        self.recent = windows.take(np.flatnonzero(last_click >= int(n_clicks * (1.0 - _RECENT_SHARE))))
        self._rng = np.random.default_rng(settings.seed)
        self._learner = Learner(network, lesson.n_known, lesson.item_index, sequences, settings)
        self.n_learnt, self.learning_s = 0, 0.0

    def start_warm(self) -> None:
        """Give the items vectors from the counts of the clicks of the first passes."""
        counts = self.take_counts(self._first_clicks)
        vectors = spectral_item_vectors(counts, self._network.config.hidden_size, self._settings.seed)
        with torch.no_grad():
            # One table where they are tied. What is left of the random vectors is all that an item without neighbours
            # has.
            for embedding in {self._network.item_embedding, self._network.output_embedding}:
                embedding.weight.mul_(_RANDOM_SHARE).add_(vectors)
        self._network.normalise()
        start_as_fading_average(self._network)

    def learn(self, windows: Windows, title: str) -> None:
        """Pass over windows once."""
        began_s, loss_sum, n_clicks = time.perf_counter(), 0.0, int((windows.end - windows.first - 1).sum())
        self._network.train()
        self._learner.push()
        with self._watch.bar(title, n_clicks) as bar:
            for batch in batches_in_time_order(windows, self._settings.batch_windows, _BLOCK_BATCHES, self._rng):
                loss, n_predicted = self._learner.learn(batch)
                loss_sum += loss * n_predicted
                bar.advance(n_predicted)
        self._learner.pull()
        took_s = time.perf_counter() - began_s
        self.learning_s += took_s
        self.n_learnt += n_clicks
        fields = {"loss": round(loss_sum / max(n_clicks, 1), 3), "clicks_per_s": round(n_clicks / max(took_s, 1e-9))}
        _log.debug("%s", title, extra={"fields": fields})

    def fit_gate(self) -> None:
        """Fit the mixture on the newest clicks."""
        lesson, first_clicks = self._lesson, self._first_clicks
        predictions = choose_predictions(
            lesson.sequences, first_clicks, lesson.n_clicks, _GATE_PREDICTIONS, self._settings.recent_clicks
        )
        # Of an item that was not there before no source knows anything; of what is served, the counts know every item.
        known = np.unique(self._items_before(first_clicks))
        predictions = predictions.take(np.flatnonzero(np.isin(lesson.item_index[predictions.target], known)))
        counts = self.take_counts(first_clicks)
        fit_mixture(self._network, lesson.item_index, lesson.sequences, predictions, counts, self._watch)

    def take_counts(self, n_clicks: int) -> AssociationCounts:
        """Count the oldest clicks; give the mixture their neighbour lists."""
        config, mixture = self._network.config, self._network.mixture
        counts = AssociationCounts(self._items_before(n_clicks), self._lesson.sequences, config.n_items, n_clicks)
        if mixture is not None:
            lists = counts.neighbour_lists(config.n_neighbours)
            for buffer, array in zip((mixture.neighbours, mixture.shares, mixture.support), lists, strict=True):
                buffer.copy_(torch.from_numpy(array))
        return counts

    def _items_before(self, n_clicks: int) -> Ints:
        """For every row its item, or -1 where it is not among the oldest clicks."""
        lesson = self._lesson
        return np.where(lesson.sequences.age_rank < n_clicks, lesson.item_index, -1)
