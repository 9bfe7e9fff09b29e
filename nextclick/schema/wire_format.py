"""Confluent's wire format: which schema a record was written with, in front of its bytes or in a header.

That can be told from the record alone; what its bytes mean cannot. Knows no registry.
"""

import struct
from typing import NamedTuple
from uuid import UUID

from nextclick.schema.paths import Headers

SchemaId = int | UUID  # newer producers name a schema by a UUID, which is the same in every registry

_NUMBER_FOLLOWS, _UUID_FOLLOWS = 0, 1  # the first byte
_NUMBER = struct.Struct(">xI")
_UUID_END = 17
_MAX_NUMBER = 2**31 - 1  # a registry counts from 1, in a signed number


class Frame(NamedTuple):
    """A key or value in the wire format.

    Attributes:
        schema_id: of the schema that it was written with.
        data: the bytes with the schema in front, also where a header held it.
    """

    schema_id: SchemaId
    data: bytes


def read_frame(data: bytes, headers: Headers = None, *, is_key: bool = False) -> Frame | None:
    """Read which schema a key or value was written with; None: it is not in the wire format.

    Args:
        data: as the record has it.
        headers: of the record. Where one holds the schema, it counts.
        is_key: whether `data` is the key, which has a header of its own.
    """
    name = "__key_schema_id" if is_key else "__value_schema_id"
    prefix = next((value for header, value in headers or () if header == name and value), None)
    if prefix is None:
        schema_id = _number(data)
        return None if schema_id is None else Frame(schema_id, data)
    named = UUID(bytes=prefix[1:_UUID_END]) if _begins_with_uuid(prefix) else _number(prefix)
    return None if named is None else Frame(named, prefix + data)


def _begins_with_uuid(data: bytes) -> bool:
    return len(data) >= _UUID_END and data[0] == _UUID_FOLLOWS


def _number(data: bytes) -> int | None:
    if len(data) < _NUMBER.size or data[0] != _NUMBER_FOLLOWS:
        return None
    (number,) = _NUMBER.unpack_from(data)
    return number if 0 < number <= _MAX_NUMBER else None
