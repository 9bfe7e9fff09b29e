"""The recurrent network: item embedding, one recurrent cell, scores by item embeddings. Serving and training share it.

Source: Hidasi et al. 2016, "Session-based recommendations with recurrent neural networks", arXiv:1511.06939; tied
embeddings as in Hidasi & Karatzoglou 2018, arXiv:1706.03847 ("constrained embeddings"); normalised vectors as in
Gupta et al. 2019, arXiv:1909.04276 (NISER).
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from nextclick.clicks import OTHER_EVENT
from nextclick.mixture import Context, Mixture
from nextclick.network_config import INPUT_SCALE, N_EVENT_ROWS, N_GAP_BINS, NetworkConfig

_SCALE = 14.0  # of a cosine as a score; 12 to 20 are in use, NISER, arXiv:1909.04276

_CELLS: dict[str, Callable[..., nn.RNNBase]] = {"gru": nn.GRU, "lstm": nn.LSTM, "rnn": nn.RNN}


class Network(nn.Module):
    """Clicks in, scores of the next item out.

    A click's input vector is the sum of its item's, its event type's and its time gap's embeddings. What the network
    says after a click (its features) is compared with every item's vector.

    Attributes:
        mixture: what counts add to the network; None where it stands alone.
        scale: of the cosine of a query and an item vector; None where vectors are compared as they are.
    """

    scale: Tensor | None

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
        self.skip = nn.Parameter(torch.ones(size)) if config.skip else None
        self.register_buffer("scale", torch.tensor(_SCALE) if config.normalised else None)
        neighbours = config.n_neighbours
        self.mixture = Mixture(config.n_items, neighbours) if neighbours else None
        for embedding, spread in (
            (self.item_embedding, size**-0.5),
            (self.output_embedding, size**-0.5),
            # What the event and the gap mean is learnt from nothing: at first they do not speak.
            (self.event_embedding, 0.0),
            (self.gap_embedding, 0.0),
        ):
            nn.init.normal_(embedding.weight, std=spread)
        self.normalise()

    def arrays(self) -> "dict[str, npt.NDArray[np.generic]]":
        """Give the weights that a bundle holds, by name; they share the network's memory."""
        weights = self.state_dict()
        return {name: weights[name].detach().cpu().numpy() for name in self.config.weights()}

    @torch.no_grad()
    def normalise(self) -> None:
        """Bring item vectors to length 1, where they are compared by their direction."""
        if self.config.normalised:
            for embedding in {self.item_embedding, self.output_embedding}:
                embedding.weight.copy_(functional.normalize(embedding.weight))

    def inputs(self, item_index: Tensor, event_type: Tensor, gap_s: Tensor) -> Tensor:
        """Give the input vectors of clicks.

        Args:
            item_index: int64 (...), rows of the item embedding.
            event_type: int64 (...), codes as in the user's state.
            gap_s: int64 (...), seconds since the user's click before.

        Returns:
            float32 (..., hidden_size).
        """
        return self.inputs_of(self.item_embedding(item_index), event_type, gap_s)

    def inputs_of(self, item_vectors: Tensor, event_type: Tensor, gap_s: Tensor) -> Tensor:
        """Give the input vectors of clicks from their items' vectors, float32 (..., hidden_size)."""
        event_row = event_type.where(event_type != OTHER_EVENT, N_EVENT_ROWS - 1).clamp(max=N_EVENT_ROWS - 1)
        gap_bin = torch.log2(gap_s.double() + 1.0).long().clamp(max=N_GAP_BINS - 1)
        if self.config.normalised:
            item_vectors = item_vectors * INPUT_SCALE
        embedded: Tensor = item_vectors + self.event_embedding(event_row) + self.gap_embedding(gap_bin)
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

    def hidden(self, state: Tensor) -> Tensor:
        """Give the part of states that the cell puts out: (batch, state_size) -> (batch, hidden_size)."""
        return state[..., : self.config.hidden_size]

    def features(self, hidden: Tensor, inputs: Tensor) -> Tensor:
        """Give what the network says after a click.

        Args:
            hidden: float32 (..., hidden_size), after the click.
            inputs: float32 (..., hidden_size), of that click.

        Returns:
            float32 (..., hidden_size).
        """
        return hidden if self.skip is None else torch.addcmul(hidden, inputs, self.skip)

    def queries(self, features: Tensor) -> Tensor:
        """Give what item vectors are multiplied with: (..., hidden_size) -> (..., hidden_size)."""
        return features if self.scale is None else functional.normalize(features, dim=-1) * self.scale

    def scores(self, features: Tensor, sharpness: float = 1.0) -> Tensor:
        """Score every item as the next click: (batch, hidden_size) @ (hidden_size, n_items) -> (batch, n_items)."""
        items = self.output_embedding.weight.T
        return torch.addmm(self.item_bias, self.queries(features), items, beta=sharpness, alpha=sharpness)

    def probabilities(self, features: Tensor, context: Context) -> Tensor:
        """Give every item's probability to be clicked next, float32 (batch, n_items); no gradient."""
        if self.mixture is None:
            scores = self.scores(features)
            return torch.softmax(scores, 1, out=scores)
        scores = self.scores(features, float(self.mixture.sharpness))
        return self.mixture.probabilities(scores, context)
