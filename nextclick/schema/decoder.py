"""Turns a record into clicks, and says why when it cannot. Worker, trainer and tools all use this one function."""

import codecs
from collections.abc import Sequence
from typing import Any

import msgspec

from nextclick.clicks import (
    FORGET,
    FUTURE_TOLERANCE_MS,
    MAX_ID_BYTES,
    MAX_TIMESTAMP_MS,
    MAX_VALUE_BYTES,
    MIN_TIMESTAMP_MS,
    Click,
    Decoded,
    Ignored,
    IgnoreReason,
    Rejected,
    RejectReason,
)
from nextclick.hashing import event_hash
from nextclick.schema.bytes_kind import describe_bytes
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.envelopes import Event, unwrapper
from nextclick.schema.events import Found, events_of
from nextclick.schema.ids import read_id
from nextclick.schema.keys import id_of, read_key, user_names
from nextclick.schema.paths import FieldPath, Headers, parsed_text
from nextclick.schema.plain import Decode, is_plain, plain_decoder
from nextclick.schema.registry import Registry, Undecodable
from nextclick.schema.times import read_time_ms, record_time_ms
from nextclick.schema.wire_format import read_frame

_DEFAULT_EVENT = "view"
_parse = msgspec.json.Decoder().decode
_NOT_LISTED = Ignored(IgnoreReason.EVENT_TYPE)


def click_decoder(schema: ClickSchema, registry: Registry | None = None) -> Decode:
    """Build the function that turns a record into clicks.

    Args:
        schema: of the records.
        registry: decodes what is in Confluent's wire format, once its schemas are loaded; None: there is none.

    Returns:
        A function of (key, value, headers, the record's own timestamp in ms, the reader's clock in ms). It gives all
        clicks of the record, in order and of one user; or why there are none. It never raises for any bytes.
    """
    general = _Decoder(schema, registry).decode
    return plain_decoder(schema, general) if is_plain(schema) else general


def read_document(value: bytes, headers: Headers, registry: Registry | None) -> Any:
    """Give a record's value as plain Python objects, or the verdict on what cannot be read.

    Args:
        value: of the record.
        headers: of the record.
        registry: decodes what is in Confluent's wire format; None: there is none.
    """
    if len(value) > MAX_VALUE_BYTES:
        return Rejected(RejectReason.TOO_LARGE, f"expected at most {MAX_VALUE_BYTES} bytes, found {len(value)}")
    if registry is not None and read_frame(value, headers) is not None:
        try:
            return registry.decode(value, headers)
        except Undecodable as error:
            return Rejected(RejectReason.UNDECODABLE, str(error))
    try:
        return parsed_text(_parse(value.removeprefix(codecs.BOM_UTF8)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        is_framed = read_frame(value, headers) is not None
        reason = RejectReason.NEEDS_REGISTRY if is_framed else RejectReason.BAD_JSON
        return Rejected(reason, f"expected JSON, found {describe_bytes(value)}")


class _Decoder:
    def __init__(self, schema: ClickSchema, registry: Registry | None = None) -> None:
        self._schema = schema
        self._registry = registry
        self._unwrap = unwrapper(schema.envelope)
        self._is_single = schema.envelope == "none" and schema.list is None
        self._user_names = user_names(schema.user.text)

    def decode(
        self, key: bytes | None, value: bytes | None, headers: Headers, record_timestamp_ms: int, now_ms: int
    ) -> Decoded:
        """Give a record's clicks; see `click_decoder`."""
        if key is None and self._schema.needs_key:
            return Rejected(RejectReason.NO_KEY, "expected the user id as the record's key, found none")
        document = self._document(value, headers)
        if isinstance(document, Rejected | Ignored):
            return document
        record_ms = record_time_ms(record_timestamp_ms, now_ms)
        if self._is_single and type(document) is dict:  # nearly always
            click = self._click(key, Event((document,)), headers, (record_ms, now_ms), 0)
            return (click,) if isinstance(click, Click) else click
        events = events_of(document, headers, self._unwrap, self._schema.list)
        return self._clicks(key, events, headers, (record_ms, now_ms))

    def _document(self, value: bytes | None, headers: Headers) -> Any:
        """Give a record's parsed value, or why it cannot be parsed."""
        if not value and self._is_cloudevent(headers):  # all of it is in the headers
            return {}
        if value is None:
            if self._schema.envelope != "none":
                return Ignored(IgnoreReason.DELETE)
            return Rejected(RejectReason.BAD_JSON, "expected a JSON object, found no value")
        return read_document(value, headers, self._registry)

    def _is_cloudevent(self, headers: Headers) -> bool:
        named = {name.lower() for name, _ in headers or ()}
        return self._schema.envelope == "cloudevents" and not named.isdisjoint(("ce_specversion", "ce-specversion"))

    def _clicks(self, key: bytes | None, events: Sequence[Found], headers: Headers, times: tuple[int, int]) -> Decoded:
        """Give the clicks of a record's events: all of them, or none if one cannot be used."""
        clicks: list[Click] = []
        ignored: Ignored | None = None
        for place, each in enumerate(events):
            click = self._click(key, each, headers, times, place) if isinstance(each, Event) else each
            which = f"event {place + 1} of {len(events)}: " if len(events) > 1 else ""
            if isinstance(click, Rejected):
                return Rejected(click.reason, which + click.detail)
            if isinstance(click, Ignored):
                ignored = click
                continue
            if clicks and click.user_id != clicks[0].user_id:
                found = which + "expected the user of the events before in the record, found another"
                return Rejected(RejectReason.BAD_FIELD, found)
            clicks.append(click)
        return ignored if ignored is not None and not clicks else tuple(clicks)

    def _click(
        self, key: bytes | None, event: Event, headers: Headers, times: tuple[int, int], place: int
    ) -> Click | Ignored | Rejected:
        """Give an event's click.

        Args:
            key: of the record.
            event: the event.
            headers: of the record.
            times: the record's own time, and the reader's clock.
            place: of the event in its record.
        """
        documents = event.documents
        schema = self._schema
        kind = _value(schema.event, documents, headers)
        event_type = schema.events.codes.get(kind) if type(kind) is str else None
        if event_type is None:
            judged = self._event_type(kind)
            if not isinstance(judged, int):
                return judged
            event_type = judged
        user_id = _id(_value(schema.user, documents, headers), "user", schema.user)
        if isinstance(user_id, Rejected):
            return user_id
        item_id = _id(_value(schema.item, documents, headers), "item", schema.item)
        if isinstance(item_id, Rejected):
            return item_id
        if schema.check_key and (wrong := self._wrong_key(key, user_id, headers)) is not None:
            return wrong
        timestamp_ms = self._time(_value(schema.time, documents, headers), event.time, *times)
        if isinstance(timestamp_ms, Rejected):
            return timestamp_ms
        if schema.id is None:
            return Click(user_id, item_id, timestamp_ms, event_type)
        hashed = _event_hash(schema.id, event, headers, place)
        if isinstance(hashed, Rejected):
            return hashed
        return Click(user_id, item_id, timestamp_ms, event_type, hashed)

    def _event_type(self, kind: Any) -> int | Ignored | Rejected:
        """Give the number of an event's type: of one that is not listed, not there, or not a text."""
        if kind is None or kind == "":
            kind = _DEFAULT_EVENT
        try:
            name = read_id(kind)
        except ValueError as error:
            found = f"expected a text or a number as event type at {self._schema.event.text!r:.60}, found {error}"
            return Rejected(RejectReason.BAD_FIELD, found)
        if name == FORGET:
            return Rejected(RejectReason.FORGET_UNSUPPORTED, "this version cannot erase a user yet")
        code = self._schema.events.code(name)
        return _NOT_LISTED if code is None else code

    def _wrong_key(self, key: bytes | None, user_id: str, headers: Headers) -> Rejected | None:
        assert key is not None  # a key that is checked is needed
        schema = self._schema
        if schema.key_format == "text":
            if key == user_id.encode():
                return None
        else:
            try:
                if self._read_key(key, headers) == user_id:
                    return None
            except (ValueError, Undecodable) as error:
                return Rejected(RejectReason.WRONG_KEY, f"key_format is {schema.key_format}: {error}")
        return Rejected(RejectReason.WRONG_KEY, f"expected the key to name the user at {schema.user.text!r:.60}")

    def _read_key(self, key: bytes, headers: Headers) -> str:
        """Give the user that a key names.

        Raises:
            ValueError, Undecodable: it names none.
        """
        if self._schema.key_format != "registry":
            return read_key(self._schema.key_format, key, self._user_names)
        if self._registry is None:
            raise Undecodable("schema_registry is not set")
        return id_of(self._registry.decode(key, headers, is_key=True), self._user_names)

    def _time(self, time: Any, envelope_time: Any, record_ms: int, now_ms: int) -> int | Rejected:
        try:
            timestamp_ms = read_time_ms(time) or read_time_ms(envelope_time) or record_ms
        except (ValueError, OverflowError):
            return Rejected(
                RejectReason.BAD_FIELD,
                f"expected a time at {self._schema.time.text!r:.60}: seconds, milliseconds, microseconds or "
                "nanoseconds since 1970, or ISO 8601",
            )
        if timestamp_ms < MIN_TIMESTAMP_MS and timestamp_ms != record_ms:
            found = f"expected a time at {self._schema.time.text!r:.60}, found one before 1995"
            return Rejected(RejectReason.BAD_FIELD, found)
        if timestamp_ms > min(now_ms + FUTURE_TOLERANCE_MS, MAX_TIMESTAMP_MS):
            found = "expected a time at most a day after this machine's clock, found a later one"
            return Rejected(RejectReason.IN_THE_FUTURE, found)
        return timestamp_ms


def _value(path: FieldPath, documents: tuple[Any, ...], headers: Headers) -> Any:
    if path.plain is not None and len(documents) == 1:
        return documents[0].get(path.plain)
    return path.read(documents, headers)


def _id(value: Any, what: str, path: FieldPath) -> str | Rejected:
    """Give an id that can be stored, sent and told apart, or why there is none."""
    if value is None:
        return Rejected(RejectReason.MISSING_FIELD, f"expected the {what} at {path.text!r:.60}, found nothing there")
    try:
        text = read_id(value)
        size = len(text.encode())
    except ValueError as error:  # a UnicodeError is one, too: half a surrogate pair
        found = "text that is not Unicode" if isinstance(error, UnicodeError) else error
        expected = f"expected a text or a whole number as {what} at {path.text!r:.60}"
        return Rejected(RejectReason.BAD_FIELD, f"{expected}, found {found}")
    if not 0 < size <= MAX_ID_BYTES:
        expected = f"expected 1 to {MAX_ID_BYTES} bytes as {what} at {path.text!r:.60}"
        return Rejected(RejectReason.BAD_FIELD, f"{expected}, found {size}")
    if "\0" in text:  # no id of anyone's, and the local store keeps names of its own with it
        return Rejected(RejectReason.BAD_FIELD, f"expected a {what} without the character NUL, found one with it")
    return text


def _event_hash(path: FieldPath, event: Event, headers: Headers, place: int) -> int | Rejected:
    """Give the hash of an event's id; 0 if it has none. What stands around several events is not the id of one."""
    own = path.read(event.documents[:1], None)
    value = own or path.read(event.documents[1:], headers) or (event.id if path.plain == "id" else None)
    if not value:
        return 0
    try:
        text = read_id(value)
    except ValueError as error:
        expected = f"expected a text or a whole number as the event's id at {path.text!r:.60}"
        return Rejected(RejectReason.BAD_FIELD, f"{expected}, found {error}")
    return event_hash(text if own or not place else f"{place}:{text}")
