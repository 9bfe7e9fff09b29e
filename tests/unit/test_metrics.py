"""Metrics are there from the start: a rate, and an alert, sees the first burst only if there was a value before it.

They are named as Prometheus wants them, and carry the application's name.
"""

import re
import shutil
import subprocess
from collections.abc import Callable

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.openmetrics.exposition import generate_latest as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from feed.metrics import FeedMetrics
from rekey.metrics import RekeyMetrics
from stream.metrics import WorkerMetrics
from tools.app_registry import AppRegistry
from tools.metrics import Declaring
from tools.process_metrics import ProcessMetrics
from training.service.metrics import TrainerMetrics

OF_A_PROCESS = [WorkerMetrics, TrainerMetrics, FeedMetrics, RekeyMetrics, ProcessMetrics]
_LATER = {"nextclick_feed_request_seconds", "nextclick_feed_requests"}  # their routes are the application's
_UNITS = ("_seconds", "_bytes", "_ratio", "_records", "_clicks")
_ABBREVIATED = re.compile(r"_(ms|s|sec|secs|kb|mb|percent|pct|count|sum|bucket|rate|per_second)(_|$)")


@pytest.mark.parametrize("make", OF_A_PROCESS)
def test_every_label_is_there_from_the_start(make: Callable[[CollectorRegistry], object]) -> None:
    """Also one that is added tomorrow."""
    for metric in vars(make(CollectorRegistry())).values():
        if isinstance(metric, MetricWrapperBase) and metric._labelnames and metric._name not in _LATER:
            found = (sample for family in metric.collect() for sample in family.samples)
            samples = [sample for sample in found if not sample.name.endswith("_created")]
            assert samples, metric._name
            assert all(sample.value == 0 for sample in samples), metric._name


@pytest.mark.parametrize("make", OF_A_PROCESS)
def test_names_say_their_units_and_nothing_else(make: Callable[[CollectorRegistry], object]) -> None:
    """Base units, no rates, nothing that a suffix of the format would be taken for; and each says what it means."""
    registry = CollectorRegistry()
    make(registry)
    families = [family for family in registry.collect() if not family.name.startswith("process_")]

    assert families
    for family in families:
        assert family.name.startswith("nextclick_")
        assert _ABBREVIATED.search(family.name) is None, family.name
        assert family.documentation.endswith("."), family.name
        if family.type == "histogram":
            assert family.name.endswith(_UNITS), family.name


@pytest.mark.parametrize("make", OF_A_PROCESS)
def test_a_scrape_can_be_read_in_either_format(make: Callable[[CollectorRegistry], object]) -> None:
    """By the client's own strict parsers; both show the same series, and none that says when one was created."""
    registry = AppRegistry("shop")
    make(registry)
    plain = text_string_to_metric_families(generate_latest(registry).decode())
    strict = read_openmetrics(openmetrics(registry).decode())
    names, strict_names = (
        {sample.name for family in families for sample in family.samples} for families in (plain, strict)
    )

    assert names == strict_names
    assert not [name for name in names if name.endswith("_created")]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("make", OF_A_PROCESS)
def test_prometheus_own_linter_finds_nothing(make: Callable[[CollectorRegistry], object]) -> None:
    registry = AppRegistry("shop")
    make(registry)
    linted = subprocess.run(["promtool", "check", "metrics"], input=generate_latest(registry), capture_output=True)

    assert (linted.returncode, linted.stdout + linted.stderr) == (0, b"")


def test_every_series_has_the_name_of_the_application() -> None:
    """Also those that are not ours, and those of a scrape that asks for some names alone."""
    registry = AppRegistry("shop")
    ProcessMetrics(registry)
    counter = Declaring(registry).counter("nextclick_things", "Things.", kind=("good", "bad"))
    counter.labels("good").inc(2)
    all_samples = [sample for family in registry.collect() for sample in family.samples]
    some = [s for f in registry.restricted_registry(["nextclick_things_total"]).collect() for s in f.samples]

    assert {sample.labels.get("app") for sample in all_samples} == {"shop"}
    assert "process_cpu_seconds_total" in {sample.name for sample in all_samples}
    assert [(sample.labels, sample.value) for sample in some] == [
        ({"app": "shop", "kind": "good"}, 2.0),
        ({"app": "shop", "kind": "bad"}, 0.0),
    ]


def test_what_is_read_at_a_scrape_has_a_series_for_as_long_as_it_is_there() -> None:
    registry, lag = CollectorRegistry(), {"0": 5.0, "1": 0.0}
    Declaring(registry).read_gauge("nextclick_lag_records", "Lag.", "partition").set_function(lambda: lag)

    assert registry.get_sample_value("nextclick_lag_records", {"partition": "0"}) == 5.0
    del lag["0"]
    assert registry.get_sample_value("nextclick_lag_records", {"partition": "0"}) is None
    assert registry.get_sample_value("nextclick_lag_records", {"partition": "1"}) == 0.0


def test_a_value_that_is_not_known_has_no_series() -> None:
    """0 would say something."""
    registry, values = CollectorRegistry(), [None, 0.0, 0.25]
    Declaring(registry).read_value("nextclick_lead_ratio", "Lead.").set_function(lambda: values.pop(0))

    assert [registry.get_sample_value("nextclick_lead_ratio") for _ in range(3)] == [None, 0.0, 0.25]


def test_one_name_is_declared_once() -> None:
    """Two of one name would be one series whose values come from either."""
    declare = Declaring(CollectorRegistry())
    declare.read_gauge("nextclick_lag_records", "Lag.", "partition")

    with pytest.raises(ValueError, match="nextclick_lag_records"):
        declare.gauge("nextclick_lag_records", "Lag.")
