"""A step of learning on a GPU: of fixed shape, so that one CUDA graph holds all of it, and queued ahead of the GPU.

A step is 240 small operations on a GPU. To start them one by one takes Python ten times as long as they take. A graph
starts all of them together, but it can hold only what has the same shape in each batch, and nothing that waits for an
answer of the GPU. Therefore:

1. A batch is padded with windows and steps that have no weight in the loss.
2. An item that comes several times is not searched for and left out: it stays, but one of its places stands for all.
   As a candidate only that one has a share of the softmax; where rows are moved, all move alike, to the same numbers.
3. Losses are added up on the GPU, and read when somebody asks.

A batch is sent as four numbers per window. Python writes them into memory from which the GPU copies by itself, and goes
on to the next batch; it is never more than `_AHEAD` batches in front, so that a training can be ended soon.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from training.learning.losses import CandidateSampler, weighted_cross_entropy
from training.learning.optimizer import Optimizers
from training.learning.sequences import Ints, Windows
from training.learning.step_in_parts import Forward

_AHEAD = 16  # batches: some 10 ms of work, while preparing one takes .2 ms


class Frame(NamedTuple):
    """What stays from step to step, beside the weights.

    Attributes:
        item_index: int64 (n_clicks,), the item of each row.
        states: float32 (n_states, state_size), with which windows can begin; nobody reads the last one.
        generators: that a step draws from.
        n_windows: in a batch, at most.
        n_steps: of a window, at most.
        precision: of the products with the score matrix.
    """

    item_index: Tensor
    states: Tensor
    generators: Sequence[torch.Generator]
    n_windows: int
    n_steps: int
    precision: torch.dtype


class _Candidates(NamedTuple):
    """The items that a batch's clicks are told apart from.

    Attributes:
        item_index: int64 (n_candidates,); items can come several times.
        stands: int64 (n_candidates,), the place that stands for all places of the same item.
        correction: float32 (n_candidates,), added to the scores: minus infinity where another place stands for this.
        target: int64 (n_targets,), where each target stands.
    """

    item_index: Tensor
    stands: Tensor
    correction: Tensor
    target: Tensor


class StepOnGpu:
    """Does steps. On a CPU it computes the same, operation by operation, for tests."""

    def __init__(self, forward: Forward, sampler: CandidateSampler, optimizers: Optimizers, frame: Frame) -> None:
        """Prepare.

        Args:
            forward: runs the network.
            sampler: draws the candidates.
            optimizers: of the network.
            frame: the rest.
        """
        self._forward, self._sampler, self._optimizers, self._frame = forward, sampler, optimizers, frame
        self._device = frame.item_index.device
        self._inbox = _Inbox(frame.n_windows, self._device)
        self._place_of_item = torch.zeros(sampler.n_items, dtype=torch.int64, device=self._device)
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=self._device)
        self._pool = torch.cuda.graph_pool_handle() if self._device.type == "cuda" else None
        self._graphs: dict[int, torch.cuda.CUDAGraph | None] = {}  # by steps; None: was computed once, without a graph

    def step(self, windows: Windows, before: Ints, kept: Ints) -> None:
        """Queue a batch. Waits only for room in the queue.

        Args:
            windows: of the batch, one at least.
            before: int64 (batch,), rows of the states with which the windows begin.
            kept: int64 (batch,), rows of the states that take what comes after the last step. That is right for windows
                of `n_steps`; for others it must be the last row.
        """
        length = windows.end - windows.first - 1
        self._inbox.put(windows.first, length, before, kept, spare=len(self._frame.states) - 1)
        n_steps = _rounded_up(int(length.max()), self._frame.n_steps)
        if self._device.type != "cuda":
            self._compute(n_steps)
        elif n_steps not in self._graphs:
            self._graphs[n_steps] = None
            self._compute(n_steps)  # libraries choose their kernels for these shapes, which no graph may hold
        else:
            graph = self._graphs[n_steps] or self._captured(n_steps)
            graph.replay()

    def take_loss_sum(self) -> float:
        """Give the sum of the losses since it was asked for last, one of each target. Waits for all of the queue."""
        loss_sum = self._loss_sum.item()
        self._loss_sum.zero_()
        return loss_sum

    def _captured(self, n_steps: int) -> torch.cuda.CUDAGraph:
        """Capture a step, without doing it."""
        graph = torch.cuda.CUDAGraph()
        for generator in self._frame.generators:
            graph.register_generator_state(generator)
        # Graphs run one after another and leave nothing behind in their own memory: they share it.
        with torch.cuda.graph(graph, pool=self._pool):
            self._compute(n_steps)
        self._graphs[n_steps] = graph
        return graph

    def _compute(self, n_steps: int) -> None:
        """Learn from the batch in the inbox; all shapes follow from `n_steps`."""
        frame, optimizers = self._frame, self._optimizers
        first, length, before, kept = self._inbox.numbers.unbind()
        steps, last = torch.arange(n_steps, device=self._device), (length - 1).clamp(min=0)
        rows = first[:, None] + torch.minimum(steps, last[:, None])  # (n_windows, n_steps)
        is_real = (steps < length[:, None]).flatten()
        clicked, targets = (frame.item_index[each].flatten() for each in (rows, rows + 1))
        clicked_vectors = optimizers.item_rows.rows(clicked).requires_grad_()
        queries, after = self._forward(
            0, rows, clicked_vectors.view(*rows.shape, -1), frame.states.index_select(0, before)
        )
        n_targets = length.sum()
        candidates = self._candidates(targets, n_targets)
        of_queries, of_vectors, of_bias = self._head(queries.detach().flatten(0, 1), candidates, is_real, n_targets)
        leaves = [*optimizers.cell, clicked_vectors]
        *of_cell, of_clicked = torch.autograd.grad(queries, leaves, of_queries.view_as(queries))
        for optimizer, gradient in zip(optimizers.cell.values(), of_cell, strict=True):
            optimizer.step_all(gradient)
        # An item that was clicked and is a candidate moves twice.
        stands, _ = self._stands(clicked)
        optimizers.item_rows.step_alike(clicked, torch.zeros_like(of_clicked).index_add_(0, stands, of_clicked)[stands])
        optimizers.output_rows.step_alike(candidates.item_index, of_vectors[candidates.stands])
        optimizers.bias_rows.step_alike(candidates.item_index, of_bias[candidates.stands])
        frame.states.index_copy_(0, kept, after)

    def _candidates(self, targets: Tensor, n_targets: Tensor) -> _Candidates:
        """Draw the candidates. What is padding in `targets` are targets of the batch again, which change nothing."""
        items = self._sampler.all_items
        if items is not None:
            return _Candidates(items, items, torch.zeros_like(items, dtype=torch.float32), targets)
        items = torch.cat([targets, self._sampler.drawn()])
        stands, is_one = self._stands(items)
        correction = self._sampler.correction(items, n_targets).masked_fill(~is_one, -torch.inf)
        return _Candidates(items, stands, correction, stands[: len(targets)])

    def _stands(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Choose one place of each item.

        Args:
            items: int64 (n,).

        Returns:
            int64 (n,), the chosen place of each place's item, and bool (n,): this is the chosen one.
        """
        places = torch.arange(len(items), device=self._device)
        self._place_of_item.scatter_(0, items, places)  # of several places any one
        stands = self._place_of_item[items]
        return stands, stands == places

    def _head(
        self, queries: Tensor, candidates: _Candidates, is_real: Tensor, n_targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Score the candidates, and add to the loss.

        Args:
            queries: float32 (n_targets, hidden_size).
            candidates: of the batch.
            is_real: bool (n_targets,): no padding.
            n_targets: int64 (), those that are real.

        Returns:
            The gradients of the mean loss: float32 (n_targets, hidden_size) by the queries, (n_candidates, hidden_size)
            by the candidates' vectors, and (n_candidates,) by their biases.
        """
        precision = self._frame.precision
        bias = self._optimizers.bias_rows.rows(candidates.item_index) + candidates.correction
        vectors = self._optimizers.output_rows.rows(candidates.item_index).to(precision)
        queries = queries.to(precision)
        logits = queries @ vectors.T + bias  # float32 (n_targets, n_candidates)
        losses, slopes = weighted_cross_entropy(logits, candidates.target, is_real / n_targets)
        self._loss_sum += losses.where(is_real, 0.0).sum(dtype=torch.float64)
        gradient = slopes.to(precision)
        return (gradient @ vectors).float(), (gradient.T @ queries).float(), slopes.sum(0)


class _Inbox:
    """What the GPU is told of a batch, from batch to batch in the same place of its memory.

    Attributes:
        numbers: int64 (4, n_windows): of each window its first row, its length, and the rows of two states.
    """

    def __init__(self, n_windows: int, device: torch.device) -> None:
        is_gpu = device.type == "cuda"
        self.numbers = torch.zeros(4, n_windows, dtype=torch.int64, device=device)
        # Pinned memory is what a GPU copies from by itself.
        self._sent = torch.zeros(_AHEAD, 4, n_windows, dtype=torch.int64, pin_memory=is_gpu)
        self._writable = self._sent.numpy()
        # A thread that waits for an event sleeps, and another one may compute.
        self._copied = [
            torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            for _ in range(_AHEAD if is_gpu else 0)
        ]
        self._turn = 0

    def put(self, first: Ints, length: Ints, before: Ints, kept: Ints, *, spare: int) -> None:
        """Send a batch's numbers, int64 (batch,) each; the rest is padding, which keeps its state in `spare`."""
        if self._copied:
            self._copied[self._turn].synchronize()
        n = len(first)
        for row, numbers, padding in zip(
            self._writable[self._turn],
            (first, length, before, kept),
            (first[0], 0, before[0], spare),
            strict=True,
        ):
            row[:n], row[n:] = numbers, padding
        self.numbers.copy_(self._sent[self._turn], non_blocking=True)
        if self._copied:
            self._copied[self._turn].record()
        self._turn = (self._turn + 1) % _AHEAD


def _rounded_up(n_steps: int, most: int) -> int:
    """Round up to three binary digits, for fewer graphs: at most a fourth is padding. Never beyond `most`."""
    to = 1 << max(0, (n_steps - 1).bit_length() - 3)
    return min(-(-n_steps // to) * to, most)
