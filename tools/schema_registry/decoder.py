"""From bytes in Confluent's wire format to plain Python objects, with schemas that are loaded beforehand."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

from nextclick.schema.bytes_kind import describe_bytes
from nextclick.schema.paths import Headers
from nextclick.schema.registry import Undecodable
from nextclick.schema.wire_format import SchemaId, read_frame
from tools.schema_registry.client import RegistryClient, UnknownSchema
from tools.schema_registry.readers import Reader, build_reader

ASK_AGAIN_S = 60.0  # for a schema that the registry did not know: it can be registered meanwhile
_MAX_REFUSED = 10_000  # bytes of no meaning name a new schema each


RecordBytes = tuple[bytes | None, bytes | None, Headers]  # key, value, headers


class _Refused(NamedTuple):
    reason: str
    until_s: float


class RegistryDecoder:
    """Decodes keys and values; what it must know for that is loaded apart, so that no event loop waits for HTTP.

    For some records: gather `missing_schemas` of each, `load` them in a thread, then `decode` each. A schema is loaded
    once; one that the registry does not know is asked for again after a minute.
    """

    def __init__(self, client: RegistryClient, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with no schema.

        Args:
            client: asks the registry; closed with this decoder.
            clock: seconds from any beginning, never backwards.
        """
        self._client = client
        self._clock = clock
        self._readers: dict[SchemaId, Reader] = {}
        self._refused: dict[SchemaId, _Refused] = {}

    def missing_schemas(self, data: bytes, headers: Headers = None, *, is_key: bool = False) -> set[SchemaId]:
        """Give the schema that must be loaded before these bytes can be decoded, or nothing. Never blocks."""
        frame = read_frame(data, headers, is_key=is_key)
        if frame is None or frame.schema_id in self._readers:
            return set()
        refused = self._refused.get(frame.schema_id)
        return set() if refused is not None and self._clock() < refused.until_s else {frame.schema_id}

    def missing_schemas_of(self, records: Iterable[RecordBytes], *, with_keys: bool) -> set[SchemaId]:
        """Give the schemas that must be loaded before records (key, value, headers) can be decoded. Never blocks."""
        missing: set[SchemaId] = set()
        for key, value, headers in records:
            if value is not None:
                missing |= self.missing_schemas(value, headers)
            if with_keys and key is not None:
                missing |= self.missing_schemas(key, headers, is_key=True)
        return missing

    def load(self, schema_ids: Iterable[SchemaId]) -> None:
        """Fetch schemas and make them ready. To be called from one thread at a time; `decode` may run meanwhile.

        Blocks for the registry's answers, one after the other: one that does not come is given up after 10 s (for each
        address of the registry), and the rest is not asked for. A Protobuf schema takes some 0.2 s more.

        Raises:
            TemporaryError: the registry does not answer; what was loaded before stays. Wait, and load again.
            PermanentError: it refuses us, or is no schema registry.
        """
        for schema_id in schema_ids:
            try:
                self._readers[schema_id] = build_reader(self._client.fetch(schema_id))
                self._refused.pop(schema_id, None)
            except UnknownSchema as error:
                while len(self._refused) >= _MAX_REFUSED:
                    del self._refused[next(iter(self._refused))]
                self._refused[schema_id] = _Refused(str(error), self._clock() + ASK_AGAIN_S)

    def decode(self, data: bytes, headers: Headers = None, *, is_key: bool = False) -> object:
        """Decode a key or value whose schema is loaded. Never blocks.

        Args:
            data: as the record has it.
            headers: of the record; newer producers name the schema there.
            is_key: whether it is the record's key.

        Returns:
            dict, list, str, int, float, bool or None. Points in time are numbers as the producer wrote them (Avro) or
            ISO 8601 texts (Protobuf), enums are names, decimals and UUIDs texts.

        Raises:
            Undecodable: not in the wire format, the registry does not know the schema, or the bytes do not fit it.
        """
        frame = read_frame(data, headers, is_key=is_key)
        if frame is None:
            raise Undecodable(f"expected Confluent's wire format, found {describe_bytes(data)}")
        reader = self._readers.get(frame.schema_id)
        if reader is None:
            refused = self._refused.get(frame.schema_id)
            raise Undecodable(refused.reason if refused is not None else f"schema {frame.schema_id} is not loaded")
        try:
            return reader(frame.data)
        except Exception as error:  # whatever the libraries make of hostile bytes; their texts quote contents
            raise Undecodable(f"the bytes do not fit schema {frame.schema_id} ({type(error).__name__})") from None

    def close(self) -> None:
        """Close the connections to the registry."""
        self._client.close()
