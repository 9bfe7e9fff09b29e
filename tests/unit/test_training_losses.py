"""The loss: a sample of all items is no sample, and a small one estimates the full loss."""

import pytest
import torch
from torch.nn import functional

from training.losses import CandidateSampler, next_click_loss


def sampler(counts: torch.Tensor, n_negatives: int, seed: int = 0) -> CandidateSampler:
    return CandidateSampler(counts.double(), n_negatives, torch.Generator().manual_seed(seed))


def test_with_few_items_all_are_candidates_and_the_loss_is_the_full_cross_entropy() -> None:
    """No correction, targets by their own index."""
    outputs, items, bias = torch.randn(8, 4), torch.randn(30, 4), torch.randn(30)
    targets = torch.randint(30, (8,))

    candidates = sampler(torch.ones(30), 20).candidates(targets)
    loss = next_click_loss(outputs, items[candidates.items], bias, candidates.correction, candidates.target)

    assert torch.allclose(loss, functional.cross_entropy(outputs @ items.T + bias, targets))


def test_when_the_sample_holds_all_items_the_sampled_loss_equals_the_full_one() -> None:
    """With so many draws every item is in the sample for sure, and the corrections vanish."""
    n_items = 300
    outputs, items, bias = torch.randn(8, 4), torch.randn(n_items, 4), torch.randn(n_items)
    targets = torch.randint(n_items, (8,))
    drawing = sampler(torch.ones(n_items), 149)
    drawing._n_negatives = 30_000

    candidates = drawing.candidates(targets)
    chosen = candidates.items
    loss = next_click_loss(outputs, items[chosen], bias[chosen], candidates.correction, candidates.target)

    assert chosen.tolist() == list(range(n_items))
    assert torch.allclose(loss, functional.cross_entropy(outputs @ items.T + bias, targets), atol=1e-5)


def test_candidates_are_distinct_and_hold_every_target_once() -> None:
    """So no target is its own negative: accidental hits cannot happen."""
    counts = torch.arange(1_000) % 7
    targets = torch.tensor([3, 999, 3, 3, 17])

    candidates = sampler(counts, 100).candidates(targets)

    assert len(candidates.items.unique()) == len(candidates.items)
    assert candidates.items[candidates.target].tolist() == targets.tolist()


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
        sums.append((weights[candidates.items] * candidates.correction.exp()).sum())

    assert torch.stack(sums).mean().item() == pytest.approx(weights.sum().item(), rel=0.03)


def test_the_same_seed_draws_the_same() -> None:
    """Randomness comes from the generator alone."""
    targets = torch.tensor([1, 2])

    first, second = (sampler(torch.ones(5_000), 50, seed=4).candidates(targets) for _ in range(2))

    assert first.items.tolist() == second.items.tolist()
