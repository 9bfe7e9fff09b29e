"""What stands around an event: CloudEvents, Debezium's change events, Kafka Connect's schema and payload."""

import base64
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from nextclick.clicks import Ignored, IgnoreReason, Rejected, RejectReason
from nextclick.schema.paths import Headers, header_text, parsed_text

_CE_HEADER = "ce_"
_DELETE = Ignored(IgnoreReason.DELETE)
_ROW_OPERATIONS = ("c", "r", "u")  # created, read in a snapshot, updated


class Event(NamedTuple):
    """An event as the paths see it.

    Attributes:
        documents: where fields are looked for, one after another: the event, then what is around it.
        time: the envelope's, for an event without one of its own.
        id: the envelope's, which is no id of a user or an item.
    """

    documents: tuple[Any, ...]
    time: Any = None
    id: Any = None


Unwrap = Callable[[Any, Headers], Event | Ignored | Rejected]


def unwrapper(envelope: str) -> Unwrap:
    """Give the function that takes an event out of its envelope: of (the parsed value, the record's headers)."""
    return {"none": _bare, "cloudevents": _cloudevent, "debezium": _debezium, "connect": _connect}[envelope]


def _bare(document: Any, headers: Headers) -> Event | Ignored | Rejected:
    return Event((document,))


def _connect(document: Any, headers: Headers) -> Event | Ignored | Rejected:
    if isinstance(document, dict) and "payload" in document and document.keys() <= {"schema", "payload"}:
        document = parsed_text(document["payload"])
        if document is None:
            return _DELETE
    return _DELETE if _is_flat_delete(document) else Event((document,))


def _is_flat_delete(document: Any) -> bool:
    """Tell whether a row that a Connect transform took out of Debezium's envelope says that it was deleted."""
    if not isinstance(document, dict):
        return False
    return document.get("__deleted") in (True, "true") or document.get("__op") == "d"


def _debezium(document: Any, headers: Headers) -> Event | Ignored | Rejected:
    inner = _connect(document, headers)
    if not isinstance(inner, Event):
        return inner
    (change,) = inner.documents
    if not isinstance(change, dict):
        return unexpected("one of Debezium's changes", change)
    operation = change.get("op")
    if operation is None and "after" not in change:
        if "__deleted" in change or "__op" in change:
            return inner
        return Rejected(
            RejectReason.MISSING_FIELD, "expected Debezium's fields 'op' and 'after', found neither; correct envelope"
        )
    row = parsed_text(change.get("after"))  # MongoDB's connector writes it as text
    if row is None or (operation is not None and operation not in _ROW_OPERATIONS):
        return _DELETE
    if not isinstance(row, dict):
        return unexpected("a row in Debezium's field 'after'", row)
    source = change.get("source")
    changed = source.get("ts_ms") if isinstance(source, dict) else None
    return Event((row, change), changed or change.get("ts_ms"))


def _cloudevent(document: Any, headers: Headers) -> Event | Ignored | Rejected:
    attributes = {
        name[len(_CE_HEADER) :].lower(): header_text(value)
        for name, value in headers or ()
        if name[: len(_CE_HEADER)].lower() in (_CE_HEADER, "ce-") and value is not None
    }
    if "specversion" in attributes:  # the binary mode: the value is the event itself
        return _with_attributes(document, attributes)
    if not isinstance(document, dict) or "specversion" not in document:
        return Rejected(
            RejectReason.MISSING_FIELD,
            "expected a CloudEvent: the field 'specversion', or the header 'ce_specversion'; found neither",
        )
    data = document.get("data")
    if isinstance(document.get("data_base64"), str):
        try:
            data = base64.b64decode(document["data_base64"], validate=True).decode()
        except ValueError:
            return Rejected(RejectReason.BAD_FIELD, "expected JSON as base64 in 'data_base64', found other text")
    return _with_attributes(parsed_text(data), document)


def _with_attributes(data: Any, attributes: Mapping[str, Any]) -> Event:
    around = {name: value for name, value in attributes.items() if name not in ("id", "data", "data_base64")}
    return Event((data if data is not None else {}, around), attributes.get("time"), attributes.get("id"))


def unexpected(expected: str, document: Any) -> Rejected:
    """Give the verdict on something that is of another kind."""
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
