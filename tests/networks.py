"""Networks for tests: every weight says something, those of the mixture too."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from nextclick.mixture import Context, Mixture
from nextclick.model import ServedModel
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.vocabulary import Vocabulary


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


def served_model(bundle_id: str, network: Network, vocabulary: Vocabulary) -> ServedModel:
    """Serve a network as a worker would."""
    return ServedModel(bundle_id, network.config, network.arrays(), vocabulary)


@torch.inference_mode()
def probabilities(
    model: ServedModel, network: Network, hidden: Sequence[bytes], recent: Sequence[bytes]
) -> npt.NDArray[np.float32]:
    """Give every item's probability to be each user's next click, (users, n_items), as training computes it: what the
    served model is held to.
    """
    features, context = features_and_context(model, network, hidden, recent)
    found: npt.NDArray[np.float32] = network.probabilities(features, context).numpy()
    return found


@torch.inference_mode()
def features_and_context(
    model: ServedModel, network: Network, hidden: Sequence[bytes], recent: Sequence[bytes]
) -> tuple[torch.Tensor, Context]:
    """Give what the network says of users, (users, hidden_size), and what the mixture looks back on."""
    histories = model.histories(recent)
    nothing = bytes(2 * network.config.state_size)
    state = np.stack([np.frombuffer(packed or nothing, "<f2").astype(np.float32) for packed in hidden])
    newest = torch.from_numpy(histories.newest)
    item_index, gap_s, event_type = newest.clamp(min=0).T
    inputs = network.inputs(item_index, event_type, gap_s) * (newest[:, :1] >= 0)
    features: torch.Tensor = network.features(network.hidden(torch.from_numpy(state)), inputs)
    return features, Context(*(torch.from_numpy(part) for part in histories[:3]))


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
