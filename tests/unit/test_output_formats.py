"""Updates in each output format, read by the libraries that consumers use, and by our own reader."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import fastavro
import msgspec
import numpy as np
import pytest
from confluent_kafka.schema_registry import Schema
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

import tools.schema_registry.updates
from nextclick.errors import PermanentError
from nextclick.output import avro, protobuf
from nextclick.output.cloud_events import HEADERS, cloud_events_format, decode_event
from nextclick.output.varints import varint, zigzag
from nextclick.popularity import Popularity
from nextclick.scoring.binary_lists import write_avro_lists, write_protobuf_lists
from nextclick.scoring.binary_reasons import avro_of_explained, protobuf_of_explained
from nextclick.scoring.item_lists import item_texts, write_lists
from nextclick.scoring.terms import NOT_PLACED, Best
from nextclick.settings import Settings
from nextclick.updates import (
    JSON_FORMAT,
    MAX_UPDATE_BYTES,
    POPULAR,
    RNN,
    AnsweredClick,
    ListFormat,
    Part,
    Recommendation,
    RecommendationUpdate,
    ServedBy,
    Source,
    UpdateFormat,
    ranked_list,
)
from tools.schema_registry.client import FetchedSchema, UnknownSchema
from tools.schema_registry.updates import SCHEMAS, FramedUpdates
from tools.update_formats import open_update_format, update_decoder

SCHEMA_ID = 70_000
AVRO, PROTOBUF = avro.avro_format(SCHEMA_ID), protobuf.protobuf_format(SCHEMA_ID)
CLOUD_EVENTS = cloud_events_format("shop", "clicks of shop/1")
UPDATE = RecommendationUpdate(
    "ünn", [Recommendation("lamp", 0.25), Recommendation('"é"\\\n\x01', 1e-9)], RNN, "1f0c9d2e5a7b3c48", 12,
    Source(3, 2**40), 1_764_000_000_123, 1_764_000_000_131,
)  # fmt: skip
EXPLAINED = msgspec.structs.replace(
    UPDATE,
    items=[
        Recommendation("lamp", 0.25, (Part("neighbour", 0.15, "été"), Part("reclick", 0.06), Part("network", 0.04))),
        Recommendation("vase", 0.125, (Part("network", 0.125),), "explore"),
        Recommendation("rug", 0.0, placed="pinned"),
    ],
)
OF_CANARY = msgspec.structs.replace(UPDATE, variant="canary")
EMPTY = RecommendationUpdate("u", [], POPULAR, "", 0, Source(0, 0), 0, 0)

ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=64)
counts = st.integers(0, 2**63 - 1)


def encode(output: UpdateFormat, update: RecommendationUpdate) -> bytes:
    """Write an update as a worker does."""
    ranked = ranked_list(update.strategy, update.items, [], output.encode_items)
    answered = AnsweredClick(update.source.partition, update.source.offset, update.clicked_at_ms)
    return output.encode_update(
        update.user_id,
        ranked,
        ServedBy(update.bundle_id, update.variant or ""),
        update.sequence,
        answered,
        update.produced_at_ms,
    )


AVRO_SCHEMA = fastavro.parse_schema(json.loads(json.dumps(avro.SCHEMA)))


def without_nothing(plain: Any) -> Any:
    """Leave out what is null, or a list of nothing but the update's own: in JSON it is absent."""
    if not plain["variant"]:
        del plain["variant"]
    for item in plain["items"]:
        for part in item["because"] or ():
            if part.get("item_id") is None:
                part.pop("item_id", None)
        for name in ("because", "placed"):
            if not item.get(name):
                item.pop(name, None)
    return plain


def read_avro(value: bytes) -> Any:
    """Read with fastavro; nothing may be left over."""
    data = io.BytesIO(value[5:])
    found = fastavro.schemaless_reader(data, AVRO_SCHEMA, None)
    assert data.read() == b""
    return without_nothing(found)


@pytest.fixture(scope="module")
def message(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The class that protoc makes of the published schema."""
    folder = tmp_path_factory.mktemp("proto")
    (folder / "update.proto").write_text(protobuf.SCHEMA)
    options = [f"-I{folder}", f"--descriptor_set_out={folder / 'set'}", "update.proto"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *options], check=True)
    pool = DescriptorPool()
    for file in FileDescriptorSet.FromString((folder / "set").read_bytes()).file:
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName("nextclick.RecommendationUpdate"))


def of_message(found: Any) -> Any:
    """Give a message's fields as msgspec has them: numbers of 64 bits are text in Protobuf's JSON."""
    plain = MessageToDict(found, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    return msgspec.convert(without_nothing(plain), RecommendationUpdate, strict=False)


@pytest.mark.parametrize("update", [UPDATE, EXPLAINED, OF_CANARY, EMPTY], ids=["full", "explained", "canary", "empty"])
def test_avro_is_what_fastavro_reads(update: RecommendationUpdate) -> None:
    """Every field, and the id of the schema in front."""
    value = encode(AVRO, update)
    found = read_avro(value)

    assert value[:5] == b"\0" + SCHEMA_ID.to_bytes(4)
    assert msgspec.convert(found, RecommendationUpdate) == update


@pytest.mark.parametrize("update", [UPDATE, EXPLAINED, OF_CANARY, EMPTY], ids=["full", "explained", "canary", "empty"])
def test_protobuf_is_what_googles_library_reads(update: RecommendationUpdate, message: Any) -> None:
    """Every field; in front the id of the schema and its first message."""
    value = encode(PROTOBUF, update)

    assert value[:6] == b"\0" + SCHEMA_ID.to_bytes(4) + b"\0"
    assert of_message(message.FromString(value[6:])) == update


@given(
    user_id=ids, items=st.lists(st.tuples(ids, st.floats(0, 1)), max_size=30), bundle_id=st.text(max_size=200),
    sequence=counts, partition=st.integers(0, 2**31 - 1), times=st.tuples(counts, counts, counts),
)  # fmt: skip
def test_any_update_is_read_back(
    message: Any, user_id: str, items: list[tuple[str, float, Any]], bundle_id: str, sequence: int, partition: int,
    times: tuple[int, int, int],
) -> None:  # fmt: skip
    """Numbers of any size, texts of any length."""
    recommendations = [Recommendation(*item) for item in items]
    offset, clicked_at_ms, produced_at_ms = times
    update = RecommendationUpdate(
        user_id, recommendations, RNN, bundle_id, sequence, Source(partition, offset), clicked_at_ms, produced_at_ms
    )

    assert msgspec.convert(read_avro(encode(AVRO, update)), RecommendationUpdate) == update
    assert of_message(message.FromString(encode(PROTOBUF, update)[6:])) == update


def test_every_format_has_every_field(message: Any) -> None:
    """A field that is added to the type is added to all of them, under its own name."""
    in_avro: dict[str, list[str]] = {}

    def walk(part: Any) -> None:
        match part:
            case {"type": "record", "name": name, "fields": fields}:
                in_avro[name] = [field["name"] for field in fields]
                walk([field["type"] for field in fields])
            case {"items": inner}:
                walk(inner)
            case list():
                for each in part:
                    walk(each)

    walk(avro.SCHEMA)

    for kind in (RecommendationUpdate, Recommendation, Part, Source):
        fields = message.DESCRIPTOR.file.message_types_by_name[kind.__name__].fields
        assert [field.name for field in fields] == in_avro[kind.__name__] == list(kind.__struct_fields__)


@given(number=st.integers(-(2**63), 2**63 - 1))
def test_numbers_are_as_the_specifications_say(number: int) -> None:
    """Seven bits in a byte, the lowest first; zigzag folds the negative ones in between."""
    folded = (number << 1) ^ (number >> 63)
    read = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(zigzag(number)))
    last = zigzag(number)[-1]

    assert read == folded
    assert last < 0x80
    assert all(byte >= 0x80 for byte in zigzag(number)[:-1])
    assert zigzag(number) == varint(folded)


def test_a_cloud_event_has_what_the_specification_asks_for() -> None:
    """Version 1.0, JSON, structured mode: the header says so, and the data is the update."""
    event = json.loads(encode(CLOUD_EVENTS, UPDATE))
    data = event.pop("data")

    assert event == {
        "specversion": "1.0",
        "id": f"3/{2**40}-12",
        "source": "/nextclick/shop/clicks%20of%20shop%2F1",
        "type": "nextclick.recommendations.v1",
        "subject": "ünn",
        "time": "2025-11-24T16:00:00.131Z",
        "datacontenttype": "application/json",
    }
    assert datetime.fromisoformat(event["time"]).timestamp() * 1000 == UPDATE.produced_at_ms
    assert data == json.loads(encode(JSON_FORMAT, UPDATE))
    assert HEADERS == [("content-type", b"application/cloudevents+json; charset=UTF-8")]
    assert CLOUD_EVENTS.headers == HEADERS


def test_a_cloud_event_that_comes_again_has_the_same_id() -> None:
    """After a crash an update can be sent twice, later and by another worker: consumers know it by source and id."""
    again = msgspec.structs.replace(UPDATE, produced_at_ms=UPDATE.produced_at_ms + 5_000)
    newer = msgspec.structs.replace(UPDATE, sequence=13, source=Source(3, 2**40 + 1))

    first, second, third = (json.loads(encode(CLOUD_EVENTS, update)) for update in (UPDATE, again, newer))

    assert (first["source"], first["id"]) == (second["source"], second["id"])
    assert (first["source"], first["id"]) != (third["source"], third["id"])


def list_in(output: UpdateFormat, items: bytes) -> list[Recommendation]:
    """Read a list that was written where items are ranked."""
    ranked = ranked_list(RNN, [], [])._replace(items=items)
    value = output.encode_update("u", ranked, ServedBy(""), 1, AnsweredClick(0, 0, 0), 0)
    return reader_of(output.list_format)(value).items


@lru_cache
def reader_of(list_format: ListFormat) -> Callable[[bytes], RecommendationUpdate]:
    """Give our own reader, with a registry that has what it needs."""
    if list_format == "json":
        return update_decoder(Settings())
    return FramedUpdates(known(SCHEMAS[list_format])).decode


def known(schema: Schema) -> Callable[[object], FetchedSchema]:
    """A registry that has one schema under every id."""
    return lambda _: FetchedSchema(schema, {})


@pytest.mark.parametrize(
    ("output", "write"),
    [(JSON_FORMAT, write_lists), (AVRO, write_avro_lists), (PROTOBUF, write_protobuf_lists)],
    ids=["json", "avro", "protobuf"],
)
def test_a_list_of_the_network_says_the_same_in_each_format(output: UpdateFormat, write: Any) -> None:
    """Ids with all that JSON escapes, ids of the greatest length, and lists without an item."""
    item_ids = ["lamp", '"\\/', *(chr(number) for number in range(1, 0x21)), "é" * 31, "ü" * 32, "x" * 127, "y" * 128]
    item_ids += ["z" * 256, "\x7f\u2028🙂"]
    rows = np.arange(len(item_ids), dtype=np.int32)
    placed = np.stack([rows % 3, np.zeros(len(rows))]).astype(np.uint8)
    probabilities = np.stack([1.0 / (rows + 1), np.full(len(rows), 1e-300)])
    best = Best(np.stack([rows, rows[::-1]]), probabilities, placed)
    shorter = Best(np.where(rows < 2, best.items, -1), probabilities, placed)
    empty = Best(np.zeros((2, 0), np.int32), np.zeros((2, 0)))

    first, second = (list_in(output, items) for items in write(item_texts(item_ids), best))
    nothing = [list_in(output, items) for items in write(item_texts(item_ids), empty)]
    short = [list_in(output, items) for items in write(item_texts(item_ids), shorter)]
    unplaced = [list_in(output, items) for items in write(item_texts(item_ids), best._replace(placed=NOT_PLACED))]

    assert [item.item_id for item in first] == item_ids
    assert [item.item_id for item in second] == item_ids[::-1]
    assert [item.score for item in first] == pytest.approx(best.probabilities[0], rel=1e-6)
    assert [item.score for item in second] == pytest.approx(best.probabilities[1], abs=1e-290)
    assert [item.placed for item in first] == [[UNSET, "pinned", "explore"][row % 3] for row in rows]
    assert {item.placed for item in second} == {UNSET}
    assert nothing == [[], []]
    assert short == [first[:2], second[:2]]
    assert unplaced == [[msgspec.structs.replace(item, placed=UNSET) for item in each] for each in (first, second)]


explained_items = st.builds(
    Recommendation,
    ids | st.just("x" * 256),
    st.floats(0, 1),
    st.lists(
        st.builds(Part, st.just("neighbour"), st.floats(0, 1), ids | st.just("y" * 256))
        | st.builds(Part, st.sampled_from(["reclick", "network"]), st.floats(0, 1)),
        max_size=10,
    ).map(tuple),
    st.sampled_from([UNSET, "pinned", "explore"]),
)


@settings(deadline=None)  # the first one compiles
@given(lists=st.lists(st.lists(explained_items, max_size=8), min_size=1, max_size=3))
def test_an_explained_list_says_the_same_in_each_format(lists: list[list[Recommendation]]) -> None:
    """What compiled code makes of their JSON is what is written item by item; numbers as far as the JSON has them."""
    texts = [b"[" + b",".join(map(explained_json, items)) + b"]" for items in lists]
    expected = [json.loads(text, parse_float=rounded) for text in texts]
    in_avro = [as_json(list_in(AVRO, items)) for items in avro_of_explained(texts)]
    in_protobuf = [as_json(list_in(PROTOBUF, items)) for items in protobuf_of_explained(texts)]

    assert in_avro == expected
    assert in_protobuf == [
        [{name: value for name, value in item.items() if value != []} for item in items] for items in expected
    ]


def as_json(items: list[Recommendation]) -> Any:
    return json.loads(msgspec.json.encode(items), parse_float=rounded)


def rounded(text: str) -> float:
    """Read a number but for the last bits, which may differ where it is far below 1e-22."""
    return float(f"{float(text):.13g}")


def explained_json(item: Recommendation) -> bytes:
    """Write an item as `nextclick.scoring.reasons` does."""
    encode = msgspec.json.encode
    parts = []
    for part in item.because:
        clicked = b"" if part.item_id is UNSET else b',"item_id":' + encode(part.item_id)
        parts.append(b'{"kind":' + encode(part.kind) + clicked + b',"share":' + number(part.share) + b"}")
    head = b'{"item_id":' + encode(item.item_id) + b',"score":' + number(item.score)
    placed = b"" if item.placed is UNSET else b',"placed":' + encode(item.placed)
    return head + b',"because":[' + b",".join(parts) + b"]" + placed + b"}"


def number(value: float) -> bytes:
    """Write a number as lists have them: seven digits of 0 to 1."""
    if value < 1e-290:
        return b"0.0"
    text = f"{value:.6e}" if value < 1e-5 else f"{value:.7f}"
    return text.encode()


@pytest.mark.parametrize("output", [JSON_FORMAT, CLOUD_EVENTS, AVRO, PROTOBUF])
def test_popular_items_are_written_in_the_same_format(output: UpdateFormat) -> None:
    """Their lists do not come from compiled code."""
    popularity = Popularity(3600.0, output.encode_items)
    popularity.add("ann", "lamp", 1_000_000_000_000)

    assert list_in(output, popularity.ranked(5).items) == [Recommendation("lamp", 1.0)]


@pytest.mark.parametrize("output", [AVRO, PROTOBUF])
@settings(deadline=None)  # the first one compiles the schema
@given(data=st.binary(max_size=200))
def test_what_is_no_update_is_the_one_documented_error(output: UpdateFormat, data: bytes) -> None:
    """Others can write to the topic."""
    decode = reader_of(output.list_format)

    for value in (data, b"\0" + SCHEMA_ID.to_bytes(4) + data, b"\0" + SCHEMA_ID.to_bytes(4) + b"\0" + data):
        with contextlib.suppress(msgspec.DecodeError):
            decode(value)


@pytest.mark.parametrize(
    "schema",
    [
        Schema("{}", "JSON"),
        Schema('"string"', "AVRO"),
        Schema(json.dumps({"type": "record", "name": "Click", "fields": []}), "AVRO"),
        Schema(json.dumps({"type": "record", "name": "A", "fields": [{"name": "a", "type": ["null", "A"]}]}), "AVRO"),
        Schema("record A", "AVRO"),
    ],
    ids=["JSON Schema", "a text", "another record", "nested in itself", "no JSON"],
)
def test_a_schema_of_something_else_is_the_one_documented_error(schema: Schema) -> None:
    """A click, for example, that somebody sent to the wrong topic."""
    decode = FramedUpdates(known(schema)).decode

    with pytest.raises(msgspec.DecodeError):
        decode(encode(AVRO, UPDATE))


def test_a_schema_of_protobuf_is_read_though_the_registry_takes_it_for_one_of_avro() -> None:
    """Apicurio does, where the subject's first schema was."""
    mistaken = Schema(SCHEMAS["protobuf"].schema_str, None)

    assert FramedUpdates(known(mistaken)).decode(encode(PROTOBUF, UPDATE)) == UPDATE


def test_a_schema_that_is_not_known_is_the_one_documented_error() -> None:
    """The registry was set up anew, for example."""

    def unknown(_: object) -> FetchedSchema:
        raise UnknownSchema("the schema registry does not know schema 70000")

    with pytest.raises(msgspec.DecodeError, match="does not know schema 70000"):
        FramedUpdates(unknown).decode(encode(AVRO, UPDATE))


def test_a_schema_that_is_not_known_is_not_asked_for_with_each_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry far away would take the time of a question for each; it is asked again after a while."""
    asked: list[object] = []

    def unknown(schema_id: object) -> FetchedSchema:
        asked.append(schema_id)
        raise UnknownSchema("the schema registry does not know it")

    decode = FramedUpdates(unknown).decode
    for _ in range(3):
        with pytest.raises(msgspec.DecodeError, match="does not know it"):
            decode(encode(AVRO, UPDATE))
    n_asked = len(asked)
    decode = FramedUpdates(unknown).decode
    monkeypatch.setattr(tools.schema_registry.updates, "_ASK_AGAIN_S", 0.0)
    for _ in range(3):
        with pytest.raises(msgspec.DecodeError):
            decode(encode(AVRO, UPDATE))

    assert (n_asked, len(asked)) == (1, 4)


def test_an_older_schema_is_read_with_the_defaults_of_this_one() -> None:
    """Updates of an earlier version stay in the topic for days."""
    older = json.loads(json.dumps(avro.SCHEMA))
    del older["fields"][1]["type"]["items"]["fields"][2:]  # because, placed
    written = io.BytesIO()
    fastavro.schemaless_writer(written, fastavro.parse_schema(older), msgspec.to_builtins(UPDATE))
    decode = FramedUpdates(known(Schema(json.dumps(older), "AVRO"))).decode

    assert decode(b"\0" + SCHEMA_ID.to_bytes(4) + written.getvalue()) == UPDATE


@pytest.mark.parametrize("kind", ["json", "cloudevents"])
def test_json_is_read_whichever_of_its_forms_it_has(kind: str) -> None:
    """The setting can have been another one when older updates were written."""
    decode = update_decoder(Settings.load({}, {"output_format": kind}))

    assert decode(encode(JSON_FORMAT, UPDATE)) == UPDATE
    assert decode(encode(CLOUD_EVENTS, UPDATE)) == UPDATE
    for value in (b"", b"{}", b'{"data":{}}', b"\xff", b" " * MAX_UPDATE_BYTES + b"{}"):
        with pytest.raises(msgspec.DecodeError):
            decode(value)
    with pytest.raises(msgspec.DecodeError):
        decode_event(b'{"data":')


def test_without_a_registry_its_updates_are_said_to_need_one() -> None:
    """Instead of a complaint about JSON."""
    with pytest.raises(msgspec.DecodeError, match="schema_registry is empty"):
        update_decoder(Settings())(encode(AVRO, UPDATE))


@pytest.mark.parametrize("kind", ["avro", "protobuf"])
def test_a_format_of_a_registry_needs_one(kind: str) -> None:
    """Said before anything starts."""
    with pytest.raises(PermanentError, match=f"output_format={kind} needs schema_registry, and it is empty"):
        Settings.load({}, {"output_format": kind})


def test_the_formats_without_a_registry_ask_nobody() -> None:
    """No client is made, and no extra is needed."""
    assert open_update_format(Settings()) is JSON_FORMAT
    assert open_update_format(Settings(output_format="cloudevents")).headers == HEADERS


def test_the_worker_needs_no_library_to_write_a_format() -> None:
    """The extra `registry` is for registering and reading: writing costs a worker no more memory."""
    code = (
        "import sys; from nextclick.output import avro, protobuf, cloud_events; "
        "sys.exit(bool({'fastavro', 'google.protobuf', 'confluent_kafka'} & sys.modules.keys()))"
    )

    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2], check=False).returncode == 0
