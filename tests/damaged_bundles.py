"""Bundles that can be loaded, all of whose numbers are finite, and that are wrong."""

from pathlib import Path

import torch

from nextclick.bundle import load_network, save_bundle
from nextclick.manifest import Manifest


def with_shuffled_vectors(store: Path, manifest: Manifest) -> Manifest:
    """Give a bundle like another one of the store, but each item has the vector of some other item."""
    _, network, vocabulary = load_network(store / manifest.bundle_id)
    n_items = network.config.n_items
    order = torch.randperm(n_items, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for embedding in {network.item_embedding, network.output_embedding}:  # one where it is tied
            embedding.weight.copy_(embedding.weight[order])
    return save_bundle(store, network, vocabulary, created_ms=manifest.created_ms + 1, metrics={})
