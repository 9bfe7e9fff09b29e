"""Whether a click would be the first of its kind in a topic, and what is said of the records there."""

import msgspec
import pytest

from demo.topic_fit import SampledRecord, why_most_are_misplaced, why_none_fits
from nextclick.hashing import partition_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.settings import Settings

NOW_MS = 1_764_000_000_000
NESTED = {"visitor": {"id": "ann"}, "event": {"product": {"id": "lamp"}, "tags": ["red", "green"]}, "at": "2025-11-24"}


def test_an_empty_topic_takes_any_click() -> None:
    """There is no schema yet."""
    assert _why() is None


def test_one_record_that_can_be_used_is_enough() -> None:
    """The others are rejected one by one, as ever."""
    assert _why(NESTED, {"user_id": "ann", "item_id": "lamp"}, NESTED) is None


def test_a_record_that_is_ignored_has_been_understood() -> None:
    """The newest records can all be of a type that is no click."""
    assert _why({"user_id": "ann", "item_id": "lamp", "event_type": "impression"}, events="view") is None


def test_records_of_another_schema_are_described_by_the_paths_of_their_fields() -> None:
    """As the settings take them, with the reason and the remedy, and nothing of what is in them."""
    why = _why(NESTED, NESTED)

    assert why is not None
    assert "none of the 2 newest records of 'shop.events' is one with these settings (2 are missing_field" in why
    assert "JSON objects with 'visitor.id', 'event.product.id', 'event.tags.0', 'at'; set user_field or item_" in why
    assert not any(secret in why for secret in ("ann", "lamp", "red", "2025"))
    assert "JSON objects with 'visitor.id', " in str(_why([NESTED, NESTED]))  # several events in a record
    assert _why(NESTED, user_field="visitor.id", item_field="event.product.id", time_field="at") is None


def test_names_that_are_contents_are_not_shown() -> None:
    """A field that few records have, or with a very long name, is no field of a schema."""
    why = _why({"of-ann": 1, "x" * 100: 1, "at": 1}, {"of-bob": 1, "x" * 100: 1, "at": 2}, {"of-eve": 1, "at": 3})

    assert why is not None
    assert "JSON objects with 'at';" in why


def test_a_record_of_many_fields_is_described_by_some() -> None:
    """The message stays one sentence, however deep or wide an object is."""
    deep: dict[str, object] = {"end": 1}
    for _ in range(50):
        deep = {"in": deep}

    why = _why({f"field-{number}": number for number in range(100)}, key=b"ann")
    deeper = _why(deep)

    assert why is not None
    assert "'field-0', " in why
    assert "'field-11', ...;" in why
    assert deeper is not None
    assert "JSON objects with 'in.in.in.in';" in deeper


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"ann,lamp", "bad_json"),
        (b"\0\0\0\0\7" + b"x" * 9, "needs_registry"),
        (b"[1]", "bad_field"),
        (None, "bad_json"),
    ],
)
def test_records_that_are_no_objects_are_called_so(value: bytes | None, reason: str) -> None:
    """Their reason says more."""
    why = _why(value)

    assert why is not None
    assert f"(1 are {reason}; the last one: " in why
    assert "they are not JSON objects; " in why


def test_a_topic_of_a_schema_registry_is_left_to_its_own_producers() -> None:
    """A worker could read JSON there, and whoever else reads the topic could not."""
    why = _why(b"\0\0\0\0\7" + b"x" * 9, schema_registry="http://registry:8081")

    assert why is not None
    assert "the click would be JSON, which others who read this topic cannot read: use a producer of your own" in why


def test_a_topic_without_keys_is_said_to_be_one() -> None:
    """The fields can be right and the record of nobody."""
    why = _why({"user_id": "ann", "item_id": "lamp"}, key=None)

    assert why is not None
    assert "no_key" in why
    assert "let the producer use the user as key" in why


def test_records_in_partitions_of_another_partitioner_are_said_to_be_so() -> None:
    """A worker with this setting would reject most of them; the setting that would use them is named."""
    records = []
    for number in range(100):
        key = b"user-%d" % number
        place = partition_of(key, 8, "consistent_random")
        records.append(SampledRecord(key, b"{}", None, NOW_MS, place, number))
    why = why_most_are_misplaced(records, "shop.events", 8, "murmur2_random")

    assert why is not None
    assert "of the 100 newest records of 'shop.events' are not in the partition that murmur2_random gives" in why
    assert "set partitioner=consistent_random" in why
    assert "user-" not in why
    assert why_most_are_misplaced(records, "shop.events", 8, "consistent_random") is None
    assert why_most_are_misplaced(records, "shop.events", 8, "none") is None
    assert why_most_are_misplaced([], "shop.events", 8, "murmur2_random") is None


def _why(*values: object, key: bytes | None = b"ann", **settings: str) -> str | None:
    schema = ClickSchema.of(Settings.load({}, settings))
    records = [
        SampledRecord(key, value if isinstance(value, bytes | None) else msgspec.json.encode(value), None, NOW_MS, 0, n)
        for n, value in enumerate(values)
    ]
    return why_none_fits(records, click_decoder(schema), "shop.events", 1, NOW_MS)
