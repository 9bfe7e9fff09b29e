"""Which format updates have by the settings: what writes them, and what reads them."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING

import msgspec

from nextclick.output.avro import avro_format
from nextclick.output.cloud_events import cloud_events_format, decode_event
from nextclick.output.protobuf import protobuf_format
from nextclick.settings import Settings
from nextclick.updates import JSON_FORMAT, RecommendationUpdate, UpdateFormat, decode_update
from tools.schema_registry.open_registry import open_client

if TYPE_CHECKING:  # its client is an extra
    from nextclick.schema.wire_format import SchemaId
    from tools.schema_registry.client import FetchedSchema
    from tools.schema_registry.updates import FramedUpdates

UpdateDecoder = Callable[[bytes], RecommendationUpdate]


def open_update_format(settings: Settings) -> UpdateFormat:
    """Give the format in which updates are written. With Avro or Protobuf, their schema is registered: blocks for it.

    Raises:
        TemporaryError: the registry does not answer.
        PermanentError: it refuses us or the schema, or the extra `registry` is not installed.
    """
    kind = settings.output_format
    if kind == "json":
        return JSON_FORMAT
    if kind == "cloudevents":
        return cloud_events_format(settings.app, settings.clicks_topic)
    client = open_client(settings)
    from tools.schema_registry.updates import register_updates

    try:
        schema_id = register_updates(client, settings.recommendations_topic, kind)
    finally:
        client.close()
    return avro_format(schema_id) if kind == "avro" else protobuf_format(schema_id)


def update_decoder(settings: Settings) -> UpdateDecoder:
    """Give the function that reads updates: of the format in the settings, and of others that the topic has, too.

    It raises msgspec.DecodeError for bytes that are no update. With a schema registry, it blocks for the registry when
    it meets a schema for the first time, and raises a TemporaryError or PermanentError that says what is wrong there.

    Raises:
        PermanentError: the extra `registry` is not installed, or the client cannot use the settings.
    """
    first, second = decode_update, decode_event
    if settings.output_format == "cloudevents":
        first, second = second, first
    framed = _framed_updates(settings) if settings.schema_registry else None

    def decode(value: bytes) -> RecommendationUpdate:
        if value[:1] == b"\0":
            if framed is None:
                raise msgspec.DecodeError("an update needs a schema registry, and the setting schema_registry is empty")
            return framed.decode(value)
        try:
            return first(value)
        except msgspec.ValidationError:
            with suppress(msgspec.DecodeError):
                return second(value)
            raise

    return decode


def _framed_updates(settings: Settings) -> "FramedUpdates":
    open_client(settings).close()  # says now what is missing
    from tools.schema_registry.updates import FramedUpdates

    def fetch(schema_id: "SchemaId") -> "FetchedSchema":
        """Ask with a client of its own: schemas are few, and no connection is to stay open for them."""
        client = open_client(settings)
        try:
            return client.fetch(schema_id)
        finally:
            client.close()

    return FramedUpdates(fetch)
