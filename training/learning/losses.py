"""Losses of the next click: against every item, or against a sample of items that the whole batch shares.

The sample is the set of the batch's own targets and of items drawn by popularity^alpha. An item counts once however
often it was drawn, so that no target meets itself as a negative, and each item's score is corrected by the logarithm
of its probability of being in the sample. When all items are in the sample nothing is corrected: the full loss.
Source: Jean et al. 2015, "On using very large target vocabulary for neural machine translation", arXiv:1412.2007.

Each loss is a pure function of logits, float32 or float64 (n_targets, n_candidates), and of int64 (n_targets,), where
each row's target stands among the candidates. A row's negatives are all candidates but its own target: other rows'
targets too. Where there is no negative, nothing is learnt, but that BPR-max pulls the score to zero.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

# Of the scores. Measured on yoochoose_100k (validation part, one seed, 4 passes), recall@20 and MRR@20: with 0 .682
# and .366, with .1 .684 and .359, with .3 .675 and .355. Two passes over its first 20,000 clicks, recall@20: with 0
# .568, with .1 .552, with 1 .394. The authors' program has 1 by default, and an ELU that keeps scores above -.5.
BPR_MAX_REGULARIZATION = 0.1


class Candidates(NamedTuple):
    """The items that a batch's clicks are told apart from.

    Attributes:
        item_index: int64 (n_candidates,), rising, each once.
        correction: float32 (n_candidates,), added to the scores.
        target: int64 (n_targets,), where each target stands among the candidates.
    """

    item_index: Tensor
    correction: Tensor
    target: Tensor


class CandidateSampler:
    """Draws the candidates of a batch.

    Attributes:
        n_items: of the catalogue.
        all_items: int64 (n_items,), where all are candidates of every batch; else None.
        generator: the source of randomness.
    """

    def __init__(self, target_counts: Tensor, n_negatives: int, power: float, generator: torch.Generator) -> None:
        """Make a sampler.

        Args:
            target_counts: float64 (n_items,), how often each item is a target in the training data.
            n_negatives: items to draw per batch. Where there are not many more items than that, all are candidates.
            power: an item is drawn with its popularity raised to it: 0 is uniform, 1 proportional.
            generator: the source of randomness, on the device of the counts.
        """
        self.n_items = n_items = len(target_counts)
        self.generator = generator
        self._n_negatives = n_negatives
        # The product with a few more columns costs less than sampling and gathering.
        device = target_counts.device
        self.all_items = torch.arange(n_items, device=device) if n_items <= 2 * n_negatives else None
        share = (target_counts + 1.0) ** power
        share /= share.sum()
        self._cumulative = torch.cumsum(share, 0)
        self._log_not_drawn = torch.log1p(-share)
        self._log_not_target = torch.log1p(-(target_counts / target_counts.sum()).clamp(max=1 - 1e-9))

    def candidates(self, targets: Tensor) -> Candidates:
        """Draw for a batch of targets, int64 (n_targets,)."""
        if self.all_items is not None:
            return Candidates(self.all_items, torch.zeros_like(self.all_items, dtype=torch.float32), targets)
        items, places = torch.unique(torch.cat([targets, self.drawn()]), return_inverse=True)
        return Candidates(items, self.correction(items, len(targets)), places[: len(targets)])

    def drawn(self) -> Tensor:
        """Draw items by popularity: int64 (n_negatives,), each as often as it comes."""
        uniform = torch.rand(
            self._n_negatives, dtype=torch.float64, generator=self.generator, device=self._cumulative.device
        )
        return torch.searchsorted(self._cumulative, uniform).clamp(max=len(self._cumulative) - 1)

    def correction(self, items: Tensor, n_targets: int | Tensor) -> Tensor:
        """Give minus the logarithm of each item's chance to be among the candidates of a batch of `n_targets`.

        Args:
            items: int64 (n,).
            n_targets: a number, or a tensor that holds it.

        Returns:
            float32 (n,).
        """
        log_absent = self._n_negatives * self._log_not_drawn[items] + n_targets * self._log_not_target[items]
        return (-torch.log(-torch.expm1(log_absent))).float()


class _CrossEntropy(torch.autograd.Function):
    """The usual cross-entropy; its gradient, softmax minus one at the target, is had in the same pass.

    The score matrix is the largest thing of a step. PyTorch's own loss fills a second one with zeros on the way back
    and takes twice the time.
    """

    @staticmethod
    def forward(context: Any, logits: Tensor, target: Tensor) -> Tensor:
        place = target.unsqueeze(1)
        of_target = logits.gather(1, place)
        highest = logits.amax(1, keepdim=True)
        shares = torch.sub(logits, highest).exp_()
        total = shares.sum(1, keepdim=True)
        value = (total.log() + highest - of_target).mean()
        gradient = shares.div_(total * len(target))
        gradient.scatter_add_(1, place, torch.full_like(of_target, -1.0 / len(target)))
        context.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(context: Any, *of_value: Any) -> tuple[Tensor, None]:
        (gradient,) = context.saved_tensors
        return gradient * of_value[0], None


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean of minus log o of the target, where o is the softmax of the row."""
    value: Tensor = _CrossEntropy.apply(logits, target)  # type: ignore[no-untyped-call]
    return value


def weighted_cross_entropy(logits: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Give each row's cross-entropy, and the gradient of their weighted sum.

    Args:
        logits: float32 (n_targets, n_candidates); becomes the gradient. Minus infinity is allowed beside the target.
        target: int64 (n_targets,).
        weight: float32 (n_targets,), of each row in the sum.

    Returns:
        float32 (n_targets,), not weighted, and float32 (n_targets, n_candidates).
    """
    place, weight = target.unsqueeze(1), weight.unsqueeze(1)
    of_target, highest = logits.gather(1, place), logits.amax(1, keepdim=True)
    shares = logits.sub_(highest).exp_()
    total = shares.sum(1, keepdim=True)
    losses = total.log() + highest - of_target
    return losses.squeeze(1), shares.mul_(weight / total).scatter_add_(1, place, -weight)


def bpr_max(logits: Tensor, target: Tensor) -> Tensor:
    """Mean over targets t, score s_t, of -log(sum_j w_j sigmoid(s_t - s_j)) + lambda sum_j w_j s_j^2.

    j runs over the negatives, w is their softmax, lambda is `BPR_MAX_REGULARIZATION`: the negatives that score highest
    count most, in the comparison and in being pulled to zero.

    Source: Hidasi & Karatzoglou 2018, arXiv:1706.03847, equations 8 to 10.
    """
    place = target.unsqueeze(1)
    log_weight = functional.log_softmax(_without(logits, place), 1)
    log_smaller = functional.logsigmoid(logits.gather(1, place) - logits)  # log P(the target beats the candidate)
    regularization = (log_weight.exp() * logits.square()).sum(1)
    return (BPR_MAX_REGULARIZATION * regularization - torch.logsumexp(log_weight + log_smaller, 1)).mean()


def binary_cross_entropy(logits: Tensor, target: Tensor, n_users: int) -> Tensor:
    """Minus the sum of r log o + (1 - r) log(1 - o), over all candidates and steps, as a mean over users.

    o is the softmax of the row, r is 1 for the target and 0 for every other candidate. This form is what the trainer
    uses, with every cell: what it learns is the probability that the stream reports.

    Args:
        logits: (n_targets, n_candidates).
        target: int64 (n_targets,).
        n_users: sequences that the targets come from.
    """
    # 1 - o loses every digit where o is near 1. Only the row's highest can be above 1/2: there 1 - o is taken as the
    # share of the others, and everywhere else it is harmless.
    place = target.unsqueeze(1)
    highest = logits.argmax(1, keepdim=True)
    others = _without(logits, highest)
    log_total = torch.logsumexp(logits, 1, keepdim=True)
    log_absent = torch.log1p(-torch.exp(others - log_total))  # log(1 - o); 0 in the place of the highest
    log_highest_absent = torch.logsumexp(others, 1, keepdim=True) - log_total
    absent = log_absent.sum(1, keepdim=True) - log_absent.gather(1, place)
    absent = absent + log_highest_absent.where(highest != place, torch.zeros_like(log_highest_absent))
    present = logits.gather(1, place) - log_total
    return -(present + absent).sum() / n_users


def multi_label_binary_cross_entropy(logits: Tensor, labels: Tensor, n_users: int) -> Tensor:
    """Minus the sum of r log o + (1 - r) log(1 - o), over all items and steps, as a mean over users.

    As `binary_cross_entropy`, but o is the sigmoid of each item's own logit, so that items do not compete and any
    number of them can come next.

    Args:
        logits: (n_steps, n_items).
        labels: as the logits, r: 1 for the items of the step that follows, 0 for the others.
        n_users: sequences that the steps come from.
    """
    return functional.binary_cross_entropy_with_logits(logits, labels, reduction="sum") / n_users


def _without(logits: Tensor, place: Tensor) -> Tensor:
    """Give logits whose element at `place`, int64 (n_targets, 1), has no share in the row's softmax.

    The lowest finite number, not minus infinity: a row of nothing else has no NaN in its gradient.
    """
    return logits.scatter(1, place, torch.finfo(logits.dtype).min)


class Loss(NamedTuple):
    """A loss as the trainer calls it.

    Attributes:
        of_logits: gives the loss for logits, targets and the number of users.
        corrected: it wants logits with the candidates' correction. Cross-entropy and binary cross-entropy are functions
            of the softmax over all items, which the corrected softmax over the sample estimates: each candidate stands
            for all items that were as likely to be drawn and were not. So does its term log(1 - o), which is -o, for
            o is small wherever the correction is large. BPR-max estimates no loss over all items: it compares scores
            pairwise, as they are served, and a correction there would have a rare item beaten by a wider margin than
            a popular one. Its paper has none, and the authors' program applies log-Q to cross-entropy alone.
    """

    of_logits: Callable[[Tensor, Tensor, int], Tensor]
    corrected: bool


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(lambda logits, target, n_users: cross_entropy(logits, target), corrected=True),
    "bpr_max": Loss(lambda logits, target, n_users: bpr_max(logits, target), corrected=False),
    "binary": Loss(binary_cross_entropy, corrected=True),
}


class HeadGradients(NamedTuple):
    """A loss, and its gradients by what the scores are made of.

    Attributes:
        loss: the number.
        queries: float32 (n_targets, hidden_size).
        item_vectors: float32 (n_candidates, hidden_size).
        item_bias: float32 (n_candidates,).
    """

    loss: float
    queries: Tensor
    item_vectors: Tensor
    item_bias: Tensor


def head_gradients(
    loss: Loss,
    queries: Tensor,
    item_vectors: Tensor,
    item_bias: Tensor,
    candidates: Candidates,
    n_users: int,
) -> HeadGradients:
    """Score the candidates before each click; give the loss and its gradients.

    Under `torch.autocast` the products are computed in the lower precision; what is returned is float32 all the same.

    Args:
        loss: one of `LOSSES`.
        queries: float32 (n_targets, hidden_size), of the network before each click; no graph.
        item_vectors: float32 (n_candidates, hidden_size); no graph.
        item_bias: float32 (n_candidates,); no graph.
        candidates: of the batch.
        n_users: sequences in the batch.
    """
    # The score matrix is the largest thing of a step, and a step mostly waits for memory. So everything that is added
    # to the scores is in the bias of one product, and the products of the way back are written out: a graph would keep
    # copies.
    bias = item_bias + candidates.correction if loss.corrected else item_bias
    logits = torch.addmm(bias, queries, item_vectors.T).float().requires_grad_()  # (n_targets, n_candidates)
    value = loss.of_logits(logits, candidates.target, n_users)
    (gradient,) = torch.autograd.grad(value, logits)
    of_queries, of_vectors = gradient @ item_vectors, gradient.T @ queries
    return HeadGradients(value.item(), of_queries.float(), of_vectors.float(), gradient.sum(0))
