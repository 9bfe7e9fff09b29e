"""Adagrad on some rows of a table at a time: only the rows that a batch touched are read and written.

torch.optim has no such optimizer that takes a gradient by rows without a sparse tensor around it, and its import takes
2 s.
"""

import torch
from torch import Tensor
from torch.nn import functional

_LEAST = 1e-6  # below the root, as in GRU4Rec's own program


class RowAdagrad:
    """Adapts a step size per element of a table.

    Source: Duchi et al. 2011, "Adaptive subgradient methods for online learning and stochastic optimization".
    """

    def __init__(self, table: Tensor, learning_rates: Tensor, *, normalised: bool = False) -> None:
        """Adapt a table in place.

        Args:
            table: float32 (n_rows, ...).
            learning_rates: float32 (n_rows,).
            normalised: bring rows that were moved back to length 1.
        """
        self._table = table
        self._rates = learning_rates.view(-1, *[1] * (table.dim() - 1))
        self._squares = torch.zeros_like(table)
        self._normalised = normalised

    def rows(self, rows: Tensor) -> Tensor:
        """Copy rows, int64 (n,): float32 (n, ...)."""
        return self._table.index_select(0, rows)

    def step(self, rows: Tensor, gradient: Tensor) -> None:
        """Move rows against their gradient.

        Args:
            rows: int64 (n,), each once.
            gradient: float32 (n, ...).
        """
        squares = self._squares.index_select(0, rows).addcmul_(gradient, gradient)
        self._squares.index_copy_(0, rows, squares)
        move = squares.add_(_LEAST).rsqrt_().mul_(gradient).mul_(self._rates.index_select(0, rows))
        moved = self._table.index_select(0, rows).sub_(move)
        self._table.index_copy_(0, rows, functional.normalize(moved) if self._normalised else moved)

    def step_all(self, gradient: Tensor) -> None:
        """Move every row against its gradient, float32 (n_rows, ...)."""
        self._squares.addcmul_(gradient, gradient)
        self._table -= (self._squares + _LEAST).rsqrt_().mul_(gradient).mul_(self._rates)
