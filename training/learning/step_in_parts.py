"""A step of learning on a CPU, in as many parts as there are threads: the cross-entropy of a sample, and its gradients.

Each thread takes a part of the batch's windows from their inputs to the gradients, then a part of the items, whose rows
it moves. Threads wait for each other three times in a step. Left to torch, every operation is cut among the threads and
waited for, a hundred times in a step, and where another program takes a core for a while, all others wait for it.

The score matrix is the largest thing of a step, and its memory is used again from step to step: new memory costs more
than what is computed in it. It is multiplied three times and passed over once (`training.learning.kernels`).
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from threading import Barrier
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.learning.kernels import softmax_gradients
from training.learning.losses import Candidates, CandidateSampler
from training.learning.optimizer import Optimizers, bits_or_numbers
from training.learning.sequences import Ints

_LEAST_WINDOWS = 16  # of a part: products of fewer rows pay less than another thread brings
# Shapes of products are rounded up, so that few different ones come: oneDNN prepares each one for milliseconds.
_ROUND_ROWS, _ROUND_COLUMNS = 32, 128


class Batch(NamedTuple):
    """A batch of windows, looked up.

    Attributes:
        rows: int64 (batch, steps), of the clicks that go in; beyond a window's end its last one is repeated.
        is_real: bool (batch, steps): not beyond the end.
        length: int64 (batch,), clicks of each window that go in.
        targets: int64 (n_targets,), the items that were clicked next, window by window.
        clicked: int64 (n_clicked,), the items that go in, rising, each once.
        places: int64 (batch, steps), where each click's item stands among `clicked`.
        before: float32 (batch, state_size), the states with which the windows begin.
    """

    rows: Tensor
    is_real: Tensor
    length: Ints
    targets: Tensor
    clicked: Tensor
    places: Tensor
    before: Tensor


class Forward(Protocol):
    """Runs the network over a part's padded rows: gives queries (batch, steps, hidden_size), and the states after."""

    def __call__(self, part: int, rows: Tensor, item_vectors: Tensor, before: Tensor, /) -> tuple[Tensor, Tensor]: ...


class _Part(NamedTuple):
    """A part of a batch.

    Attributes:
        number: of the part.
        windows: of the batch.
        n_steps: of the part's longest window.
        targets: of the batch.
        scored: rows of the score matrix: as many as there are targets, rounded up.
    """

    number: int
    windows: slice
    n_steps: int
    targets: slice
    scored: slice


class _Head(NamedTuple):
    """What queries are compared with, and room for what comes of it. Rows and columns are rounded up, with zeros.

    Attributes:
        candidates: of the batch.
        vectors: (n_columns, hidden_size), of the candidates.
        bias: float32 (n_candidates,), of the candidates, with their correction.
        queries: (n_rows, hidden_size).
        scores: (n_rows, n_columns), then their gradients.
    """

    candidates: Candidates
    vectors: Tensor
    bias: Tensor
    queries: Tensor
    scores: Tensor


class _Gradients(NamedTuple):
    """What comes of a part.

    Attributes:
        loss: the sum over its targets.
        of_bias: float32 (n_candidates,).
        of_leaves: of each parameter of the cell, and of the vectors of the clicked items.
    """

    loss: float
    of_bias: Tensor
    of_leaves: tuple[Tensor, ...]


class StepInParts:
    """Does steps, and keeps threads and memory from one to the next."""

    def __init__(
        self,
        forward: Forward,
        sampler: CandidateSampler,
        optimizers: Optimizers,
        n_threads: int,
        *,
        in_bfloat16: bool,
    ) -> None:
        """Prepare.

        Args:
            forward: runs the network; called from several threads at once.
            sampler: draws the candidates.
            optimizers: of the network.
            n_threads: parts of a step.
            in_bfloat16: the products with the score matrix are computed in it, and sum in float32.
        """
        self._forward, self._sampler, self._optimizers = forward, sampler, optimizers
        self._team = _Team(n_threads)
        precision = torch.bfloat16 if in_bfloat16 else torch.float32
        self._scores, self._vectors, self._of_vectors, self._queries = (_Room(precision) for _ in range(4))

    def step(self, batch: Batch) -> tuple[float, Tensor]:
        """Learn from a batch.

        Returns:
            The loss before the change, and the states after the last step, float32 (batch, state_size).
        """
        parts = _parts(batch.length, self._team.n_threads)
        clicked_vectors = self._optimizers.item_rows.rows(batch.clicked).requires_grad_()
        head, *queried = self._team.run(
            partial(self._draw, batch.targets, parts[-1].scored.stop),
            *(partial(self._query, part, batch, clicked_vectors) for part in parts),
        )
        leaves = [*self._optimizers.cell, clicked_vectors]
        found: list[_Gradients] = self._team.run(
            *(
                partial(self._back, part, queries, head, leaves)
                for part, (queries, _) in zip(parts, queried, strict=True)
            )
        )
        # In the order of the parts, whichever was ready first: the same seed gives the same weights.
        of_bias = torch.stack([each.of_bias for each in found]).sum(0)
        *of_cell, of_clicked = (
            torch.stack(of_leaf).sum(0) for of_leaf in zip(*(each.of_leaves for each in found), strict=True)
        )
        clicked = (batch.clicked, of_clicked)
        self._team.run(
            partial(self._move_cell, of_cell),
            *(partial(self._move_items, items, head, clicked, of_bias) for items in self._item_ranges(head)),
        )
        after = torch.cat([each for _, each in queried])
        return sum(each.loss for each in found) / len(batch.targets), after

    def _draw(self, targets: Tensor, n_rows: int) -> _Head:
        """Draw the candidates, look up their rows, and make room."""
        candidates = self._sampler.candidates(targets)
        n_candidates, width = len(candidates.item_index), self._optimizers.output_rows.width
        n_columns = _rounded_up(n_candidates, _ROUND_COLUMNS)
        vectors = self._vectors.of(n_columns, width)
        self._optimizers.output_rows.copy_rows(candidates.item_index, vectors[:n_candidates])
        vectors[n_candidates:] = 0.0
        bias = self._optimizers.bias_rows.rows(candidates.item_index) + candidates.correction
        return _Head(candidates, vectors, bias, self._queries.of(n_rows, width), self._scores.of(n_rows, n_columns))

    def _query(self, part: _Part, batch: Batch, clicked_vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Ask the network for a part's queries, (n_targets, hidden_size), and the states after the last step."""
        of_part = part.windows, slice(part.n_steps)
        item_vectors = functional.embedding(batch.places[of_part], clicked_vectors)
        queries, after = self._forward(part.number, batch.rows[of_part], item_vectors, batch.before[part.windows])
        return queries[batch.is_real[of_part]], after

    def _back(self, part: _Part, queries: Tensor, head: _Head, leaves: Sequence[Tensor]) -> _Gradients:
        """Score a part's queries, and go all the way back."""
        own_queries, scores, n_targets = head.queries[part.scored], head.scores[part.scored], len(queries)
        own_queries[:n_targets] = queries.detach()
        own_queries[n_targets:] = 0.0  # so that what stands in these rows' scores adds nothing to the items' gradients
        torch.mm(own_queries, head.vectors.T, out=scores)
        bias, target = head.bias.numpy(), head.candidates.target[part.targets].numpy()
        scale = np.float32(1.0 / len(head.candidates.target))
        of_bias = np.zeros_like(bias)
        loss = softmax_gradients(bits_or_numbers(scores), bias, target, scale, np.empty_like(bias), of_bias)
        of_queries = (scores @ head.vectors)[:n_targets].float()
        of_leaves = torch.autograd.grad(queries, leaves, of_queries)
        return _Gradients(loss, torch.from_numpy(of_bias), of_leaves)

    def _item_ranges(self, head: _Head) -> list[slice]:
        """Cut the candidates into a range for each thread."""
        n_columns = len(head.vectors)
        length = _rounded_up(-(-n_columns // self._team.n_threads), _ROUND_COLUMNS)
        return [slice(first, min(first + length, n_columns)) for first in range(0, n_columns, length)]

    def _move_cell(self, gradients: Sequence[Tensor]) -> None:
        for optimizer, gradient in zip(self._optimizers.cell.values(), gradients, strict=True):
            optimizer.step_all(gradient)

    def _move_items(self, columns: slice, head: _Head, clicked: tuple[Tensor, Tensor], of_bias: Tensor) -> None:
        """Move the rows of a range of candidates, and those of the clicked items in the same range of all items."""
        items, (clicked_items, of_clicked) = head.candidates.item_index, clicked
        n_columns, width = head.vectors.shape
        # Two ranges never share an item: no two threads move the same row.
        first, last = (
            int(torch.searchsorted(clicked_items, items[place])) if 0 < place < len(items) else end
            for place, end in ((columns.start, 0), (columns.stop, len(clicked_items)))
        )
        self._optimizers.item_rows.step(clicked_items[first:last], of_clicked[first:last])
        of_vectors = self._of_vectors.of(n_columns, width)[columns]
        torch.mm(head.scores[:, columns].T, head.queries, out=of_vectors)
        # An item that was clicked and is a candidate moves twice.
        items, of_bias = items[columns], of_bias[columns]
        self._optimizers.output_rows.step(items, of_vectors[: len(items)])
        self._optimizers.bias_rows.step(items, of_bias)


class _Team:
    """Threads that compute, each alone: within them torch starts no others."""

    def __init__(self, n_threads: int) -> None:
        self.n_threads = n_threads
        self._pool = ThreadPoolExecutor(n_threads, "learn") if n_threads > 1 else None
        if self._pool is not None:
            everyone = Barrier(n_threads + 1)
            try:
                for _ in range(n_threads):
                    self._pool.submit(_compute_alone, everyone)
            except RuntimeError:  # the system allows no more threads: those that began must not wait for ever
                everyone.abort()
                self._pool.shutdown(wait=False)
                raise
            everyone.wait()
            torch.set_num_threads(n_threads)  # of this thread, and of others that begin

    def run(self, *tasks: Callable[[], Any]) -> list[Any]:
        """Run tasks at the same time, and wait for all; gives what they give."""
        if self._pool is None:
            return [task() for task in tasks]
        running = [self._pool.submit(task) for task in tasks]
        wait(running)
        return [each.result() for each in running]


def _compute_alone(everyone: Barrier) -> None:
    torch.get_num_threads()  # a thread takes the number of all when torch first asks for it: not later than here
    torch.set_num_threads(1)
    everyone.wait()


class _Room:
    """Memory for matrices that are never there at the same time."""

    def __init__(self, precision: torch.dtype) -> None:
        self._numbers = torch.zeros(0, dtype=precision)

    def of(self, n_rows: int, n_columns: int) -> Tensor:
        """Give a matrix, with whatever numbers are in it; none of them is NaN, if none was written."""
        if len(self._numbers) < n_rows * n_columns:
            self._numbers = torch.zeros(n_rows * n_columns, dtype=self._numbers.dtype)
        return self._numbers[: n_rows * n_columns].view(n_rows, n_columns)


def _parts(length: Ints, n_threads: int) -> list[_Part]:
    """Cut a batch into parts with about as many targets each."""
    before = np.concatenate([[0], np.cumsum(length)])
    n_parts = min(n_threads, max(1, len(length) // _LEAST_WINDOWS))
    borders = np.unique(np.searchsorted(before, before[-1] * np.arange(n_parts + 1) / n_parts))
    parts, n_scored = [], 0
    for number, (first, end) in enumerate(zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)):
        targets = slice(int(before[first]), int(before[end]))
        scored = slice(n_scored, n_scored + _rounded_up(targets.stop - targets.start, _ROUND_ROWS))
        parts.append(_Part(number, slice(first, end), int(length[first:end].max()), targets, scored))
        n_scored = scored.stop
    return parts


def _rounded_up(number: int, to: int) -> int:
    return -(-number // to) * to
