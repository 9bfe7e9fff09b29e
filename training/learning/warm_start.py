"""Where a training begins: items that are clicked together point the same way, and the cell averages what was clicked.

The vectors are the leading left singular vectors of the association counts, normalised on both sides, each weighted by
the root of its singular value. From random vectors the network needs many passes to find what the counts already say.

Source: Levy & Goldberg 2014, "Neural word embedding as implicit matrix factorization"; spectral normalisation as in
Ng et al. 2001; the directions by subspace iteration, Halko et al. 2011, arXiv:0909.4061.
"""

import numpy as np
import torch
from torch import Tensor

from nextclick.network import Network
from training.learning.associations import AssociationCounts

_SUPPORT = 5.0  # added to a row's sum: rarely clicked items do not make directions of their own
_ITERATIONS = 5
_EXTRA = 16  # directions that are computed and dropped: the last ones of a subspace are the least exact


def spectral_item_vectors(counts: AssociationCounts, size: int, seed: int) -> Tensor:
    """Give a vector per item: float32 (n_items, size), of length about 1; shorter where little is known.

    With fewer items than `size` the rest of the directions is 0.

    Args:
        counts: as they stand at the end.
        size: of a vector.
        seed: of the start of the iteration.
    """
    n_items = counts.n_items
    degree = counts.total + _SUPPORT
    value = counts.count / np.sqrt(degree[counts.item] * degree[counts.neighbour])
    rows = torch.from_numpy(np.stack([counts.item, counts.neighbour]))
    matrix = torch.sparse_coo_tensor(rows, torch.from_numpy(value).float(), (n_items, n_items), check_invariants=False)
    n_directions = min(size + _EXTRA, n_items)
    generator = torch.Generator().manual_seed(seed)
    basis = torch.randn(n_items, n_directions, generator=generator)
    for _ in range(_ITERATIONS):
        basis, _ = torch.linalg.qr(torch.sparse.mm(matrix, basis))
    left, strength, _ = torch.linalg.svd(basis.T @ torch.sparse.mm(matrix, basis))
    kept = min(size, n_directions)
    vectors = torch.zeros(n_items, size)
    vectors[:, :kept] = (basis @ left)[:, :kept] * strength[:kept].sqrt()
    length = vectors.norm(dim=1, keepdim=True)
    scaled: Tensor = vectors / (length + 0.3 * length.mean()).clamp(min=1e-9)
    return scaled


# The cell's own random weights are made small beside what it starts with.
_RANDOM_SHARE = 0.3
_INPUT = 0.7  # of an input's element in the new hidden state
_KEEPING = 0.85  # bias of a gate: sigmoid(.85) = .7 of the hidden state is kept, .3 of the input taken
_OPEN = 2.0  # bias of the LSTM's output gate


@torch.no_grad()
def start_as_fading_average(network: Network) -> None:
    """Let the hidden state begin as an average of the input vectors in which each click fades to .7 of it at the next.

    Before anything is learnt, what the network says then points to the items of the last clicks' neighbourhood.
    """
    size, weights = network.config.hidden_size, dict(network.cell.named_parameters())
    of_input, of_hidden, bias = (weights[name] for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0"))
    for weight in (of_input, of_hidden):
        weight.mul_(_RANDOM_SHARE)
    for each in (bias, weights["bias_hh_l0"]):
        each.zero_()
    straight = torch.eye(size)
    match network.config.cell:
        case "gru":  # rows: reset, update, new
            of_input[2 * size :].add_(_INPUT * straight)
            bias[size : 2 * size] = _KEEPING
        case "lstm":  # rows: input, forget, cell, output
            of_input[2 * size : 3 * size].add_(_INPUT * straight)
            bias[:size], bias[size : 2 * size], bias[3 * size :] = -_KEEPING, _KEEPING, _OPEN
        case "rnn":
            of_input.add_((1.0 - _INPUT) * straight)
            of_hidden.add_(_INPUT * straight)
