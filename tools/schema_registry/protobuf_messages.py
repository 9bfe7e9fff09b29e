"""A Protobuf message as JSON has it, with the names of the .proto file and whole numbers as numbers."""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from tools.schema_registry.plain import text_of

_TIMESTAMP = "google.protobuf.Timestamp"
_JSON_VALUES = ("google.protobuf.Struct", "google.protobuf.Value", "google.protobuf.ListValue")
_WRAPPERS = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes")
)


def plain_message(message: Message) -> object:
    """Give a message's fields by name.

    A field that was not set is absent, and so is one of proto3 that holds the default: the bytes do not tell the two
    apart. An enum is always there, because its first name can be what most clicks are.
    """
    name = message.DESCRIPTOR.full_name
    if name == _TIMESTAMP:
        return _time(message)
    if name in _JSON_VALUES:
        return json_format.MessageToDict(message)
    if name in _WRAPPERS:
        return _plain(message.DESCRIPTOR.fields_by_name["value"], message.value)
    fields: dict[str, object] = {
        field.name: field.enum_type.values_by_number[0].name
        for field in message.DESCRIPTOR.fields
        if field.enum_type is not None and not field.has_presence and not field.is_repeated
    }
    for field, value in message.ListFields():
        fields[field.name] = _field(field, value)
    return fields


def _field(field: FieldDescriptor, value: Any) -> object:
    if isinstance(value, Mapping):
        of_values = field.message_type.fields_by_name["value"]
        return {str(key): _plain(of_values, inner) for key, inner in value.items()}
    if field.is_repeated:
        return [_plain(field, inner) for inner in value]
    return _plain(field, value)


def _plain(field: FieldDescriptor, value: Any) -> object:
    """Give one value of a field's type."""
    if isinstance(value, Message):
        return plain_message(value)
    if isinstance(value, bytes):
        return text_of(value)
    if field.enum_type is not None:
        named = field.enum_type.values_by_number.get(value)
        return value if named is None else named.name  # a newer producer's, perhaps
    return value


def _time(message: Message) -> object:
    try:
        return message.ToJsonString()
    except ValueError:  # not in the years 1 to 9999
        return message.seconds
