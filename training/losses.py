"""Cross-entropy of the next click: against every item, or against a sample of items that the whole batch shares.

The sample is the set of the batch's own targets and of items drawn by popularity^0.75. An item counts once however
often it was drawn, so that no target meets itself as a negative, and each item's score is corrected by the logarithm
of its probability of being in the sample. When all items are in the sample nothing is corrected: the full loss.
Source: Jean et al. 2015, "On using very large target vocabulary for neural machine translation", arXiv:1412.2007.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

POPULARITY_POWER = 0.75  # between uniform and proportional; word2vec's choice, arXiv:1310.4546


class Candidates(NamedTuple):
    """The items that a batch's clicks are told apart from.

    Attributes:
        items: int64 (n_candidates,), rising, each once.
        correction: float32 (n_candidates,), added to the scores.
        target: int64 (n_targets,), where each target stands in `items`.
    """

    items: Tensor
    correction: Tensor
    target: Tensor


class CandidateSampler:
    """Draws the candidates of a batch."""

    def __init__(self, target_counts: Tensor, n_negatives: int, generator: torch.Generator) -> None:
        """Make a sampler.

        Args:
            target_counts: float64 (n_items,), how often each item is a target in the training data.
            n_negatives: items to draw per batch. Where there are not many more items than that, all are candidates.
            generator: the source of randomness.
        """
        n_items = len(target_counts)
        self._generator = generator
        self._n_negatives = n_negatives
        # The product with a few more columns costs less than sampling and gathering.
        self._all_items = torch.arange(n_items) if n_items <= 2 * n_negatives else None
        power = (target_counts + 1.0) ** POPULARITY_POWER
        self._cumulative = torch.cumsum(power / power.sum(), 0)
        self._log_not_drawn = torch.log1p(-(power / power.sum()))
        self._log_not_target = torch.log1p(-(target_counts / target_counts.sum()).clamp(max=1 - 1e-9))

    def candidates(self, targets: Tensor) -> Candidates:
        """Draw for a batch of targets, int64 (n_targets,)."""
        if self._all_items is not None:
            return Candidates(self._all_items, torch.zeros(len(self._all_items)), targets)
        uniform = torch.rand(self._n_negatives, dtype=torch.float64, generator=self._generator)
        drawn = torch.searchsorted(self._cumulative, uniform).clamp(max=len(self._cumulative) - 1)
        items, places = torch.unique(torch.cat([targets, drawn]), return_inverse=True)
        log_absent = self._n_negatives * self._log_not_drawn[items] + len(targets) * self._log_not_target[items]
        correction = -torch.log(-torch.expm1(log_absent))
        return Candidates(items, correction.float(), places[: len(targets)])


def next_click_loss(
    outputs: Tensor, item_vectors: Tensor, item_bias: Tensor, correction: Tensor, target: Tensor
) -> Tensor:
    """Mean cross-entropy of the clicked items among the candidates.

    Args:
        outputs: float32 (n_targets, hidden_size), what the network says before each click.
        item_vectors: float32 (n_candidates, hidden_size).
        item_bias: float32 (n_candidates,).
        correction: float32 (n_candidates,).
        target: int64 (n_targets,), each click's place among the candidates.
    """
    # One product with everything additive in its bias: the score matrix is written once and read once.
    logits = torch.addmm(item_bias + correction, outputs, item_vectors.T)  # (n_targets, n_candidates)
    return functional.cross_entropy(logits, target)
