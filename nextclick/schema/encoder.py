"""Writes a click as a topic's schema has it, so that `send`, `replay` and `simulate` fit any topic."""

from typing import Any, NamedTuple

import msgspec

from nextclick.errors import PermanentError
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.envelopes import wrap
from nextclick.schema.keys import write_key
from nextclick.schema.paths import FieldPath, write_at


class EncodedClick(NamedTuple):
    """A record of the clicks topic."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def encode_click(
    schema: ClickSchema,
    user_id: str,
    item_id: str,
    timestamp_ms: int,
    event_type: str = "view",
    event_id: str | None = None,
) -> EncodedClick:
    """Give a record that `click_decoder` reads as this click.

    The event's own id is left out where the schema has no place for it.

    Raises:
        PermanentError: the schema cannot be written: its keys come from a registry, or are numbers and the user is
            none, or it has no name for the type of the event.
    """
    event: dict[str, Any] = {}
    headers: list[tuple[str, bytes]] = []
    fields = (
        (schema.user, user_id),
        (schema.item, item_id),
        (schema.time, timestamp_ms),
        (schema.event, schema.events.name(event_type)),
    )
    for path, value in fields:
        _put(path, value, event, headers)
    if event_id is not None and schema.id is not None:
        _put(schema.id, event_id, event, headers)
    if schema.list is not None:
        event = _around(schema.list, event)
    envelope = wrap(schema.envelope, event, f"{user_id}-{item_id}-{timestamp_ms}", timestamp_ms)
    return EncodedClick(_key(schema, user_id), msgspec.json.encode(envelope), headers)


def _around(path: FieldPath, event: dict[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    place = path.alternatives[0]
    write_at(record, place if isinstance(place, tuple) else (place,), [event])
    return record


def _put(path: FieldPath, value: str | int, event: dict[str, Any], headers: list[tuple[str, bytes]]) -> None:
    if path.plain is not None:
        event[path.plain] = value
        return
    place = path.alternatives[0]
    if isinstance(place, str):
        headers.append((place, str(value).encode()))
    else:
        write_at(event, place, value)


def _key(schema: ClickSchema, user_id: str) -> bytes:
    if schema.key_format == "registry":
        raise PermanentError(
            "keys of a schema registry are only read: send clicks with your own producer, or choose another key_format"
        )
    try:
        return write_key(schema.key_format, user_id)
    except ValueError as error:
        raise PermanentError(
            f"key_format={schema.key_format} needs users that are whole numbers, and this user is not one ({error}); "
            "choose another key_format"
        ) from None
