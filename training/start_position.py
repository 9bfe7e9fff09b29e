"""Decides where reading begins: where the click log ends, and for a new partition where the settings say. Pure."""

from collections.abc import Mapping

from nextclick.errors import PermanentError
from training.click_consumer import Span
from training.click_log import ClickLog


def start_positions(log: ClickLog, spans: Mapping[int, Span], topic: str, start: str) -> dict[int, int]:
    """Give the offset to read first, for every partition.

    Args:
        log: the click log.
        spans: what the topic holds.
        topic: its name, for the messages.
        start: `earliest` or `latest`: where a partition begins that the log does not know.

    Raises:
        PermanentError: the topic lacks clicks that should come next: they were removed before they were logged.
    """
    positions = {}
    for partition, span in spans.items():
        end = log.ends.get(partition)
        if end is None:
            positions[partition] = span.first if start == "earliest" else span.end
        elif end < span.first:
            gap = log.path_of(partition, end, span.first - 1)
            raise PermanentError(
                f"expected offset {end} of partition {partition} of {topic} next, found that the topic begins at "
                f"{span.first}: the clicks {end} to {span.first - 1} were removed before they were logged. To go on "
                f"without them, create an empty file of that range: touch {gap}"
            )
        elif end > span.end:
            raise PermanentError(
                f"expected partition {partition} of {topic} to reach offset {end}, where the click log {log.folder} "
                f"ends, found that it ends at {span.end}: the topic was created anew; move the click log away"
            )
        else:
            positions[partition] = end
    return positions
