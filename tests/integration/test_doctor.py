"""`nextclick doctor` on a real broker: what it prints, pasted, makes a worker answer every click."""

import json
import random
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType
from confluent_kafka.schema_registry import Schema

from doctor.search.propose import changed
from nextclick.settings import Settings
from tests.integration.conftest import SESSION_TIMEOUT_S, make_playground
from tests.integration.test_registry_stream import framed
from tests.local_registry import PASSWORD, LocalRegistry
from tools.client_config import librdkafka_config

AVRO_CLICK = """{"type": "record", "name": "Click", "fields": [
    {"name": "visitor", "type": {"type": "record", "name": "Visitor", "fields": [{"name": "id", "type": "string"}]}},
    {"name": "sku", "type": "long"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"""
N_CLICKS = 400
START_MS = 1_764_000_000_000
Record = tuple[bytes | None, bytes]


def iso(number: int) -> str:
    """The time of a click, as browsers write it."""
    moment = datetime.fromtimestamp((START_MS + number * 1000) / 1000, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def nested_events(chance: random.Random) -> Iterable[Record]:
    """Events of a tracker of one's own: everything is nested, times are ISO 8601."""
    for number in range(N_CLICKS):
        user, item = f"u{chance.randrange(80)}", f"sku-{chance.randrange(50)}"
        product = {"id": item, "price": 9.99, "category": "lamps"}
        event = {
            "visitor": {"id": user, "country": "DE"},
            "event": {"kind": chance.choice(("view", "add_to_cart", "impression")), "product": product},
            "at": iso(number),
        }
        yield user.encode(), json.dumps(event).encode()


def segment_events(chance: random.Random) -> Iterable[Record]:
    """Segment's track calls: most users are anonymous, and the key is whatever id there is."""
    for number in range(N_CLICKS):
        visitor = chance.randrange(80)
        user = f"u{visitor}" if chance.random() < 0.4 else None
        name = chance.choice(("Product Viewed", "Product Added", "Page Viewed"))
        properties = {"url": "/"} if name == "Page Viewed" else {"product_id": f"sku-{chance.randrange(50)}"}
        event = {
            "type": "track",
            "messageId": f"m-{number}",
            "userId": user,
            "anonymousId": f"a-{visitor}",
            "event": name,
            "properties": properties,
            "timestamp": iso(number),
            "receivedAt": iso(number + 2),
            "context": {"ip": "10.0.0.1", "library": {"name": "analytics.js"}},
        }
        yield (user or f"a-{visitor}").encode(), json.dumps(event).encode()


def produce(settings: Settings, records: Iterable[Record]) -> None:
    """Send records as librdkafka's producers do when nobody says how."""
    producer = Producer(librdkafka_config(settings) | {"partitioner": "consistent_random"})
    for key, value in records:
        producer.produce(settings.clicks_topic, key=key, value=value)
    assert producer.flush(30) == 0


def examine(playground: Any, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run doctor; give its exit status and what it says."""
    doctor = playground.start("doctor", "doctor", "--json", *arguments)
    doctor.wait(60)
    return doctor.exit_status, json.loads(playground.log("doctor").read_text())


def found(report: dict[str, Any], level: str) -> str:
    """Everything that was found of a level."""
    return "\n".join(f"{each['found']}\n{each['advice']}" for each in report["findings"] if each["level"] == level)


def paste_and_answer(playground: Any, report: dict[str, Any], n_clicks: int) -> None:
    """Start a worker with the line that was printed, and wait for the answer to every click."""
    [line] = [each["advice"] for each in report["findings"] if each["advice"].startswith("nextclick stream ")]
    playground.worker("worker", *shlex.split(line)[2:])
    playground.settings = changed(playground.settings, report["set"])
    answered = playground.wait_until_answered()

    assert len(answered) == n_clicks
    assert playground.count(playground.settings.rejected_topic) == 0


def test_the_line_for_nested_events_makes_every_click_answered(playground: Any) -> None:
    """Paths, ISO times, librdkafka's partitioner; impressions are passed over. Then doctor has nothing to mend."""
    records = list(nested_events(random.Random(1)))
    produce(playground.settings, records)
    status, report = examine(playground)
    n_clicks = sum(b'"impression"' not in value for _, value in records)

    assert status == 1
    assert report["sample"]["applied"] == 0
    assert report["applied_when_set"] == n_clicks
    paste_and_answer(playground, report, n_clicks)
    assert {click.click.timestamp_ms for click in playground.clicks()} <= {
        START_MS + number * 1000 for number in range(N_CLICKS)
    }
    status, report = examine(playground)
    assert status == 0, found(report, "warning")
    assert report["set"] == {}


def test_the_line_for_segments_events_makes_every_click_answered(playground: Any) -> None:
    """Users who are anonymous until they sign in, and names with spaces, survive the shell."""
    records = list(segment_events(random.Random(2)))
    produce(playground.settings, records)
    _, report = examine(playground)
    n_clicks = sum(b"product_id" in value for _, value in records)

    assert report["set"]["user_field"] == "userId|anonymousId"
    assert set(report["set"]["events"].split(",")) == {"Product Added:cart", "Product Viewed:view"}
    paste_and_answer(playground, report, n_clicks)
    users = {update.user_id for update in playground.updates()}
    assert any(user.startswith("a-") for user in users)
    assert any(user.startswith("u") for user in users)


def test_records_without_keys_lead_to_a_copy(playground: Any) -> None:
    """No setting can mend what is spread over the partitions; the line for the copy says where the user is."""
    produce(playground.settings, ((None, value) for _, value in nested_events(random.Random(3))))
    status, report = examine(playground)

    assert status == 1
    assert "100% of the records have no key" in found(report, "warning")
    assert f"nextclick rekey {playground.settings.clicks_topic} --to " in found(report, "warning")
    assert "--set user_field=visitor.id" in found(report, "warning")


def test_the_lines_for_a_copy_make_every_click_answered(broker: str, topic_prefix: str, tmp_path: Path) -> None:
    """Arrays of several users, in the usual order of work: first `nextclick topics`, then doctor."""
    playground = make_playground(broker, topic_prefix, tmp_path, SESSION_TIMEOUT_S, partitions=6, rekey_port=0)
    try:
        events = [json.loads(value) for _, value in nested_events(random.Random(5))]
        arrays = [json.dumps(events[start : start + 4]).encode() for start in range(0, N_CLICKS, 4)]
        produce(playground.settings, ((b"batch-%d" % number, array) for number, array in enumerate(arrays)))
        given = ("--set", "key_format=json", "--set", "partitions=3")  # which the copy must not be read with
        _, report = examine(playground, *given)
        topics, rekey, stream = rekey_lines(report)
        for name, arguments in (("topics", topics), ("rekey", [*rekey, "--once"])):
            playground.start(name, *arguments).wait(60)
        playground.start("worker", *stream)
        playground.settings = replace(playground.settings, **assigned(stream))
        answered = playground.wait_until_answered()

        assert len(answered) == sum(event["event"]["kind"] != "impression" for event in events)
        assert playground.count(playground.settings.rejected_topic) == 0
    finally:
        playground.stop()


def rekey_lines(report: dict[str, Any]) -> list[list[str]]:
    """The arguments of the three lines that are to be pasted."""
    [advice] = [each["advice"] for each in report["findings"] if "nextclick rekey " in each["advice"]]
    return [shlex.split(line.partition(": nextclick ")[2]) for line in advice.splitlines()]


def assigned(arguments: Sequence[str]) -> dict[str, str]:
    """What a line sets, of topics, fields and the application."""
    pairs = (argument.split("=", 1) for argument in arguments if "=" in argument)
    return {name: value for name, value in pairs if name not in ("partitions", "data_dir")}


def test_confluents_wire_format_leads_to_the_registry(playground: Any) -> None:
    """The bytes say so themselves."""
    produce(playground.settings, ((b"ann", b"\0\0\0\0\x11\x06ann\x08lamp") for _ in range(20)))
    status, report = examine(playground)

    assert status == 1
    assert "schema_registry" in found(report, "warning")


@pytest.mark.release
def test_the_line_for_avro_by_a_registry_makes_every_click_answered(
    playground: Any, schema_registry: LocalRegistry
) -> None:
    """Keys and values by their schemas; the password that the environment has is not in the line."""
    key_id = schema_registry.register(f"{playground.settings.clicks_topic}-key", Schema('"string"', "AVRO"))
    value_id = schema_registry.register(f"{playground.settings.clicks_topic}-value", Schema(AVRO_CLICK, "AVRO"))
    known = ("schema_registry", "schema_registry_username", "schema_registry_password")
    playground.settings = replace(
        playground.settings, **{name: getattr(schema_registry.settings, name) for name in known}
    )
    users = [f"u-{number % 37}" for number in range(300)]
    clicks = (framed(value_id, user, 4700 + number % 50, START_MS + number) for number, user in enumerate(users))
    produce(playground.settings, zip((framed(key_id, user) for user in users), clicks, strict=True))
    status, report = examine(playground)

    assert status == 1
    assert report["set"]["key_format"] == "registry"
    assert PASSWORD not in playground.log("doctor").read_text()
    paste_and_answer(playground, report, len(users))


def test_a_registry_that_is_away_is_an_error(playground: Any) -> None:
    """Whether the clicks fit cannot be said then."""
    produce(playground.settings, ((b"ann", b"\0\0\0\0\x11\x06ann\x08lamp") for _ in range(20)))
    status, report = examine(playground, "--set", "schema_registry=http://127.0.0.1:1")

    assert status == 1
    assert "http://127.0.0.1:1 does not answer" in found(report, "error")


def test_nobody_is_named_whose_clicks_are_looked_at(playground: Any) -> None:
    """Names of fields and of events are shown, never users, items or values."""
    records = [(b"secret-user", b'{"visitor":{"id":"secret-user"},"sku":"secret-item","at":"secret-time"}')] * 30
    produce(playground.settings, records)
    examine(playground)
    plain = playground.start("plain", "doctor")
    plain.wait(60)

    assert plain.exit_status in (1, 3)
    assert "secret" not in playground.log("doctor").read_text() + playground.log("plain").read_text()


def test_it_only_looks(playground: Any) -> None:
    """No topic, group, record or folder is there that was not there before, not even the changelog's note."""
    settings = playground.settings
    produce(settings, nested_events(random.Random(4)))
    admin = AdminClient(librdkafka_config(settings))
    forget_states(playground, admin)
    before = state_of(playground, admin)
    examine(playground)

    assert state_of(playground, admin) == before


def forget_states(playground: Any, admin: AdminClient) -> None:
    """Create the changelog anew, so that it has no note."""
    topic = playground.settings.changelog_topic
    [described] = admin.describe_configs([ConfigResource(ResourceType.TOPIC, topic)]).values()
    config = {name: described.result(10)[name].value for name in ("cleanup.policy", "min.compaction.lag.ms")}
    partitions = len(admin.list_topics(timeout=10).topics[topic].partitions)
    admin.delete_topics([topic])[topic].result(10)
    playground.wait_for(lambda: topic not in admin.list_topics(timeout=10).topics, "the changelog gone")
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(10)
    playground.wait_for(lambda: topic in admin.list_topics(timeout=10).topics, "the changelog back")


def state_of(playground: Any, admin: AdminClient) -> tuple[Any, ...]:
    """Everything of this test that could be changed."""
    settings = playground.settings
    topics = sorted(name for name in admin.list_topics(timeout=10).topics if settings.app.removesuffix("-app") in name)
    groups = [group.group_id for group in admin.list_consumer_groups().result(10).valid]
    groups = sorted(group for group in groups if settings.app in group)
    counts = {topic: playground.count(topic) for topic in topics}
    files = sorted(str(path) for path in playground.folder.rglob("*") if path.suffix != ".log")
    return topics, groups, counts, files


def test_what_a_start_refuses_doctor_says_with_the_same_words(playground: Any) -> None:
    """A topic that is missing: the worker's line, and its exit status."""
    playground.settings = replace(playground.settings, rejected_topic=f"{playground.settings.rejected_topic}-missing")
    worker = playground.worker()
    worker.wait(30)
    status, report = examine(playground)
    said = playground.log("worker").read_text().splitlines()[-1]

    assert status == worker.exit_status == 1
    assert found(report, "error").splitlines()[0] in said


def test_a_broker_that_is_not_there_is_one_finding(playground: Any) -> None:
    """The rest is looked at all the same."""
    status, report = examine(playground, "--broker", "127.0.0.1:1")

    assert status == 1
    assert "found none that answers" in found(report, "error")
    assert "data_dir" in found(report, "ok")


def test_a_worker_that_works_is_seen(playground: Any) -> None:
    """Members of the group, and how much waits."""
    playground.worker()
    playground.send([(f"u{number % 30}", f"i{number % 7}", START_MS + number) for number in range(200)])
    playground.wait_until_answered()

    def seen() -> bool:
        status, report = examine(playground)
        return status == 0 and "1 worker in the group" in found(report, "ok") and "; 0 records" in found(report, "ok")

    playground.wait_for(seen, "a worker that has committed everything")
