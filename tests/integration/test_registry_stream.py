"""Clicks in Confluent's wire format, through worker and trainer."""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka.schema_registry import Schema

from tests.integration.conftest import SESSION_TIMEOUT_S, make_playground
from tests.local_registry import LocalRegistry
from tests.simulated_clicks import NOW_MS
from tests.trainers import QUICK, logged_offsets, wait_until_logged

CLICK = """{"type": "record", "name": "Click", "fields": [
    {"name": "visitor", "type": {"type": "record", "name": "Visitor", "fields": [{"name": "id", "type": "string"}]}},
    {"name": "sku", "type": "long"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"""
SETTINGS = {"user_field": "visitor.id", "item_field": "sku", "time_field": "at", "key_format": "registry"}
N_CLICKS = 300


def framed(schema_id: int, *parts: str | int) -> bytes:
    """Avro by hand: a text is its length and bytes, a number a zigzag varint."""
    return struct.pack(">bI", 0, schema_id) + b"".join(
        _varint(len(part.encode())) + part.encode() if isinstance(part, str) else _varint(part) for part in parts
    )


def _varint(number: int) -> bytes:
    zigzag, data = number << 1, b""
    while zigzag > 0x7F:
        data, zigzag = data + bytes([zigzag & 0x7F | 0x80]), zigzag >> 7
    return data + bytes([zigzag])


@pytest.fixture
def avro(broker: str, topic_prefix: str, tmp_path: Path, schema_registry: LocalRegistry) -> Iterator[Any]:
    """A playground whose programs know a schema registry, which is there again at the end."""
    known = {
        name: getattr(schema_registry.settings, name)
        for name in ("schema_registry", "schema_registry_username", "schema_registry_password")
    }
    playground = make_playground(broker, topic_prefix, tmp_path, SESSION_TIMEOUT_S, **SETTINGS, **known)
    yield playground
    playground.stop()
    schema_registry.start()


@pytest.mark.release
def test_avro_clicks_and_keys_are_read_also_after_the_registry_was_away(
    avro: Any, schema_registry: LocalRegistry
) -> None:
    """Worker and trainer wait for a registry that is away, and reject nothing for it."""
    key_id = schema_registry.register("clicks-key", Schema('"string"', "AVRO"))
    click_id = schema_registry.register("clicks-value", Schema(CLICK, "AVRO"))
    schema_registry.stop()
    avro.send_raw(
        (framed(key_id, user := f"u-{number % 37}"), framed(click_id, user, 4700 + number % 50, NOW_MS + number))
        for number in range(N_CLICKS)
    )
    avro.worker("worker", "--set", "stall_s=300")  # a registry takes long to start on a busy machine
    avro.start("trainer", "train", *QUICK)
    for name in ("worker", "trainer"):
        avro.wait_for_log(name, "waiting, no click is lost: the schema registry")
    schema_registry.start()

    avro.wait_for(lambda: avro.count(avro.settings.recommendations_topic) >= N_CLICKS, "all updates")
    wait_until_logged(avro, N_CLICKS)
    updates = avro.updates()

    assert {update.user_id for update in updates} == {f"u-{number}" for number in range(37)}
    assert len(updates) == len(logged_offsets(avro.settings.log_dir)) == N_CLICKS
    assert avro.count(avro.settings.rejected_topic) == 0
