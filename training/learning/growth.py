"""The vocabulary and the network of a new training: what the current bundle knows stays, new items get new rows."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from nextclick.network import Network, NetworkConfig


def grown_item_ids(known: Sequence[str], seen: Sequence[str]) -> list[str]:
    """Append the items that are new to those that are known, so that known ones keep their rows."""
    return [*known, *sorted(set(seen) - set(known))]


def grown_network(parent: Network | None, config: NetworkConfig, item_counts: npt.NDArray[np.float64]) -> Network:
    """Make the network that a training starts from.

    Args:
        parent: gives the weights of everything that it has; None to start from nothing.
        config: of the new network; differs from the parent's only in having more items.
        item_counts: float64 (n_items,), clicks per item: beside known items a new one's bias starts at how popular it
            is.
    """
    network = Network(config)
    log_count = torch.from_numpy(np.log1p(item_counts)).float()
    with torch.no_grad():
        if parent is None:
            return network
        n_known = parent.config.n_items
        weights = network.state_dict()
        for name, known in parent.state_dict().items():
            target = weights[name]
            (target[:n_known] if target.shape != known.shape else target).copy_(known)
        level = (parent.item_bias - log_count[:n_known]).mean()
        network.item_bias[n_known:] = log_count[n_known:] + level
    return network
