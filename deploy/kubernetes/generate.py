"""Writes the manifests that say again what another file of the checkout says: `python deploy/kubernetes/generate.py`.

Alerts and recording rules are those of deploy/prometheus/rules, dashboards those of deploy/grafana (kustomize takes no
file from outside of its folder), topics those that `nextclick topics` creates with the
settings of base/settings.env. A test compares what lies here with what would be written.
"""

from pathlib import Path
from typing import Any

import yaml

from nextclick.settings import Settings
from stream.topics.topics import topic_plans

HERE = Path(__file__).parent
RULES = HERE.parent / "prometheus" / "rules"
DASHBOARDS = HERE.parent / "grafana" / "dashboards"
CLUSTER = "nextclick"
SAFE = {"min.insync.replicas": "2"}  # of three replicas, as `nextclick topics` has it on three brokers


def settings_of_base() -> Settings:
    """Give the settings of every pod."""
    lines = (HERE / "base" / "settings.env").read_text().splitlines()
    return Settings.load(dict(line.split("=", 1) for line in lines if line and not line.startswith("#")))


def prometheus_rule() -> list[dict[str, Any]]:
    """Give all rules of all files as one PrometheusRule."""
    groups = [group for file in sorted(RULES.glob("*.yml")) for group in yaml.safe_load(file.read_text())["groups"]]
    return [_resource("monitoring.coreos.com/v1", "PrometheusRule", "nextclick", {}, {"groups": groups})]


def kafka_topics() -> list[dict[str, Any]]:
    """Give a KafkaTopic for each topic."""
    settings, labels = settings_of_base(), {"strimzi.io/cluster": CLUSTER}
    return [
        _resource(
            "kafka.strimzi.io/v1",
            "KafkaTopic",
            plan.name,
            labels,
            {"partitions": plan.partitions, "replicas": 3, "config": plan.config | SAFE},
        )
        for plan in topic_plans(settings, settings.partitions)
    ]


def generated() -> dict[Path, str]:
    """Give the text of every file that is written here, by its path."""
    monitoring = HERE / "components" / "monitoring"
    dashboards = {monitoring / "dashboards" / path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    return dashboards | {
        monitoring / "rules.yaml": _text(prometheus_rule()),
        HERE / "components" / "strimzi" / "topics.yaml": _text(kafka_topics()),
    }


def _resource(version: str, kind: str, name: str, labels: dict[str, str], spec: dict[str, Any]) -> dict[str, Any]:
    metadata = {"name": name} | ({"labels": labels} if labels else {})
    return {"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec}


def _text(resources: list[dict[str, Any]]) -> str:
    note = "# Written by deploy/kubernetes/generate.py: change what it reads, and run it.\n"
    return note + yaml.safe_dump_all(resources, sort_keys=False, width=120)


if __name__ == "__main__":
    for path, text in generated().items():
        path.write_text(text)
