"""Updates in each output format, from a real worker through a real broker and registry to whoever reads them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from confluent_kafka import Message
from confluent_kafka.schema_registry import Schema
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.json_format import MessageToDict

from contracts.published import FOLDER
from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings
from tests.chaos.bundles import announce, untrained_bundle
from tests.feeds import FeedUnderTest
from tests.integration.conftest import SESSION_TIMEOUT_S, make_playground
from tests.local_registry import LocalRegistry
from tests.simulated_clicks import simulated
from tools.records import headers_of
from tools.schema_registry.client import FetchedSchema
from tools.schema_registry.protobuf import compile_schema, message_class
from tools.update_formats import open_update_format

ITEMS = [f"i{number}" for number in range(50)]
N_CLICKS = 400
FORMATS = ("cloudevents", "avro", "protobuf")


def known(registry: LocalRegistry, **more: Any) -> dict[str, Any]:
    """What a program needs to use a registry."""
    names = ("schema_registry", "schema_registry_username", "schema_registry_password")
    return {name: getattr(registry.settings, name) for name in names} | more


@pytest.fixture
def playground_of(
    broker: str, topic_prefix: str, tmp_path: Path, schema_registry: LocalRegistry
) -> Iterator[Callable[[str], Any]]:
    """Make a playground whose programs have an output format and say what items are listed for."""
    made: list[Any] = []

    def make(output_format: str) -> Any:
        settings = known(schema_registry, output_format=output_format, explain=True)
        made.append(make_playground(broker, topic_prefix, tmp_path, SESSION_TIMEOUT_S, **settings))
        return made[-1]

    yield make
    for playground in made:
        playground.stop()


def read_as_others_do(output_format: str, playground: Any, registry: LocalRegistry) -> list[Any]:
    """Read all updates with the libraries that consumers have; plain objects, as the JSON has them."""
    topic = playground.settings.recommendations_topic
    messages = playground.read(topic)
    if output_format == "cloudevents":
        return [data_of_event(message) for message in messages]
    with registry.client() as client:
        if output_format == "avro":
            deserialize, context = AvroDeserializer(client), SerializationContext(topic, MessageField.VALUE)
            return [without_null(deserialize(message.value(), context)) for message in messages]
        # Not with Confluent's deserialiser: it asks for the schema in a form that this registry does not give.
        value = messages[0].value()
        text = client.get_schema(int.from_bytes(value[1:5])).schema_str
        kind = message_class(*compile_schema(FetchedSchema(Schema(text, "PROTOBUF"), {})), (0,))
        assert {message.value()[:6] for message in messages} == {value[:5] + b"\0"}  # the first message of the schema
        return [of_protobuf(kind.FromString(message.value()[6:])) for message in messages]


def data_of_event(message: Message) -> Any:
    """Check a CloudEvent, and give its data."""
    schema = json.loads((FOLDER / "recommendation-event.schema.json").read_text())
    event = json.loads(message.value() or b"")

    assert ("content-type", b"application/cloudevents+json; charset=UTF-8") in headers_of(message)
    jsonschema.Draft202012Validator(schema).validate(event)
    assert event["subject"] == (message.key() or b"").decode()
    return event["data"]


def without_null(plain: Any) -> Any:
    """Leave out what is null."""
    if isinstance(plain, list):
        return [without_null(each) for each in plain]
    if isinstance(plain, dict):
        return {name: without_null(each) for name, each in plain.items() if each is not None}
    return plain


def of_protobuf(message: Any) -> Any:
    """Give a message's fields; whole numbers of 64 bits are texts in Protobuf's JSON."""
    plain = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
    plain |= {name: int(plain[name]) for name in ("sequence", "clicked_at_ms", "produced_at_ms")}
    plain["source"]["offset"] = int(plain["source"]["offset"])
    plain["items"] = [
        {name: value for name, value in item.items() if name != "because" or value} for item in plain["items"]
    ]
    return plain


@pytest.mark.release
@pytest.mark.parametrize("output_format", FORMATS)
def test_whoever_reads_updates_reads_each_format(
    output_format: str, playground_of: Callable[[str], Any], schema_registry: LocalRegistry
) -> None:
    """Our own readers, the feed, `nextclick send`, and the libraries of other teams: popular and explained lists."""
    playground = playground_of(output_format)
    playground.worker()
    playground.send(simulated(N_CLICKS // 2))
    playground.wait_until_answered()
    announce(playground.settings, untrained_bundle(playground.settings.bundle_dir, ITEMS, seed=1))
    playground.wait_for_log("worker", "serving a new bundle")
    playground.send([("ann", item, 1_764_000_000_000 + number) for number, item in enumerate(ITEMS[:20])])
    updates = playground.wait_until_answered()
    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")
    sent = playground.start("send", "send", "ann", "i7", "--timeout", "50")
    sent.wait(60)
    found = read_as_others_do(output_format, playground, schema_registry)

    assert sent.exit_status == 0
    assert {update["strategy"] for update in found} == {"popular", "rnn"}
    of_ann = [update for update in found if update["user_id"] == "ann"]
    assert all("because" in item for item in of_ann[-1]["items"])
    by_source = {(update["source"]["partition"], update["source"]["offset"]): update for update in found}
    for update in updates:
        other = by_source[update.source.partition, update.source.offset]
        assert [item["item_id"] for item in other["items"]] == [item.item_id for item in update.items]
        assert (other["user_id"], other["sequence"]) == (update.user_id, update.sequence)
    playground.assert_sequences_are_right(playground.updates())
    listed = feed.ask("/v1/users/ann/recommendations?explain=true").body
    newest = max(of_ann, key=lambda update: update["sequence"])
    playground.wait_for(
        lambda: feed.ask("/v1/users/ann/recommendations").body["sequence"] == newest["sequence"], "the newest list"
    )
    assert [part["kind"] for item in listed["items"] for part in item["because"]]


@pytest.mark.release
def test_a_topic_with_several_formats_is_read_whole(
    playground_of: Callable[[str], Any], schema_registry: LocalRegistry
) -> None:
    """The setting was changed: older updates stay for days."""
    playground = playground_of("json")
    for number, output_format in enumerate(("json", *FORMATS)):
        worker = playground.worker(f"worker-{number}", "--set", f"output_format={output_format}")
        playground.send([(f"u-{place}", f"i{number}", 1_764_000_000_000 + number) for place in range(50)])
        playground.wait_until_answered()
        worker.stop(20)
    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")

    assert len(playground.updates()) == 200
    assert {feed.ask(f"/v1/users/u-{place}/recommendations").body["sequence"] for place in range(50)} == {4}


def error_of(settings: Settings, kind: type[Exception]) -> str:
    """What a worker would say at its start."""
    with pytest.raises(kind) as caught:
        open_update_format(settings)
    return str(caught.value)


@pytest.mark.parametrize(
    ("output_format", "schema"),
    [
        ("avro", Schema('{"type": "record", "name": "Other", "fields": [{"name": "a", "type": "int"}]}', "AVRO")),
        ("protobuf", Schema('syntax = "proto3"; message Other { int32 a = 1; }', "PROTOBUF")),
    ],
)
def test_a_subject_that_has_another_schema_is_refused(
    output_format: str, schema: Schema, schema_registry: LocalRegistry, topic_prefix: str
) -> None:
    """Where the registry keeps a subject compatible; the error names the subject and what to do."""
    subject = f"{topic_prefix}-value"
    schema_registry.register(subject, schema)
    with schema_registry.client() as client:
        client.set_compatibility(subject, "BACKWARD")
    settings = Settings(**known(schema_registry, output_format=output_format, recommendations_topic=topic_prefix))

    said = error_of(settings, PermanentError)
    assert f"does not take our schema of the subject {subject!r}" in said
    assert "loosen its compatibility" in said


@pytest.mark.parametrize("output_format", ["avro", "protobuf"])
def test_a_schema_is_registered_once(output_format: str, schema_registry: LocalRegistry, topic_prefix: str) -> None:
    """The next worker finds it, and needs no right to write."""
    settings = Settings(**known(schema_registry, output_format=output_format, recommendations_topic=topic_prefix))

    open_update_format(settings)
    open_update_format(settings)

    with schema_registry.client() as client:
        assert client.get_versions(f"{topic_prefix}-value") == [1]


def test_a_registry_that_is_away_or_refuses_ends_a_start_with_one_line(
    schema_registry: LocalRegistry, playground: Any
) -> None:
    """No address, nobody there, a wrong password."""
    of_registry = known(schema_registry, output_format="avro")
    nobody, stranger = dict(of_registry), dict(of_registry)
    nobody["schema_registry"], stranger["schema_registry_password"] = "http://127.0.0.1:9", "wrong"

    assert "does not answer" in error_of(Settings(**nobody), TemporaryError)
    assert "refuses us (status 401)" in error_of(Settings(**stranger), PermanentError)
    worker = playground.worker("worker", "--set", "output_format=avro", "--set", "schema_registry=http://127.0.0.1:9")
    worker.wait(30)
    assert worker.exit_status == 1
    last = playground.log("worker").read_text().splitlines()[-1]
    assert last.startswith("nextclick: the schema registry at http://127.0.0.1:9 does not answer")


def test_the_registered_schema_is_the_published_one(schema_registry: LocalRegistry, topic_prefix: str) -> None:
    """So whoever may not write to the registry can have it registered beforehand."""
    settings = Settings(**known(schema_registry, output_format="avro", recommendations_topic=topic_prefix))
    text = (FOLDER / "recommendation-update.avsc").read_text()
    number = schema_registry.register(f"{topic_prefix}-value", Schema(text, "AVRO"))

    open_update_format(settings)

    with schema_registry.client() as client:
        assert client.get_versions(f"{topic_prefix}-value") == [1]
        assert json.loads(client.get_schema(number).schema_str) == json.loads(text)
