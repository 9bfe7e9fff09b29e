"""How every process declares its metrics, so that all of them begin, end and are named in one way."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase

if TYPE_CHECKING:
    from tools.bulk_histogram import BulkHistogram

_M = TypeVar("_M", bound=MetricWrapperBase)


class Declaration(NamedTuple):
    """A metric as it was declared.

    Attributes:
        name: as scrapes have it.
        kind: counter, gauge, histogram or info.
        meaning: in a sentence.
        labels: with their values; without, where these come and go.
    """

    name: str
    kind: str
    meaning: str
    labels: Mapping[str, Sequence[str]]


class Declaring:
    """Declares metrics in a registry.

    Labels are given with all their values, and all of them are there from the start: a burst that a series begins with
    has no rate, and an alert does not see it.

    Attributes:
        declared: all of them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.declared: list[Declaration] = []
        self._registry = registry

    def counter(self, name: str, meaning: str, **labels: Iterable[str]) -> Counter:
        """Declare what only grows; scrapes name it with `_total` behind."""
        self._note(f"{name}_total", "counter", meaning, labels)
        return _begun(Counter(name, meaning, list(labels), registry=self._registry), labels)

    def gauge(self, name: str, meaning: str, **labels: Iterable[str]) -> Gauge:
        """Declare what goes up and down."""
        self._note(name, "gauge", meaning, labels)
        return _begun(Gauge(name, meaning, list(labels), registry=self._registry), labels)

    def histogram(self, name: str, meaning: str, buckets: Sequence[float], **labels: Iterable[str]) -> Histogram:
        """Declare what is counted by its size.

        Args:
            name: with its unit.
            meaning: of it.
            buckets: upper bounds, ascending.
            labels: with their values.
        """
        self._note(name, "histogram", meaning, labels)
        return _begun(Histogram(name, meaning, list(labels), buckets=buckets, registry=self._registry), labels)

    def bulk_histogram(self, name: str, meaning: str, bounds: Sequence[float]) -> "BulkHistogram":
        """Declare what is counted by its size, many values at once."""
        from tools.bulk_histogram import BulkHistogram  # needs numpy, which a feed begins without

        self._note(name, "histogram", meaning, {})
        histogram = BulkHistogram(name, meaning, bounds)
        self._registry.register(histogram)
        return histogram

    def info(self, name: str, meaning: str, *labels: str) -> Info:
        """Declare texts by their labels' names; scrapes name it with `_info` behind."""
        self._note(f"{name}_info", "info", meaning, dict.fromkeys(labels, ()))
        return Info(name, meaning, registry=self._registry)

    def read_gauge(self, name: str, meaning: str, label: str) -> "ReadGauge":
        """Declare what is read when somebody asks, by a label whose values come and go."""
        self._note(name, "gauge", meaning, {label: ()})
        gauge = ReadGauge(name, meaning, label)
        self._registry.register(gauge)
        return gauge

    def read_value(self, name: str, meaning: str) -> "ReadValue":
        """Declare one value that is read when somebody asks, and is not always known."""
        self._note(name, "gauge", meaning, {})
        value = ReadValue(name, meaning)
        self._registry.register(value)
        return value

    def read_counter(self, name: str, meaning: str) -> "ReadCounter":
        """Declare what is counted elsewhere, and read when somebody asks."""
        self._note(f"{name}_total", "counter", meaning, {})
        counter = ReadCounter(name, meaning)
        self._registry.register(counter)
        return counter

    def _note(self, name: str, kind: str, meaning: str, labels: Mapping[str, Iterable[str]]) -> None:
        values = {label: tuple(map(str, each)) for label, each in labels.items()}
        self.declared.append(Declaration(name, kind, meaning, values))


class ReadGauge:
    """A gauge that is read at each scrape: a value that is no more has no series."""

    def __init__(self, name: str, meaning: str, label: str) -> None:
        self._name, self._meaning, self._label = name, meaning, label
        self._read: Callable[[], Mapping[str, float]] = dict

    def set_function(self, read: Callable[[], Mapping[str, float]]) -> None:
        """Read it so, in the thread of whoever scrapes: label to value."""
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Give its name, before there are values."""
        return [GaugeMetricFamily(self._name, self._meaning, labels=[self._label])]

    def collect(self) -> Iterable[Metric]:
        """Give its values."""
        family = GaugeMetricFamily(self._name, self._meaning, labels=[self._label])
        for label, value in self._read().items():
            family.add_metric([label], value)
        return [family]


class ReadValue:
    """A gauge without labels that is read at each scrape: while its value is not known, it has no series."""

    def __init__(self, name: str, meaning: str) -> None:
        self._name, self._meaning = name, meaning
        self._read: Callable[[], float | None] = lambda: None

    def set_function(self, read: Callable[[], float | None]) -> None:
        """Read it so, in the thread of whoever scrapes; None: not known."""
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Give its name, before there is a value."""
        return [GaugeMetricFamily(self._name, self._meaning)]

    def collect(self) -> Iterable[Metric]:
        """Give its value."""
        return [GaugeMetricFamily(self._name, self._meaning, value=self._read())]


class ReadCounter:
    """A counter that is read at each scrape; 0 until it is known where."""

    def __init__(self, name: str, meaning: str) -> None:
        self._name, self._meaning = name, meaning
        self._read: Callable[[], float] = float

    def set_function(self, read: Callable[[], float]) -> None:
        """Read it so, in the thread of whoever scrapes."""
        self._read = read

    def describe(self) -> Iterable[Metric]:
        """Give its name."""
        return [CounterMetricFamily(self._name, self._meaning)]

    def collect(self) -> Iterable[Metric]:
        """Give its value."""
        return [CounterMetricFamily(self._name, self._meaning, value=self._read())]


def _begun(metric: _M, labels: Mapping[str, Iterable[str]]) -> _M:
    for values in itertools.product(*labels.values()) if labels else ():
        metric.labels(*values)
    return metric
