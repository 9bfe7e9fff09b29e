"""Records in Confluent's wire format, written by Confluent's own producers, read with a real registry."""

import json
import subprocess
import sys
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from tests.local_registry import LocalRegistry
from tools.schema_registry.decoder import RegistryDecoder
from tools.schema_registry.open_registry import open_registry

CLICK_FIELDS = [{"name": "user_id", "type": "string"}, {"name": "item_id", "type": "long"}]
CLICK: dict[str, Any] = {"type": "record", "name": "shop.Click", "fields": CLICK_FIELDS}
VIEWED_MS = 1_764_000_000_123
PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/protobuf/wrappers.proto";
enum Kind { VIEW = 0; CART = 1; }
message Heartbeat { string host = 1; }
message Event {
  message Click {
    string user_id = 1;
    int64 item_id = 2;
    google.protobuf.Timestamp viewed_at = 3;
    Kind kind = 4;
    google.protobuf.StringValue campaign = 5;
    map<string, int64> positions = 6;
    repeated Kind before = 7;
    bytes token = 8;
    optional int32 price = 9;
  }
  Click click = 1;
}
"""


@pytest.fixture
def decoder(schema_registry: LocalRegistry) -> Iterator[RegistryDecoder]:
    """What the settings give."""
    opened = open_registry(schema_registry.settings)
    assert opened is not None
    yield opened
    opened.close()


def read(decoder: RegistryDecoder, data: bytes, *headers: tuple[str, bytes], is_key: bool = False) -> object:
    """Decode as a worker does: load what is missing, then decode."""
    decoder.load(decoder.missing_schemas(data, headers, is_key=is_key))
    assert decoder.missing_schemas(data, headers, is_key=is_key) == set()
    return decoder.decode(data, headers, is_key=is_key)


def write_avro(registry: LocalRegistry, topic: str, schema: object, value: object, *, is_key: bool = False) -> bytes:
    """Give the bytes that a Python producer of Confluent's writes."""
    field = MessageField.KEY if is_key else MessageField.VALUE
    with registry.client() as client:
        data: bytes = AvroSerializer(client, json.dumps(schema))(value, SerializationContext(topic, field))
    return data


@pytest.fixture(scope="module")
def proto(tmp_path_factory: pytest.TempPathFactory) -> DescriptorPool:
    """The messages of `PROTO`, as generated code of a producer has them."""
    folder = tmp_path_factory.mktemp("proto")
    (folder / "shop.proto").write_text(PROTO)
    options = [f"-I{folder}", f"--descriptor_set_out={folder / 'set'}", "--include_imports", "shop.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options], check=True)
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString((folder / "set").read_bytes()).file:
        pool.Add(file)
    return pool


def test_avro(schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str) -> None:
    """Every type of Avro's becomes what JSON has."""
    types: dict[str, Any] = {
        "user_id": {"type": "string", "logicalType": "uuid"},
        "item_id": "long",
        "viewed_ms": {"type": "long", "logicalType": "timestamp-millis"},
        "viewed_us": {"type": "long", "logicalType": "timestamp-micros"},
        "day": {"type": "int", "logicalType": "date"},
        "price": {"type": "bytes", "logicalType": "decimal", "precision": 8, "scale": 2},
        "kind": {"type": "enum", "name": "Kind", "symbols": ["VIEW", "CART"]},
        "campaign": ["null", "string"],
        "token": "bytes",
        "raw": {"type": "fixed", "name": "Raw", "size": 2},
        "places": {"type": "array", "items": {"type": "map", "values": "double"}},
        "shop": [{"type": "record", "name": "Shop", "fields": [{"name": "open", "type": "boolean"}]}, "null"],
    }
    schema = {"type": "record", "name": "Click", "fields": [{"name": n, "type": t} for n, t in types.items()]}
    user, viewed = uuid.uuid4(), datetime.fromtimestamp(VIEWED_MS / 1_000, UTC)
    value = {
        "user_id": user,
        "item_id": 2**60,
        "viewed_ms": viewed,
        "viewed_us": viewed,
        "day": date(2025, 11, 24),
        "price": Decimal("12.50"),
        "kind": "CART",
        "campaign": None,
        "token": "été".encode(),
        "raw": b"\xff\x00",
        "places": [{"top": 0.5}, {}],
        "shop": {"open": True},
    }

    assert read(decoder, write_avro(schema_registry, topic_prefix, schema, value)) == {
        "user_id": str(user),
        "item_id": 2**60,
        "viewed_ms": VIEWED_MS,
        "viewed_us": VIEWED_MS * 1_000,
        "day": "2025-11-24T00:00:00Z",
        "price": "12.50",
        "kind": "CART",
        "campaign": None,
        "token": "été",
        "raw": "ff00",
        "places": [{"top": 0.5}, {}],
        "shop": {"open": True},
    }


def test_an_impossible_time_does_not_cost_the_click(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str
) -> None:
    """Java's largest number for "for ever" is no point in time that Python has."""
    plain = {"type": "record", "name": "Click", "fields": [{"name": "until", "type": "long"}]}
    timed: Any = {"type": "long", "logicalType": "timestamp-millis"}
    written = write_avro(schema_registry, topic_prefix, plain, {"until": 2**63 - 1})
    number = schema_registry.register(
        f"{topic_prefix}-timed",
        Schema(json.dumps(plain | {"fields": [{"name": "until", "type": timed}]}), "AVRO"),
    )

    assert read(decoder, b"\0" + number.to_bytes(4) + written[5:]) == {"until": 2**63 - 1}


@pytest.mark.parametrize(
    ("schema", "key", "expected"),
    [
        ("string", "ann", "ann"),
        ("long", 17, 17),
        (
            {"type": "record", "name": "Key", "fields": [{"name": "user_id", "type": "string"}]},
            {"user_id": "ann"},
            {"user_id": "ann"},
        ),
    ],
)
def test_avro_keys(
    schema_registry: LocalRegistry,
    decoder: RegistryDecoder,
    topic_prefix: str,
    schema: object,
    key: object,
    expected: object,
) -> None:
    """A key is a text, a number or a record."""
    data = write_avro(schema_registry, topic_prefix, schema, key, is_key=True)

    assert read(decoder, data, is_key=True) == expected


def test_json_schema(schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str) -> None:
    """The JSON behind the id, as it stands."""
    schema = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Click", "type": "object"}
    value = {"user_id": "ann", "item_id": 17, "nested": {"list": [1.5, None, True]}}
    with schema_registry.client() as client:
        data = JSONSerializer(json.dumps(schema), client)(value, SerializationContext(topic_prefix, MessageField.VALUE))

    assert read(decoder, data) == value


def make_event(proto: DescriptorPool) -> Any:
    """A message with something in every field."""
    event = GetMessageClass(proto.FindMessageTypeByName("shop.Event"))()
    click = event.click
    click.user_id, click.item_id, click.kind, click.token = "ann", 2**60, 1, "été".encode()
    click.viewed_at.FromMilliseconds(VIEWED_MS)
    click.campaign.value = "autumn"
    click.positions["top"] = 3
    click.before.extend([0, 1, 7])
    click.price = 0
    return event


EVENT_AS_JSON = {
    "click": {
        "user_id": "ann",
        "item_id": 2**60,
        "viewed_at": "2025-11-24T16:00:00.123Z",
        "kind": "CART",
        "campaign": "autumn",
        "positions": {"top": 3},
        "before": ["VIEW", "CART", 7],  # no name of this schema's
        "token": "été",
        "price": 0,  # it was set
    }
}


def test_protobuf(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str, proto: DescriptorPool
) -> None:
    """The schema is a text in the registry, as Java's producers write it; the message is the second one of the file."""
    number = schema_registry.register(f"{topic_prefix}-value", Schema(PROTO, "PROTOBUF"))
    data = b"\0" + number.to_bytes(4) + b"\x02\x02" + make_event(proto).SerializeToString()

    assert read(decoder, data) == EVENT_AS_JSON


def test_a_nested_message_of_protobuf(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str, proto: DescriptorPool
) -> None:
    """Named by its place in the message that it is in."""
    number = schema_registry.register(f"{topic_prefix}-value", Schema(PROTO, "PROTOBUF"))
    place = b"\x04\x02\x00"  # two steps: the second message, the first in it
    data = b"\0" + number.to_bytes(4) + place + make_event(proto).click.SerializeToString()

    assert read(decoder, data) == EVENT_AS_JSON["click"]


def test_what_a_protobuf_message_leaves_out(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str
) -> None:
    """What was not set is absent, so that it is no id; an enum's first name is there, because most clicks have it."""
    number = schema_registry.register(f"{topic_prefix}-value", Schema(PROTO, "PROTOBUF"))

    assert read(decoder, b"\0" + number.to_bytes(4) + b"\x04\x02\x00") == {"kind": "VIEW"}


def test_protobuf_of_a_python_producer(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str, proto: DescriptorPool
) -> None:
    """It registers its schema compiled, not as text."""
    event = make_event(proto)
    with schema_registry.client() as client:
        serialize = ProtobufSerializer(type(event), client)
        data = serialize(event, SerializationContext(topic_prefix, MessageField.VALUE))

    assert read(decoder, data) == EVENT_AS_JSON


def test_avro_schemas_that_refer_to_others(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str
) -> None:
    """What they refer to is loaded with them, over several steps."""
    money: Any = {"type": "record", "name": "shop.Money", "fields": [{"name": "cents", "type": "long"}]}
    item: Any = {"type": "record", "name": "shop.Item", "fields": [{"name": "price", "type": "shop.Money"}]}
    click: Any = {"type": "record", "name": "shop.Click", "fields": [{"name": "item", "type": "shop.Item"}]}
    schema_registry.register(f"{topic_prefix}-money", Schema(json.dumps(money), "AVRO"))
    to_money = SchemaReference("shop.Money", f"{topic_prefix}-money", 1)
    schema_registry.register(f"{topic_prefix}-item", Schema(json.dumps(item), "AVRO", [to_money]))
    to_item = SchemaReference("shop.Item", f"{topic_prefix}-item", 1)
    number = schema_registry.register(f"{topic_prefix}-value", Schema(json.dumps(click), "AVRO", [to_item]))

    assert read(decoder, b"\0" + number.to_bytes(4) + b"\x22") == {"item": {"price": {"cents": 17}}}


def test_protobuf_schemas_that_refer_to_others(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str
) -> None:
    """They import them by path."""
    money = 'syntax = "proto3"; package shop; message Money { int64 cents = 1; }'
    click = 'syntax = "proto3"; import "shop/money.proto"; message Click { shop.Money price = 1; }'
    schema_registry.register(f"{topic_prefix}-money", Schema(money, "PROTOBUF"))
    to_money = SchemaReference("shop/money.proto", f"{topic_prefix}-money", 1)
    number = schema_registry.register(f"{topic_prefix}-value", Schema(click, "PROTOBUF", [to_money]))

    assert read(decoder, b"\0" + number.to_bytes(4) + b"\0\x0a\x02\x08\x11") == {"price": {"cents": 17}}


def test_two_versions_of_a_schema_in_one_topic(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str
) -> None:
    """Each record is read with the version that it was written with."""
    newer = CLICK | {"fields": [{"name": "channel", "type": "string", "default": "web"}, *CLICK_FIELDS]}
    old = write_avro(schema_registry, topic_prefix, CLICK, {"user_id": "ann", "item_id": 17})
    new = write_avro(schema_registry, topic_prefix, newer, {"user_id": "ben", "item_id": 18, "channel": "app"})

    assert old[:5] != new[:5]
    assert read(decoder, new) == {"user_id": "ben", "item_id": 18, "channel": "app"}
    assert read(decoder, old) == {"user_id": "ann", "item_id": 17}


@pytest.mark.parametrize(("header", "is_key"), [("__value_schema_id", False), ("__key_schema_id", True)])
def test_a_schema_named_in_a_header(
    schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str, header: str, is_key: bool
) -> None:
    """The value is then as Avro alone has it."""
    data = write_avro(schema_registry, topic_prefix, CLICK, {"user_id": "ann", "item_id": 17}, is_key=is_key)

    assert read(decoder, data[5:], (header, data[:5]), is_key=is_key) == {"user_id": "ann", "item_id": 17}


def test_a_schema_is_fetched_once(schema_registry: LocalRegistry, decoder: RegistryDecoder, topic_prefix: str) -> None:
    """Only a record of another schema asks the registry again."""
    data = write_avro(schema_registry, topic_prefix, CLICK, {"user_id": "ann", "item_id": 17})

    assert decoder.missing_schemas(data) == {int.from_bytes(data[1:5])}
    read(decoder, data)
    assert decoder.missing_schemas(data) == set()
