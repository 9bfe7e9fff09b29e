"""Dropout: the share, what is left, and the generator."""

import pytest
import torch

from training.learning.step import Dropout


@pytest.mark.parametrize("share", [0.1, 0.4, 0.95])
def test_a_share_is_set_to_zero_and_the_mean_stays(share: float) -> None:
    """The others grow by what is dropped; everywhere alike."""
    values = Dropout(share, torch.Generator().manual_seed(1))(torch.ones(1_000, 203))

    assert (values == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert values.mean().item() == pytest.approx(1.0, abs=0.02)
    assert len(values.unique()) == 2
    assert (values == 0).float().mean(0).sub(share).abs().max() < 0.08
    assert (values == 0).float().mean(1).sub(share).abs().max() < 0.2


def test_dropping_nothing_draws_nothing() -> None:
    """The values themselves."""
    generator, values = torch.Generator().manual_seed(1), torch.ones(3, 5)
    before = generator.get_state()

    assert Dropout(0.0, generator)(values) is values
    assert torch.equal(generator.get_state(), before)


def test_the_same_generator_drops_the_same_and_then_something_else() -> None:
    """Randomness comes from it alone."""
    one, other = (Dropout(0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    values = torch.ones(7, 9)
    first, second, again = one(values), one(values), other(values)

    assert torch.equal(first, again)
    assert not torch.equal(first, second)


def test_gradients_pass_where_values_do() -> None:
    """As large as the factor, and none where something was dropped."""
    values = torch.ones(50, requires_grad=True)

    dropped = Dropout(0.5, torch.Generator().manual_seed(1))(values)
    (gradient,) = torch.autograd.grad(dropped.sum(), values)

    assert torch.equal(gradient, dropped.detach())
    assert set(gradient.tolist()) == {0.0, 2.0}
