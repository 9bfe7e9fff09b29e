"""Dashboards name only metrics that exist: a renamed metric would leave an empty panel that nobody notices."""

import json
import re
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from stream.metrics import WorkerMetrics
from training.service.metrics import TrainerMetrics

DASHBOARDS = sorted((Path(__file__).parents[2] / "deploy" / "grafana" / "dashboards").glob("*.json"))
_METRIC = re.compile(r"\bnextclick_\w+")


def exported_names() -> set[str]:
    """Every name that a scrape of worker and trainer can show."""
    registry = CollectorRegistry()
    WorkerMetrics(registry)
    TrainerMetrics(registry)
    suffixes = {
        "counter": ["_total"],
        "gauge": [""],
        "info": ["_info"],
        "histogram": ["_bucket", "_sum", "_count"],
    }
    return {family.name + suffix for family in registry.collect() for suffix in suffixes[family.type]}


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_metric_of_a_dashboard_exists(path: Path) -> None:
    """Read from the queries themselves."""
    dashboard = json.loads(path.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    named = {name for query in queries for name in _METRIC.findall(query)}

    assert named, "a dashboard without our metrics is no use"
    assert named <= exported_names()


def test_there_is_a_dashboard() -> None:
    """The parametrized test above would pass over an empty folder in silence."""
    assert DASHBOARDS
