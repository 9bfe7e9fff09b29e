"""Any schema of a click: paths, times, ids, event types, envelopes and keys of topics as shops have them."""

import base64
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nextclick.clicks import (
    EVENT_TYPES,
    FUTURE_TOLERANCE_MS,
    MAX_EVENTS,
    MAX_ID_BYTES,
    OTHER_EVENT,
    Click,
    Decoded,
    Ignored,
    IgnoreReason,
    Rejected,
    RejectReason,
)
from nextclick.errors import PermanentError
from nextclick.hashing import event_hash
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import _Decoder, click_decoder
from nextclick.schema.encoder import encode_click
from nextclick.schema.event_types import EventMap
from nextclick.schema.paths import FieldPath
from nextclick.schema.plain import is_plain
from nextclick.schema.times import DATES_FROM, SECONDS_BELOW, read_time_ms
from nextclick.settings import Settings

AT_MS = 1_764_000_000_000  # 2025-11-24T16:00:00Z
NOW_MS = AT_MS + 3_600_000
CASES = Path(__file__).parents[3] / "shared/cases/payloads.jsonl"


def decode(
    value: object, settings: str = "", key: bytes | None = b"ann", headers: list[tuple[str, bytes]] | None = None
) -> Decoded:
    """Decode a record as a worker with these settings does."""
    schema = ClickSchema.of(Settings.load({}, dict(entry.split("=", 1) for entry in settings.split())))
    data = value if isinstance(value, bytes) else None if value is None else json.dumps(value).encode()
    return click_decoder(schema)(key, data, headers, AT_MS - 5, NOW_MS)


def one(decoded: Decoded) -> Click:
    """Give the only click."""
    assert isinstance(decoded, tuple), decoded
    (click,) = decoded
    return click


def reason(decoded: Decoded) -> str:
    """Give why there is none."""
    assert not isinstance(decoded, tuple)
    return decoded.reason.value


@pytest.mark.parametrize(
    "time",
    [
        AT_MS,
        AT_MS // 1000,
        float(AT_MS // 1000),
        AT_MS * 1000,
        AT_MS * 1000 + 999,
        AT_MS * 1_000_000,
        float(AT_MS),
        str(AT_MS),
        str(AT_MS // 1000),
        "1764000000.0",
        "1.764e9",
        "1.764E+12",
        " 1764000000 ",
        "2025-11-24T16:00:00Z",
        "2025-11-24T16:00:00.000Z",
        "2025-11-24T16:00:00.000000000Z",
        "2025-11-24t16:00:00z",
        "2025-11-24T17:00:00+01:00",
        "2025-11-24T17:00:00+0100",
        "2025-11-24T17:00:00+01",
        "2025-11-24 17:00:00 +01:00",
        "2025-11-24T16:00:00",
        "2025-11-24 16:00:00",
        "2025-11-24 16:00:00 UTC",
        "2025-11-24 16:00:00 GMT",
        "2025-11-24T16:00Z[UTC]",
        "2025-11-24T17:00:00+01:00[Europe/Berlin]",
        "20251124T160000Z",
        20251124160000,
        "20251124160000",
    ],
)
def test_a_time_is_read_in_any_usual_form(time: object) -> None:
    """Seconds, milliseconds, micro- and nanoseconds are told apart by their size; text without a zone is UTC."""
    assert read_time_ms(time) == AT_MS


def test_parts_of_a_second_are_kept() -> None:
    """To the millisecond."""
    assert read_time_ms(1_764_000_000.25) == AT_MS + 250
    assert read_time_ms("1764000000.5") == AT_MS + 500
    assert read_time_ms("2025-11-24T16:00:00.123456Z") == AT_MS + 123
    assert read_time_ms(AT_MS * 1_000_000 + 7_000_000) == AT_MS + 7


def test_eight_digits_that_are_a_date_are_a_date() -> None:
    """Nobody's clicks are of the 22nd of August 1970."""
    assert read_time_ms(20140401) == read_time_ms("20140401") == read_time_ms("2014-04-01") == 1_396_310_400_000
    assert read_time_ms(20141301) == 20141301_000  # no date: seconds


@pytest.mark.parametrize("time", [None, "", " ", 0, 0.0, "0", "000"])
def test_nothing_is_the_records_own_time(time: object) -> None:
    """As producers write what they do not know."""
    assert read_time_ms(time) is None
    assert one(decode({"user_id": "ann", "item_id": "lamp", "timestamp_ms": time})).timestamp_ms == AT_MS - 5


@pytest.mark.parametrize(
    "time", ["yesterday", "nan", "1e999", "-1", -1, -1.5, True, [], {}, "24.11.2025", "9" * 65, "1969-12-31", "0x10"]
)
def test_what_is_no_time_is_said(time: object) -> None:
    """It is the only reason for which a click with a time is not used."""
    with pytest.raises((ValueError, OverflowError)):
        read_time_ms(time)
    assert reason(decode({"user_id": "ann", "item_id": "lamp", "timestamp_ms": time})) == "bad_field"


@pytest.mark.parametrize(
    "time", [638_990_000_000_000_000, 788_000_000_000_000_000, 134_083_000_000_000_000, 788_918_399]
)
def test_what_counts_from_another_year_is_no_time_of_a_click(time: int) -> None:
    """The ticks of .NET, of 100 ns since the year 1, and of Windows, since 1601, would be years before 1995."""
    rejected = decode({"user_id": "ann", "item_id": "lamp", "timestamp_ms": time})

    assert isinstance(rejected, Rejected)
    assert rejected.detail == "expected a time at 'timestamp_ms', found one before 1995"
    assert isinstance(decode({"user_id": "ann", "item_id": "lamp", "timestamp_ms": 788_918_400}), tuple)


@given(st.integers(10**11, 4 * 10**12), st.sampled_from([1, 1_000, 1_000_000]))
def test_a_time_means_the_same_in_every_unit(time_ms: int, factor: int) -> None:
    """As whole numbers and as text."""
    assert read_time_ms(time_ms * factor) == read_time_ms(str(time_ms * factor)) == time_ms


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=80), st.binary(max_size=9)))
def test_whatever_stands_there_is_a_time_nothing_or_a_mistake(value: object) -> None:
    """Never another exception."""
    try:
        time_ms = read_time_ms(value)
    except (ValueError, OverflowError):
        return

    assert time_ms is None or time_ms >= 0


@pytest.mark.parametrize(
    ("path", "document", "found"),
    [
        ("user", {"user": "ann"}, "ann"),
        ("visitor.id", {"visitor": {"id": "ann"}}, "ann"),
        ("visitor.id", {"visitor.id": "ann", "visitor": {"id": "bob"}}, "ann"),
        ("a.b.c", {"a.b": {"c": "ann"}}, "ann"),
        ("a.b.c", {"a": {"b.c": "ann"}}, "ann"),
        ("a.b.c", {"a.b": {"x": 1}, "a": {"b": {"c": "ann"}}}, "ann"),
        ("items.0.sku", {"items": [{"sku": "ann"}, {"sku": "bob"}]}, "ann"),
        ("items.-1.sku", {"items": [{"sku": "bob"}, {"sku": "ann"}]}, "ann"),
        ("items.0", {"items": {"0": "ann"}}, "ann"),
        ("items.2.sku", {"items": [{"sku": "ann"}]}, None),
        ("payload.user", {"payload": '{"user": "ann"}'}, "ann"),
        ("payload.user", {"payload": "{broken"}, None),
        ("userId|anonymousId", {"userId": None, "anonymousId": "ann"}, "ann"),
        ("userId|anonymousId", {"userId": "", "anonymousId": "ann"}, "ann"),
        ("userId|anonymousId", {"anonymousId": "ann"}, "ann"),
        ("userId | traits.id", {"traits": {"id": "ann"}}, "ann"),
        ("header:user", {}, "ann"),
        ("userId|header:user", {"userId": None}, "ann"),
        ("header:ce_user", {}, None),
        ("a.b", {"a": "ann"}, None),
        ("a.b", {"a": None}, None),
    ],
)
def test_a_path_finds_what_it_names(path: str, document: dict[str, Any], found: str | None) -> None:
    """Objects, places in lists, alternatives, headers, and names that have dots themselves."""
    assert FieldPath.parse(path).read((document,), [("user", b"ann")]) == found


@pytest.mark.parametrize("path", ["", ".", "a..b", "a|", "|a", "a.", "header:", ".".join("abcdefghijk")])
def test_a_path_that_names_nothing_is_refused(path: str) -> None:
    """Before anything starts."""
    with pytest.raises(PermanentError, match=r"write names|shorten it"):
        FieldPath.parse(path)


@pytest.mark.parametrize(
    ("user", "text"), [("ann", "ann"), (12, "12"), (12.0, "12"), (-0.0, "0"), (2**70, str(2**70)), ("12.0", "12.0")]
)
def test_an_id_is_a_text_or_a_whole_number(user: object, text: str) -> None:
    """Also of a producer that writes all numbers as floats."""
    click = one(decode({"user_id": user, "item_id": user}, key=text.encode()))

    assert (click.user_id, click.item_id) == (text, text)


@pytest.mark.parametrize("item", [7.5, 2.0**60, True, [], {}])
def test_what_is_no_id_is_rejected(item: object) -> None:
    """And what it is instead is said, though not its value."""
    rejected = decode({"user_id": "ann", "item_id": item})

    assert reason(rejected) == "bad_field"


def test_an_id_that_is_too_long_is_rejected_with_the_limit() -> None:
    """In bytes, which is what is stored."""
    rejected = decode({"user_id": "ann", "item_id": "é" * MAX_ID_BYTES})

    assert isinstance(rejected, Rejected)
    assert f"1 to {MAX_ID_BYTES} bytes" in rejected.detail
    assert str(2 * MAX_ID_BYTES) in rejected.detail


@pytest.mark.parametrize(
    ("events", "event", "code"),
    [
        ("", "cart", EVENT_TYPES.index("cart")),
        ("", "impression", OTHER_EVENT),
        ("", None, 0),
        ("", "", 0),
        ("", 7, OTHER_EVENT),
        ("view,add_to_cart:cart,purchase", "add_to_cart", EVENT_TYPES.index("cart")),
        ("view,add_to_cart:cart,purchase", "purchase", EVENT_TYPES.index("purchase")),
        ("view, add_to_cart : cart", "view", 0),
        ("view,tap", "tap", OTHER_EVENT),
        ("1:view,2:cart", 2, EVENT_TYPES.index("cart")),
        ("1:view,2:cart", 2.0, EVENT_TYPES.index("cart")),
        ("shop:item:viewed:view", "shop:item:viewed", 0),
    ],
)
def test_names_of_events_are_mapped(events: str, event: object, code: int) -> None:
    """To the types that states and models know."""
    settings = Settings(events=events)
    value = json.dumps({"user_id": "ann", "item_id": "lamp", "event_type": event}).encode()

    decoded = click_decoder(ClickSchema.of(settings))(b"ann", value, None, AT_MS, NOW_MS)

    assert one(decoded).event_type == code


@pytest.mark.parametrize("event", ["impression", "remove_from_cart", "View", 3, None])
def test_events_that_are_not_listed_are_ignored(event: object) -> None:
    """Counted, and no mistake of anyone's: they are no dead letters."""
    decoded = decode({"user_id": "ann", "item_id": "lamp", "event_type": event}, "events=add_to_cart:cart")

    assert decoded == Ignored(IgnoreReason.EVENT_TYPE)


@pytest.mark.parametrize("events", ["a:b", "view,,cart", "view,view", "a:cart,a:view", ":view", "forget:view"])
def test_a_list_of_events_with_a_mistake_is_refused(events: str) -> None:
    """Before anything starts."""
    with pytest.raises(PermanentError, match="events has"):
        EventMap.parse(events)


CLICK = {"user_id": "ann", "item_id": "lamp"}
CE = {"specversion": "1.0", "id": "e1", "source": "/shop", "type": "cart", "subject": "ann"}


@pytest.mark.parametrize(
    ("settings", "value", "headers"),
    [
        ("envelope=cloudevents", CE | {"time": "2025-11-24T16:00:00Z", "data": CLICK}, []),
        ("envelope=cloudevents", CE | {"time": "2025-11-24T16:00:00Z", "data": json.dumps(CLICK)}, []),
        (
            "envelope=cloudevents",
            CE | {"time": "2025-11-24T16:00:00Z", "data_base64": base64.b64encode(json.dumps(CLICK).encode()).decode()},
            [],
        ),
        ("envelope=cloudevents user_field=subject", CE | {"time": AT_MS, "data": {"item_id": "lamp"}}, []),
        ("envelope=cloudevents", CLICK, [("ce_specversion", b"1.0"), ("ce_time", b"2025-11-24T16:00:00Z")]),
        ("time_field=header:ce_time", CLICK, [("ce_time", b"2025-11-24T16:00:00Z")]),
        ("envelope=debezium", {"op": "c", "after": CLICK, "before": None, "ts_ms": AT_MS}, []),
        ("envelope=debezium", {"op": "r", "after": CLICK, "source": {"ts_ms": AT_MS}, "ts_ms": AT_MS + 9}, []),
        ("envelope=debezium", {"schema": {}, "payload": {"op": "u", "after": CLICK, "ts_ms": AT_MS}}, []),
        ("envelope=connect", {"schema": {}, "payload": CLICK | {"timestamp_ms": AT_MS}}, []),
        ("envelope=connect", CLICK | {"timestamp_ms": AT_MS}, []),
    ],
)
def test_an_event_is_taken_out_of_its_envelope(settings: str, value: object, headers: list[tuple[str, bytes]]) -> None:
    """With the envelope's time where the event has none."""
    click = one(decode(value, settings, headers=headers))

    assert (click.user_id, click.item_id, click.timestamp_ms) == ("ann", "lamp", AT_MS)


@pytest.mark.parametrize(
    ("settings", "value", "items"),
    [
        ("", json.dumps(CLICK), ["lamp"]),
        ("envelope=debezium", {"op": "c", "after": json.dumps(CLICK)}, ["lamp"]),
        ("envelope=debezium", CLICK | {"__deleted": "false"}, ["lamp"]),
        ("envelope=connect", {"schema": None, "payload": json.dumps(CLICK)}, ["lamp"]),
        ("envelope=connect", {"schema": {}, "payload": [CLICK, CLICK | {"item_id": "bulb"}]}, ["lamp", "bulb"]),
        ("envelope=cloudevents", CE | {"data": [CLICK, CLICK]}, ["lamp", "lamp"]),
        ("envelope=cloudevents", [CE | {"data": CLICK}, CE | {"data": CLICK}], ["lamp", "lamp"]),
        ("list_field=batch", {"batch": [CLICK, CLICK | {"item_id": "bulb"}]}, ["lamp", "bulb"]),
        (
            "list_field=order.items item_field=sku",
            {"user_id": "ann", "order": {"items": [{"sku": "lamp"}, {"sku": 7}]}},
            ["lamp", "7"],
        ),
        ("list_field=batch", {"batch": json.dumps([CLICK, CLICK | {"item_id": "bulb"}])}, ["lamp", "bulb"]),
        ("list_field=batch", {"batch": [json.dumps(CLICK), CLICK | {"item_id": "bulb"}]}, ["lamp", "bulb"]),
        (
            "list_field=items envelope=debezium",
            {"op": "c", "after": {"user_id": "ann", "items": json.dumps([{"item_id": "lamp"}, {"item_id": "bulb"}])}},
            ["lamp", "bulb"],
        ),
        ("", [json.dumps(CLICK), json.dumps(CLICK | {"item_id": "bulb"})], ["lamp", "bulb"]),
        ("envelope=cloudevents", [json.dumps(CE | {"data": CLICK})], ["lamp"]),
        ("envelope=cloudevents", CE | {"data": [json.dumps(CLICK), CLICK]}, ["lamp", "lamp"]),
    ],
)
def test_events_are_found_wherever_a_record_has_them(settings: str, value: object, items: list[str]) -> None:
    """In text, in arrays inside envelopes, and in lists inside objects, which lend them what they lack."""
    decoded = decode(value, settings)

    assert isinstance(decoded, tuple), decoded
    assert [click.item_id for click in decoded] == items
    assert {click.user_id for click in decoded} == {"ann"}


@pytest.mark.parametrize("value", [{"batch": 7}, {"batch": []}, {"batch": ["lamp"]}, {}, {"batch": {}}])
def test_a_record_without_its_list_is_rejected(value: object) -> None:
    """It is not taken for an event itself."""
    assert isinstance(decode(value, "list_field=batch"), Rejected)


def test_a_record_of_too_many_events_is_rejected() -> None:
    """They are applied together, and others would wait."""
    assert reason(decode([CLICK] * (MAX_EVENTS + 1))) == "too_large"
    assert len(decode([CLICK] * MAX_EVENTS)) == MAX_EVENTS  # type: ignore[arg-type]


@pytest.mark.parametrize("flag", [{"__deleted": "true"}, {"__deleted": True}, {"__op": "d"}])
@pytest.mark.parametrize("envelope", ["connect", "debezium"])
def test_a_flattened_delete_is_ignored(envelope: str, flag: dict[str, object]) -> None:
    """As Debezium's transforms write it."""
    assert decode(CLICK | flag, f"envelope={envelope}") == Ignored(IgnoreReason.DELETE)


def test_a_cloud_event_can_be_all_headers() -> None:
    """Without data, the attributes are the event."""
    headers = [("ce_specversion", b"1.0"), ("ce_subject", b"ann"), ("CE_Item", b"lamp")]
    settings = "envelope=cloudevents user_field=subject item_field=item"

    assert one(decode(None, settings, headers=headers)).item_id == "lamp"
    assert one(decode(b"", settings, headers=headers)).item_id == "lamp"


def test_the_id_of_an_envelope_is_no_item() -> None:
    """Each event would be a new one."""
    assert reason(decode(CE | {"data": {"user_id": "ann"}}, "envelope=cloudevents item_field=id")) == "missing_field"


@pytest.mark.parametrize("empty", ["", 0, None])
@pytest.mark.parametrize("path", ["event_id", "meta.id"])
def test_an_empty_id_of_an_event_is_none(path: str, empty: object) -> None:
    """Or all clicks after the first would be taken for its retries."""
    value = CLICK | {"event_id": empty, "meta": {"id": empty}}

    assert one(decode(value, f"id_field={path}")).event_hash == 0


def test_an_id_around_several_events_is_not_that_of_one() -> None:
    """A retry of the record has the same hashes, and each of its events another one."""
    headers = [("uuid", b"e-1")]
    settings = "id_field=id|header:uuid"

    around = decode([CLICK, CLICK, CLICK | {"id": "own"}], settings, headers=headers)
    again = decode([CLICK, CLICK, CLICK | {"id": "own"}], settings, headers=headers)
    alone = one(decode(CLICK | {"id": "own"}, settings, headers=headers))

    assert isinstance(around, tuple)
    assert around == again
    assert len({click.event_hash for click in around}) == 3
    assert around[2].event_hash == alone.event_hash


def test_header_bytes_that_are_no_text_stay_apart() -> None:
    """Two users must never become one."""
    settings = "user_field=header:user check_key=false"

    users = {
        one(decode({"item_id": "lamp"}, settings, headers=[("user", bytes([255, number]))])).user_id
        for number in range(3)
    }

    assert len(users) == 3


@pytest.mark.parametrize("time", [12.5, "251124", 1, "1970-01-02T00:00:00Z", "1989-12-31"])
def test_a_time_decades_ago_is_a_mistake(time: object) -> None:
    """Seconds since a page was loaded, days since 1970: no click is of that time."""
    assert reason(decode(CLICK | {"timestamp_ms": time})) == "bad_field"
    assert one(decode(CLICK | {"timestamp_ms": "1970-01-01T00:00:00Z"})).timestamp_ms == AT_MS - 5


ENVELOPE_NAMES = (
    *("user_id", "item_id", "payload", "schema", "after", "op", "data", "data_base64", "specversion", "id"),
    *("batch", "__deleted", "source", "ts_ms", "time", "event_type", "timestamp_ms"),
)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(ENVELOPE_NAMES),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(["none", "cloudevents", "debezium", "connect"]),
    st.booleans(),
)
@example({"specversion": "1.0", "data_base64": "é"}, "cloudevents", False)
def test_any_document_in_any_envelope_has_a_verdict(document: object, envelope: str, has_list: bool) -> None:
    """The decoder never raises."""
    settings = f"envelope={envelope} id_field=id check_key=false" + (" list_field=batch" if has_list else "")

    assert isinstance(decode(document, settings), tuple | Ignored | Rejected)


def test_what_the_envelope_says_can_be_used_as_a_field() -> None:
    """In both modes of CloudEvents by the same name."""
    settings = "envelope=cloudevents event_field=type id_field=id"

    structured = one(decode(CE | {"data": CLICK}, settings))
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"e1"), ("ce_type", b"cart")]
    binary = one(decode(CLICK, settings, headers=headers))

    assert structured.event_type == EVENT_TYPES.index("cart")
    assert structured[:2] + structured[3:] == binary[:2] + binary[3:]
    assert structured.event_hash != 0


@pytest.mark.parametrize(
    ("envelope", "value"),
    [
        ("debezium", {"op": "d", "before": CLICK, "after": None}),
        ("debezium", {"op": "t", "after": None}),
        ("debezium", {"schema": {}, "payload": None}),
        ("debezium", None),
        ("connect", {"schema": None, "payload": None}),
        ("connect", None),
    ],
)
def test_deletes_are_ignored(envelope: str, value: object) -> None:
    """The click is not taken back, and nothing is a mistake."""
    assert decode(value, f"envelope={envelope}") == Ignored(IgnoreReason.DELETE)


@pytest.mark.parametrize(
    ("envelope", "value"),
    [
        ("cloudevents", CLICK),
        ("cloudevents", CE | {"data": "no json"}),
        ("cloudevents", CE | {"data_base64": "!"}),
        ("cloudevents", CE),
        ("debezium", CLICK),
        ("debezium", {"op": "c", "after": 7}),
        ("debezium", 7),
        ("connect", {"schema": {}, "payload": 7}),
        ("none", 7),
        ("none", "text"),
        ("none", []),
        ("none", [7]),
        ("none", None),
    ],
)
def test_what_has_no_envelope_is_rejected(envelope: str, value: object) -> None:
    """With what was expected."""
    assert isinstance(decode(value, f"envelope={envelope}"), Rejected)


def test_a_byte_order_mark_is_passed_over() -> None:
    """Some editors and libraries write one."""
    assert one(decode(json.dumps(CLICK).encode("utf-8-sig"))).item_id == "lamp"


def test_an_array_holds_the_events_of_one_user() -> None:
    """All of them, in their order."""
    decoded = decode([CLICK, CLICK | {"item_id": "bulb"}])

    assert isinstance(decoded, tuple)
    assert [click.item_id for click in decoded] == ["lamp", "bulb"]


def test_an_array_with_one_bad_event_is_rejected_as_a_whole() -> None:
    """All of a record is applied, or nothing: its offset stands for all of it."""
    rejected = decode([CLICK, {"user_id": "ann"}])

    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.MISSING_FIELD
    assert rejected.detail.startswith("event 2 of 2")


def test_an_array_of_several_users_is_rejected() -> None:
    """Their states are in different places."""
    assert reason(decode([CLICK, CLICK | {"user_id": "bob"}])) == "wrong_key"
    assert reason(decode([CLICK, CLICK | {"user_id": "bob"}], "check_key=false")) == "bad_field"


def test_of_an_array_the_events_that_are_not_listed_are_left_out() -> None:
    """And a record of nothing else is ignored."""
    seen = CLICK | {"event_type": "impression"}

    assert one(decode([seen, CLICK, seen], "events=view")).item_id == "lamp"
    assert decode([seen, seen], "events=view") == Ignored(IgnoreReason.EVENT_TYPE)


@pytest.mark.parametrize(
    ("settings", "user", "key"),
    [
        ("key_format=json", "ann", b'"ann"'),
        ("key_format=json", 42, b"42"),
        ("key_format=json", "ann", b'{"user_id": "ann", "shop": 7}'),
        ("key_format=json", "ann", b'{"id": "ann"}'),
        ("key_format=json user_field=userId|user_id", "ann", b'{"user_id": "ann", "shop": 7}'),
        ("key_format=connect", "ann", b'{"schema": {"type": "string"}, "payload": "ann"}'),
        ("key_format=connect", "ann", b'{"schema": {}, "payload": {"id": "ann"}}'),
        ("key_format=int", -7, (-7).to_bytes(4, "big", signed=True)),
        ("key_format=long", 4242, (4242).to_bytes(8, "big")),
        ("key_format=long", "4242", (4242).to_bytes(8, "big")),
        ("check_key=false", "ann", b"shard-3"),
        ("check_key=false partitioner=none", "ann", None),
    ],
)
def test_a_key_names_the_user_in_its_format(settings: str, user: object, key: bytes | None) -> None:
    """Or is not looked at."""
    assert one(decode(CLICK | {"user_id": user}, settings, key=key)).user_id == str(user)


@pytest.mark.parametrize(
    ("settings", "key", "why"),
    [
        ("", None, "no_key"),
        ("check_key=false", None, "no_key"),
        ("", b"bob", "wrong_key"),
        ("key_format=json", b"ann", "wrong_key"),
        ("key_format=json", b'"bob"', "wrong_key"),
        ("key_format=json", b"\xff", "wrong_key"),
        ("key_format=long", b"ann", "wrong_key"),
        ("key_format=int", b"1234", "wrong_key"),
        ("key_format=connect", b'{"payload": null}', "wrong_key"),
    ],
)
def test_a_key_that_does_not_name_the_user_is_rejected(settings: str, key: bytes | None, why: str) -> None:
    """Or the clicks of one user would be in several partitions."""
    assert reason(decode(CLICK, settings, key=key)) == why


@pytest.mark.parametrize(
    "settings",
    [
        "",
        "user_field=visitor.id item_field=items.1.sku time_field=at event_field=event.kind",
        "user_field=userId|anonymousId",
        "time_field=header:at event_field=header:kind",
        "envelope=cloudevents",
        "envelope=debezium",
        "envelope=connect key_format=connect",
        "key_format=json",
        "list_field=order.items item_field=sku",
        "events=seen:view,bought:purchase",
    ],
)
def test_a_click_is_written_as_it_is_read(settings: str) -> None:
    """So that `send`, `replay` and `simulate` fit any topic."""
    schema = ClickSchema.of(Settings.load({}, dict(entry.split("=", 1) for entry in settings.split())))

    key, value, headers = encode_click(schema, "ann", "lamp", AT_MS, "purchase")

    assert click_decoder(schema)(key, value, headers, AT_MS, NOW_MS) == (Click("ann", "lamp", AT_MS, 2),)

    key, value, headers = encode_click(schema, "ann", "lamp", AT_MS, "purchase", "e-1")

    hashed = event_hash("e-1") if schema.id is not None else 0
    assert click_decoder(schema)(key, value, headers, AT_MS, NOW_MS) == (Click("ann", "lamp", AT_MS, 2, hashed),)


def test_numbered_users_are_written_as_numbers() -> None:
    """And others are refused with a key format of numbers."""
    schema = ClickSchema.of(Settings(key_format="long"))

    assert encode_click(schema, "4242", "lamp", AT_MS).key == (4242).to_bytes(8, "big")
    for user in ("ann", str(2**64)):
        with pytest.raises(PermanentError, match="whole numbers"):
            encode_click(schema, user, "lamp", AT_MS)


ODD = [
    *(None, "", "u", "u\0", "x" * 64, "x" * 65, "x" * 257, "é" * 64, "é" * 200, "forget", "view", "dance", "😀"),
    *(0, 1, 17, -1, 17.0, 17.5, True, [], {}, [{}], SECONDS_BELOW - 1, SECONDS_BELOW, DATES_FROM, 20251124, 2**70),
    *(NOW_MS, NOW_MS + FUTURE_TOLERANCE_MS, NOW_MS + FUTURE_TOLERANCE_MS + 1, str(NOW_MS), 1e300),
]


@pytest.mark.parametrize(("events", "id_field"), [("", "event_id"), ("view,dance:cart", "")])
def test_the_quick_way_and_the_general_way_are_one(events: str, id_field: str) -> None:
    """With any two fields odd, a plain topic is read as if it were any topic."""
    schema = ClickSchema.of(Settings(events=events, id_field=id_field))
    quick, general = click_decoder(schema), _Decoder(schema).decode
    fields = ("user_id", "item_id", "timestamp_ms", "event_type", "event_id")
    assert is_plain(schema)

    for first, second in itertools.combinations(itertools.product(fields, ODD), 2):
        click = {"user_id": "u", "item_id": "u", "timestamp_ms": NOW_MS} | dict((first, second))
        key = str(click["user_id"]).encode() if first[1] != NOW_MS else b"u"
        record = key, json.dumps(click).encode(), None, NOW_MS - 1, NOW_MS
        assert quick(*record) == general(*record)


def _cases() -> list[Any]:
    if not CASES.exists():
        return [pytest.param({}, marks=pytest.mark.skip(reason=f"there is no {CASES.name} beside this checkout"))]
    cases = [json.loads(line) for line in CASES.read_text().splitlines()]
    return [pytest.param(case, id=case["name"]) for case in cases]


@pytest.mark.parametrize("case", _cases())
def test_records_of_real_producers_are_read(case: dict[str, Any]) -> None:
    """Each stands for a kind that topics have."""
    want, settings = case["want"], case["settings"]
    if "check_key=false" in want.get("note", ""):
        settings += " check_key=false"
    key, value = (None if case[part] is None else base64.b64decode(case[part]) for part in ("key", "value"))
    schema = ClickSchema.of(Settings.load({}, dict(entry.split("=", 1) for entry in settings.split())))
    record_ms = 4_070_908_800_000 if "record time too" in case["name"] else AT_MS - 5

    decoded = click_decoder(schema)(key, value, None, record_ms, NOW_MS)

    if "applied" in want:
        assert isinstance(decoded, tuple), decoded
        assert len(decoded) == want["applied"]
        click = decoded[0]
        expected_ms = want.get("timestamp_ms", click.timestamp_ms)
        assert click.timestamp_ms == (expected_ms if isinstance(expected_ms, int) else record_ms)
        assert click.user_id == want.get("user", click.user_id)
        assert click.item_id == want.get("item", click.item_id)
        assert EVENT_TYPES[click.event_type] == want.get("event", "view")
    elif "ignored" in want:
        assert isinstance(decoded, Ignored)
    else:
        assert reason(decoded) == want["rejected"]
