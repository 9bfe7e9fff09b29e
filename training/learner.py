"""One step of learning: a batch of windows through the network, the loss, and the change of the weights.

Only the item rows that a batch touches are read and written, so a step costs the same however many items there are.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from nextclick.network import Network
from nextclick.settings import Settings
from training.losses import LOSSES, CandidateSampler, next_click_loss
from training.row_optimizer import RowAdagrad
from training.sequences import Ints, Sequences, Windows, padded_rows

# Measured on yoochoose_100k. Item rows take larger steps than the cell: Adagrad's shrink as they go. What was learnt
# before takes smaller ones, for Adagrad has forgotten how far its steps had shrunk; but biases follow what is popular.
_ITEM_RATE = 20.0
_CELL_RATE = 2.0
_KNOWN_RATE = 0.2
_MAX_GRADIENT_NORM = 1.0


class _Inputs(nn.Module):
    """`Network.inputs` as a module, so that it can be called with a part of the item embedding."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, item_index: Tensor, event_type: Tensor, gap_s: Tensor) -> Tensor:
        return self.network.inputs(item_index, event_type, gap_s)


class Learner:
    """Changes a network in place."""

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
            settings: loss, learning rate, dropout, negatives, seed.
        """
        self._network = network
        self._item_index = item_index
        self._sequences = sequences
        self._dropout = settings.dropout
        self._loss = LOSSES[settings.loss]
        counts = np.bincount(item_index[item_index >= 0], minlength=network.config.n_items).astype(np.float64)
        generator = torch.Generator().manual_seed(settings.seed)
        self._sampler = CandidateSampler(torch.from_numpy(counts), settings.negatives, generator)
        self._inputs = _Inputs(network)
        rate = settings.learning_rate
        cell_rate = rate * _CELL_RATE * (_KNOWN_RATE if n_known else 1.0)
        self._cell = {
            parameter: RowAdagrad(parameter.detach(), torch.full((len(parameter),), cell_rate))
            for name, parameter in network.named_parameters()
            if name.split(".")[0] not in ("item_embedding", "output_embedding", "item_bias")
        }
        item_rates = torch.full((network.config.n_items,), rate * _ITEM_RATE)
        self._bias_rows = RowAdagrad(network.item_bias.detach(), item_rates.clone())
        item_rates[:n_known] *= _KNOWN_RATE
        self._item_rows = RowAdagrad(network.item_embedding.weight.detach(), item_rates)
        self._output_rows = (
            self._item_rows if network.config.tied else RowAdagrad(network.output_embedding.weight.detach(), item_rates)
        )

    def learn(self, windows: Windows) -> tuple[float, int]:
        """Learn from a batch of windows.

        Returns:
            The loss before the change, and the number of clicks that were predicted.
        """
        rows, is_real = padded_rows(windows.first, windows.end - windows.first - 1)
        targets = torch.from_numpy(self._item_index[rows + 1][is_real])
        candidates = self._sampler.candidates(targets)
        inputs = torch.from_numpy(self._item_index[rows])  # (batch, steps)
        if self._network.config.tied:
            touched, places = self._touched(inputs, candidates.items)
            input_vectors = self._item_rows.leaf(touched)
            input_places, output_places = places[: inputs.numel()].view(inputs.shape), places[inputs.numel() :]
            output_vectors = functional.embedding(output_places, input_vectors)
        else:
            touched, input_places = torch.unique(inputs, return_inverse=True)
            input_vectors = self._item_rows.leaf(touched)
            output_vectors = self._output_rows.leaf(candidates.items)
        bias = self._bias_rows.leaf(candidates.items)
        outputs = self._outputs(rows, input_places, input_vectors)[torch.from_numpy(is_real)]
        loss = next_click_loss(self._loss, outputs, output_vectors, bias, candidates, len(windows))
        loss.backward()  # type: ignore[no-untyped-call]
        leaves = [input_vectors, bias] + ([] if self._network.config.tied else [output_vectors])
        nn.utils.clip_grad_norm_([*self._cell, *leaves], _MAX_GRADIENT_NORM)
        for parameter, optimizer in self._cell.items():
            optimizer.step(torch.arange(len(parameter)), _gradient(parameter))
            parameter.grad = None
        self._item_rows.step(touched, _gradient(input_vectors))
        self._bias_rows.step(candidates.items, _gradient(bias))
        if not self._network.config.tied:
            self._output_rows.step(candidates.items, _gradient(output_vectors))
        return loss.item(), len(targets)

    def _touched(self, inputs: Tensor, candidates: Tensor) -> tuple[Tensor, Tensor]:
        """Give the rows that inputs and candidates use, each once, and where each input and candidate is in them."""
        ids = torch.cat([inputs.reshape(-1), candidates])
        if len(candidates) == self._network.config.n_items:
            return candidates, ids
        rows, places = torch.unique(ids, return_inverse=True)
        return rows, places

    def _outputs(self, rows: Ints, places: Tensor, vectors: Tensor) -> Tensor:
        """Run the network over padded rows: float32 (batch, steps, hidden_size)."""
        event_type = torch.from_numpy(self._sequences.event_type[rows])
        gap_s = torch.from_numpy(self._sequences.gap_s[rows])
        weights = {"network.item_embedding.weight": vectors}
        # The output embedding, when tied, is not used here and keeps its weights.
        embedded = functional_call(self._inputs, weights, (places, event_type, gap_s), tie_weights=False)
        embedded = functional.dropout(embedded, self._dropout)
        outputs, _ = self._network.run(embedded, torch.zeros(len(rows), self._network.config.state_size))
        return outputs


def _gradient(leaf: Tensor) -> Tensor:
    assert leaf.grad is not None
    return leaf.grad
