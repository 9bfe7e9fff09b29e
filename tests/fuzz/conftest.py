"""How long the fuzz tests search: a moment in every run of the tests, minutes with `make fuzz`."""

import resource
from collections.abc import Iterator
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, Phase, settings

HANG = timedelta(seconds=10)  # an example takes milliseconds; what takes so long hangs
MAX_GROWTH_KIB = 512 * 1024  # of the process's memory: hostile input is small here, and so must be what comes of it

# A failure in a usual run is found again, and made small, by `make fuzz`.
QUICK = (Phase.explicit, Phase.generate)
settings.register_profile("test", max_examples=100, deadline=HANG, derandomize=True, phases=QUICK)
settings.register_profile(
    "fuzz", max_examples=15_000, deadline=HANG, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
# `--hypothesis-profile` is applied after this file is read, when the folder is named on the command line.
settings.load_profile("test")


@pytest.fixture(autouse=True)
def bounded_memory() -> Iterator[None]:
    """Fails a test whose input made the process grow out of proportion."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH_KIB
