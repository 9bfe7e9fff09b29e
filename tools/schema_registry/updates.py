"""Updates in Confluent's wire format: their schema is registered before the first is written, and they are read."""

import io
import json
import time
from collections.abc import Callable
from typing import Any

import fastavro
import msgspec
from confluent_kafka.schema_registry import Schema
from msgspec import UNSET

from nextclick.output import avro, protobuf
from nextclick.schema.wire_format import SchemaId, read_frame
from nextclick.updates import MAX_UPDATE_BYTES, ListFormat, Part, Recommendation, RecommendationUpdate, Source
from tools.schema_registry.avro import nests
from tools.schema_registry.client import FetchedSchema, RegistryClient, UnknownSchema
from tools.schema_registry.protobuf import compile_schema, message_class

SCHEMAS = {
    "avro": Schema(json.dumps(avro.SCHEMA), "AVRO"),
    "protobuf": Schema(protobuf.SCHEMA, "PROTOBUF"),
}
_AVRO_PREFIX, _PROTOBUF_PREFIX = 5, 6  # bytes in front of a record
_PROTOBUF_TEXT = 'syntax = "proto'  # in JSON, this quote would stand behind a backslash
_ASK_AGAIN_S = 10.0  # for a schema that the registry did not know: it can be registered meanwhile
_Read = Callable[[bytes], RecommendationUpdate]


def register_updates(client: RegistryClient, topic: str, list_format: ListFormat) -> int:
    """Give the id of the schema of a topic's updates; it is registered if it is not yet. Blocks, and raises, as
    `RegistryClient.register` does.
    """
    return client.register(f"{topic}-value", SCHEMAS[list_format])


class FramedUpdates:
    """Reads updates, written with whichever schema of theirs."""

    def __init__(self, fetch: Callable[[SchemaId], FetchedSchema]) -> None:
        """Begin with no schema; `fetch` is asked when one is met for the first time (see `RegistryClient.fetch`)."""
        self._fetch = fetch
        self._readers: dict[SchemaId, _Read] = {}
        self._unknown: dict[SchemaId, str] = {}  # why they cannot be read
        self._ask_again_s = 0.0

    def decode(self, value: bytes) -> RecommendationUpdate:
        """Read an update. Blocks for the registry at the first of a schema.

        Raises:
            msgspec.DecodeError: the bytes are no update.
            TemporaryError, PermanentError: from the registry.
        """
        frame = read_frame(value)
        if frame is None or len(value) > MAX_UPDATE_BYTES:
            raise msgspec.DecodeError(f"expected an update in Confluent's wire format, found {len(value)} other bytes")
        read = self._reader_of(frame.schema_id)
        try:
            return read(value)
        except Exception as error:  # whatever the libraries make of hostile bytes
            kind = type(error).__name__
            raise msgspec.DecodeError(f"an update does not fit its schema, {frame.schema_id} ({kind})") from error

    def _reader_of(self, schema_id: SchemaId) -> _Read:
        """Give what reads updates of a schema. A registry that does not know it is not asked with every record."""
        if (read := self._readers.get(schema_id)) is not None:
            return read
        if time.monotonic() >= self._ask_again_s:
            self._unknown.clear()
            self._ask_again_s = time.monotonic() + _ASK_AGAIN_S
        try:
            if schema_id in self._unknown:
                raise UnknownSchema(self._unknown[schema_id])
            read = self._readers[schema_id] = _reader(self._fetch(schema_id))
            return read
        except UnknownSchema as error:
            self._unknown[schema_id] = str(error)
            raise msgspec.DecodeError(f"an update cannot be read: {error}") from None


def _reader(fetched: FetchedSchema) -> _Read:
    """Give what reads updates of a schema.

    Raises:
        UnknownSchema: it is of something else.
    """
    kind = fetched.schema.schema_type or "AVRO"
    # Apicurio gives all schemas of a subject the type of the first: where the format was changed, the text says it.
    if kind == "PROTOBUF" or _PROTOBUF_TEXT in fetched.schema.schema_str:
        return _protobuf_reader()
    if kind == "AVRO":
        return _avro_reader(fetched)
    raise UnknownSchema(f"expected a schema of Avro or Protobuf, found one of {kind!r:.60}")


def _avro_reader(fetched: FetchedSchema) -> _Read:
    try:
        written: Any = json.loads(fetched.schema.schema_str)
    except ValueError:
        raise UnknownSchema("its schema is not one of an update (no JSON)") from None
    if fetched.references or nests(written):  # ours never do; values that nest can end the process
        raise UnknownSchema("its schema is not one of an update")
    try:
        writer, reader = fastavro.parse_schema(written), fastavro.parse_schema(dict(avro.SCHEMA))
    except Exception as error:
        raise UnknownSchema(f"its schema is not one of an update ({type(error).__name__})") from None

    def read(value: bytes) -> RecommendationUpdate:
        plain = fastavro.schemaless_reader(io.BytesIO(value[_AVRO_PREFIX:]), writer, reader)
        return msgspec.convert(_without_null(plain), RecommendationUpdate)

    return read


def _without_null(plain: Any) -> Any:
    """Leave out what an update, an item or a part of its score does not have: in JSON it is absent."""
    if plain["variant"] is None:
        del plain["variant"]
    for item in plain["items"]:
        if item["placed"] is None:
            del item["placed"]
        if item["because"] is None:
            del item["because"]
        else:
            item["because"] = [
                {name: value for name, value in part.items() if value is not None} for part in item["because"]
            ]
    return plain


def _protobuf_reader() -> _Read:
    """Give what reads updates by the schema of this version: Protobuf passes over what a newer one has added."""
    update: Any = message_class(*compile_schema(FetchedSchema(SCHEMAS["protobuf"], {})), (0,))

    def read(value: bytes) -> RecommendationUpdate:
        found = update.FromString(value[_PROTOBUF_PREFIX:])
        return RecommendationUpdate(
            found.user_id,
            [_recommendation(item) for item in found.items],
            found.strategy,
            found.bundle_id,
            found.sequence,
            Source(found.source.partition, found.source.offset),
            found.clicked_at_ms,
            found.produced_at_ms,
            found.variant or UNSET,
        )

    return read


def _recommendation(item: Any) -> Recommendation:
    placed = item.placed or UNSET
    if not item.because:
        return Recommendation(item.item_id, item.score, placed=placed)
    parts = (Part(part.kind, part.share, part.item_id if part.HasField("item_id") else UNSET) for part in item.because)
    return Recommendation(item.item_id, item.score, tuple(parts), placed)
