"""The recurrent network: item embedding, one recurrent cell, scores by item embeddings. Serving and training share it.

Source: Hidasi et al. 2016, "Session-based recommendations with recurrent neural networks", arXiv:1511.06939; tied
embeddings as in Hidasi & Karatzoglou 2018, arXiv:1706.03847 ("constrained embeddings").
"""

from collections.abc import Callable
from typing import Annotated, Literal

import msgspec
import torch
from torch import Tensor, nn

from nextclick.clicks import EVENT_TYPES, OTHER_EVENT
from nextclick.settings import MAX_HIDDEN_SIZE

N_GAP_BINS = 24  # powers of two of a second: the last bin is gaps of 97 days and more
N_EVENT_ROWS = len(EVENT_TYPES) + 1  # the last row is every other event type

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}
_GATES = {"gru": 3, "lstm": 4, "rnn": 1}


class NetworkConfig(msgspec.Struct, frozen=True):
    """What makes two networks' weights interchangeable.

    Attributes:
        n_items: rows of the item embedding.
        hidden_size: width of embeddings and hidden state.
        cell: `gru`, `lstm` or `rnn` (tanh).
        tied: items are scored with the input embedding, not with one of their own.
    """

    n_items: Annotated[int, msgspec.Meta(ge=1, le=2**31)]
    hidden_size: Annotated[int, msgspec.Meta(ge=1, le=MAX_HIDDEN_SIZE)] = 128
    cell: Literal["gru", "lstm", "rnn"] = "gru"
    tied: bool = True

    @property
    def state_size(self) -> int:
        """Numbers that the cell carries from click to click: h, or h and c for the LSTM."""
        return self.hidden_size * (2 if self.cell == "lstm" else 1)

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shape of every weight that a bundle holds, by its name in `Network`; allocates nothing."""
        size, gates = self.hidden_size, _GATES[self.cell]
        shapes: dict[str, tuple[int, ...]] = {
            "item_embedding.weight": (self.n_items, size),
            "item_bias": (self.n_items,),
            "event_embedding.weight": (N_EVENT_ROWS, size),
            "gap_embedding.weight": (N_GAP_BINS, size),
            "cell.weight_ih_l0": (gates * size, size),
            "cell.weight_hh_l0": (gates * size, size),
            "cell.bias_ih_l0": (gates * size,),
            "cell.bias_hh_l0": (gates * size,),
        }
        # With tied embeddings the output embedding is the input embedding and is saved once.
        return shapes if self.tied else shapes | {"output_embedding.weight": (self.n_items, size)}


class Network(nn.Module):
    """Clicks in, scores of the next item out.

    A click's input vector is the sum of its item's, its event type's and its time gap's embeddings.
    """

    def __init__(self, config: NetworkConfig) -> None:
        super().__init__()
        self.config = config
        size = config.hidden_size
        self.item_embedding = nn.Embedding(config.n_items, size)
        self.event_embedding = nn.Embedding(N_EVENT_ROWS, size)
        self.gap_embedding = nn.Embedding(N_GAP_BINS, size)
        self.cell = _CELLS[config.cell](size, size, batch_first=True)
        self.output_embedding = self.item_embedding if config.tied else nn.Embedding(config.n_items, size)
        self.item_bias = nn.Parameter(torch.zeros(config.n_items))
        for embedding, spread in (
            (self.item_embedding, size**-0.5),
            (self.output_embedding, size**-0.5),
            # What the event and the gap mean is learnt from nothing: at first they do not speak.
            (self.event_embedding, 0.0),
            (self.gap_embedding, 0.0),
        ):
            nn.init.normal_(embedding.weight, std=spread)

    def inputs(self, item_index: Tensor, event_type: Tensor, gap_s: Tensor) -> Tensor:
        """Give the input vectors of clicks.

        Args:
            item_index: int64 (...), rows of the item embedding.
            event_type: int64 (...), codes as in the user's state.
            gap_s: int64 (...), seconds since the user's click before.

        Returns:
            float32 (..., hidden_size).
        """
        event_row = event_type.where(event_type != OTHER_EVENT, N_EVENT_ROWS - 1).clamp(max=N_EVENT_ROWS - 1)
        gap_bin = torch.log2(gap_s.double() + 1.0).long().clamp(max=N_GAP_BINS - 1)
        embedded: Tensor = self.item_embedding(item_index)
        embedded = embedded + self.event_embedding(event_row) + self.gap_embedding(gap_bin)
        return embedded

    def run(self, inputs: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Advance each row's state by a sequence of clicks.

        Args:
            inputs: float32 (batch, steps, hidden_size), from `inputs`.
            state: float32 (batch, state_size), before the first click; not changed.

        Returns:
            The outputs after every click, float32 (batch, steps, hidden_size), and the states after the last one,
            float32 (batch, state_size).
        """
        before = state.unsqueeze(0).contiguous()  # (1, batch, state_size): one layer
        if self.config.cell == "lstm":
            h, c = before.chunk(2, dim=-1)
            outputs, (h, c) = self.cell(inputs, (h.contiguous(), c.contiguous()))
            after = torch.cat([h, c], dim=-1)
        else:
            outputs, after = self.cell(inputs, before)
        return outputs, after.squeeze(0)

    def output(self, state: Tensor) -> Tensor:
        """Give what items are scored with: (batch, state_size) -> (batch, hidden_size)."""
        return state[:, : self.config.hidden_size]

    def scores(self, output: Tensor) -> Tensor:
        """Score every item as the next click: (batch, hidden_size) @ (hidden_size, n_items) -> (batch, n_items)."""
        return torch.addmm(self.item_bias, output, self.output_embedding.weight.T)
