"""Networks for tests: every weight says something, those of the mixture too."""

import torch

from nextclick.mixture import Mixture
from nextclick.network import Network, NetworkConfig


def random_network(config: NetworkConfig, seed: int) -> Network:
    """Make a network in which nothing is 0 that a training would move; the same arguments give the same one."""
    torch.manual_seed(seed)
    network = Network(config).eval()
    with torch.no_grad():
        for weight in (network.event_embedding.weight, network.gap_embedding.weight, network.item_bias):
            weight.normal_()
        if network.skip is not None:
            network.skip.normal_()
    if network.mixture is not None:
        fill(network.mixture)
    return network


@torch.no_grad()
def fill(mixture: Mixture) -> None:
    """Give a mixture a random gate and random neighbours; every third item has none, as if it was never clicked."""
    for weight in mixture.parameters():
        weight.normal_(std=0.5)
    n_items, n_neighbours = mixture.neighbours.shape
    is_known = (torch.arange(n_items) % 3 != 0).float()
    mixture.neighbours.copy_(torch.randint(n_items, (n_items, n_neighbours)))
    mixture.shares.copy_(torch.rand(n_items, n_neighbours) / n_neighbours * is_known[:, None])
    mixture.support.copy_(torch.rand(n_items) * 5 * is_known)
    mixture.neighbours.mul_(is_known[:, None].int())
    mixture.sharpness.fill_(0.7)
