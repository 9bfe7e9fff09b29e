"""Moves a fitted gate to where its lists are best.

The most probable gate trusts the network for the one item that it is surest of, which is too far for a list of 20. So
its weights, and how sharp the network's scores are, climb a smooth form of Recall@20 + MRR@20: the clicked item's rank
is 1 and, for each item that may stand before it, how surely it does. Only items that could be in a list count, so that
a step costs as much with a large catalogue as with a small one. A little of the likelihood stays: where lists are as
good either way, the more probable gate is taken.

Source: the smooth rank as in Qin et al. 2010, "A general approximation framework for direct optimization of information
retrieval measures", doi:10.1007/s10791-009-9124-x.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nextclick.mixture import Context, Mixture

N_RIVALS = 60  # best items of the gate as it was fitted: three lists long, for they change places
_RATE = 0.03  # of Adam at first; falls to 0
_SMOOTHNESS = 0.1  # difference of two log probabilities that is told apart
_LIST_LENGTH = 20
_LIST_END = 2.0  # places over which the end of the list is smeared
_PENALTY = 10.0  # on how far the gate moves, worth so many predictions: with few, it stays where it was
_LIKELIHOOD = 0.03  # worth of a log probability: ranks alone do not say what a score is
_LEAST = 1e-12  # probability of an item that no source expects


class Listed(NamedTuple):
    """What each term says of the items that may be listed for a prediction: the clicked one first, then its rivals.

    Attributes:
        context: of the n predictions.
        support: float32 (n, N_AGES), of the clicked items.
        scores: float32 (n, 1 + rivals), the network's.
        sharpnesses: equally far apart, rising: between them, and not beyond, the best one is looked for.
        log_totals: float32 (n, len(sharpnesses)), logarithm of the sum of exp(sharpness * score) over all items.
        of_counts: float32 (n, 1 + rivals, 2 * N_AGES), probabilities by term.
        is_rival: bool (n, rivals); False where an item is the clicked one itself.
    """

    context: Context
    support: Tensor
    scores: Tensor
    sharpnesses: Sequence[float]
    log_totals: Tensor
    of_counts: Tensor
    is_rival: Tensor


def rank_better(mixture: Mixture, listed: Listed, n_steps: int) -> None:
    """Move gate and sharpness, in place, by so many steps from where they stand."""
    weights, sharpness = list(mixture.parameters()), mixture.sharpness.clone().requires_grad_()
    first = [weight.detach().clone() for weight in weights]
    optimizer = torch.optim.Adam([*weights, sharpness], lr=_RATE)
    for step in range(n_steps):
        optimizer.param_groups[0]["lr"] = _RATE * (1.0 - step / n_steps)
        optimizer.zero_grad()
        moved = sum((weight - start).square().sum() for weight, start in zip(weights, first, strict=True))
        loss = _PENALTY / len(listed.scores) * moved - _worth(mixture, sharpness, listed)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        with torch.no_grad():
            sharpness.clamp_(listed.sharpnesses[0], listed.sharpnesses[-1])
    mixture.sharpness.copy_(sharpness.detach())


def _worth(mixture: Mixture, sharpness: Tensor, listed: Listed) -> Tensor:
    """Give the lists' quality, and a little of how probable the clicked items are."""
    weights = mixture.log_weights(listed.context, listed.support).exp()  # (n, N_TERMS)
    of_network = torch.exp(listed.scores * sharpness - _log_total(sharpness, listed)[:, None])
    of_counts = torch.einsum("nit,nt->ni", listed.of_counts, weights[:, 1:])
    log_probability = torch.log(weights[:, :1] * of_network + of_counts + _LEAST)  # (n, 1 + rivals)
    return (_quality(log_probability, listed.is_rival) + _LIKELIHOOD * log_probability[:, 0]).mean()


def _quality(log_probability: Tensor, is_rival: Tensor) -> Tensor:
    """Give the smooth Recall@20 + MRR@20 of each prediction: (n, 1 + rivals), (n, rivals) -> (n,)."""
    ahead = torch.sigmoid((log_probability[:, 1:] - log_probability[:, :1]) / _SMOOTHNESS)
    rank = 1.0 + (ahead * is_rival).sum(1)
    is_listed = torch.sigmoid((_LIST_LENGTH + 0.5 - rank) / _LIST_END)
    return is_listed * (1.0 + 1.0 / rank)


def _log_total(sharpness: Tensor, listed: Listed) -> Tensor:
    """Give the logarithm of the sum of all powers, float32 (n,): on a straight line between two that are known."""
    lowest, width = listed.sharpnesses[0], listed.sharpnesses[1] - listed.sharpnesses[0]
    place = (sharpness - lowest) / width
    below = min(int(place.detach()), len(listed.sharpnesses) - 2)
    share = place - below
    return listed.log_totals[:, below] * (1.0 - share) + listed.log_totals[:, below + 1] * share
