"""How long the fuzz tests search: a moment in every run of the tests, minutes with `make fuzz`."""

import itertools
import resource
from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, settings

from nextclick.network_config import NetworkConfig
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network, served_model

HANG = timedelta(seconds=10)  # an example takes milliseconds; what takes so long hangs
BUSY_HANG = timedelta(seconds=60)  # beside other tests, which take the cores for seconds
MAX_GROWTH_KIB = 512 * 1024  # of the process's memory: hostile input is small here, and so must be what comes of it

# A failure in a usual run is found again, and made small, by `make fuzz`.
QUICK = (Phase.explicit, Phase.generate)
settings.register_profile("test", max_examples=100, deadline=BUSY_HANG, derandomize=True, phases=QUICK)
settings.register_profile(
    "fuzz", max_examples=5_000, deadline=HANG, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# `--hypothesis-profile` is applied after this file is read, when the folder is named on the command line.
settings.load_profile("test")


@pytest.fixture(autouse=True, scope="session")
def compiled() -> None:
    """An example that waits for what is compiled at first use would seem to hang."""
    for cell, n_neighbours in itertools.product(("gru", "lstm", "rnn"), (0, 3)):
        network = random_network(NetworkConfig(5, 4, cell, skip=n_neighbours > 0, n_neighbours=n_neighbours), seed=4)
        served_model("0" * 16, network, Vocabulary(["a", "b", "c", "d", "e"], np.ones(5))).warm_up()


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Fails a test whose input made the process grow out of proportion."""
    n_threads, before = torch.get_num_threads(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    torch.set_num_threads(1)  # the networks are tiny
    yield
    torch.set_num_threads(n_threads)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH_KIB
