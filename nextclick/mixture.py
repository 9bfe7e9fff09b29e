"""What counts know and the network does not: neighbours of the last clicks, and the last clicks themselves, mixed in.

    P(next = i) = w_0 softmax(scores)_i + sum over ages a of  u_a share(x_a -> i) + v_a [i = x_a]

x_a is the item that was clicked a clicks ago, share(x -> i) how often i was clicked near x, and the weights sum to 1:
a learned gate gives them for every click anew, from how well each x_a is known, from how long ago it was clicked, and
from the length of the session. An item is thus worth what each source knows of it, and the
result is a probability. A user costs as much as before: the terms touch at most N_AGES x n_neighbours items.

Source: pointer networks for copying, Merity et al. 2016, arXiv:1609.07843; item-to-item counts as in Ludewig &
Jannach 2018, arXiv:1803.09587. The gate over both is ours; docs/model.md has the measurements.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from nextclick.network_config import N_AGES, N_TERMS

_NEVER = -1e9  # log weight of a term that is not there
# A gate that has learnt nothing trusts the network most, and every click less than the next one.
_FIRST_NEIGHBOURS, _FIRST_RECLICKS, _FADING = -1.0, -3.0, -0.36


class Context(NamedTuple):
    """The last clicks on known items, the newest first, as the mixture sees them.

    Attributes:
        item_index: int64 (batch, N_AGES); -1 where the user has not clicked so often.
        age_s: float32 (batch, N_AGES), seconds from each click to the newest.
        n_session: float32 (batch,), clicks of the running session, at most MAX_SESSION_CLICKS.
    """

    item_index: Tensor
    age_s: Tensor
    n_session: Tensor


class Mixture(nn.Module):
    """The gate and the neighbour lists.

    Attributes:
        neighbours: int32 (n_items, n_neighbours), each item's neighbours; 0 with share 0 where it has fewer.
        shares: float32 (n_items, n_neighbours), not negative; a row's sum is at most 1.
        support: float32 (n_items,), log(1 + weight of the counts behind a row).
        sharpness: the network's scores are multiplied with it.
    """

    neighbours: Tensor
    shares: Tensor
    support: Tensor
    sharpness: Tensor

    def __init__(self, n_items: int, n_neighbours: int) -> None:
        super().__init__()
        self.of_length = nn.Parameter(torch.zeros(N_TERMS))
        self.of_support = nn.Parameter(torch.zeros(N_TERMS))
        self.of_newest_support = nn.Parameter(torch.zeros(N_TERMS))
        self.of_age = nn.Parameter(torch.zeros(N_TERMS))
        fading = _FADING * torch.arange(N_AGES)
        self.of_term = nn.Parameter(torch.cat([torch.zeros(1), _FIRST_NEIGHBOURS + fading, _FIRST_RECLICKS + fading]))
        self.register_buffer("neighbours", torch.zeros(n_items, n_neighbours, dtype=torch.int32))
        self.register_buffer("shares", torch.zeros(n_items, n_neighbours))
        self.register_buffer("support", torch.zeros(n_items))
        self.register_buffer("sharpness", torch.tensor(1.0))

    def log_weights(self, context: Context, support: Tensor) -> Tensor:
        """Weigh the terms.

        Args:
            context: the last clicks.
            support: float32 (batch, N_AGES), of the clicked items; what stands where there is no click is ignored.

        Returns:
            float32 (batch, N_TERMS), logarithms of weights that sum to 1.
        """
        there = context.item_index >= 0
        support = support.where(there, torch.zeros_like(support))
        newest = support[:, :1]  # the network's own term has no click: it sees the newest one's
        log_age = torch.log2(context.age_s + 1.0) / 10.0
        logits = self.of_term + self.of_length * (context.n_session[:, None] / 10.0)
        logits = logits + self.of_support * torch.cat([newest, support, support], 1)
        logits = logits + self.of_newest_support * newest
        logits = logits + self.of_age * torch.cat([torch.zeros_like(newest), log_age, log_age], 1)
        usable = torch.cat([torch.ones_like(there[:, :1]), there & (support > 0), there], 1)
        return functional.log_softmax(logits.masked_fill(~usable, _NEVER), 1)

    def probabilities(self, scores: Tensor, context: Context) -> Tensor:
        """Mix the terms for every item.

        Args:
            scores: float32 (batch, n_items), of the network, times `sharpness`; overwritten.
            context: the last clicks.

        Returns:
            float32 (batch, n_items), the probability of each item to be clicked next; a row's sum is at most 1, for
            shares of rarely clicked items leave some unsaid.
        """
        return self.mix(torch.softmax(scores, 1, out=scores), context)

    def mix(self, of_network: Tensor, context: Context) -> Tensor:
        """Mix the terms, as `probabilities`, with the network's own probabilities, which are overwritten."""
        clicked = context.item_index.clamp(min=0)  # (batch, N_AGES)
        weights = self.log_weights(context, self.support[clicked]).exp()
        mixed = of_network.mul_(weights[:, :1])
        of_neighbours, of_reclicks = weights[:, 1 : 1 + N_AGES], weights[:, 1 + N_AGES :]
        shares = self.shares[clicked] * of_neighbours.unsqueeze(2)  # (batch, N_AGES, n_neighbours)
        mixed.scatter_add_(1, self.neighbours[clicked].long().flatten(1), shares.flatten(1))
        return mixed.scatter_add_(1, clicked, of_reclicks)
