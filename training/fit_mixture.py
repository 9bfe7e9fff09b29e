"""Fits the gate that mixes counts with the network, on clicks that neither has seen.

Network and counts are held still, as they are between two bundles, and the newest clicks of the training part are
predicted: there one sees how far each source can be trusted. What was learnt from cannot tell.
"""

import logging
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nextclick.mixture import N_AGES, History, Mixture
from nextclick.network import Network
from training.associations import AssociationCounts
from training.evaluate import Predictions, features_before, score_parts
from training.histories import Histories
from training.sequences import Ints, Sequences
from training.watch import Watch

# The network's scores are divided by one of these: a network that has passed over its clicks several times is too sure.
_TEMPERATURES = (0.8, 1.0, 1.2, 1.4, 1.7)
_PENALTY = 10.0  # of the squared gate's weights, in predictions: with few of them the gate stays as it began
_ITERATIONS = 60
_LEAST = 1e-9  # probability of what no source expects
_log = logging.getLogger(__name__)


class _Seen(NamedTuple):
    """What the sources say of some predictions.

    Attributes:
        features: float32 (n, hidden_size), of the network.
        history: of the predictions.
        support: float32 (n, N_AGES), of the clicked items.
        network: float32 (n, len(_TEMPERATURES)), log probability of the clicked item.
        counts: float32 (n, 2 N_AGES), probability of the clicked item: neighbours by age, re-clicks by age.
    """

    features: Tensor
    history: History
    support: Tensor
    network: Tensor
    counts: Tensor


def fit_mixture(
    network: Network,
    index: Ints,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    time: int,
    watch: Watch,
) -> None:
    """Fit the gate in place.

    Args:
        network: with a mixture; its other weights stay.
        index: int64 (n,), for every row its item in the network's vocabulary; -1 in rows that are not to be learnt.
        sequences: the clicks.
        predictions: newer clicks than the network and the counts have seen.
        counts: of the clicks.
        time: counts of clicks with an `age_rank` below it are known.
        watch: can end the fit.

    Raises:
        TrainingStopped: it did.
    """
    mixture = network.mixture
    assert mixture is not None
    seen = _see(network, index, sequences, predictions, counts, time, watch)
    if seen is None:
        return
    first = {name: weight.detach().clone() for name, weight in mixture.named_parameters()}
    best, best_loss, best_gate = 1.0, float("inf"), first
    for column, temperature in enumerate(_TEMPERATURES):
        watch.check()
        mixture.load_state_dict(first, strict=False)
        loss = _fit_gate(mixture, seen, column)
        _log.debug("gate at temperature %.1f: %.4f", temperature, loss)
        if loss < best_loss:
            best, best_loss = temperature, loss
            best_gate = {name: weight.detach().clone() for name, weight in mixture.named_parameters()}
    mixture.load_state_dict(best_gate | {"sharpness": torch.tensor(1.0 / best)}, strict=False)


def _see(
    network: Network,
    index: Ints,
    sequences: Sequences,
    predictions: Predictions,
    counts: AssociationCounts,
    time: int,
    watch: Watch,
) -> _Seen | None:
    histories = Histories(index, sequences)
    parts = []
    for chosen, features in features_before(network, index, sequences, histories, predictions, watch):
        rows = predictions.target[chosen]
        for part in score_parts(network, len(rows)):
            history, target = histories.before(rows[part]), index[rows[part]]
            support, counted = _counted(counts, history, target, time)
            said = _log_probability(network, features[part], torch.from_numpy(target))
            parts.append((features[part], *history, support, said, counted))
    if not parts:
        return None
    features, *history_columns, support, said, counted = (torch.cat(columns) for columns in zip(*parts, strict=True))
    return _Seen(features, History(*history_columns), support, said, counted)


def _counted(counts: AssociationCounts, history: History, target: Ints, time: int) -> tuple[Tensor, Tensor]:
    """Give the support of the clicked items, and what the counts say of the targets."""
    clicked = history.item_index.numpy()  # (batch, N_AGES)
    targets = np.repeat(target, N_AGES)
    share, support = counts.known_before(clicked.clip(min=0).ravel(), targets, np.full(len(targets), time))
    there = clicked >= 0
    shares = np.where(there, share.reshape(there.shape), 0.0)
    counted = np.concatenate([shares, clicked == target[:, None]], axis=1)
    return torch.from_numpy(support.reshape(there.shape)).float(), torch.from_numpy(counted).float()


@torch.inference_mode()
def _log_probability(network: Network, features: Tensor, target: Tensor) -> Tensor:
    scores = network.scores(features)  # (batch, n_items)
    own = scores.gather(1, target[:, None])
    columns = [own / t - torch.logsumexp(scores / t, 1, keepdim=True) for t in _TEMPERATURES]
    return torch.cat(columns, 1)


def _fit_gate(mixture: Mixture, seen: _Seen, column: int) -> float:
    """Find the most probable gate: minus the mean log probability of what was clicked, plus the penalty."""
    weights = list(mixture.parameters())
    first = [weight.detach().clone() for weight in weights]
    said = torch.cat([seen.network[:, column : column + 1].exp(), seen.counts], 1).clone()
    log_said = torch.log(said + _LEAST)  # (n, N_TERMS)
    features, history, support = seen.features.clone(), seen.history, seen.support.clone()
    optimizer = torch.optim.LBFGS(weights, max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_weights = mixture.log_weights(features, history, support)
        value = -torch.logsumexp(log_weights + log_said, 1).mean()
        moved = sum((weight - start).square().sum() for weight, start in zip(weights, first, strict=True))
        value = value + _PENALTY / len(log_said) * moved
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(loss)  # type: ignore[no-untyped-call]
    return loss().item()
