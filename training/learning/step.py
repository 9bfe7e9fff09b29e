"""One step of learning: a batch of windows through the network, the loss, and the change of the weights.

Only the item rows that a batch touches are read and written, so a step costs the same however many items there are.
Below the step stand its parts: truncated backpropagation through time, dropout, and the optimizer.
"""

import copy
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nextclick.network import Network
from nextclick.settings import Settings
from training.learning.device import bfloat16_pays, chosen_device
from training.learning.losses import LOSSES, CandidateSampler, head_gradients
from training.learning.optimizer import Optimizers
from training.learning.sequences import Ints, Sequences, Windows, padded_rows
from training.learning.step_in_parts import Batch, StepInParts
from training.learning.step_on_gpu import Frame, StepOnGpu


class LearntBefore(NamedTuple):
    """What a learning that goes on needs to know of what was learnt.

    Attributes:
        item_counts: float64 (n_items,), clicks of each item, those of now with them: how popular it is.
        squares: of the optimizer, by the names of the weights.
    """

    item_counts: npt.NDArray[np.float64]
    squares: Mapping[str, Tensor]


class Learner:
    """Changes a network, on the device of the settings.

    Elsewhere than on the CPU it works on a copy: `copy_to_device` takes the network's weights over, `copy_back` brings
    them back.
    """

    def __init__(
        self, network: Network, sequences: Sequences, settings: Settings, before: LearntBefore | None = None
    ) -> None:
        """Prepare to learn, with as many threads as torch has now.

        Args:
            network: is changed.
            sequences: the clicks; -1 as item in rows that are not learnt.
            settings: learning rate, dropout, negatives, length of a window, seed, device.
            before: what the network has learnt already; None: nothing.

        Raises:
            PermanentError: the settings ask for a GPU and there is none.
        """
        device = chosen_device(settings.device)
        self._original = network
        # A network that serves or was loaded is not in training mode, without which cuDNN has no way back.
        self._network = network = network if device.type == "cpu" else copy.deepcopy(network).to(device).train()
        self._in_bfloat16 = bfloat16_pays(device)
        self._item_index = torch.from_numpy(sequences.item_index).to(device)
        self._event_type = torch.from_numpy(sequences.event_type).to(device)
        self._gap_s = torch.from_numpy(sequences.gap_s).to(device)
        self._states = TruncatedBackpropagationStates(
            sequences, settings.recent_clicks + 1, network.config.state_size, device
        )
        generator = torch.Generator(device).manual_seed(settings.seed)
        learnt = sequences.item_index[sequences.item_index >= 0]
        counts = np.bincount(learnt, minlength=network.config.n_items).astype(np.float64)
        target_counts = torch.from_numpy(counts if before is None else before.item_counts).to(device)
        self._sampler = CandidateSampler(target_counts, settings.negatives, settings.negatives_power, generator)
        self._loss = LOSSES[settings.loss]
        self._optimizers = Optimizers(network, settings.learning_rate, None if before is None else before.squares)
        is_cross_entropy = settings.loss == "cross_entropy"
        in_parts = device.type == "cpu" and is_cross_entropy
        n_threads = torch.get_num_threads() if in_parts else 1
        # Each part draws from a generator of its own: in which order threads come to draw is chance.
        self._dropouts = [
            (Dropout(settings.dropout, drawn), Dropout(settings.feature_dropout, drawn))
            for drawn in (torch.Generator(device).manual_seed(settings.seed ^ (part + 1)) for part in range(n_threads))
        ]
        self._parts = (
            StepInParts(self._queries, self._sampler, self._optimizers, n_threads, in_bfloat16=self._in_bfloat16)
            if in_parts
            else None
        )
        self._on_gpu = self._step_on_gpu(settings) if device.type == "cuda" and is_cross_entropy else None
        self._loss_sum = 0.0

    def copy_to_device(self) -> None:
        """Go on from the network's weights as they are now."""
        if self._network is not self._original:
            self._network.load_state_dict(self._original.state_dict())

    def copy_back(self) -> None:
        """Bring what was learnt into the network."""
        if self._network is not self._original:
            self._original.load_state_dict(self._network.state_dict())

    def step(self, windows: Windows) -> int:
        """Learn from a batch of windows, `batch_windows` at most.

        On a GPU the step is queued: what was learnt is there after `copy_back` or `take_loss_sum`.

        Returns:
            The number of clicks that are predicted.
        """
        if self._on_gpu is not None:
            before = self._states.places_before(windows)
            self._on_gpu.step(windows, before, self._states.places_kept(windows))
            return int((windows.end - windows.first - 1).sum())
        batch = self._batch(windows)
        loss, after = self._parts.step(batch) if self._parts is not None else self._step_at_once(batch)
        self._states.keep(windows, after)
        self._loss_sum += loss * len(batch.targets)
        return len(batch.targets)

    def squares(self) -> dict[str, Tensor]:
        """Give the optimizer's state, for whoever goes on."""
        return self._optimizers.squares()

    def take_loss_sum(self) -> float:
        """Give the sum of the losses since it was last asked for, one of each click, before its batch moves weights."""
        if self._on_gpu is not None:
            return self._on_gpu.take_loss_sum()
        loss_sum, self._loss_sum = self._loss_sum, 0.0
        return loss_sum

    def _step_on_gpu(self, settings: Settings) -> StepOnGpu:
        frame = Frame(
            self._item_index,
            self._states.table,
            [self._sampler.generator, self._dropouts[0][0].generator],
            settings.batch_windows,
            settings.recent_clicks,
            torch.bfloat16 if self._in_bfloat16 else torch.float32,
        )
        return StepOnGpu(self._queries, self._sampler, self._optimizers, frame)

    def _batch(self, windows: Windows) -> Batch:
        """Look up what a step reads."""
        length = windows.end - windows.first - 1
        padded, is_real = padded_rows(windows.first, length)
        rows = self._on_device(padded)
        clicked, places = torch.unique(self._item_index[rows], return_inverse=True)
        targets = self._item_index[self._on_device(padded[is_real] + 1)]
        return Batch(
            rows, self._on_device(is_real), length, targets, clicked, places, before=self._states.before(windows)
        )

    def _step_at_once(self, batch: Batch) -> tuple[float, Tensor]:
        """Do a step operation by operation, each on the whole batch: on any device, with any loss."""
        optimizers = self._optimizers
        candidates = self._sampler.candidates(batch.targets)
        clicked_vectors = optimizers.item_rows.rows(batch.clicked).requires_grad_()
        queries, after = self._queries(0, batch.rows, functional.embedding(batch.places, clicked_vectors), batch.before)
        queries = queries[batch.is_real]
        candidate_vectors, candidate_bias = (
            table.rows(candidates.item_index) for table in (optimizers.output_rows, optimizers.bias_rows)
        )
        with torch.autocast(queries.device.type, torch.bfloat16, enabled=self._in_bfloat16):
            head = head_gradients(
                self._loss, queries.detach(), candidate_vectors, candidate_bias, candidates, len(batch.length)
            )
        leaves = [*optimizers.cell, clicked_vectors]
        *of_cell, of_clicked = torch.autograd.grad(queries, leaves, head.queries)
        for optimizer, gradient in zip(optimizers.cell.values(), of_cell, strict=True):
            optimizer.step_all(gradient)
        # An item that was clicked and is a candidate moves twice.
        optimizers.item_rows.step(batch.clicked, of_clicked)
        optimizers.output_rows.step(candidates.item_index, head.item_vectors)
        optimizers.bias_rows.step(candidates.item_index, head.item_bias)
        return head.loss, after

    def _queries(self, part: int, rows: Tensor, item_vectors: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """Run the network over padded rows.

        Returns:
            float32 (batch, steps, hidden_size), and the states after the last step, float32 (batch, state_size).
        """
        drop_inputs, drop_features = self._dropouts[part]
        inputs = drop_inputs(self._network.inputs_of(item_vectors, self._event_type[rows], self._gap_s[rows]))
        hidden, after = self._network.run(inputs, before)
        return self._network.queries(drop_features(self._network.features(hidden, inputs))), after.detach()

    def _on_device(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._item_index.device, non_blocking=True)


class TruncatedBackpropagationStates:
    """Carries a long history's state from one window to the next: backpropagation ends there, the state goes on.

    The stream never starts a user anew, so a network that only ever saw states of a window's age would serve older ones
    blindly. Kept is one state per user with more clicks than a window holds, as it was when the window was learnt: the
    weights have moved a little since. Where a user's windows are so near in time that the one before is not learnt
    first, a window starts from the zero state.

    Attributes:
        table: float32 (n_states, state_size): one per user with a long history, then the zero state, and last what
            nobody asks for.

    Source: Williams & Peng 1990, "An efficient gradient-based algorithm for on-line training of recurrent network
    trajectories".
    """

    def __init__(self, sequences: Sequences, max_clicks: int, state_size: int, device: torch.device) -> None:
        """Start with none.

        Args:
            sequences: that the windows are of.
            max_clicks: of a window; a longer history goes on in another one.
            state_size: of the network.
            device: where the states are.
        """
        self._user_starts, self._max_clicks = sequences.user_starts, max_clicks
        is_long = np.diff(sequences.user_starts) > max_clicks
        self._slot = np.where(is_long, np.cumsum(is_long) - 1, -1)  # (n_users,)
        n_long = int(is_long.sum())
        self._next_row = np.full(
            n_long + 1, -1, dtype=np.int64
        )  # the click that comes next in each state; at [-1] none
        self._zero, self._spare = n_long, n_long + 1
        self.table = torch.zeros(n_long + 2, state_size, device=device)

    def before(self, windows: Windows) -> Tensor:
        """Give the states with which windows begin: float32 (batch, state_size), zeros where none was kept."""
        return self.table[self._on_device(self.places_before(windows))]

    def places_before(self, windows: Windows) -> Ints:
        """Give the rows of the table with these states: int64 (batch,)."""
        slot = self._slots(windows)
        return np.where(self._next_row[slot] == windows.first, slot, self._zero)

    def keep(self, windows: Windows, after: Tensor) -> None:
        """Keep states for the windows that come next.

        Args:
            windows: a batch that was padded to its longest window.
            after: float32 (batch, state_size), after the last step of the padded batch: right for full windows, which
                have no padding. Only they are followed by another one.
        """
        self.table.index_copy_(0, self._on_device(self.places_kept(windows)), after.detach())

    def places_kept(self, windows: Windows) -> Ints:
        """Say that the states after these windows are kept from now on.

        Returns:
            The rows of the table to keep them in: int64 (batch,), the last one for those that nobody asks for.
        """
        slot = self._slots(windows)
        is_followed = np.flatnonzero((slot >= 0) & (windows.end - windows.first == self._max_clicks))
        slot, first = np.unique(slot[is_followed], return_index=True)
        kept = is_followed[first]
        self._next_row[slot] = windows.end[kept] - 1
        places = np.full(len(windows), self._spare)
        places[kept] = slot
        return places

    def _slots(self, windows: Windows) -> Ints:
        slots: Ints = self._slot[np.searchsorted(self._user_starts, windows.first, side="right") - 1]
        return slots

    def _on_device(self, places: Ints) -> Tensor:
        return torch.from_numpy(places).to(self.table.device)


class Dropout:
    """Sets a share of elements to zero and makes the others as much larger.

    It draws a byte per element, eight at a time: drawing random numbers is what takes long. So the share is rounded to
    a 256th.

    Source: Srivastava et al. 2014.
    """

    _LEVELS = 256  # of a byte

    def __init__(self, share: float, generator: torch.Generator) -> None:
        self._dropped = round(share * self._LEVELS)
        self._scale = self._LEVELS / (self._LEVELS - self._dropped)
        self.generator = generator

    def __call__(self, values: Tensor) -> Tensor:
        """Give float32 values of the same shape."""
        if not self._dropped:
            return values
        numbers = torch.empty(-(-values.numel() // 8), dtype=torch.int64, device=values.device)
        numbers.random_(-(2**63), None, generator=self.generator)
        drawn = numbers.view(torch.uint8)[: values.numel()].view(values.shape)
        return values * (drawn >= self._dropped).to(values.dtype).mul_(self._scale)
