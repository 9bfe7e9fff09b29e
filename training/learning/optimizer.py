"""The optimizer of a training: Adagrad, on whole tables and on some rows of large ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nextclick.network import Network
from training.learning.kernels import adagrad_rows


class Optimizers:
    """What moves a network's weights, table by table.

    Attributes:
        cell: by each parameter that every step moves as a whole.
        item_rows: of the vectors that go in.
        output_rows: of the vectors that are compared; the same where they are tied.
        bias_rows: of the items' biases.
    """

    def __init__(self, network: Network, rate: float, squares: Mapping[str, Tensor] | None = None) -> None:
        """Begin with no gradients, or with those so far.

        Args:
            network: is changed in place, on the device where it is.
            rate: the learning rate.
            squares: what `squares` gave of the network that this one goes on from: the steps are as small as they had
                become, and those of what is new are large.
        """
        config = network.config

        def adagrad(weights: Tensor, name: str, *, normalised: bool = False) -> RowAdagrad:
            return RowAdagrad(weights.detach(), rate, None if squares is None else squares[name], normalised=normalised)

        names = [
            name
            for name, _ in network.named_parameters()
            if name.split(".")[0] in ("cell", "event_embedding", "gap_embedding", "skip")
        ]
        parameters = dict(network.named_parameters())
        self.cell = {parameters[name]: adagrad(parameters[name], name) for name in names}
        self.bias_rows = adagrad(network.item_bias, "item_bias")
        item_vectors, output_vectors = (table.weight for table in (network.item_embedding, network.output_embedding))
        self.item_rows = adagrad(item_vectors, "item_embedding.weight", normalised=config.normalised)
        self.output_rows = (
            self.item_rows
            if config.tied
            else adagrad(output_vectors, "output_embedding.weight", normalised=config.normalised)
        )
        self._by_name = dict(zip(names, self.cell.values(), strict=True)) | {
            "item_bias": self.bias_rows,
            "item_embedding.weight": self.item_rows,
            "output_embedding.weight": self.output_rows,
        }

    def squares(self) -> dict[str, Tensor]:
        """Give the sums of squared gradients, by the names of the network's weights, on the CPU."""
        return {name: optimizer.squares.detach().cpu() for name, optimizer in self._by_name.items()}


class RowAdagrad:
    """Adagrad on some rows of a table at a time: a step size per element, adapted by the gradients so far.

    Attributes:
        squares: float32 (n_rows, ...), sums of the squared gradients.

    torch.optim has no such optimizer that takes a gradient by rows without a sparse tensor around it, and its import
    takes 2 s.

    Source: Duchi et al. 2011, "Adaptive subgradient methods for online learning and stochastic optimization".
    """

    _LEAST = 1e-6  # below the root, as in GRU4Rec's own program

    def __init__(self, table: Tensor, rate: float, squares: Tensor | None = None, *, normalised: bool = False) -> None:
        """Adapt a table in place.

        Args:
            table: float32 (n_rows, ...).
            rate: the learning rate.
            squares: float32 (n_rows, ...), sums of the squared gradients so far; copied. None: there were none.
            normalised: bring rows that were moved back to length 1.
        """
        self._table = table
        self._rate = rate
        self.squares = torch.zeros_like(table)
        if squares is not None:
            self.squares.copy_(squares)
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
        squares = self.squares.index_select(0, rows).addcmul_(gradient, gradient)
        self.squares.index_copy_(0, rows, squares)
        move = squares.add_(self._LEAST).rsqrt_().mul_(gradient).mul_(self._rate)
        moved = self._table.index_select(0, rows).sub_(move)
        self._table.index_copy_(0, rows, functional.normalize(moved) if self._normalised else moved)

    def _step_compiled(self, rows: Tensor, gradient: Tensor) -> None:
        """Do the same in one pass over memory: as tensor operations it is ten."""
        table, squares = (tensor.view(len(tensor), -1).numpy() for tensor in (self._table, self.squares))
        slopes = bits_or_numbers(gradient.reshape(len(rows), table.shape[1]))
        least, rate = np.float32(self._LEAST), np.float32(self._rate)
        adagrad_rows(table, squares, rate, rows.numpy(), slopes, least, self._normalised)

    def step_all(self, gradient: Tensor) -> None:
        """Move every row against its gradient, float32 (n_rows, ...)."""
        self.squares.addcmul_(gradient, gradient)
        self._table -= (self.squares + self._LEAST).rsqrt_().mul_(gradient).mul_(self._rate)


def bits_or_numbers(tensor: Tensor) -> npt.NDArray[Any]:
    """Give a tensor's memory as the compiled loops take it: bfloat16, which numpy does not have, as int16."""
    return tensor.view(torch.int16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()
