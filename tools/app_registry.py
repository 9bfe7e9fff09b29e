"""The registry of a process that serves one application: everything in it carries the application's name."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, disable_created_metrics
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

APP_LABEL = "app"


class AppRegistry(CollectorRegistry):
    """A registry that adds the label `app` to every sample at a scrape.

    The client has no labels that all metrics share, and whoever counts should not have to know the application.
    """

    def __init__(self, app: str) -> None:
        """Make an empty one. The whole process exports no `_created` series from then on: they would double its series
        for what `process_start_time_seconds` says once.
        """
        super().__init__()
        self._app = app
        disable_created_metrics()  # type: ignore[no-untyped-call]

    def collect(self) -> Iterator[Metric]:
        """Give all metrics."""
        return _labelled(super().collect(), self._app)

    def restricted_registry(self, names: Iterable[str]) -> "_Restricted":  # type: ignore[override]
        """Give what a scrape sees that asks for some names."""
        return _Restricted(super().restricted_registry(names), self._app)


class _Restricted:
    def __init__(self, metrics: Collector, app: str) -> None:
        self._metrics, self._app = metrics, app

    def collect(self) -> Iterator[Metric]:
        return _labelled(self._metrics.collect(), self._app)


def _labelled(families: Iterable[Metric], app: str) -> Iterator[Metric]:
    for family in families:
        found = Metric(family.name, family.documentation, family.type, family.unit)
        found.samples = [sample._replace(labels={APP_LABEL: app, **sample.labels}) for sample in family.samples]
        yield found
