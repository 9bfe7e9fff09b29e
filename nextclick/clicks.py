"""A click: the one kind of input. Decodes and validates a record's value, and says why when it cannot.

A bad click is a value (`Rejected`), never an exception: bad input is data.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from nextclick.settings import Settings

MAX_VALUE_BYTES = 16 * 1024  # a click is a few hundred bytes; more is a mistake of the producer
MAX_ID_BYTES = 256
MAX_TIMESTAMP_MS = 253_402_300_799_999  # the end of the year 9999
FUTURE_TOLERANCE_MS = 24 * 3600 * 1000  # beyond the record's own timestamp a click's time is a mistake

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
    MISSING_FIELD = "missing_field"
    BAD_FIELD = "bad_field"
    NO_KEY = "no_key"
    WRONG_KEY = "wrong_key"
    WRONG_PARTITION = "wrong_partition"
    IN_THE_FUTURE = "in_the_future"
    FORGET_UNSUPPORTED = "forget_unsupported"


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that cannot be used, and why. `detail` is for a person and never holds the user's data."""

    reason: RejectReason
    detail: str


class Click(NamedTuple):
    """One click as it is applied: who, what, when (event time), which kind."""

    user_id: str
    item_id: str
    timestamp_ms: int
    event_type: int


class ClickFields(NamedTuple):
    """The names of a click's fields in its JSON object."""

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp_ms"
    event: str = "event_type"

    @classmethod
    def of(cls, settings: Settings) -> "ClickFields":
        """The names that the settings give."""
        return cls(settings.user_field, settings.item_field, settings.time_field, settings.event_field)


Decode = Callable[[bytes | None, bytes | None, int], Click | Rejected]


def click_decoder(fields: ClickFields) -> Decode:
    """Build the function that turns a record into a click.

    Args:
        fields: the names of the fields in the JSON object.

    Returns:
        A function of (key, value, the record's own timestamp in ms) that returns a `Click`, or `Rejected`. It never
        raises for any bytes.
    """
    wire: Any = msgspec.defstruct(
        "WireClick",
        [("user", str | int), ("item", str | int), ("time", int | None, None), ("event", str, "view")],
        rename={"user": fields.user, "item": fields.item, "time": fields.time, "event": fields.event},
    )
    decoder = msgspec.json.Decoder(wire)
    event_codes = {name: code for code, name in enumerate(EVENT_TYPES)}

    def decode(key: bytes | None, value: bytes | None, record_timestamp_ms: int) -> Click | Rejected:
        if key is None:
            return Rejected(RejectReason.NO_KEY, "expected the user id as the record's key, found none")
        wire = _read_json(decoder, value)
        if isinstance(wire, Rejected):
            return wire
        # Many systems number their users and items.
        user_id, item_id = str(wire.user), str(wire.item)
        user_bytes = user_id.encode(errors="surrogatepass")
        item_bytes = item_id.encode(errors="surrogatepass")
        if not 0 < len(user_bytes) <= MAX_ID_BYTES or not 0 < len(item_bytes) <= MAX_ID_BYTES:
            return Rejected(
                RejectReason.BAD_FIELD, f"expected ids of 1 to {MAX_ID_BYTES} bytes, found a shorter or longer one"
            )
        if "\0" in user_id or "\0" in item_id:  # no id of anyone's, and the local store keeps names of its own with it
            return Rejected(RejectReason.BAD_FIELD, "expected ids without the character NUL, found one with it")
        if key != user_bytes:
            return Rejected(RejectReason.WRONG_KEY, f"expected the key to equal the field {fields.user!r}")
        timestamp_ms = wire.time if wire.time is not None else record_timestamp_ms
        if not 0 <= timestamp_ms <= min(record_timestamp_ms + FUTURE_TOLERANCE_MS, MAX_TIMESTAMP_MS):
            return Rejected(
                RejectReason.IN_THE_FUTURE if timestamp_ms > 0 else RejectReason.BAD_FIELD,
                "expected an event time in ms since 1970, at most a day after the record's own timestamp",
            )
        if wire.event == FORGET:
            return Rejected(RejectReason.FORGET_UNSUPPORTED, "this version cannot erase a user yet")
        return Click(user_id, item_id, timestamp_ms, event_codes.get(wire.event, OTHER_EVENT))

    return decode


def _read_json(decoder: "msgspec.json.Decoder[Any]", value: bytes | None) -> Any:
    """Give the fields of a click's JSON, or `Rejected`."""
    if value is None:
        return Rejected(RejectReason.BAD_JSON, "expected a JSON object, found no value")
    if len(value) > MAX_VALUE_BYTES:
        return Rejected(RejectReason.TOO_LARGE, f"expected at most {MAX_VALUE_BYTES} bytes, found {len(value)}")
    try:
        return decoder.decode(value)
    except msgspec.ValidationError as error:
        reason = RejectReason.MISSING_FIELD if "missing required" in str(error) else RejectReason.BAD_FIELD
        return Rejected(reason, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Rejected(RejectReason.BAD_JSON, "expected a JSON object, found bytes that are not JSON")


def encode_click(fields: ClickFields, user_id: str, item_id: str, timestamp_ms: int, event_type: str = "view") -> bytes:
    """Give the JSON of a click, as `click_decoder` reads it. The record's key must be the user id's UTF-8."""
    return msgspec.json.encode(
        {fields.user: user_id, fields.item: item_id, fields.time: timestamp_ms, fields.event: event_type}
    )
