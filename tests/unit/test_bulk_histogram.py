"""Many values at once are counted as the client's own histogram counts them one by one."""

import itertools

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from tools.bulk_histogram import BulkHistogram, coarse_bounds, fine_bounds
from tools.metrics import Declaring

BOUNDS = (0.1, 0.5, 1.0, 10.0)


@pytest.mark.parametrize("seed", range(3))
def test_a_scrape_shows_what_it_shows_of_the_clients_own(seed: int) -> None:
    """Values on a bound and beyond the last one included."""
    values = np.concatenate([np.random.default_rng(seed).exponential(2.0, 500), [0.0, 0.1, 0.5, 10.0, 11.0, 1e6]])
    registry, reference = CollectorRegistry(), CollectorRegistry()
    bulk = Declaring(registry).bulk_histogram("a_seconds", "A.", BOUNDS)
    one_by_one = Histogram("a_seconds", "A.", buckets=BOUNDS, registry=reference)
    bulk.observe(values[:100])
    bulk.observe(values[100:])
    bulk.observe(np.zeros(0))
    bulk.observe_same(0.5, 3)
    for value in [*values.tolist(), 0.5, 0.5, 0.5]:
        one_by_one.observe(value)

    lines, expected = (
        [line for line in generate_latest(each).decode().splitlines() if "_sum" not in line and "_created" not in line]
        for each in (registry, reference)
    )
    assert lines == expected
    assert registry.get_sample_value("a_seconds_sum") == pytest.approx(reference.get_sample_value("a_seconds_sum"))


def test_a_name_that_is_taken_is_refused() -> None:
    registry = CollectorRegistry()
    Histogram("a_seconds", "A.", registry=registry)

    with pytest.raises(ValueError, match="a_seconds_count"):
        registry.register(BulkHistogram("a_seconds", "A.", BOUNDS))


def test_bounds_rise_in_steps_that_are_as_fine_as_they_say() -> None:
    """And hold the numbers that people set limits by."""
    fine, coarse = fine_bounds(0.002, 630), coarse_bounds(0.0001, 630)

    assert (fine[0], fine[-1]) == (0.002, 630.0)
    assert (coarse[0], coarse[-1]) == (0.0001, 630.0)
    assert max(after / before for before, after in itertools.pairwise(fine)) < 1.15
    assert max(after / before for before, after in itertools.pairwise(coarse)) < 1.61
    assert {0.005, 0.05, 0.5, 1.0, 5.0, 50.0} <= set(fine)
