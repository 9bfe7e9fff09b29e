"""One step of learning: a batch of windows through the network, the loss, and the change of the weights.

Only the item rows that a batch touches are read and written, so a step costs the same however many items there are.
"""

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

from nextclick.network import Network
from nextclick.settings import Settings
from training.learning.arithmetic import bfloat16_pays, chosen_device
from training.learning.carried_states import CarriedStates
from training.learning.dropout import Dropout
from training.learning.losses import LOSSES, CandidateSampler, head_gradients
from training.learning.row_optimizer import RowAdagrad
from training.learning.sequences import Ints, Sequences, Windows, padded_rows

# Item rows take larger steps than the cell: Adagrad's shrink as they go. What was learnt before takes smaller ones, for
# Adagrad has forgotten how far its steps had shrunk; but biases follow what is popular.
_CELL_RATE = 1.0
_KNOWN_RATE = 0.2


class Learner:
    """Changes a network, on the device of the settings.

    Elsewhere than on the CPU it works on a copy: `push` takes the network's weights over, `pull` brings them back.
    """

    def __init__(
        self, network: Network, n_known: int, item_index: Ints, sequences: Sequences, settings: Settings
    ) -> None:
        """Prepare to learn.

        Args:
            network: is changed.
            n_known: items, the first of the vocabulary, whose rows were learnt in an earlier training; 0: everything
                is new.
            item_index: int64 (n,), for every row of the sequences its item in the network's vocabulary; -1 in rows
                that are not to be learnt, which are in no window.
            sequences: the clicks.
            settings: learning rate, dropout, negatives, length of a window, seed.
        """
        device = chosen_device(settings.device)
        self._original = network
        self._network = network = network if device.type == "cpu" else copy.deepcopy(network).to(device)
        self._in_bfloat16 = bfloat16_pays(device)
        self._item_index = torch.from_numpy(item_index).to(device)
        self._event_type = torch.from_numpy(sequences.event_type).to(device)
        self._gap_s = torch.from_numpy(sequences.gap_s).to(device)
        counts = np.bincount(item_index[item_index >= 0], minlength=network.config.n_items).astype(np.float64)
        self._states = CarriedStates(sequences, settings.recent_clicks + 1, network.config.state_size, device)
        generator = torch.Generator(device).manual_seed(settings.seed)
        self._input_dropout = Dropout(settings.dropout, generator)
        self._feature_dropout = Dropout(settings.feature_dropout, generator)
        target_counts = torch.from_numpy(counts).to(device)
        self._sampler = CandidateSampler(target_counts, settings.negatives, settings.negatives_power, generator)
        self._loss = LOSSES[settings.loss]
        rate = settings.learning_rate
        cell_rate = rate * _CELL_RATE * (_KNOWN_RATE if n_known else 1.0)
        self._cell = {
            parameter: RowAdagrad(parameter.detach(), torch.full((len(parameter),), cell_rate, device=device))
            for name, parameter in network.named_parameters()
            if name.split(".")[0] in ("cell", "event_embedding", "gap_embedding", "skip")
        }
        item_rates = torch.full((network.config.n_items,), rate, device=device)
        self._bias_rows = RowAdagrad(network.item_bias.detach(), item_rates.clone())
        item_rates[:n_known] *= _KNOWN_RATE
        tied, normalised = network.config.tied, network.config.normalised
        self._item_rows = RowAdagrad(network.item_embedding.weight.detach(), item_rates, normalised=normalised)
        self._output_rows = (
            self._item_rows
            if tied
            else RowAdagrad(network.output_embedding.weight.detach(), item_rates, normalised=normalised)
        )

    def push(self) -> None:
        """Go on from the network's weights as they are now."""
        if self._network is not self._original:
            self._network.load_state_dict(self._original.state_dict())

    def pull(self) -> None:
        """Bring what was learnt into the network."""
        if self._network is not self._original:
            self._original.load_state_dict(self._network.state_dict())

    def learn(self, windows: Windows) -> tuple[float, int]:
        """Learn from a batch of windows.

        Returns:
            The loss before the change, and the number of clicks that were predicted.
        """
        padded, is_real = padded_rows(windows.first, windows.end - windows.first - 1)
        targets = self._item_index[self._on_device(padded[is_real] + 1)]
        candidates = self._sampler.candidates(targets)
        rows = self._on_device(padded)  # (batch, steps)
        clicked, places = torch.unique(self._item_index[rows], return_inverse=True)
        clicked_vectors = self._item_rows.rows(clicked).requires_grad_()
        inputs = functional.embedding(places, clicked_vectors)
        queries = self._queries(windows, rows, inputs)[self._on_device(is_real)]
        head = head_gradients(
            self._loss,
            queries.detach(),
            self._output_rows.rows(candidates.items),
            self._bias_rows.rows(candidates.items),
            candidates,
            len(windows),
            self._in_bfloat16,
        )
        queries.backward(head.queries)  # type: ignore[no-untyped-call]
        for parameter, optimizer in self._cell.items():
            optimizer.step_all(_gradient(parameter))
            parameter.grad = None
        # An item that was clicked and is a candidate moves twice.
        self._item_rows.step(clicked, _gradient(clicked_vectors))
        self._output_rows.step(candidates.items, head.item_vectors)
        self._bias_rows.step(candidates.items, head.item_bias)
        return head.loss, len(targets)

    def _on_device(self, array: npt.NDArray[Any]) -> Tensor:
        return torch.from_numpy(array).to(self._item_index.device, non_blocking=True)

    def _queries(self, windows: Windows, rows: Tensor, item_vectors: Tensor) -> Tensor:
        """Run the network over padded rows: float32 (batch, steps, hidden_size)."""
        inputs = self._network.inputs_of(item_vectors, self._event_type[rows], self._gap_s[rows])
        inputs = self._input_dropout(inputs)
        hidden, after = self._network.run(inputs, self._states.before(windows))
        self._states.keep(windows, after)
        return self._network.queries(self._feature_dropout(self._network.features(hidden, inputs)))


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad
