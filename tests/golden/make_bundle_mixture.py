"""Made tests/golden/bundle-mixture, once: `python tests/golden/make_bundle_mixture.py`. Never run it again.

As make_bundle_v1.py, for a network with everything that was added to it since: skip, normalised vectors, the mixture.
"""

import tempfile
from pathlib import Path

import numpy as np
import torch

from nextclick.bundle import save_bundle
from nextclick.manifest import TrainedFrom
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.vocabulary import Vocabulary

FOLDER = Path(__file__).parent / "bundle-mixture"
ITEMS = ("apple", "bread", "cheese", "dates", "élan")
NEIGHBOURS = [[1, 2], [0, 4], [4, 0], [2, 0], [0, 0]]
SHARES = [[0.5, 0.25], [0.375, 0.125], [0.25, 0.125], [0.0625, 0.0], [0.0, 0.0]]
SUPPORT = [3.0, 2.0, 1.5, 0.5, 0.0]


def main() -> None:
    """Write the bundle with weights that a formula gives."""
    network = Network(NetworkConfig(len(ITEMS), hidden_size=4, skip=True, normalised=True, n_neighbours=2))
    assert network.mixture is not None
    with torch.no_grad():
        for number, (name, weight) in enumerate(sorted(network.named_parameters())):
            steps = torch.arange(weight.numel(), dtype=torch.float32).reshape(weight.shape)
            weight.copy_(torch.sin(steps * 0.7 + number) + (5.0 if name == "scale" else 0.0))
        network.normalise()
        network.mixture.neighbours.copy_(torch.tensor(NEIGHBOURS))
        network.mixture.shares.copy_(torch.tensor(SHARES))
        network.mixture.support.copy_(torch.tensor(SUPPORT))
        network.mixture.sharpness.fill_(0.75)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as store:
        manifest = save_bundle(
            Path(store),
            network,
            Vocabulary(ITEMS, np.array([5.0, 4.0, 3.0, 2.0, 1.0])),
            created_ms=1_800_000_000_000,
            metrics={"recall_at_20": 0.5},
            trained_from=TrainedFrom("80017eb691437708", {"0": (0, 199)}),
        )
        (Path(store) / manifest.bundle_id).rename(FOLDER)  # fails where there is one


if __name__ == "__main__":
    main()
