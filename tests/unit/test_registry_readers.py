"""Schemas that are odd and bytes that are hostile, without a registry."""

import json
import subprocess
import sys
from typing import Any

import pytest
from confluent_kafka.schema_registry import RegisteredSchema, Schema, SchemaReference
from hypothesis import given, settings
from hypothesis import strategies as st

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from tools.schema_registry.client import FetchedSchema, UnknownSchema
from tools.schema_registry.open_registry import open_registry
from tools.schema_registry.readers import Reader, build_reader

FRAME = b"\0\0\0\0\1"
CATEGORY: dict[str, Any] = {
    "type": "record",
    "name": "Category",
    "fields": [{"name": "above", "type": ["null", "Category"]}],
}
AVRO = {
    "type": "record",
    "name": "Click",
    "fields": [
        {"name": "user_id", "type": ["null", "string", "long"]},
        {"name": "day", "type": {"type": "int", "logicalType": "date"}},
        {"name": "tags", "type": {"type": "map", "values": {"type": "array", "items": "double"}}},
        {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
        {"name": "category", "type": CATEGORY},
    ],
}
PROTOBUF = """
syntax = "proto3";
message Click {
  string user_id = 1;
  map<string, Click> inner = 2;
  repeated double places = 3;
  oneof kind { bool view = 4; sint64 cart = 5; }
}
"""


def reader_of(kind: str, text: str) -> Reader:
    """Give the reader of a schema that refers to nothing."""
    return build_reader(FetchedSchema(Schema(text, kind), {}))


READERS = {
    "AVRO": reader_of("AVRO", json.dumps(AVRO)),
    "JSON": reader_of("JSON", "{}"),
    "PROTOBUF": reader_of("PROTOBUF", PROTOBUF),
}


@pytest.mark.parametrize("kind", READERS)
@given(data=st.binary(max_size=300))
@settings(deadline=None)
def test_any_bytes_become_what_json_has_or_raise(kind: str, data: bytes) -> None:
    """Nothing else comes out, whatever goes in."""
    try:
        read = READERS[kind](FRAME + data)
    except Exception:
        return

    json.dumps(read)


def test_nesting_without_end_does_not_end_the_process() -> None:
    """A record of a schema that refers to itself can be nested as deeply as it has bytes."""
    script = (
        "import json, sys\n"
        "from confluent_kafka.schema_registry import Schema\n"
        "from tools.schema_registry.client import FetchedSchema\n"
        "from tools.schema_registry.readers import build_reader\n"
        f"read = build_reader(FetchedSchema(Schema({json.dumps(CATEGORY)!r}, 'AVRO'), {{}}))\n"
        "for depth in (1, 1_990, 16_000):\n"
        f"    try:\n        print(read({FRAME!r} + b'\\2' * depth + b'\\0'))\n"
        "    except Exception as error:\n        print(type(error).__name__)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout.splitlines() == ["{'above': {'above': None}}", "RecursionError", "OverflowError"]


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("AVRO", "no JSON", "is no AVRO"),
        ("AVRO", '{"type": "record"}', "is no AVRO"),
        ("AVRO", '{"type": "record", "name": "Click", "fields": [{"name": "item", "type": "Item"}]}', "is no AVRO"),
        ("PROTOBUF", 'syntax = "proto3"; message Click { Item item = 1; }', '"Item" is not defined'),
        ("PROTOBUF", 'import "not/there.proto";', "not/there.proto"),
        ("XML", "<schema/>", "found one of 'XML'"),
    ],
)
def test_a_schema_that_is_none_is_said(kind: str, text: str, expected: str) -> None:
    """Its records are then undecodable, with this reason."""
    with pytest.raises(UnknownSchema, match=expected):
        reader_of(kind, text)


@pytest.mark.parametrize("name", ["../../click.proto", "/tmp/click.proto"])
def test_a_reference_writes_no_file_outside(name: str) -> None:
    """Protobuf's references are paths, and a registry can be anybody's."""
    found = RegisteredSchema(schema_id=1, guid=None, schema=Schema(PROTOBUF, "PROTOBUF"), subject="other", version=1)
    schema = Schema(PROTOBUF, "PROTOBUF", [SchemaReference(name, "other", 1)])

    with pytest.raises(UnknownSchema, match="path inside"):
        build_reader(FetchedSchema(schema, {("other", 1): found}))


def test_json_need_not_follow_its_schema() -> None:
    """A click that can be used is used."""
    assert reader_of("JSON", '{"type": "string"}')(FRAME + b'{"user_id": 17}') == {"user_id": 17}


def test_without_a_registry_nothing_is_opened() -> None:
    """Nor is its client loaded."""
    assert open_registry(Settings()) is None


def test_a_missing_extra_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    for module in [name for name in sys.modules if name.startswith("tools.schema_registry.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "confluent_kafka.schema_registry", None)
    from tools.schema_registry.open_registry import open_registry

    with pytest.raises(PermanentError, match=r"install `nextclick\[registry\]`"):
        open_registry(Settings(schema_registry="http://127.0.0.1:1"))
