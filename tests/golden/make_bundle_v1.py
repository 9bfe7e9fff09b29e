"""Made tests/golden/bundle-v1, once: `python tests/golden/make_bundle_v1.py`. Never run it again.

The bundle stands for those that users have on their disks: what matters is that its bytes never change. For a new
format write a new script and a new folder beside this one.
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

FOLDER = Path(__file__).parent / "bundle-v1"
ITEMS = ("apple", "bread", "cheese", "dates", "élan")


def main() -> None:
    """Write the bundle with weights that a formula gives."""
    network = Network(NetworkConfig(n_items=len(ITEMS), hidden_size=4, cell="gru", tied=True))
    with torch.no_grad():
        for number, (_, weight) in enumerate(sorted(network.named_parameters())):
            steps = torch.arange(weight.numel(), dtype=torch.float32).reshape(weight.shape)
            weight.copy_(torch.sin(steps * 0.7 + number))
    with tempfile.TemporaryDirectory(dir=FOLDER.parent) as store:
        manifest = save_bundle(
            Path(store),
            network,
            Vocabulary(ITEMS, np.array([5.0, 4.0, 3.0, 2.0, 1.0])),
            created_ms=1_700_000_000_000,
            metrics={"recall_at_20": 0.25},
            trained_from=TrainedFrom("00000000000000aa", {"0": (0, 99)}),
        )
        (Path(store) / manifest.bundle_id).rename(FOLDER)  # fails where there is one


if __name__ == "__main__":
    main()
