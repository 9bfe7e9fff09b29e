"""What `nextclick rekey` makes of a record: a copy, a copy for each user, a dead letter, or nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest

from nextclick.clicks import FORWARDED_HEADER, MAX_VALUE_BYTES, IgnoreReason, RejectReason
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.settings import Settings
from rekey.outcomes import Judge, Outcome, in_parts
from tests.simulated_clicks import NOW_MS

SOURCE = Settings(partitioner="none", check_key=False)
ENVELOPED = {
    "none": lambda event: event,
    "connect": lambda event: {"schema": None, "payload": event},
    "debezium": lambda event: {"before": None, "after": event, "op": "c", "ts_ms": NOW_MS},
    "cloudevents": lambda event: {"specversion": "1.0", "id": "1", "source": "/", "type": "click", "data": event},
}


def event(user: Any, item: Any = "a", **others: Any) -> dict[str, Any]:
    return {"user_id": user, "item_id": item, **others}


def outcome(value: Any, settings: Settings = SOURCE, headers: Any = None) -> Outcome:
    data = value if isinstance(value, bytes | None) else json.dumps(value).encode()
    return Judge(ClickSchema.of(settings)).outcome(data, headers, NOW_MS, NOW_MS)


def test_a_record_stays_as_it_is_and_gets_its_user_as_key() -> None:
    """Byte for byte, with whatever else is in it; also where the settings of the source check keys."""
    value = b'{ "user_id": 4711,"item_id":"a" , "other":[1e40, "\\u00e9"]}'

    assert outcome(value) == Outcome(copies=[(b"4711", value)])
    assert outcome(value, Settings()) == Outcome(copies=[(b"4711", value)])


def test_the_users_array_stays_one_record() -> None:
    """Of one user, all of it is used or none: an event that cannot be used rejects it, as in a worker."""
    good, bad = [event("u"), event("u", "b")], [event("u"), event("u", None)]

    assert outcome(good) == Outcome(copies=[(b"u", json.dumps(good).encode())])
    assert [why.reason for why, _ in outcome(bad).rejected] == [RejectReason.MISSING_FIELD]
    assert outcome(bad).rejected[0][1] == json.dumps(bad).encode()
    assert outcome(bad).copies == []


@pytest.mark.parametrize("envelope", ENVELOPED)
def test_an_array_of_several_users_is_divided_and_reads_as_before(envelope: str) -> None:
    """Each user's events in their order, with the envelope of each: a worker reads the parts by the same settings."""
    settings = replace(SOURCE, envelope=envelope)
    events = [event("u", "a"), event("v", "b"), event("u", "c"), event("w", "d"), event("v", "e")]
    found = outcome([ENVELOPED[envelope](each) for each in events], settings)
    decode = click_decoder(ClickSchema.of(replace(settings, partitioner="murmur2_random", check_key=True)))
    read = {key: decode(key, value, None, NOW_MS, NOW_MS) for key, value in found.copies}

    assert [key for key, _ in found.copies] == [b"u", b"v", b"w"]
    assert {key: [click.item_id for click in clicks] for key, clicks in read.items()} == {  # type: ignore[union-attr]
        b"u": ["a", "c"],
        b"v": ["b", "e"],
        b"w": ["d"],
    }
    assert found.rejected == []


def test_an_array_under_the_headers_of_one_cloudevent_is_divided() -> None:
    """The binary mode: the headers are those of every part."""
    headers = [("ce_specversion", b"1.0"), ("ce_time", b"2020-09-13T12:26:40Z")]
    settings = replace(SOURCE, envelope="cloudevents")
    found = outcome([event("u"), event("v")], settings, headers)
    decode = click_decoder(ClickSchema.of(settings))

    assert [key for key, _ in found.copies] == [b"u", b"v"]
    for key, value in found.copies:
        (click,) = decode(key, value, headers, NOW_MS, NOW_MS)  # type: ignore[misc]
        assert click.timestamp_ms == 1_600_000_000_000


def test_in_an_array_of_several_users_what_cannot_be_used_goes_alone() -> None:
    """An event that is none of anybody's business cannot take others with it; each is named by its place."""
    settings = replace(SOURCE, events="view")
    events = [event("u"), event("v", None), event("w", event_type="hover"), event("v", "b"), 7]
    found = outcome(events, settings)

    assert [(key, json.loads(value or b"")) for key, value in found.copies] == [
        (b"u", [event("u")]),
        (b"v", [event("v", "b")]),
    ]
    assert [(why.reason, json.loads(value or b"")) for why, value in found.rejected] == [
        (RejectReason.MISSING_FIELD, [event("v", None)]),
        (RejectReason.BAD_FIELD, [7]),
    ]
    assert [why.detail.partition(":")[0] for why, _ in found.rejected] == ["event 2 of 5", "event 5 of 5"]
    assert [ignored.reason for ignored in found.ignored] == [IgnoreReason.EVENT_TYPE]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, RejectReason.BAD_JSON),
        (b"no json", RejectReason.BAD_JSON),
        (b"[" * 100_000, RejectReason.BAD_JSON),
        (b"\0\0\0\0\1rest", RejectReason.NEEDS_REGISTRY),
        (b"[]", RejectReason.BAD_FIELD),
        (b"[[]]", RejectReason.BAD_FIELD),
        (json.dumps([[event("u"), event("v")]]).encode(), RejectReason.BAD_FIELD),
        (json.dumps([event("u", "a" * MAX_VALUE_BYTES), event("v")]).encode(), RejectReason.TOO_LARGE),
        (json.dumps(event("u", timestamp_ms=NOW_MS * 2)).encode(), RejectReason.IN_THE_FUTURE),
        (json.dumps(event(None)).encode(), RejectReason.MISSING_FIELD),
    ],
)
def test_what_no_worker_could_use_is_rejected_as_it_is(value: bytes | None, reason: RejectReason) -> None:
    """Never raised, never divided into something else."""
    found = outcome(value)

    assert [(why.reason, kept) for why, kept in found.rejected] == [(reason, value)]
    assert found.copies == []


def test_what_is_no_click_is_passed_over() -> None:
    """Deletes, events that are not listed, and copies that a repartition made of clicks that the source has, too."""
    unlisted = outcome(event("u", event_type="hover"), replace(SOURCE, events="view"))
    deleted = outcome(None, replace(SOURCE, envelope="debezium"))

    assert (unlisted.n_written, [each.reason for each in unlisted.ignored]) == (0, [IgnoreReason.EVENT_TYPE])
    assert (deleted.n_written, [each.reason for each in deleted.ignored]) == (0, [IgnoreReason.DELETE])
    assert outcome(event("u"), headers=[(FORWARDED_HEADER, b"0/1")]) == Outcome()


def test_a_transaction_is_cut_where_it_writes_too_much() -> None:
    """Each part says where its partitions stand behind it; only the last one knows of what has no record."""
    one, three = Outcome(copies=[(b"u", b"")]), Outcome(copies=[(b"u", b"")] * 3)
    judged = [(0, 5, "a", one), (1, 9, "b", three), (0, 8, "c", one), (0, 9, "d", one)]
    parts = list(in_parts(judged, {0: 12, 1: 10, 2: 0}, most_written=3))

    assert [[record for record, _ in part.records] for part in parts] == [["a", "b"], ["c", "d"]]
    assert [part.ends for part in parts] == [{0: 6, 1: 10}, {0: 12, 1: 10, 2: 0}]


def test_a_cut_waits_for_what_is_judged_later() -> None:
    """A part is done before the next record is looked at: one batch can hold far more than one transaction should."""
    seen = []

    def judged() -> Any:
        for offset in range(4):
            seen.append(offset)
            yield 0, offset, offset, Outcome(copies=[(b"u", b"")] * 3)

    parts = in_parts(judged(), {0: 4}, most_written=3)
    next(parts)

    assert seen == [0]
