"""Which function reads the records of a schema."""

from collections.abc import Callable

import msgspec
from confluent_kafka.schema_registry.json_schema import JSONDeserializer

from tools.schema_registry.avro import avro_reader
from tools.schema_registry.client import FetchedSchema, UnknownSchema
from tools.schema_registry.plain import no_subject
from tools.schema_registry.protobuf import protobuf_reader

Reader = Callable[[bytes], object]


def build_reader(fetched: FetchedSchema) -> Reader:
    """Give the function that reads what was written with a schema. It raises anything for bytes that do not fit.

    Raises:
        UnknownSchema: nothing can be read with this schema.
        OSError: there is no room for what the compiler of Protobuf needs.
    """
    kind = fetched.schema.schema_type or "AVRO"
    build = _BUILDERS.get(kind)
    if build is None:
        raise UnknownSchema(f"expected a schema of {', '.join(_BUILDERS)}, found one of {kind!r:.60}")
    try:
        return build(fetched)
    except (UnknownSchema, OSError):
        raise
    except Exception as error:  # whatever the libraries make of a schema that is none
        raise UnknownSchema(f"a schema of the registry is no {kind} ({type(error).__name__})") from None


def _json_reader(_: FetchedSchema) -> Reader:
    # JSON says by itself what it is, and whether it follows its schema is its producer's business.
    conf = {"subject.name.strategy": no_subject, "validate": False}
    deserialize = JSONDeserializer("{}", conf=conf, json_decode=msgspec.json.decode)
    return lambda framed: deserialize(framed)


_BUILDERS: dict[str, Callable[[FetchedSchema], Reader]] = {
    "AVRO": avro_reader,
    "JSON": _json_reader,
    "PROTOBUF": protobuf_reader,
}
