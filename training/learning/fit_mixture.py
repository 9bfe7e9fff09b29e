"""Fits the gate that mixes counts with the network, on clicks that neither has seen.

Network and counts are held still, as they are between two bundles, and the newest clicks of the training part are
predicted: there one sees how far each source can be trusted. What was learnt from cannot tell.
"""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextclick.mixture import N_AGES, N_TERMS, History, Mixture
from nextclick.network import Network
from training.learning.associations import AssociationCounts
from training.learning.evaluate import MISSED, Predictions, features_before, network_ranks, quality_of, score_parts
from training.learning.histories import Histories
from training.learning.sequences import Ints, Sequences
from training.learning.watch import Watch

# Of the search: what the network's scores are multiplied with, and all weights of neighbours and of re-clicks. The
# first of each was best on three data sets together, where the network learnt the newest clicks after the gate was
# fitted: another must be better by more than chance.
_SHARPNESS = (0.85, 0.7, 0.55)
_NEIGHBOURS = (2.0, 1.0, 4.0)
_RECLICKS = (1.0, 2.0, 0.5)
_MARGIN = 0.002  # of recall and MRR together
_SEARCH_PREDICTIONS = 4_000  # at least, where there are so many: fewer are chance
_SEARCH_SCORES = 200_000_000  # of items, for each factor that is tried: with a small catalogue, more predictions
_PENALTY = 10.0  # of the squared gate's weights, in predictions: with few the gate stays as it began
_ITERATIONS = 60
_LEAST = 1e-9  # probability of what no source expects
_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """What the sources say of some predictions.

    Attributes:
        history: of the predictions.
        support: float32 (n, N_AGES), of the clicked items.
        probability: float32 (n, N_TERMS), of the clicked item, term by term.
    """

    history: History
    support: Tensor
    probability: Tensor


def fit_mixture(
    network: Network,
    index: Ints,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    watch: Watch,
) -> None:
    """Fit the gate in place.

    Args:
        network: with a mixture; its other weights stay.
        index: int64 (n,), for every row its item in the network's vocabulary; -1 in rows that are not to be learnt.
        sequences: the clicks.
        predictions: newer clicks than the network and the counts have seen.
        counts: of older clicks; the mixture has their neighbour lists.
        watch: can end the fit.

    Raises:
        TrainingStopped: it did.
    """
    mixture = network.mixture
    assert mixture is not None
    seen = _see(network, index, sequences, predictions, counts, watch)
    if seen is None:
        return
    _fit_gate(mixture, seen)
    some = _searched(predictions, network.config.n_items)
    _search(mixture, lambda: _quality(network, index, sequences, some, watch))


def _searched(predictions: Predictions, n_items: int) -> Predictions:
    """Thin out the predictions, evenly in time, to what the search has time for."""
    n_some = max(_SEARCH_PREDICTIONS, _SEARCH_SCORES / n_items)
    every = max(1, math.ceil(len(predictions.target) / n_some))
    return predictions.take(slice(None, None, every))


@torch.no_grad()
def _search(mixture: Mixture, quality: Callable[[], float]) -> None:
    """Bring out what is ranked: the most probable gate trusts the network for what it is surest of, too far for a list.

    One factor after the other takes the value that makes recall and MRR best.
    """
    fitted, factors = mixture.of_term.clone(), torch.ones(N_TERMS)
    neighbours, reclicks = slice(1, 1 + N_AGES), slice(1 + N_AGES, N_TERMS)

    def with_sharpness(value: float) -> None:
        mixture.sharpness.fill_(value)

    def with_factor(terms: slice, value: float) -> None:
        factors[terms] = value
        mixture.of_term.copy_(fitted + factors.log())

    steps: list[tuple[Callable[[float], None], tuple[float, ...]]] = [
        (with_sharpness, _SHARPNESS),
        (partial(with_factor, neighbours), _NEIGHBOURS),
        (partial(with_factor, reclicks), _RECLICKS),
    ]
    for change, values in steps:
        change(values[0])
    best = quality()
    for change, values in steps:
        chosen = values[0]
        for value in values[1:]:
            change(value)
            if (found := quality()) > best + _MARGIN:
                best, chosen = found, value
        change(chosen)
        _log.debug("gate: best of %s is %s, quality %.4f", values, chosen, best)


def _quality(network: Network, index: Ints, sequences: Sequences, predictions: Predictions, watch: Watch) -> float:
    missed = np.full(len(predictions.target), MISSED)
    quality = quality_of(network_ranks(network, index, sequences, predictions, missed, watch))
    return quality.recall + quality.mrr


def _see(
    network: Network,
    index: Ints,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    watch: Watch,
) -> _Seen | None:
    histories = Histories(index, sequences)
    parts = []
    for chosen, features in features_before(network, index, sequences, histories, predictions, watch):
        rows = predictions.target[chosen]
        for part in score_parts(network, len(rows)):
            history, target = histories.before(rows[part]), index[rows[part]]
            support, counted = _counted(counts, history, target)
            with torch.inference_mode():
                said = torch.softmax(network.scores(features[part]), 1).gather(1, torch.from_numpy(target)[:, None])
            parts.append((*history, support, torch.cat([said, counted], 1)))
    if not parts:
        return None
    *history_columns, support, probability = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return _Seen(History(*history_columns), support, probability)


def _counted(counts: AssociationCounts, history: History, target: Ints) -> tuple[Tensor, Tensor]:
    """Give the support of the clicked items, and what the counts say of the targets."""
    clicked = history.item_index.numpy()  # (batch, N_AGES)
    targets = np.repeat(target, N_AGES)
    share, support = counts.known(clicked.clip(min=0).ravel(), targets)
    there = clicked >= 0
    shares = np.where(there, share.reshape(there.shape), 0.0)
    counted = np.concatenate([shares, clicked == target[:, None]], axis=1)
    return torch.from_numpy(support.reshape(there.shape)).float(), torch.from_numpy(counted).float()


def _fit_gate(mixture: Mixture, seen: _Seen) -> None:
    """Find the most probable gate: minus the mean log probability of what was clicked, plus the penalty, is least."""
    weights = list(mixture.parameters())
    first = [weight.detach().clone() for weight in weights]
    log_said = torch.log(seen.probability + _LEAST)  # (n, N_TERMS)
    optimizer = torch.optim.LBFGS(weights, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_weights = mixture.log_weights(seen.history, seen.support)
        value = -torch.logsumexp(log_weights + log_said, 1).mean()
        moved = sum((weight - start).square().sum() for weight, start in zip(weights, first, strict=True))
        value = value + _PENALTY / len(log_said) * moved
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
