"""The optimizer of a training: Adagrad, on whole tables and on some rows of large ones."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nextclick.network import Network
from training.learning.kernels import adagrad_rows

# Item rows take larger steps than the cell, because Adagrad's steps shrink as they go. What was learnt before takes
# smaller ones, for Adagrad has forgotten how far its steps had shrunk. Biases do not: they follow what is popular.
_CELL_RATE = 1.0
_KNOWN_RATE = 0.2


class Optimizers:
    """What moves a network's weights, table by table.

    Attributes:
        cell: by each parameter that every step moves as a whole.
        item_rows: of the vectors that go in.
        output_rows: of the vectors that are compared; the same where they are tied.
        bias_rows: of the items' biases.
    """

    def __init__(self, network: Network, n_known: int, rate: float) -> None:
        """Begin with no gradients.

        Args:
            network: is changed in place, on the device where it is.
            n_known: items, the first ones, that were learnt in an earlier training.
            rate: the learning rate.
        """
        device, config = network.item_bias.device, network.config
        cell_rate = rate * _CELL_RATE * (_KNOWN_RATE if n_known else 1.0)
        self.cell = {
            parameter: RowAdagrad(parameter.detach(), torch.full((len(parameter),), cell_rate, device=device))
            for name, parameter in network.named_parameters()
            if name.split(".")[0] in ("cell", "event_embedding", "gap_embedding", "skip")
        }
        item_rates = torch.full((config.n_items,), rate, device=device)
        self.bias_rows = RowAdagrad(network.item_bias.detach(), item_rates.clone())
        item_rates[:n_known] *= _KNOWN_RATE
        item_vectors, output_vectors = (
            embedding.weight.detach() for embedding in (network.item_embedding, network.output_embedding)
        )
        self.item_rows = RowAdagrad(item_vectors, item_rates, normalised=config.normalised)
        self.output_rows = (
            self.item_rows if config.tied else RowAdagrad(output_vectors, item_rates, normalised=config.normalised)
        )


class RowAdagrad:
    """Adagrad on some rows of a table at a time: a step size per element, adapted by the gradients so far.

    torch.optim has no such optimizer that takes a gradient by rows without a sparse tensor around it, and its import
    takes 2 s.

    Source: Duchi et al. 2011, "Adaptive subgradient methods for online learning and stochastic optimization".
    """

    _LEAST = 1e-6  # below the root, as in GRU4Rec's own program

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
        self._is_compiled = table.device.type == "cpu"

    def rows(self, rows: Tensor) -> Tensor:
        """Copy rows, int64 (n,): float32 (n, ...)."""
        return self._table.index_select(0, rows)

    @property
    def width(self) -> int:
        """Numbers in a row of a matrix."""
        return self._table.shape[1]

    def copy_rows(self, rows: Tensor, into: Tensor) -> None:
        """Copy rows, int64 (n,), into a matrix of (n, width), which may be of another precision."""
        if into.dtype == self._table.dtype:
            torch.index_select(self._table, 0, rows, out=into)
        else:
            into.copy_(self.rows(rows))

    def step(self, rows: Tensor, gradient: Tensor) -> None:
        """Move rows against their gradient.

        Args:
            rows: int64 (n,), each once.
            gradient: float32 or bfloat16 (n, ...).
        """
        if self._is_compiled:
            self._step_compiled(rows, gradient)
        else:
            self.step_alike(rows, gradient)

    def step_alike(self, rows: Tensor, gradient: Tensor) -> None:
        """Do the same, as tensor operations, for rows that can come several times, with the same gradient each time.

        Such a row moves once.
        """
        squares = self._squares.index_select(0, rows).addcmul_(gradient, gradient)
        self._squares.index_copy_(0, rows, squares)
        move = squares.add_(self._LEAST).rsqrt_().mul_(gradient).mul_(self._rates.index_select(0, rows))
        moved = self._table.index_select(0, rows).sub_(move)
        self._table.index_copy_(0, rows, functional.normalize(moved) if self._normalised else moved)

    def _step_compiled(self, rows: Tensor, gradient: Tensor) -> None:
        """Do the same in one pass over memory: as tensor operations it is ten."""
        table, squares = (tensor.view(len(tensor), -1).numpy() for tensor in (self._table, self._squares))
        slopes = bits_or_numbers(gradient.reshape(len(rows), table.shape[1]))
        least, rates = np.float32(self._LEAST), self._rates.view(-1).numpy()
        adagrad_rows(table, squares, rates, rows.numpy(), slopes, least, self._normalised)

    def step_all(self, gradient: Tensor) -> None:
        """Move every row against its gradient, float32 (n_rows, ...)."""
        self._squares.addcmul_(gradient, gradient)
        self._table -= (self._squares + self._LEAST).rsqrt_().mul_(gradient).mul_(self._rates)


def bits_or_numbers(tensor: Tensor) -> npt.NDArray[Any]:
    """Give a tensor's memory as the compiled loops take it: bfloat16, which numpy does not have, as int16."""
    return tensor.view(torch.int16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
