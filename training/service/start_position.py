"""Decides where reading begins, and whether the topic still has what should come next. Pure."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nextclick.errors import PermanentError


class Span(NamedTuple):
    """The offsets that a partition holds: [first, end)."""

    first: int
    end: int


class LostClicks(NamedTuple):
    """Offsets, both inclusive, that the topic removed before they were logged."""

    partition: int
    first: int
    last: int


def start_positions(ends: Mapping[int, int], spans: Mapping[int, Span], start: str) -> dict[int, int]:
    """Give the offset to read first, for every partition.

    Args:
        ends: where the click log ends, for the partitions that it knows.
        spans: what the topic holds.
        start: `earliest` or `latest`: where a partition begins that the log does not know.
    """
    return {
        partition: ends.get(partition, span.first if start == "earliest" else span.end)
        for partition, span in spans.items()
    }


def lost_clicks(positions: Mapping[int, int], spans: Mapping[int, Span]) -> list[LostClicks]:
    """Give what should be read next but is no longer there, by partition."""
    return [
        LostClicks(partition, positions[partition], span.first - 1)
        for partition, span in sorted(spans.items())
        if positions.get(partition, span.first) < span.first
    ]


def lost_clicks_error(topic: str, lost: Sequence[LostClicks]) -> PermanentError:
    """Name every range that was lost, and the way on."""
    ranges = ", ".join(f"{first} to {last} of partition {partition}" for partition, first, last in lost)
    return PermanentError(
        f"expected the topic {topic} to have every click that is not logged yet, found that its retention removed "
        f"the clicks {ranges}; `nextclick train --skip-lost` goes on without them; raise retention.ms of the topic, "
        "or run the trainer more often"
    )


def check_same_topic(topic: str, positions: Mapping[int, int], spans: Mapping[int, Span]) -> None:
    """Check that positions can belong to the topic as it is: offsets only grow, and partitions do not go away.

    Raises:
        PermanentError: the topic was created anew: its offsets would be taken for clicks that are known.
    """
    remedy = (
        "was it created anew? Move the click log away, or choose a new one with --set log_dir=PATH: it begins with "
        "the clicks that the topic has now"
    )
    for partition, position in sorted(positions.items()):
        span = spans.get(partition)
        if span is None:
            raise PermanentError(
                f"expected the topic {topic} to have partition {partition}, which the click log has clicks of, "
                f"found partitions {', '.join(map(str, sorted(spans)))}; {remedy}"
            )
        if span.end < position:
            raise PermanentError(
                f"expected partition {partition} of {topic} to reach offset {position}, where the click log ends, "
                f"found that it ends at {span.end}; {remedy}"
            )
