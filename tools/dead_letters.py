"""What is written about a record that cannot be used: the same by every program that finds one."""

from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec

from nextclick.clicks import Rejected, RejectReason

MAX_REJECTED_BYTES = 16 * 1024  # of an original key and value that a dead letter carries
WholeNumber = Annotated[str, msgspec.Meta(pattern="^-?[0-9]+$")]


class Origin(NamedTuple):
    """Where a record stands, and its own timestamp."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int


class DeadLetterHeaders(msgspec.Struct, frozen=True):
    """The headers of a record in the topic of rejected clicks, each of them a text: why it is there, and where from.

    Attributes:
        reason: why the record cannot be used.
        detail: the same for a person; never holds the user's data.
        topic: where the record stands.
        partition: where the record stands.
        offset: where the record stands.
        time: the record's own timestamp, in ms since 1970.
        truncated: `true` when the original key or value is longer than 16 KiB: the rest of it is only there.
    """

    reason: RejectReason
    detail: str
    topic: str
    partition: WholeNumber
    offset: WholeNumber
    time: WholeNumber
    truncated: Literal["true", "false"]


class DeadLetter(NamedTuple):
    """A record for the topic of rejected clicks."""

    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


def dead_letter(rejected: Rejected, key: bytes | None, value: bytes | None, origin: Origin) -> DeadLetter:
    """Make the record that `clicks-rejected` gets: the original as far as it fits, and why it is there."""
    truncated = len(value or b"") > MAX_REJECTED_BYTES or len(key or b"") > MAX_REJECTED_BYTES
    headers = DeadLetterHeaders(
        rejected.reason,
        rejected.detail,
        origin.topic,
        str(origin.partition),
        str(origin.offset),
        str(origin.timestamp_ms),
        "true" if truncated else "false",
    )
    return DeadLetter(
        key[:MAX_REJECTED_BYTES] if key is not None else None,
        value[:MAX_REJECTED_BYTES] if value is not None else None,
        [(name, text.encode()) for name, text in msgspec.structs.asdict(headers).items()],
    )
