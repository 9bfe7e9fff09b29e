"""Fits the gate, the weights with which the mixture adds counts to the network, on clicks that neither has seen.

Network and counts are held still, as they are between two bundles, and the newest clicks of the training set are
predicted: they show how far each source can be trusted. Clicks that a source has learnt cannot show it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextclick.mixture import Context, Mixture
from nextclick.network import Network
from nextclick.network_config import N_AGES
from training.learning.associations import AssociationCounts
from training.learning.cancellation import Cancellation
from training.learning.rank_gate import N_RIVALS, Listed, rank_better
from training.learning.sequences import Ints, Sequences
from training.learning.validation import (
    Contexts,
    Predictions,
    features_before,
    score_parts,
)

# From here the gate is moved to where its lists are best: what was best on three data sets together, where the network
# learnt the newest clicks after the gate was fitted.
_FIRST_SHARPNESS = 0.7
_FIRST_NEIGHBOURS = 2.0  # what neighbours weigh more than in the most probable gate
_LEAST_PREDICTIONS = 4_000  # are looked at, where there are so many: what fewer show may be chance
_RANK_SCORES = 400_000_000  # of items are computed to find what may be listed: with few items, of more predictions
_FIT_SCORES = 2_000_000_000  # of items are computed to fit the weights: with very many items, of fewer predictions
_SHARPNESSES = (0.3, 0.5, 0.7, 0.9, 1.1, 1.3)  # between which the best one is looked for
_SHARPNESS_STEP = 0.2  # between them; in a round it moves no further
_REFIT_PREDICTIONS = 4_000  # are looked at in a round, most of whose cost this is where there are many items
_GROUP = 8  # numbers, of which the largest is looked at first
_FIT_STEPS, _REFIT_STEPS = 60, 25  # towards better lists: at first the way is longer
_PENALTY = 10.0  # on how far the gate moves, worth so many predictions: with few, the gate stays as it began
_ITERATIONS = 60  # of L-BFGS
_LEAST = 1e-9  # probability of an item that no source expects


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
    predictions = _thinned(predictions, _affordable(n_items, _FIT_SCORES))
    evidence = _evidence(network, sequences, predictions, counts, cancellation)
    if evidence is None:
        return
    _fit_gate(mixture, evidence)
    with torch.no_grad():
        mixture.sharpness.fill_(_FIRST_SHARPNESS)
        mixture.of_term[1 : 1 + N_AGES] += math.log(_FIRST_NEIGHBOURS)
    predictions = _thinned(predictions, _affordable(n_items, _RANK_SCORES))
    listed = _listed(network, sequences, predictions, counts, _sums, cancellation)
    if listed is not None:
        rank_better(mixture, listed, _FIT_STEPS)


def refit_mixture(
    network: Network,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    cancellation: Cancellation,
) -> None:
    """Fit a gate again, in place, from where it stands: the fewer clicks there are, the less it moves.

    What is most probable is not asked for again: from there the way to the best lists is long, and the new clicks of a
    round are too few to find it.

    Args:
        network: as for `fit_mixture`; its gate was fitted before.
        sequences: as for `fit_mixture`.
        predictions: as for `fit_mixture`.
        counts: as for `fit_mixture`.
        cancellation: asked between batches.

    Raises:
        TrainingCancelled: the end was requested.
    """
    mixture = network.mixture
    assert mixture is not None
    predictions = _thinned(predictions, _REFIT_PREDICTIONS)
    listed = _listed(network, sequences, predictions, counts, _sums_near, cancellation)
    if listed is not None:
        rank_better(mixture, listed, _REFIT_STEPS)


class _Sums(NamedTuple):
    """What is known of n predictions when the powers of all items' scores have been added up.

    Attributes:
        of_network: float32 (n, n_items), the network's probabilities.
        sharpnesses, log_totals: as in `Listed`.
    """

    of_network: Tensor
    sharpnesses: Sequence[float]
    log_totals: Tensor


def _sums(sharpness: float, scores: Tensor) -> _Sums:
    """Sum over all items for each sharpness; six times as much work as scoring them."""
    log_totals = torch.stack([torch.logsumexp(scores * each, 1) for each in _SHARPNESSES], 1)
    return _Sums(torch.softmax(scores * sharpness, 1), _SHARPNESSES, log_totals)


def _sums_near(sharpness: float, scores: Tensor) -> _Sums:
    """Sum once: mean and variance of the scores say what the sums of sharpnesses near by are.

    Args:
        sharpness: in the middle, unless that leaves the range; the probabilities are those in the middle.
        scores: float32 (n, n_items).
    """
    middle = min(max(sharpness, _SHARPNESSES[0] + _SHARPNESS_STEP), _SHARPNESSES[-1] - _SHARPNESS_STEP)
    scaled = scores * middle
    highest = scaled.amax(1)
    of_network = torch.softmax(scaled, 1, out=scaled)
    log_total = highest - of_network.amax(1).log()  # the sum is looked at, not made once more
    mean = torch.linalg.vecdot(of_network, scores)
    variance = torch.linalg.vecdot(of_network * scores, scores) - mean.square()
    steps = torch.tensor([-_SHARPNESS_STEP, 0.0, _SHARPNESS_STEP])
    log_totals = log_total[:, None] + steps * mean[:, None] + 0.5 * steps.square() * variance[:, None]
    return _Sums(of_network, (steps + middle).tolist(), log_totals)


def _evidence(
    network: Network,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    cancellation: Cancellation,
) -> _Evidence | None:
    """Ask every term for the probability of what was clicked; None where no prediction has a known click before it."""
    parts = []
    for context, target, scores in _scored(network, sequences, predictions, cancellation):
        support, of_counts = _counted(counts, context, target.numpy())
        with torch.inference_mode():
            of_network = torch.softmax(scores, 1).gather(1, target)
        parts.append((*context, support, torch.cat([of_network, of_counts[:, 0]], 1)))
    if not parts:
        return None
    *context_columns, support, probability = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return _Evidence(Context(*context_columns), support, probability)


def _listed(
    network: Network,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    sums_of: Callable[[float, Tensor], _Sums],
    cancellation: Cancellation,
) -> Listed | None:
    """Ask every term for the probabilities of what may be listed; None as in `_evidence`.

    Args:
        network: its gate and sharpness say what may be listed.
        sequences: the clicks.
        predictions: of them.
        counts: of older clicks.
        sums_of: adds up the powers of all items, for the mixture's sharpness and the scores.
        cancellation: asked between batches.
    """
    mixture, n_rivals, parts = network.mixture, min(N_RIVALS, network.config.n_items), []
    assert mixture is not None
    for context, target, scores in _scored(network, sequences, predictions, cancellation):
        with torch.inference_mode():
            of_network, sharpnesses, log_totals = sums_of(float(mixture.sharpness), scores)
            rivals = _largest(mixture.mix(of_network, context), n_rivals)
            items = torch.cat([target, rivals], 1)
            scores_of_items = scores.gather(1, items)
        support, of_counts = _counted(counts, context, items.numpy())
        parts.append((*context, support, scores_of_items, log_totals, of_counts, rivals != target))
    if not parts:
        return None
    *context_columns, support, scores, log_totals, of_counts, is_rival = (
        torch.cat(columns) for columns in zip(*parts, strict=True)
    )
    return Listed(Context(*context_columns), support, scores, sharpnesses, log_totals, of_counts, is_rival)


def _largest(numbers: Tensor, k: int) -> Tensor:
    """Give where the k largest numbers of each row are, in no order, in half of the time that `topk` takes.

    They are in the k groups whose largest numbers are largest: a number is in the same group as every n-th one.

    Args:
        numbers: float32 (n, m), of at least k columns.
        k: how many.
    """
    m = numbers.shape[1]
    n_groups = m // _GROUP
    if n_groups < k:
        return numbers.topk(k, sorted=False).indices
    grouped = numbers[:, : n_groups * _GROUP].view(-1, _GROUP, n_groups)
    groups = grouped.amax(1).topk(k, sorted=False).indices
    in_groups = (groups[:, :, None] + n_groups * torch.arange(_GROUP)).flatten(1)
    places = torch.cat([in_groups, torch.arange(n_groups * _GROUP, m).expand(len(numbers), -1)], 1)
    return places.gather(1, numbers.gather(1, places).topk(k, sorted=False).indices)


def _scored(
    network: Network, sequences: Sequences, predictions: Predictions, cancellation: Cancellation
) -> Iterator[tuple[Context, Tensor, Tensor]]:
    """Score all items for predictions, some at a time; those without a known click before them are left out.

    Yields:
        What the mixture sees of n predictions, the clicked items, int64 (n, 1), and the network's scores, float32
        (n, n_items).

    Raises:
        TrainingCancelled: the end was requested.
    """
    contexts = Contexts(sequences)
    for chosen, features in features_before(network, contexts, predictions, cancellation):
        rows = predictions.target[chosen]
        for part in score_parts(network, len(rows)):
            with torch.inference_mode():
                scores = network.scores(features[part])
            yield contexts.of(rows[part]), torch.from_numpy(sequences.item_index[rows[part]])[:, None], scores


def _counted(counts: AssociationCounts, context: Context, items: Ints) -> tuple[Tensor, Tensor]:
    """Ask counts and re-clicks.

    Args:
        counts: of older clicks.
        context: of n predictions.
        items: int64 (n, m), that are asked for.

    Returns:
        The support of the clicked items, float32 (n, N_AGES), and probabilities, float32 (n, m, 2 * N_AGES).
    """
    clicked = context.item_index.numpy()[:, None, :]  # (n, 1, N_AGES)
    is_there, asked = clicked >= 0, np.broadcast_to(items[:, :, None], (*items.shape, N_AGES))
    before = np.broadcast_to(clicked.clip(min=0), asked.shape)
    share, support = (each.reshape(asked.shape) for each in counts.known(before.ravel(), asked.ravel()))
    probability = np.concatenate([np.where(is_there, share, 0.0), clicked == asked], axis=2)
    return torch.from_numpy(support[:, 0]).float(), torch.from_numpy(probability).float()


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


def _affordable(n_items: int, n_scores: int) -> int:
    """Say how many predictions there is time for."""
    return max(_LEAST_PREDICTIONS, n_scores // n_items)


def _thinned(predictions: Predictions, n_some: int) -> Predictions:
    """Thin out the predictions, evenly in time, to so many at most."""
    every = max(1, math.ceil(len(predictions.target) / n_some))
    return predictions.take(slice(None, None, every))
