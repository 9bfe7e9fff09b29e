"""What stands around an event: CloudEvents, Debezium's change events, Kafka Connect's schema and payload."""

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import msgspec

from nextclick.clicks import Ignored, IgnoreReason, Rejected, RejectReason
from nextclick.schema.paths import Headers

EnvelopeName = Literal["none", "cloudevents", "debezium", "connect"]
ENVELOPES: tuple[str, ...] = get_args(EnvelopeName)

_CE_HEADER = "ce_"
_DELETE = Ignored(IgnoreReason.DELETE)
_ROW_OPERATIONS = ("c", "r", "u")  # created, read in a snapshot, updated


class Event(NamedTuple):
    """An event as the paths see it.

    Attributes:
        documents: where fields are looked for, one after another: the event, then what its envelope says.
        time: the envelope's, for an event without one of its own.
    """

    documents: Sequence[Any]
    time: Any = None


Unwrap = Callable[[Any, Headers], Event | Ignored | Rejected]


def unwrapper(envelope: str) -> Unwrap:
    """Give the function that takes an event out of its envelope: of (the parsed value, the record's headers)."""
    return {"none": _bare, "cloudevents": _cloudevent, "debezium": _debezium, "connect": _connect}[envelope]


def _bare(document: Any, headers: Headers) -> Event | Ignored | Rejected:
    if not isinstance(document, dict):
        return _unexpected("a JSON object, or an array of them", document)
    return Event((document,))


def _connect(document: Any, headers: Headers) -> Event | Ignored | Rejected:
    if isinstance(document, dict) and "payload" in document and document.keys() <= {"schema", "payload"}:
        document = document["payload"]
        if document is None:
            return _DELETE
    return _bare(document, headers)


def _debezium(document: Any, headers: Headers) -> Event | Ignored | Rejected:
    inner = _connect(document, headers)
    if not isinstance(inner, Event):
        return inner
    (change,) = inner.documents
    operation = change.get("op")
    if operation is None and "after" not in change:
        return Rejected(
            RejectReason.MISSING_FIELD, "expected Debezium's fields 'op' and 'after', found neither; correct envelope"
        )
    row = change.get("after")
    if row is None or (operation is not None and operation not in _ROW_OPERATIONS):
        return _DELETE
    if not isinstance(row, dict):
        return _unexpected("a row in Debezium's field 'after'", row)
    source = change.get("source")
    changed = source.get("ts_ms") if isinstance(source, dict) else None
    return Event((row, change), changed or change.get("ts_ms"))


def _cloudevent(document: Any, headers: Headers) -> Event | Ignored | Rejected:
    attributes = {
        name[len(_CE_HEADER) :].lower(): value.decode(errors="replace")
        for name, value in headers or ()
        if name[: len(_CE_HEADER)].lower() in (_CE_HEADER, "ce-") and value is not None
    }
    if "specversion" in attributes:  # the binary mode: the value is the event itself
        return Event((document, attributes), attributes.get("time"))
    if not isinstance(document, dict) or "specversion" not in document:
        return Rejected(
            RejectReason.MISSING_FIELD,
            "expected a CloudEvent: the field 'specversion', or the header 'ce_specversion'; found neither",
        )
    data = document.get("data")
    if isinstance(document.get("data_base64"), str):
        try:
            data = base64.b64decode(document["data_base64"], validate=True)
        except binascii.Error:
            return Rejected(RejectReason.BAD_FIELD, "expected base64 in 'data_base64', found other text")
    if isinstance(data, str | bytes):
        try:
            data = msgspec.json.decode(data)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            return Rejected(RejectReason.BAD_JSON, "expected JSON in the CloudEvent's data, found other bytes")
    return Event((data, document), document.get("time"))


def _unexpected(expected: str, document: Any) -> Rejected:
    return Rejected(RejectReason.BAD_FIELD, f"expected {expected}, found {kind_of(document)}")


def kind_of(value: Any) -> str:
    """Say what a value is, without what is in it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "an array" if isinstance(value, list) else "an object"


def wrap(envelope: str, event: Mapping[str, Any], event_id: str, timestamp_ms: int) -> Any:
    """Put an event into an envelope, as `unwrapper` takes it out."""
    match envelope:
        case "cloudevents":
            return {"specversion": "1.0", "id": event_id, "source": "/nextclick", "type": "click", "data": event}
        case "debezium":
            return {"before": None, "after": event, "op": "c", "ts_ms": timestamp_ms}
        case "connect":
            return {"schema": None, "payload": event}
        case _:
            return event
