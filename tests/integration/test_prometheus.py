"""A real Prometheus scrapes a running worker, trainer and feed: whatever dashboards and rules ask for is there."""

import json
import math
import re
from pathlib import Path

import pytest

from tests.drawn_dashboards import DASHBOARDS, draw, filled
from tests.game_day.application import START_S, Application, wait_for
from tests.local_prometheus import MISSING, PROMETHEUS, LocalPrometheus

pytestmark = [
    pytest.mark.release,
    pytest.mark.timeout(900),
    pytest.mark.xdist_group("whole"),  # a whole application each: one at a time
    pytest.mark.skipif(PROMETHEUS is None, reason=MISSING),
]
FACTOR = 6.0
# Panel, record or series without its labels, and why normal traffic gives it no data.
WITHOUT_DATA = {
    "Hit rate of today and of last week": "nothing is a week old",
    "A bundle on trial": "none is",
    "New items": "no click has been judged on an item that is younger than the model",
    "Places that explore": "`explore` is 0",
    "Restoring states": "no worker has taken partitions within the last minute",
    "app:nextclick_broker_away:count": "every process reaches the broker",
    "app_job:nextclick_broker_away_from_all:count": "every process reaches the broker",
    "app_job:nextclick_gone:count": "all processes are there",
    "Records that wait for rekey": "no topic is copied here",
}
_OF_REKEY = re.compile(r'nextclick_rekey|"rekey"')  # which does not run here
_SELECTOR = re.compile(r"\b(?:up|nextclick_\w+|process_\w+|app(?:_job)?:[\w:]+)(?:\{[^}]*\})?")


def expects(name: str) -> bool:
    """Whether what has this name is to have data."""
    return name.partition("{")[0] not in WITHOUT_DATA and _OF_REKEY.search(name) is None


def has_data(prometheus: LocalPrometheus, expression: str) -> bool:
    """Whether there is a number: a share of nothing is none."""
    return any(not math.isnan(float(sample["value"][1])) for sample in prometheus.query(expression))


def asked_by_panels() -> list[tuple[str, str]]:
    """Every panel's title with each of its queries."""
    documents = [json.loads(path.read_text()) for path in DASHBOARDS]
    panels = [panel for document in documents for panel in document["panels"]]
    return [(panel["title"], target["expr"]) for panel in panels for target in panel.get("targets", ())]


def asked_by_rules(prometheus: LocalPrometheus) -> list[tuple[str, str]]:
    """Every record's name with its expression; of each alert every series: a whole one has data only when it fires."""
    rules = prometheus.rules()
    records = [(rule["name"], rule["query"]) for rule in rules if rule["type"] == "recording"]
    alerts = [(s, s) for rule in rules if rule["type"] == "alerting" for s in _SELECTOR.findall(rule["query"])]
    return records + alerts


def test_every_query_of_panels_and_rules_has_data(tmp_path: Path) -> None:
    """And the dashboards can be drawn from it."""
    with Application(tmp_path, FACTOR, tmp_path / "feed") as application:
        prometheus = application.prometheus
        served = "sum(nextclick_bundle_created_timestamp_seconds > 0)"
        wait_for(lambda: application.value(served), "a bundle", START_S)
        asked = [(title, filled(query, application.settings.app)) for title, query in asked_by_panels()]
        asked += asked_by_rules(prometheus)

        def empty() -> list[tuple[str, str]]:
            return [(name, query) for name, query in asked if expects(name) and not has_data(prometheus, query)]

        try:
            wait_for(lambda: not empty(), "data for every query", START_S)
        except TimeoutError:
            assert empty() == []
        for path in DASHBOARDS:
            draw(prometheus, path, application.settings.app, 3, tmp_path / f"{path.stem}.png")

        assert len(asked) > 150
        assert {name.partition("{")[0] for name, _ in asked} >= WITHOUT_DATA.keys()
        assert [(rule["name"], rule["lastError"]) for rule in prometheus.rules() if rule["health"] != "ok"] == []
        assert all((tmp_path / f"{path.stem}.png").stat().st_size > 10_000 for path in DASHBOARDS)
