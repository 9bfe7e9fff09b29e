"""Dashboards and rules: made of the file that makes them, whole, and of metrics that exist."""

import importlib.util
import json
import re
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from feed.metrics import FeedMetrics
from rekey.metrics import RekeyMetrics
from stream.metrics import WorkerMetrics
from tests.local_prometheus import MISSING, PROMTOOL
from tests.promtool import promtool
from tools.process_metrics import ProcessMetrics
from training.service.metrics import TrainerMetrics

DEPLOY = Path(__file__).parents[2] / "deploy"
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
QUESTIONS = ["Healthy?", "Fast?", "Any good?", "What does it cost?"]
GIVEN = {"up", "ALERTS"}  # what Prometheus itself has
_METRIC = re.compile(r"\b(?:nextclick|process)_\w+|\b(?:up|ALERTS)\b(?=\{)|\bapp(?:_job)?:[\w:]+")


def exported_names() -> set[str]:
    """Every name that a scrape can show."""
    registry = CollectorRegistry()
    for make in (WorkerMetrics, TrainerMetrics, FeedMetrics, RekeyMetrics, ProcessMetrics):
        make(registry)
    suffixes = {
        "counter": ["_total"],
        "gauge": [""],
        "info": ["_info"],
        "histogram": ["_bucket", "_sum", "_count"],
    }
    return {family.name + suffix for family in registry.collect() for suffix in suffixes[family.type]}


def rules() -> list[dict[str, Any]]:
    """Every rule."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def panels(path: Path) -> list[dict[str, Any]]:
    """The panels of a dashboard, rows among them."""
    return list(json.loads(path.read_text())["panels"])


def queries(path: Path) -> list[str]:
    """What a dashboard asks for."""
    return [target["expr"] for panel in panels(path) for target in panel.get("targets", ())]


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    """The file that makes them, which is in no package."""
    specification = importlib.util.spec_from_file_location("make_dashboards", DEPLOY / "grafana" / "make_dashboards.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    with warnings.catch_warnings():  # of the schema that files for Grafana are in, it says that there is a newer one
        warnings.simplefilter("ignore", DeprecationWarning)
        specification.loader.exec_module(module)
    return module


def test_dashboards_are_what_is_made(maker: ModuleType) -> None:
    """To mend it: python deploy/grafana/make_dashboards.py"""
    assert {path.name: path.read_text() for path in DASHBOARDS} == maker.documents()


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_is_of_grafanas_schema(path: Path, maker: ModuleType) -> None:
    """The types of Grafana's SDK read it, and nothing is left out when they write it again."""
    document = json.loads(path.read_text())
    read = maker.model.Dashboard.from_json(document)

    assert json.loads(json.dumps(read, cls=maker.JSONEncoder)) == document


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_a_dashboard_answers_the_four_questions(path: Path) -> None:
    """In this order, for a data source and applications to choose, and panels within the page that do not overlap."""
    document = json.loads(path.read_text())
    places = [panel["gridPos"] for panel in document["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert [panel["title"] for panel in document["panels"] if panel["type"] == "row"] == QUESTIONS
    assert [variable["name"] for variable in document["templating"]["list"]] == ["datasource", "app"]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_query_is_of_the_chosen_application(path: Path) -> None:
    """All of our metrics have the label, and two applications in one Prometheus are neither added up nor mixed."""
    [chosen] = [each for each in json.loads(path.read_text())["templating"]["list"] if each["name"] == "app"]
    assert not chosen.get("includeAll")
    assert not chosen.get("multi")
    for query in queries(path):
        ours = re.findall(r"\b(?:nextclick_\w+|process_\w+|app(?:_job)?:[\w:]+)(\{[^}]*\})?", query)

        assert all('app=~"$app"' in labels for labels in ours), query
        for labels in re.findall(r"ALERTS(\{[^}]*\})?", query):
            assert 'alertname=~"Nextclick.*"' in labels, query
            assert 'app=~"$app|"' in labels, query


@pytest.mark.skipif(PROMTOOL is None, reason=MISSING)
def test_a_panel_shows_what_stands_in_the_first_scrape(maker: ModuleType, tmp_path: Path) -> None:
    """A worker finds a loss as it starts: to `increase` that is no rise, and the alert says otherwise."""
    lost = maker.rise("nextclick_clicks_lost_total", 86_400).replace("$app", "shop")
    workers = {  # when each was started, and what it has counted
        "old": ("0x4000", "900x4000"),
        "new": ("_x60 3600x3940", "_x60 900x3940"),
        "later": ("0x4000", "0x100 70x3900"),
    }
    series = {
        f'{metric}{{app="shop",job="worker",instance="{name}"}}': values
        for name, of_worker in workers.items()
        for metric, values in zip(("process_start_time_seconds", "nextclick_clicks_lost_total"), of_worker, strict=True)
    }
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {"expr": f"round({lost})", "eval_time": "24h", "exp_samples": [{"labels": "{}", "value": 970}]},
            {"expr": f"round({lost})", "eval_time": "60h", "exp_samples": []},
        ],
    }
    (tmp_path / "tests.yml").write_text(yaml.safe_dump({"rule_files": [], "tests": [test]}))

    promtool("test", "rules", tmp_path / "tests.yml")


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_no_legend_grows_with_bundles(path: Path) -> None:
    """Each training makes one: only tables of what is now may name them."""
    for panel in panels(path):
        if panel["type"] == "timeseries":
            assert all("bundle" not in target.get("legendFormat", "") for target in panel["targets"]), panel["title"]
            assert all("bundle," not in target["expr"] for target in panel["targets"]), panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.name)
def test_every_metric_of_a_dashboard_exists(path: Path) -> None:
    """A renamed metric would leave an empty panel that nobody notices."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    named = {name for query in queries(path) for name in _METRIC.findall(query)}

    assert any(name.startswith("nextclick_") for name in named)
    assert named - exported_names() - recorded <= GIVEN


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_every_metric_of_a_rule_exists(path: Path) -> None:
    """An alert on a metric that is not there never fires."""
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    asked = [rule["expr"] for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]
    named = {name for query in asked for name in _METRIC.findall(query)}

    assert len(named) > 10
    assert named - exported_names() - recorded <= GIVEN


def test_there_are_dashboards_and_rules() -> None:
    """The parametrized tests above would pass over empty folders in silence."""
    assert [path.stem for path in DASHBOARDS] == ["recommendations", "service", "training"]
    assert [path.stem for path in RULES] == ["alerts", "records"]
