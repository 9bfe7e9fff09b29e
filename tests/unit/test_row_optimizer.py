"""Adagrad by rows: the steps as computed by hand, and nothing outside the rows."""

import pytest
import torch

from training.learning.step import RowAdagrad


def test_steps_shrink_with_the_squares_of_the_gradients_so_far() -> None:
    """Element by element: first the rate itself, then the rate over the root of 2, each with its row's rate."""
    table = torch.zeros(3, 2)
    adagrad = RowAdagrad(table, torch.tensor([1.0, 0.1, 1.0]))
    gradient = torch.tensor([[3.0, -2.0], [5.0, 0.0]])

    adagrad.step(torch.tensor([0, 1]), gradient)
    first = table.clone()
    adagrad.step(torch.tensor([0]), gradient[:1])

    torch.testing.assert_close(first, torch.tensor([[-1.0, 1.0], [-0.1, 0.0], [0.0, 0.0]]))
    torch.testing.assert_close(table, torch.tensor([[-1 - 0.5**0.5, 1 + 0.5**0.5], [-0.1, 0.0], [0.0, 0.0]]))


def test_all_rows_at_once_are_the_same_as_some() -> None:
    """For a table of any number of dimensions; also of one."""
    for shape in ((4,), (4, 3)):
        gradient, some, every = torch.randn(shape), torch.zeros(shape), torch.zeros(shape)
        one, other = RowAdagrad(some, torch.ones(4)), RowAdagrad(every, torch.ones(4))
        for _ in range(2):
            one.step(torch.arange(4), gradient)
            other.step_all(gradient)

        torch.testing.assert_close(some, every)
        assert some.all()


def test_rows_that_moved_are_brought_back_to_length_1_and_others_stay() -> None:
    """Where only directions are compared."""
    table = torch.full((2, 2), 3.0)

    RowAdagrad(table, torch.ones(2), normalised=True).step(torch.tensor([1]), torch.tensor([[1.0, -1.0]]))

    assert table[0].tolist() == [3.0, 3.0]
    assert table[1].tolist() == pytest.approx([2 / 20**0.5, 4 / 20**0.5])


def test_rows_are_a_copy() -> None:
    """What is computed with them does not move the table."""
    table = torch.zeros(3, 2)

    RowAdagrad(table, torch.ones(3)).rows(torch.tensor([1])).fill_(7.0)

    assert not table.any()
