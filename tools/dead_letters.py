"""What is written about a record that cannot be used: the same by every program that finds one."""

from collections.abc import Sequence
from typing import NamedTuple

from nextclick.clicks import Rejected

MAX_REJECTED_BYTES = 16 * 1024  # of an original key and value that a dead letter carries


class Origin(NamedTuple):
    """Where a record stands, and its own timestamp."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class DeadLetter(NamedTuple):
    """A record for the topic of rejected clicks."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def dead_letter(rejected: Rejected, key: bytes | None, value: bytes | None, origin: Origin) -> DeadLetter:
    """Make the record that `clicks-rejected` gets: the original as far as it fits, and why it is there."""
    truncated = len(value or b"") > MAX_REJECTED_BYTES or len(key or b"") > MAX_REJECTED_BYTES
    headers = {
        "reason": rejected.reason.value,
        "detail": rejected.detail,
        "topic": origin.topic,
        "partition": str(origin.partition),
        "offset": str(origin.offset),
        "time": str(origin.timestamp_ms),
        "truncated": "true" if truncated else "false",
    }
    return DeadLetter(
        key[:MAX_REJECTED_BYTES] if key is not None else None,
        value[:MAX_REJECTED_BYTES] if value is not None else None,
        [(name, text.encode()) for name, text in headers.items()],
    )
