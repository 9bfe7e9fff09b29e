"""The schedule of the benchmark's load, and how waits are summed up."""

import math

from bench.load import bursts
from bench.quantiles import quantile
from bench.steady import NO_LATENCY, Latency, latencies


def test_bursts_bring_every_click_once_and_in_order() -> None:
    """Whatever the rate, no click is left out or sent twice."""
    for events_per_s in (0.5, 7.0, 1_000.0, 3_000.0, 123_456.0):
        planned = list(bursts(1_000, events_per_s))

        assert [number for burst in planned for number in range(burst.first, burst.end)] == list(range(1_000))


def test_a_click_leaves_at_its_time_or_within_one_burst_after_it() -> None:
    """The rate is the one that was asked for, from the first second on; no click leaves before its time."""
    for events_per_s in (7.0, 1_000.0, 3_000.0):
        for burst in bursts(5_000, events_per_s, burst_s=0.002):
            for number in range(burst.first, burst.end):
                early_s = number / events_per_s - burst.at_s

                assert -0.002 - 1e-9 < early_s < 1e-9


def test_a_quantile_of_few_values_is_one_of_them() -> None:
    """Nothing is interpolated: a latency that is printed was measured."""
    assert [quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [1.0, 3.0, 4.0, 4.0]
    assert math.isnan(quantile([], 0.5))


def test_only_clicks_that_were_sent_while_it_was_measured_count() -> None:
    """A wait belongs to the time when its click was sent, not to when it was answered."""
    warm_up, measured, later = [(100, 900), (199, 201)], [(200, 203), (250, 251), (300, 400)], [(301, 999)]

    found = latencies(warm_up + measured + later, from_ms=200, to_ms=300)

    assert found == Latency(3, p50_ms=3.0, p99_ms=100.0, max_ms=100.0)
    assert latencies(warm_up, from_ms=200, to_ms=300) == NO_LATENCY
