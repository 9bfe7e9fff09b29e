"""The losses: their formulas; a sample of all items is no sample, and a small one estimates the full loss."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training.learning.losses import (
    BPR_MAX_REGULARIZATION,
    LOSSES,
    Candidates,
    CandidateSampler,
    binary_cross_entropy,
    bpr_max,
    cross_entropy,
    head_gradients,
    multi_label_binary_cross_entropy,
)

OfRow = Callable[[list[float], int], float]


def sampler(counts: torch.Tensor, n_negatives: int, seed: int = 0, power: float = 0.75) -> CandidateSampler:
    return CandidateSampler(counts.double(), n_negatives, power, torch.Generator().manual_seed(seed))


def test_with_few_items_all_are_candidates_and_the_loss_is_the_full_cross_entropy() -> None:
    """No correction, targets by their own index."""
    outputs, items, bias = torch.randn(8, 4), torch.randn(30, 4), torch.randn(30)
    targets = torch.randint(30, (8,))

    candidates = sampler(torch.ones(30), 20).candidates(targets)
    found = head_gradients(LOSSES["cross_entropy"], outputs, items[candidates.item_index], bias, candidates, 1)

    assert found.loss == pytest.approx(functional.cross_entropy(outputs @ items.T + bias, targets).item(), rel=1e-5)


def test_when_the_sample_holds_all_items_the_sampled_loss_equals_the_full_one() -> None:
    """With so many draws every item is in the sample for sure, and the corrections vanish."""
    n_items = 300
    outputs, items, bias = torch.randn(8, 4), torch.randn(n_items, 4), torch.randn(n_items)
    targets = torch.randint(n_items, (8,))
    drawing = sampler(torch.ones(n_items), 149)
    drawing._n_negatives = 30_000

    candidates = drawing.candidates(targets)
    chosen = candidates.item_index
    found = head_gradients(LOSSES["cross_entropy"], outputs, items[chosen], bias[chosen], candidates, 1)

    assert chosen.tolist() == list(range(n_items))
    assert found.loss == pytest.approx(functional.cross_entropy(outputs @ items.T + bias, targets).item(), rel=1e-5)


def test_candidates_are_distinct_and_hold_every_target_once() -> None:
    """So no target is its own negative: accidental hits cannot happen."""
    counts = torch.arange(1_000) % 7
    targets = torch.tensor([3, 999, 3, 3, 17])

    candidates = sampler(counts, 100).candidates(targets)

    assert len(candidates.item_index.unique()) == len(candidates.item_index)
    assert candidates.item_index[candidates.target].tolist() == targets.tolist()


def test_the_correction_makes_up_for_how_likely_an_item_is_in_the_sample() -> None:
    """Averaged over samples, the corrected sum over candidates is the sum over all items (no target here)."""
    n_items = 2_000
    counts = torch.arange(n_items).double()
    weights = torch.rand(n_items, generator=torch.Generator().manual_seed(1))
    drawing = sampler(counts, 200)
    targets_by_popularity = torch.multinomial(counts, 400 * 32, replacement=True).view(400, 32)

    sums = []
    for targets in targets_by_popularity:
        candidates = drawing.candidates(targets)
        sums.append((weights[candidates.item_index] * candidates.correction.exp()).sum())

    assert torch.stack(sums).mean().item() == pytest.approx(weights.sum().item(), rel=0.03)


def test_the_same_seed_draws_the_same() -> None:
    """Randomness comes from the generator alone."""
    targets = torch.tensor([1, 2])

    first, second = (sampler(torch.ones(5_000), 50, seed=4).candidates(targets) for _ in range(2))

    assert first.item_index.tolist() == second.item_index.tolist()


def slow_cross_entropy(row: list[float], target: int) -> float:
    return -math.log(math.exp(row[target]) / sum(map(math.exp, row)))


def slow_bpr_max(row: list[float], target: int) -> float:
    negatives = [score for place, score in enumerate(row) if place != target]
    total = sum(map(math.exp, negatives))
    weights = [math.exp(score) / total for score in negatives]
    wins = [1 / (1 + math.exp(score - row[target])) for score in negatives]
    beaten = sum(weight * win for weight, win in zip(weights, wins, strict=True))
    pull = sum(weight * score**2 for weight, score in zip(weights, negatives, strict=True))
    return -math.log(beaten) + BPR_MAX_REGULARIZATION * pull


def slow_binary(row: list[float], target: int) -> float:
    total = sum(map(math.exp, row))
    shares = [math.exp(score) / total for score in row]
    return -sum(math.log(share if place == target else 1 - share) for place, share in enumerate(shares))


def slow_mean(of_row: OfRow, logits: Tensor, target: Tensor) -> float:
    return sum(map(of_row, logits.tolist(), target.tolist())) / len(target)


def some_logits() -> tuple[Tensor, Tensor]:
    """Float64 rows where the target is the highest, the lowest, and in between."""
    logits = 2 * torch.randn(12, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    target = torch.cat([logits[:4].argmax(1), logits[4:8].argmin(1), torch.tensor([0, 2, 4, 6])])
    return logits, target


def test_losses_of_three_candidates_as_computed_by_hand() -> None:
    """Scores log 2, log 1, log 1, the first is clicked: o is 1/2, 1/4, 1/4; both negatives weigh 1/2, beaten at 2/3."""
    logits, target = torch.tensor([[math.log(2), 0.0, 0.0]]), torch.tensor([0])

    assert cross_entropy(logits, target).item() == pytest.approx(math.log(2))
    assert bpr_max(logits, target).item() == pytest.approx(math.log(3 / 2))
    assert binary_cross_entropy(logits, target, 1).item() == pytest.approx(math.log(2) + 2 * math.log(4 / 3))


def test_bpr_max_pulls_the_scores_of_negatives_to_zero() -> None:
    """Scores 0, 2, 2, the first is clicked: the mean of 2 squared is added, the clicked item's score is free."""
    loss = bpr_max(torch.tensor([[0.0, 2.0, 2.0]]), torch.tensor([0]))

    assert loss.item() == pytest.approx(math.log(1 + math.exp(2)) + BPR_MAX_REGULARIZATION * 4)


@pytest.mark.parametrize(
    ("loss", "slow", "per_user"),
    [("cross_entropy", slow_cross_entropy, 1), ("bpr_max", slow_bpr_max, 1), ("binary", slow_binary, 12 / 5)],
)
def test_losses_equal_their_formulas_written_out_slowly(loss: str, slow: OfRow, per_user: float) -> None:
    """A mean over targets; the binary one is a sum over the 12 steps and a mean over the 5 users."""
    logits, target = some_logits()

    fast = LOSSES[loss].of_logits(logits, target, 5)

    assert fast.item() == pytest.approx(slow_mean(slow, logits, target) * per_user, rel=1e-12)


def test_the_multi_label_loss_takes_each_item_by_itself() -> None:
    """Logits 0 and log 3: o is 1/2 and 3/4; one step with both items, one with neither; two users."""
    logits = torch.tensor([[0.0, math.log(3)], [0.0, math.log(3)]])
    labels = torch.tensor([[1.0, 1.0], [0.0, 0.0]])

    loss = multi_label_binary_cross_entropy(logits, labels, 2)

    assert loss.item() == pytest.approx(-(2 * math.log(1 / 2) + math.log(3 / 4) + math.log(1 / 4)) / 2)


@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_are_those_of_the_losses(loss: str) -> None:
    """Against differences, in float64."""
    logits, target = some_logits()
    logits.requires_grad_()

    assert torch.autograd.gradcheck(lambda scores: LOSSES[loss].of_logits(scores, target, 5), (logits,))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("target", [0, 1])
def test_a_score_that_is_far_ahead_gives_finite_losses_and_gradients(loss: str, target: int) -> None:
    """In float32 its share is 1 and the others' 0, where logarithms end; wrongly ahead, the loss says how far."""
    logits = torch.tensor([[60.0, 0.0, 0.0], [60.0, 60.0, 0.0]], requires_grad=True)

    value = LOSSES[loss].of_logits(logits, torch.tensor([target, target]), 1)
    (gradient,) = torch.autograd.grad(value, logits)

    exact = LOSSES[loss].of_logits(logits.double(), torch.tensor([target, target]), 1)
    assert gradient.isfinite().all()
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)
    if loss == "binary" and target == 1:
        assert value.item() == pytest.approx(2 * 60 - math.log(2) + 2 * math.log(2), rel=1e-5)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_a_negative_the_loss_teaches_nothing_wrong(loss: str) -> None:
    """A vocabulary of one item: no NaN, and at score 0 no gradient."""
    logits = torch.zeros(2, 1, requires_grad=True)

    value = LOSSES[loss].of_logits(logits, torch.tensor([0, 0]), 1)
    (gradient,) = torch.autograd.grad(value, logits)

    assert value.isfinite()
    assert gradient.tolist() == [[0.0], [0.0]]


def test_bpr_max_compares_the_scores_as_they_are_and_the_others_corrected_ones() -> None:
    """What the softmax is taken of is corrected; pairs of scores are not."""
    outputs, items, bias = torch.randn(2, 4), torch.randn(3, 4), torch.randn(3)
    candidates = Candidates(torch.arange(3), torch.tensor([0.0, 1.0, 2.0]), torch.tensor([2, 0]))
    plain = outputs @ items.T + bias

    found = {name: head_gradients(loss, outputs, items, bias, candidates, 2).loss for name, loss in LOSSES.items()}

    corrected = plain + candidates.correction
    assert found["cross_entropy"] == pytest.approx(cross_entropy(corrected, candidates.target).item(), rel=1e-5)
    assert found["binary"] == pytest.approx(binary_cross_entropy(corrected, candidates.target, 2).item(), rel=1e-5)
    assert found["bpr_max"] == pytest.approx(bpr_max(plain, candidates.target).item(), rel=1e-5)


@pytest.mark.parametrize("in_bfloat16", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_of_the_head_are_those_that_a_graph_gives(loss: str, in_bfloat16: bool) -> None:
    """By queries, item vectors and biases; in bfloat16 they have three digits, and the results are float32."""
    torch.manual_seed(4)
    parts = [torch.randn(8, 4), torch.randn(12, 4), torch.randn(12)]
    candidates = Candidates(torch.arange(12), torch.rand(12), torch.randint(12, (8,)))

    with torch.autocast("cpu", torch.bfloat16, enabled=in_bfloat16):
        found = head_gradients(LOSSES[loss], *parts, candidates, 3)

    queries, items, bias = (part.clone().requires_grad_() for part in parts)
    logits = queries @ items.T + bias + (candidates.correction if LOSSES[loss].corrected else 0.0)
    value = LOSSES[loss].of_logits(logits, candidates.target, 3)
    expected = torch.autograd.grad(value, (queries, items, bias))
    assert found.loss == pytest.approx(value.item(), rel=0.02 if in_bfloat16 else 1e-5)
    for gradient, exact in zip(found[1:], expected, strict=True):
        assert gradient.dtype == torch.float32
        assert (gradient - exact).norm() < (0.03 if in_bfloat16 else 1e-5) * exact.norm()
