"""Fits the gate, the weights with which the mixture adds counts to the network, on clicks that neither has seen.

Network and counts are held still, as they are between two bundles, and the newest clicks of the training set are
predicted: they show how far each source can be trusted. Clicks that a source has learnt cannot show it.
"""

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextclick.mixture import Context, Mixture
from nextclick.network import Network
from nextclick.network_config import N_AGES, N_TERMS
from training.learning.associations import AssociationCounts
from training.learning.cancellation import Cancellation
from training.learning.sequences import Ints, Sequences
from training.learning.validation import (
    MISSED,
    Contexts,
    Predictions,
    features_before,
    network_ranks,
    quality_of,
    score_parts,
)

# The search tries factors of the network's scores, of all weights of neighbours, and of all weights of re-clicks. The
# first of each was best on three data sets together, where the network learnt the newest clicks after the gate was
# fitted. So another one is only taken when it is better by more than chance.
_SHARPNESS = (0.85, 0.7, 0.55)
_NEIGHBOURS = (2.0, 1.0, 4.0)
_RECLICKS = (1.0, 2.0, 0.5)
_MARGIN = 0.002  # of the sum of recall and MRR
_SEARCH_PREDICTIONS = 4_000  # at least so many are looked at, where there are so many: what fewer show may be chance
_SEARCH_SCORES = 200_000_000  # of items are computed for each factor: with a small catalogue, of more predictions
_FIT_SCORES = (
    2_000_000_000  # of items are computed to fit the weights: with a very large catalogue, of fewer predictions
)
_PENALTY = 10.0  # on how far the gate moves, worth so many predictions: with few, the gate stays as it began
_ITERATIONS = 60  # of L-BFGS
_LEAST = 1e-9  # probability of an item that no source expects
_log = logging.getLogger(__name__)


class _Evidence(NamedTuple):
    """How probable each term of the mixture found the clicks that came.

    Attributes:
        context: of the predictions.
        support: float32 (n, N_AGES), of the clicked items.
        probability: float32 (n, N_TERMS), of the clicked item, term by term.
    """

    context: Context
    support: Tensor
    probability: Tensor


def fit_mixture(
    network: Network,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    cancellation: Cancellation,
) -> None:
    """Fit the gate in place.

    Args:
        network: with a mixture; its other weights stay.
        sequences: the clicks; -1 as item in rows that are not to be learnt.
        predictions: newer clicks than the network and the counts have seen.
        counts: of older clicks; the mixture has their neighbour lists.
        cancellation: asked between batches.

    Raises:
        TrainingCancelled: the end was requested.
    """
    mixture = network.mixture
    assert mixture is not None
    n_items = network.config.n_items
    predictions = _thinned(predictions, n_items, _FIT_SCORES)
    evidence = _evidence(network, sequences, predictions, counts, cancellation)
    if evidence is None:
        return
    _fit_gate(mixture, evidence)
    searched = _thinned(predictions, n_items, _SEARCH_SCORES)
    missed = np.full(len(searched.target), MISSED)

    def quality() -> float:
        found = quality_of(network_ranks(network, sequences, searched, missed, cancellation))
        return found.recall + found.mrr

    _search(mixture, quality)


def _evidence(
    network: Network,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    cancellation: Cancellation,
) -> _Evidence | None:
    """Ask every term for the probability of what was clicked; None where no prediction has a known click before it."""
    contexts = Contexts(sequences)
    parts = []
    for chosen, features in features_before(network, contexts, predictions, cancellation):
        rows = predictions.target[chosen]
        for part in score_parts(network, len(rows)):
            context, target = contexts.of(rows[part]), sequences.item_index[rows[part]]
            support, of_counts = _counted(counts, context, target)
            with torch.inference_mode():
                of_network = torch.softmax(network.scores(features[part]), 1)
                of_network = of_network.gather(1, torch.from_numpy(target)[:, None])
            parts.append((*context, support, torch.cat([of_network, of_counts], 1)))
    if not parts:
        return None
    *context_columns, support, probability = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return _Evidence(Context(*context_columns), support, probability)


def _counted(counts: AssociationCounts, context: Context, target: Ints) -> tuple[Tensor, Tensor]:
    """Give the support of the clicked items, and what the counts and the re-clicks say of the targets."""
    clicked = context.item_index.numpy()  # (batch, N_AGES)
    targets = np.repeat(target, N_AGES)
    share, support = counts.known(clicked.clip(min=0).ravel(), targets)
    is_there = clicked >= 0
    shares = np.where(is_there, share.reshape(is_there.shape), 0.0)
    probability = np.concatenate([shares, clicked == target[:, None]], axis=1)
    return torch.from_numpy(support.reshape(is_there.shape)).float(), torch.from_numpy(probability).float()


def _fit_gate(mixture: Mixture, evidence: _Evidence) -> None:
    """Find the most probable gate: minus the mean log probability of what was clicked, plus the penalty, is least."""
    weights = list(mixture.parameters())
    first = [weight.detach().clone() for weight in weights]
    log_probability = torch.log(evidence.probability + _LEAST)  # (n, N_TERMS)
    optimizer = torch.optim.LBFGS(weights, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_weights = mixture.log_weights(evidence.context, evidence.support)
        value = -torch.logsumexp(log_weights + log_probability, 1).mean()
        moved = sum((weight - start).square().sum() for weight, start in zip(weights, first, strict=True))
        value = value + _PENALTY / len(log_probability) * moved
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]


def _thinned(predictions: Predictions, n_items: int, n_scores: int) -> Predictions:
    """Thin out the predictions, evenly in time, to what there is time for."""
    n_some = max(_SEARCH_PREDICTIONS, n_scores / n_items)
    every = max(1, math.ceil(len(predictions.target) / n_some))
    return predictions.take(slice(None, None, every))


@torch.no_grad()
def _search(mixture: Mixture, quality: Callable[[], float]) -> None:
    """Search the factors that make recall and MRR best, one after the other.

    The most probable gate trusts the network for the one item that it is surest of, which is too far for a list of 20.
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
