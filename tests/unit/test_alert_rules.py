"""The rules of Prometheus, by its own tool: they are valid, each alert fires when it must, none on a normal day."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.local_prometheus import MISSING, PROMTOOL
from tests.promtool import promtool

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
SEVERITIES = {"page", "ticket"}
needs_promtool = pytest.mark.skipif(PROMTOOL is None, reason=MISSING)


def groups() -> list[dict[str, Any]]:
    """All groups of rules."""
    return [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]


def alerts() -> list[dict[str, Any]]:
    """All rules that alert."""
    return [rule for group in groups() for rule in group["rules"] if "alert" in rule]


@needs_promtool
def test_the_configuration_and_its_rules_are_valid() -> None:
    """With the templates of what alerts say."""
    promtool("check", "config", PROMETHEUS / "prometheus.yml")
    promtool("check", "rules", *RULES)


@needs_promtool
@pytest.mark.release
@pytest.mark.timeout(900)
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_alerts_fire_when_they_must_and_only_then(path: Path) -> None:
    """The files say which series give which alerts, and that a normal day with a deployment gives none."""
    promtool("test", "rules", path)


def test_each_alert_is_seen_to_fire() -> None:
    """With what it says: an alert that no test expects could be one that never fires."""
    cases = [case for path in TESTS for case in yaml.safe_load(path.read_text())["tests"]]
    expected = {
        (test["alertname"], alert["exp_labels"]["severity"])
        for case in cases
        for test in case.get("alert_rule_test", ())
        for alert in test["exp_alerts"]
    }

    assert {(rule["alert"], rule["labels"]["severity"]) for rule in alerts()} == expected


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name)
def test_groups_are_evaluated_in_the_order_of_the_files(path: Path) -> None:
    """Else promtool takes any order, and an alert may see what was recorded a round before."""
    order = [group["name"] for file in (PROMETHEUS / "rules" / "records.yml", PROMETHEUS / "rules" / "alerts.yml")
             for group in yaml.safe_load(file.read_text())["groups"]]  # fmt: skip

    assert yaml.safe_load(path.read_text())["group_eval_order"] == order


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_how_urgent_it_is_and_what_to_do(rule: dict[str, Any]) -> None:
    """Its page is there, begins with its name, and has the three parts."""
    page = ROOT / rule["annotations"]["runbook_url"]
    parts = [line for line in page.read_text().splitlines() if line.startswith("#")]

    assert rule["labels"]["severity"] in SEVERITIES
    assert 20 < len(rule["annotations"]["summary"]) < 250
    assert parts == [f"# {rule['alert']}", "## What it means", "## What to look at", "## What to do"]


def test_every_page_belongs_to_an_alert() -> None:
    """A page that is left over would be read by nobody."""
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("Nextclick*.md")}

    assert pages == {rule["alert"] for rule in alerts()}
