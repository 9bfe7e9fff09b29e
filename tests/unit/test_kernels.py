"""The compiled loops of a step, beside the same as tensor operations."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training.learning.kernels import softmax_gradients
from training.learning.optimizer import RowAdagrad, bits_or_numbers

N_ROWS, N_CANDIDATES, N_COLUMNS = 37, 203, 256


def some_scores(spread: float, precision: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Scores, biases and targets."""
    generator = torch.Generator().manual_seed(1)
    scores = (torch.randn(N_ROWS + 3, N_COLUMNS, generator=generator) * spread).to(precision)
    bias = torch.randn(N_CANDIDATES, generator=generator)
    return scores, bias, torch.randint(N_CANDIDATES, (N_ROWS,), generator=generator)


@pytest.mark.parametrize("spread", [0.0, 1.0, 14.0, 60.0])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_gradients_are_those_of_torchs_own_cross_entropy(precision: torch.dtype, spread: float) -> None:
    """In float64; also where one score is far ahead. In bfloat16 the gradients are rounded, the loss is not."""
    scores, bias, target = some_scores(spread, precision)
    exact = (scores[:N_ROWS, :N_CANDIDATES].double() + bias.double()).requires_grad_()
    expected_loss = functional.cross_entropy(exact, target, reduction="sum")
    (expected,) = torch.autograd.grad(expected_loss / N_ROWS, exact)
    of_bias = np.ones(N_CANDIDATES, dtype=np.float32)

    loss = softmax_gradients(
        bits_or_numbers(scores), bias.numpy(), target.numpy(), np.float32(1 / N_ROWS), np.empty_like(of_bias), of_bias
    )

    found = scores[:N_ROWS, :N_CANDIDATES].double()
    assert loss == pytest.approx(expected_loss.item(), rel=1e-6)
    torch.testing.assert_close(torch.from_numpy(of_bias).double() - 1, expected.sum(0), rtol=1e-4, atol=1e-5)
    within = {"rtol": 1e-5, "atol": 1e-7} if precision == torch.float32 else {"rtol": 2**-8, "atol": 1e-7}
    torch.testing.assert_close(found, expected, **within)


def test_columns_that_are_no_candidates_become_zero_and_rows_without_a_target_stay() -> None:
    """What only rounds up a shape adds nothing."""
    scores, bias, target = some_scores(1.0, torch.float32)
    before = scores.clone()

    softmax_gradients(
        scores.numpy(), bias.numpy(), target.numpy(), np.float32(1), *np.zeros((2, N_CANDIDATES), dtype=np.float32)
    )

    assert not scores[:N_ROWS, N_CANDIDATES:].any()
    assert torch.equal(scores[N_ROWS:], before[N_ROWS:])


@pytest.mark.parametrize("normalised", [False, True])
@pytest.mark.parametrize("shape", [(20,), (20, 128), (20, 5)])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_compiled_adagrad_is_the_one_of_tensor_operations(
    precision: torch.dtype, shape: tuple[int, ...], normalised: bool
) -> None:
    """The same rows move as far, several times in a row, and the others stay. A GPU takes the other."""
    if normalised and len(shape) == 1:
        pytest.skip("biases have no direction")
    table = torch.randn(shape)
    other_table = table.clone()
    compiled, plain = (RowAdagrad(each, 0.3, normalised=normalised) for each in (table, other_table))
    plain._is_compiled = False

    for _ in range(3):
        rows = torch.randperm(20)[:7].sort()[0]
        gradient = torch.randn(7, *shape[1:]).to(precision)
        compiled.step(rows, gradient)
        plain.step(rows, gradient.float())

    torch.testing.assert_close(table, other_table, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(compiled.squares, plain.squares)


def test_no_rows_are_no_step() -> None:
    """A thread's range of items need not hold any that was clicked."""
    table = torch.ones(3, 4)

    RowAdagrad(table, 1.0).step(torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))

    assert torch.equal(table, torch.ones(3, 4))
