"""Avro's records as plain Python objects, with Confluent's own deserialiser, which is given what it asks for."""

import json
from collections.abc import Callable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from confluent_kafka.schema_registry import RegisteredSchema, Schema
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.error import SchemaParseException, UnknownType

from tools.schema_registry.client import FetchedSchema, Version
from tools.schema_registry.plain import no_subject, text_of

# Left as the numbers that the producer wrote. As Python's own times they would lose what zero means, and one far away
# in a field that nobody reads would make the whole record unreadable.
_TIMES = (
    "timestamp-millis",
    "timestamp-micros",
    "timestamp-nanos",
    "local-timestamp-millis",
    "local-timestamp-micros",
    "local-timestamp-nanos",
    "time-millis",
    "time-micros",
)
_UNPARSABLE = (SchemaParseException, UnknownType, KeyError, TypeError, AttributeError)
_ANY_RECORD = b"\0\0\0\0\1\0"
# fastavro needs up to 2 kB of the process's stack, which has 8 MB, for each level, and a level can be one byte: values
# of a schema that refers to itself end the process when they are nested deeply enough, unless they are short.
_MOST_NESTED_BYTES = 2_000


def avro_reader(fetched: FetchedSchema) -> Callable[[bytes], object]:
    """Give the function that reads what was written with a schema; see `readers.build_reader`."""
    schemas = (fetched.schema, *(found.schema for found in fetched.references.values()))
    most_bytes = _MOST_NESTED_BYTES if any(nests(json.loads(schema.schema_str)) for schema in schemas) else None
    references = {
        (subject, version): RegisteredSchema(
            schema_id=found.schema_id,
            guid=found.guid,
            schema=_without_times(found.schema),
            subject=subject,
            version=version,
        )
        for (subject, version), found in fetched.references.items()
    }
    deserialize = AvroDeserializer(
        _FromMemory(_without_times(fetched.schema), references), conf={"subject.name.strategy": no_subject}
    )
    _prepare(deserialize)

    def read(framed: bytes) -> object:
        if most_bytes is not None and len(framed) > most_bytes:
            raise OverflowError(f"expected at most {most_bytes} bytes of a schema that refers to itself")
        return _plain(deserialize(framed))

    return read


def _prepare(deserialize: Callable[[bytes], object]) -> None:
    """Let a deserialiser parse its schema, which it does when it is first used."""
    try:
        deserialize(_ANY_RECORD)
    except _UNPARSABLE:
        raise
    except Exception:  # the schema is parsed, and one byte need not fit it
        return


class _FromMemory:
    """What an Avro deserialiser takes for the registry's client: it knows one schema and its references."""

    def __init__(self, schema: Schema, references: Mapping[Version, RegisteredSchema]) -> None:
        self._schema = schema
        self._references = references

    def get_schema(self, _id: int, _subject: str | None = None, _format: str | None = None) -> Schema:
        return self._schema

    def get_schema_by_guid(self, _uuid: str, _format: str | None = None) -> Schema:
        return self._schema

    def get_version(self, subject: str, version: int, *_: Any) -> RegisteredSchema:
        return self._references[subject, version]

    def config(self) -> dict[str, Any]:
        return {}


def _without_times(schema: Schema) -> Schema:
    return Schema(json.dumps(_untimed(json.loads(schema.schema_str))), "AVRO", schema.references)


def nests(part: Any, around: tuple[str, ...] = ()) -> bool:
    """Tell whether a type holds itself. Names count without their namespace, so it can say so of one that does not.

    Args:
        part: of an Avro schema's JSON.
        around: the names of the types that `part` is in.
    """
    match part:
        case str():
            return part.rpartition(".")[2] in around
        case list():
            return any(nests(branch, around) for branch in part)
        case {"type": "record" | "error", "name": str(name), "fields": list(fields)}:
            inside = (*around, name.rpartition(".")[2])
            return any(nests(field["type"], inside) for field in fields)
        case dict():
            return any(nests(part.get(name), around) for name in ("type", "items", "values"))
        case _:
            return False


def _untimed(part: Any) -> Any:
    match part:
        case list():
            return [_untimed(inner) for inner in part]
        case dict():
            is_time = part.get("logicalType") in _TIMES
            return {name: _untimed(inner) for name, inner in part.items() if not (is_time and name == "logicalType")}
        case _:
            return part


def _plain(value: Any) -> object:
    """Give what fastavro makes of Avro's types as JSON has it."""
    match value:
        case None | str() | int() | float():
            return value
        case dict():
            return {name: _plain(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case bytes():
            return text_of(value)
        case Decimal():
            return format(value, "f")
        case UUID():
            return str(value)
        case date():
            return f"{value.isoformat()}T00:00:00Z"
        case other:
            raise TypeError(f"no type of Avro's: {type(other).__name__}")
