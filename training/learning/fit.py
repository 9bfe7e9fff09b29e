"""Fits a network to the clicks of a log, in passes in time order: what is learnt last is what is true now.

The schedule for a new network with counts beside it:

1. The item vectors begin as directions of the association counts, the cell as a fading average (warm start).
2. `epochs` passes learn all but the newest clicks.
3. On the newest clicks, which neither network nor counts have seen, the gate that mixes the two is fitted.
4. One pass learns the most recent part of the log once more, with the newest clicks in it.

How a network goes on from here when there are more clicks is in `training.learning.continual`.
"""

import logging
import time
from typing import NamedTuple

import msgspec
import numpy as np
import torch
from torch import Tensor

from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.settings import Settings
from training.learning.associations import AssociationCounts, count_pairs
from training.learning.cancellation import Cancellation, progress_bar
from training.learning.fit_mixture import fit_mixture
from training.learning.sequences import Sequences, TrainingSet, Windows, batches_in_time_order, training_windows
from training.learning.step import Learner, LearntBefore
from training.learning.validation import choose_predictions

_BLOCK_BATCHES = 8  # windows are mixed within so many batches only
_NEWEST_SHARE = 0.1  # of the clicks, for the gate
_RECENT_SHARE = 0.3  # of the clicks, learnt once more, last of all
_GATE_PREDICTIONS = 20_000  # a gate has 85 weights
_log = logging.getLogger(__name__)


class Fitted(NamedTuple):
    """What a fit was, and what is needed to go on from it.

    Attributes:
        epochs: passes over the windows.
        clicks_per_s: predicted clicks per second of learning, without validation.
        squares: of the optimizer, by the names of the weights.
        counts: of all clicks; None where the network stands alone.
    """

    epochs: int
    clicks_per_s: float
    squares: dict[str, Tensor]
    counts: AssociationCounts


def network_config(settings: Settings, n_items: int) -> NetworkConfig:
    """Give the configuration of the network that the settings ask for."""
    fields = {
        "n_items": n_items,
        "hidden_size": settings.hidden_size,
        "cell": settings.cell,
        "tied": settings.tied,
        "skip": settings.skip,
        "normalised": settings.normalised,
        "n_neighbours": settings.neighbours,
    }
    return msgspec.convert(fields, NetworkConfig)


def fit(network: Network, training_set: TrainingSet, settings: Settings, cancellation: Cancellation) -> Fitted:
    """Fit a network in place. Takes minutes.

    Args:
        network: is changed.
        training_set: the clicks.
        settings: of the trainer.
        cancellation: asked after every batch.

    Raises:
        TrainingCancelled: the end was requested.
        PermanentError: the settings ask for a GPU and there is none.
    """
    schedule = _Schedule(network, training_set, settings, cancellation)
    schedule.start_warm()
    for number in range(1, settings.epochs + 1):
        schedule.learner.learn(schedule.first, f"training, pass {number} of {settings.epochs}")
    if network.mixture is not None:
        schedule.fit_gate()
    schedule.learner.learn(schedule.recent, "training, recent clicks")
    counts = schedule.take_counts(training_set.n_clicks)
    learner = schedule.learner
    return Fitted(settings.epochs, learner.clicks_per_s, learner.squares(), counts)


class Passes:
    """Passes over windows, in time order.

    Attributes:
        n_learnt: predicted clicks so far.
        learning_s: seconds so far.
    """

    def __init__(
        self,
        network: Network,
        sequences: Sequences,
        settings: Settings,
        cancellation: Cancellation,
        before: LearntBefore | None = None,
    ) -> None:
        """Prepare.

        Args:
            network: is changed.
            sequences: that the windows are of.
            settings: of the trainer.
            cancellation: asked after every batch.
            before: what the network has learnt already; None: nothing.
        """
        self._network, self._settings, self._cancellation = network, settings, cancellation
        self._rng = np.random.default_rng(settings.seed)
        self._learner = Learner(network, sequences, settings, before)
        self.n_learnt, self.learning_s = 0, 0.0

    @property
    def clicks_per_s(self) -> float:
        """Predicted clicks per second of learning."""
        return self.n_learnt / max(self.learning_s, 1e-9)

    def squares(self) -> dict[str, Tensor]:
        """Give the optimizer's state, for whoever goes on."""
        return self._learner.squares()

    def learn(self, windows: Windows, title: str) -> None:
        """Pass over windows once."""
        began_s, n_clicks = time.perf_counter(), int((windows.end - windows.first - 1).sum())
        self._network.train()
        self._learner.copy_to_device()
        with progress_bar(title, n_clicks) as advance:
            for batch in batches_in_time_order(windows, self._settings.batch_windows, _BLOCK_BATCHES, self._rng):
                advance(self._learner.step(batch))
                self._cancellation.check()
            loss_sum = self._learner.take_loss_sum()
        self._learner.copy_back()
        took_s = time.perf_counter() - began_s
        self.learning_s += took_s
        self.n_learnt += n_clicks
        fields = {"loss": round(loss_sum / max(n_clicks, 1), 3), "clicks_per_s": round(n_clicks / max(took_s, 1e-9))}
        _log.debug("%s", title, extra={"fields": fields})


class _Schedule:
    """The windows of each pass, and the steps of a fit."""

    def __init__(
        self, network: Network, training_set: TrainingSet, settings: Settings, cancellation: Cancellation
    ) -> None:
        self._network, self._training_set = network, training_set
        self._settings, self._cancellation = settings, cancellation
        sequences, n_clicks, max_clicks = training_set.sequences, training_set.n_clicks, settings.recent_clicks + 1
        holds_out = network.mixture is not None
        self._n_first = int(n_clicks * (1.0 - _NEWEST_SHARE)) if holds_out else n_clicks
        # Cut anew for the first passes: of users who were there to the end, what they clicked before counts too.
        self.first = training_windows(sequences, self._n_first, max_clicks)
        windows = training_windows(sequences, n_clicks, max_clicks)
        last_click = sequences.age_rank[windows.end - 1]
        self.recent = windows.take(np.flatnonzero(last_click >= int(n_clicks * (1.0 - _RECENT_SHARE))))
        self.learner = Passes(network, sequences, settings, cancellation)
        self._first_counts: AssociationCounts | None = None

    def start_warm(self) -> None:
        """Give the network vectors from the counts of the clicks of the first passes, and a cell that averages."""
        self._first_counts = counts = self.take_counts(self._n_first)
        vectors = spectral_item_vectors(counts, self._network.config.hidden_size, self._settings.seed)
        start_item_vectors(self._network, vectors)
        start_as_fading_average(self._network)

    def fit_gate(self) -> None:
        """Fit the mixture on the newest clicks."""
        sequences = self._training_set.sequences
        predictions = choose_predictions(
            sequences, self._n_first, self._training_set.n_clicks, _GATE_PREDICTIONS, self._settings.recent_clicks
        )
        # No source knows anything of an item that was not there before; of what is served, the counts know every item.
        known = np.unique(sequences.item_index[sequences.age_rank < self._n_first])
        predictions = predictions.take(np.flatnonzero(np.isin(sequences.item_index[predictions.target], known)))
        counts, self._first_counts = self._first_counts or self.take_counts(self._n_first), None
        fit_mixture(self._network, sequences, predictions, counts, self._cancellation)

    def take_counts(self, n_clicks: int) -> AssociationCounts:
        """Count the oldest clicks; give the mixture their neighbour lists."""
        counts = count_pairs(self._training_set.sequences, self._network.config.n_items, n_clicks)
        give_neighbours(self._network, counts)
        return counts


def give_neighbours(network: Network, counts: AssociationCounts) -> None:
    """Let a network's mixture, where it has one, have the neighbour lists of these counts."""
    mixture = network.mixture
    if mixture is not None:
        lists = counts.neighbour_lists(network.config.n_neighbours)
        for buffer, array in zip((mixture.neighbours, mixture.shares, mixture.support), lists, strict=True):
            buffer.copy_(torch.from_numpy(array))


# Warm start: from random vectors the network needs many passes to find what the counts already say.
_RANDOM_VECTOR_SHARE = 0.01  # what is left of the random vectors; all that an item without neighbours has
_DIRECTION_SUPPORT = 5.0  # added to a row's sum: rarely clicked items do not make directions of their own
_ITERATIONS = 5  # of the orthogonal iteration
_EXTRA_DIRECTIONS = 16  # are computed and dropped: the last ones of a subspace are the least exact
_RANDOM_CELL_SHARE = 0.3  # of the cell's random weights, which are made small beside what it starts with
_INPUT = 0.7  # of an input's element in the new hidden state
_KEEPING = 0.85  # bias of a gate: sigmoid(.85) = .7 of the hidden state is kept, .3 of the input taken
_OPEN = 2.0  # bias of the LSTM's output gate


def spectral_item_vectors(counts: AssociationCounts, size: int, seed: int) -> Tensor:
    """Give a vector per item, so that items that are clicked together point the same way.

    A few steps of orthogonal iteration find the directions that the association counts, normalised on both sides, keep
    best when they are applied again and again; within these, the vectors are the left singular vectors, each weighted
    by the root of its singular value. These are not the singular vectors of the counts themselves, which
    `torch.svd_lowrank` would give: from those the network learns a little less (docs/model.md).
    With fewer items than `size` the rest of the directions is 0.

    Args:
        counts: as they stand at the end.
        size: of a vector.
        seed: of the start of the iteration.

    Returns:
        float32 (n_items, size), of length about 1; shorter where little is known.

    Source: Levy & Goldberg 2014, "Neural word embedding as implicit matrix factorization" (the root of the singular
    values); Ng et al. 2001, "On spectral clustering" (the normalisation); Golub & Van Loan 2013, "Matrix computations",
    section 7.3.2 (orthogonal iteration).
    """
    n_items = counts.n_items

    def applied(matrix: Tensor) -> Tensor:
        return torch.from_numpy(counts.normalised_times(matrix.numpy(), _DIRECTION_SUPPORT))

    n_directions = min(size + _EXTRA_DIRECTIONS, n_items)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(n_items, n_directions, generator=generator)
    for _ in range(_ITERATIONS):
        basis, _ = torch.linalg.qr(applied(basis))
    left, strength, _ = torch.linalg.svd(basis.T @ applied(basis))
    kept = min(size, n_directions)
    vectors = torch.zeros(n_items, size)
    vectors[:, :kept] = (basis @ left)[:, :kept] * strength[:kept].sqrt()
    length = vectors.norm(dim=1, keepdim=True)
    scaled: Tensor = vectors / (length + 0.3 * length.mean()).clamp(min=1e-9)
    return scaled


@torch.no_grad()
def start_item_vectors(network: Network, vectors: Tensor) -> None:
    """Let a new network's items begin with these vectors, float32 (n_items, hidden_size)."""
    for embedding in {network.item_embedding, network.output_embedding}:  # one table where they are tied
        embedding.weight.mul_(_RANDOM_VECTOR_SHARE).add_(vectors)
    network.normalise()


@torch.no_grad()
def start_as_fading_average(network: Network) -> None:
    """Let the hidden state begin as an average of the input vectors in which each click fades to .7 of it at the next.

    Before anything is learnt, the network's features then point to the neighbourhood of the last clicks' items.
    """
    size, weights = network.config.hidden_size, dict(network.cell.named_parameters())
    of_input, of_hidden, bias = (weights[name] for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))
    for weight in (of_input, of_hidden):
        weight.mul_(_RANDOM_CELL_SHARE)
    bias.zero_()
    weights["bias_hh_l0"].zero_()
    identity = torch.eye(size)
    match network.config.cell:
        case "gru":  # rows: reset, update, new
            of_input[2 * size :].add_(_INPUT * identity)
            bias[size : 2 * size] = _KEEPING
        case "lstm":  # rows: input, forget, cell, output
            of_input[2 * size : 3 * size].add_(_INPUT * identity)
            bias[:size], bias[size : 2 * size], bias[3 * size :] = -_KEEPING, _KEEPING, _OPEN
        case "rnn":
            of_input.add_((1.0 - _INPUT) * identity)
            of_hidden.add_(_INPUT * identity)
