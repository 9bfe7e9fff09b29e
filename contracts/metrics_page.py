"""The page of all metrics, docs/reference/metrics.md, as they are declared in the code."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from prometheus_client import CollectorRegistry

from feed.metrics import FeedMetrics
from rekey.metrics import RekeyMetrics
from stream.metrics import WorkerMetrics
from tools.app_registry import AppRegistry
from tools.metrics import Declaration
from tools.process_metrics import ProcessMetrics
from training.service.metrics import TrainerMetrics

FILE = Path(__file__).parents[1] / "docs" / "reference" / "metrics.md"
_HEAD = """\
# Metrics

Made from the code by `python -m contracts --write`; what they are for is in [operating.md](../operating.md) and
[decision 40](../decisions/0040-metrics.md).

Every series has the label `app`, the application's name (setting `app`), beside what Prometheus adds of its own. Labels
whose values are listed are there from the start, at 0. A histogram `x` is `x_bucket{le}`, `x_sum` and `x_count`. Only
infos name bundles: join with `* on (instance) group_left (bundle) nextclick_bundle_info`.
"""


def page() -> str:
    """Give the page."""
    parts = (
        ("Of every process", (*declared(ProcessMetrics), *_of_the_client())),
        ("Of the worker", declared(WorkerMetrics)),
        ("Of the trainer", declared(TrainerMetrics)),
        ("Of the feed", declared(FeedMetrics)),
        ("Of `nextclick rekey`", declared(RekeyMetrics)),
    )
    return "\n".join([_HEAD, *(line for title, found in parts for line in _part(title, found))]).rstrip() + "\n"


def declared(
    kind: type[ProcessMetrics | WorkerMetrics | TrainerMetrics | FeedMetrics | RekeyMetrics],
) -> Sequence[Declaration]:
    """Give what a kind of metrics declares."""
    return kind(CollectorRegistry()).declared


def _of_the_client() -> Iterable[Declaration]:
    """Give what every process shows that is not declared here."""
    registry = AppRegistry("")
    names = {each.name for each in ProcessMetrics(registry).declared}
    for family in registry.collect():
        name = family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        if name not in names:
            yield Declaration(name, family.type, family.documentation, {})


def _part(title: str, found: Sequence[Declaration]) -> Iterable[str]:
    yield from (f"## {title}", "", "| name | type | labels | meaning |", "|---|---|---|---|")
    for each in found:
        yield f"| `{each.name}` | {each.kind} | {_labels(each.labels)} | {each.meaning} |"
    yield ""


def _labels(labels: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{label}: {', '.join(values)}" if values else label for label, values in labels.items())
