"""The quick way for what most topics have: a JSON object with plain names, the user's text as key, times in ms.

It takes only what is beyond doubt, and gives everything else to the general way, which would say the same of all of it.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from nextclick.clicks import FUTURE_TOLERANCE_MS, MAX_ID_BYTES, MAX_VALUE_BYTES, MIN_TIMESTAMP_MS, Click, Decoded
from nextclick.hashing import event_hash
from nextclick.quick_tuples import quick
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.paths import Headers
from nextclick.schema.times import DATES_FROM

Decode = Callable[[bytes | None, bytes | None, Headers, int, int], Decoded]

_click = quick(Click)
_MAX_CHARACTERS = MAX_ID_BYTES // 4  # of 4 bytes at most
_ANYTHING = str | int | float | None  # a value of another kind makes an exception, which costs more than a look


def is_plain(schema: ClickSchema) -> bool:
    """Tell whether records of a schema can be read in the quick way."""
    paths = (schema.user, schema.item, schema.time, schema.event, *([schema.id] if schema.id is not None else []))
    is_as_it_stands = schema.envelope == "none" and schema.list is None
    return all(path.plain for path in paths) and is_as_it_stands and schema.check_key and schema.key_format == "text"


def plain_decoder(schema: ClickSchema, general: Decode) -> Decode:
    """Build the quick way; see `nextclick.schema.decoder.click_decoder`.

    Args:
        schema: a plain one.
        general: decodes whatever is not beyond doubt.
    """
    names = {
        "user": schema.user.plain,
        "item": schema.item.plain,
        "time": schema.time.plain,
        "kind": schema.event.plain,
    }
    if schema.id is not None:
        names["id"] = schema.id.plain
    fields = [(name, _ANYTHING, None) for name in names]
    without: dict[str, Any] = {} if schema.id is not None else {"id": None}  # an event without a place for its id
    wire: Any = msgspec.defstruct("WireClick", fields, namespace=without, rename=names.get, gc=False)
    parse, codes, default = msgspec.json.Decoder(wire).decode, schema.events.codes, "view"

    def decode(
        key: bytes | None, value: bytes | None, headers: Headers, record_timestamp_ms: int, now_ms: int
    ) -> Decoded:
        if value is not None and len(value) <= MAX_VALUE_BYTES:
            try:
                read = parse(value)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                return general(key, value, headers, record_timestamp_ms, now_ms)
            user, item, time, kind, hashed = read.user, read.item, read.time, read.kind, 0
            if read.id is not None:
                if type(read.id) is not str or not read.id:
                    return general(key, value, headers, record_timestamp_ms, now_ms)
                hashed = event_hash(read.id)
            if type(user) is str and type(item) is str and type(time) is int:
                code = codes.get(default if kind is None else kind)
                is_now = MIN_TIMESTAMP_MS <= time < DATES_FROM and time <= now_ms + FUTURE_TOLERANCE_MS
                fit = 0 < len(user) <= _MAX_CHARACTERS and 0 < len(item) <= _MAX_CHARACTERS
                if code is not None and is_now and key == user.encode() and fit and "\0" not in user + item:
                    return (_click((user, item, time, code, hashed)),)
        return general(key, value, headers, record_timestamp_ms, now_ms)

    return decode
