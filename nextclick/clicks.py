"""A click, the one kind of input, and what else can become of a record. How a record is read: `nextclick.schema`.

A record that cannot be used is a value (`Rejected`), never an exception: bad input is data.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

MAX_VALUE_BYTES = 256 * 1024  # an event of a shop has some KB, and a record can hold several; more is a mistake
MAX_EVENTS = 1_000  # in one record: they are applied together, and others wait
MAX_ID_BYTES = 256
# 1995: nobody clicked before; broken clocks, and seconds since a load, say so. The ticks of .NET, which pass for
# nanoseconds, stay below it until the year 2500. MovieLens, the oldest data set that is read, begins a week later.
MIN_TIMESTAMP_MS = 788_918_400_000
MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999
FUTURE_TOLERANCE_MS = 24 * 3600 * 1000  # beyond the reader's own clock a click's time is a mistake

# One byte in the user's state. Only ever append: the numbers are stored.
EVENT_TYPES = ("view", "cart", "purchase", "like", "search", "play")
OTHER_EVENT = 255
FORGET = "forget"

# Headers of a copy that `nextclick repartition` made of a click that was not answered yet, in its user's new partition.
FORWARDED_HEADER = "nextclick-forwarded"  # where the click stood: partition/offset
APPLIED_HEADER = "nextclick-applied"  # there when the user's state contains the click already: only its answer is due


class RejectReason(StrEnum):
    """Why a record cannot be used. The names are the values of the header `reason` and of the metric's label."""

    TOO_LARGE = "too_large"
    BAD_JSON = "bad_json"
    NEEDS_REGISTRY = "needs_registry"
    UNDECODABLE = "undecodable"
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"
    NO_KEY = "no_key"
    WRONG_KEY = "wrong_key"
    WRONG_PARTITION = "wrong_partition"
    IN_THE_FUTURE = "in_the_future"
    FORGET_UNSUPPORTED = "forget_unsupported"


class IgnoreReason(StrEnum):
    """Why a record that is as it should be is no click. The names are the values of the metric's label."""

    EVENT_TYPE = "event_type"
    DELETE = "delete"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used, and why. `detail` is for a person and never holds the user's data."""

    reason: RejectReason
    detail: str


@dataclass(frozen=True, slots=True)
class Ignored:
    """A record that is no click, and is not meant to be one: it is counted, and that is all."""

    reason: IgnoreReason


class Click(NamedTuple):
    """One click as it is applied.

    Attributes:
        user_id: who clicked.
        item_id: what was clicked.
        timestamp_ms: event time.
        event_type: its number, see `EVENT_TYPES`.
        event_hash: 32 bits of the event's own id, by which a client's retry is known; 0: it has none.
    """

    user_id: str
    item_id: str
    timestamp_ms: int
    event_type: int
    event_hash: int = 0


Decoded = tuple[Click, ...] | Ignored | Rejected  # a record can hold several clicks, all of one user
