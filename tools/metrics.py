"""What worker and trainer do alike with their metrics."""

from collections.abc import Iterable

from prometheus_client import Counter


def start_at_zero(counter: Counter, labels: Iterable[str]) -> None:
    """Let every label of a counter be there from the start: a burst that it begins with has no rate."""
    for label in labels:
        counter.labels(label)
