"""Bundles with random weights, whole and damaged: enough to serve, to swap and to refuse."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from confluent_kafka import Producer

from nextclick.advance import Model
from nextclick.bundle import MODEL_FILE, load_bundle, save_bundle
from nextclick.errors import BundleError
from nextclick.manifest import CHAMPION, Manifest, encode_manifest
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.settings import Settings
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network
from tools.client_config import producer_config

WIDTH = 32


def untrained_bundle(store: Path, items: Sequence[str], seed: int) -> Manifest:
    """Make a bundle; the same arguments give the same one."""
    torch.manual_seed(seed)
    network = Network(NetworkConfig(len(items), WIDTH))
    return save_bundle(store, network, Vocabulary(list(items), np.ones(len(items))), created_ms=seed, metrics={})


def mixed_bundle(store: Path, items: Sequence[str], seed: int) -> Manifest:
    """Make a bundle with neighbours and re-clicks mixed in."""
    network = random_network(NetworkConfig(len(items), WIDTH, skip=True, normalised=True, n_neighbours=10), seed)
    return save_bundle(store, network, Vocabulary(list(items), np.ones(len(items))), created_ms=seed, metrics={})


def corrupt(store: Path, manifest: Manifest) -> None:
    """Change a byte of a bundle's weights."""
    with (store / manifest.bundle_id / MODEL_FILE).open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff")


def announce(settings: Settings, manifest: Manifest) -> None:
    """Tell the workers about a bundle, as soon as the broker lets us; returns at once."""
    producer = Producer(producer_config(settings))
    producer.produce(settings.models_topic, key=CHAMPION, value=encode_manifest(manifest))
    producer.flush()


def load_models(store: Path) -> dict[int, Model]:
    """Load every bundle that can be loaded, by its number; the damaged ones nobody can have served."""
    torch.set_num_threads(1)  # on small batches they wait for one another most of the time
    models: dict[int, Model] = {}
    for folder in sorted(store.iterdir()):
        try:
            manifest, model = load_bundle(folder)
        except BundleError:
            continue
        models[int(manifest.bundle_id, 16)] = model
    return models
