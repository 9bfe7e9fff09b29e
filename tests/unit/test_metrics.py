"""Metrics are there from the start: a rate, and an alert, sees the first burst only if there was a value before it."""

from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.metrics import MetricWrapperBase

from rekey.metrics import RekeyMetrics
from stream.metrics import WorkerMetrics
from training.service.metrics import TrainerMetrics


@pytest.mark.parametrize("make", [WorkerMetrics, TrainerMetrics, RekeyMetrics])
def test_every_labelled_counter_begins_at_zero(make: Callable[[CollectorRegistry], object]) -> None:
    """With each of its labels; also one that is added tomorrow."""
    metrics = make(CollectorRegistry())
    labelled = [
        each
        for each in vars(metrics).values()
        if isinstance(each, MetricWrapperBase) and each._type == "counter" and each._labelnames
    ]

    assert labelled
    for counter in labelled:
        samples = [sample for family in counter.collect() for sample in family.samples if sample.labels]
        assert samples, counter._name
        assert all(sample.value == 0 for sample in samples if sample.name.endswith("_total"))
