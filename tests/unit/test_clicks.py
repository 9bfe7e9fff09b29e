"""Clicks: what is taken, what is rejected and with which reason. Bad input is a value, never an exception."""

import json
from functools import partial
from typing import Any

import pytest

from nextclick.clicks import (
    EVENT_TYPES,
    FUTURE_TOLERANCE_MS,
    MAX_VALUE_BYTES,
    MIN_TIMESTAMP_MS,
    OTHER_EVENT,
    Click,
    Ignored,
    Rejected,
    RejectReason,
)
from nextclick.errors import PermanentError
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.user_state import NEW_USER, decode_state, encode_state

NOW_MS = 1_700_000_000_000


def decode_with(
    schema: ClickSchema, key: bytes | None, value: bytes | None, record_ms: int, now_ms: int | None = None
) -> Click | Ignored | Rejected:
    """Decode a record without headers that holds one click at most; the reader's clock is the record's."""
    decoded = click_decoder(schema)(key, value, None, record_ms, record_ms if now_ms is None else now_ms)
    if isinstance(decoded, tuple):
        (decoded,) = decoded
    return decoded


DECODE = partial(decode_with, ClickSchema())


def test_a_full_click_is_taken_as_it_is() -> None:
    """All four fields come from the value, not from the record."""
    value = b'{"user_id":"u1","item_id":"i1","timestamp_ms":1699999999999,"event_type":"cart"}'

    assert DECODE(b"u1", value, NOW_MS) == Click("u1", "i1", 1_699_999_999_999, EVENT_TYPES.index("cart"))


@pytest.mark.parametrize("time_part", ["", ',"timestamp_ms":null'])
def test_without_a_time_the_records_own_counts(time_part: str) -> None:
    """The event time is optional."""
    value = f'{{"user_id":"u1","item_id":"i1"{time_part}}}'.encode()

    assert DECODE(b"u1", value, NOW_MS) == Click("u1", "i1", NOW_MS, 0)


@pytest.mark.parametrize(
    ("event_type", "code"),
    [
        ("view", 0),
        ("cart", 1),
        ("purchase", 2),
        ("like", 3),
        ("search", 4),
        ("play", 5),
        ("dance", OTHER_EVENT),
        ("", 0),
        ("View", OTHER_EVENT),
    ],
)
def test_event_types_have_fixed_numbers(event_type: str, code: int) -> None:
    """The numbers are stored in users' states: they must never change; an unknown type is still a click."""
    decoded = DECODE(b"u1", _value(event_type=event_type), NOW_MS)

    assert isinstance(decoded, Click)
    assert decoded.event_type == code


def test_unknown_fields_are_passed_over() -> None:
    """A topic that exists already may carry more than we need."""
    decoded = DECODE(b"u1", _value(price=12.5, tags=["a", {"b": None}]), NOW_MS)

    assert isinstance(decoded, Click)


def test_field_names_are_settings() -> None:
    """A topic that exists already is read as it is."""
    settings = Settings(user_field="visitor", item_field="sku", time_field="at", event_field="what")
    schema = ClickSchema.of(settings)
    decode = partial(decode_with, schema)

    decoded = decode(b"u1", b'{"visitor":"u1","sku":"i1","at":1700000000005,"what":"like","user_id":7}', NOW_MS)
    rejected = decode(b"u1", _value(), NOW_MS)

    assert decoded == Click("u1", "i1", 1_700_000_000_005, EVENT_TYPES.index("like"))
    assert _reason(rejected) == RejectReason.MISSING_FIELD


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (None, b'{"user_id":"u1","item_id":"i1"}', RejectReason.NO_KEY),
        (b"", b'{"user_id":"u1","item_id":"i1"}', RejectReason.WRONG_KEY),
        (b"u2", b'{"user_id":"u1","item_id":"i1"}', RejectReason.WRONG_KEY),
        (b"u1", None, RejectReason.BAD_JSON),
        (b"u1", b"", RejectReason.BAD_JSON),
        (b"u1", b"not json", RejectReason.BAD_JSON),
        (b"u1", b'{"user_id":"u1","item_id":"i1"', RejectReason.BAD_JSON),
        (b"u1", b'{"user_id":"u1","item_id":"i1"} {}', RejectReason.BAD_JSON),
        (b"u1", b"\xff\xfe{}", RejectReason.BAD_JSON),
        (b"u1", b'{"user_id":"u1","item_id":"\xff"}', RejectReason.BAD_JSON),
        (b"u1", b'{"user_id":"u1","item_id":"\\ud800"}', RejectReason.BAD_JSON),
        (b"u1", b'{"a":' + b"[" * 9_000, RejectReason.BAD_JSON),
        (b"u1", b"null", RejectReason.BAD_FIELD),
        (b"u1", b"[]", RejectReason.BAD_FIELD),
        (b"u1", b"{}", RejectReason.MISSING_FIELD),
        (b"u1", b'{"user_id":"u1"}', RejectReason.MISSING_FIELD),
        (b"u1", b'{"item_id":"i1"}', RejectReason.MISSING_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":7.5}', RejectReason.BAD_FIELD),
        (b"u\0", b'{"user_id":"u\\u0000","item_id":"i1"}', RejectReason.BAD_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":null}', RejectReason.MISSING_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":""}', RejectReason.BAD_FIELD),
        (b"", b'{"user_id":"","item_id":"i1"}', RejectReason.BAD_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":"i1","timestamp_ms":"yesterday"}', RejectReason.BAD_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":"i1","timestamp_ms":[1.5]}', RejectReason.BAD_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":"i1","timestamp_ms":true}', RejectReason.BAD_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":"i1","timestamp_ms":1e999}', RejectReason.BAD_JSON),
        (b"u1", b'{"user_id":"u1","item_id":"i1","timestamp_ms":-1}', RejectReason.BAD_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":"i1","event_type":{}}', RejectReason.BAD_FIELD),
        (b"u1", b'{"user_id":"u1","item_id":"i1","event_type":"forget"}', RejectReason.FORGET_UNSUPPORTED),
        (b"u1", b'{"user_id":"u1","item_id":"i1","timestamp_ms":99999999999999999999}', RejectReason.IN_THE_FUTURE),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(
    key: bytes | None, value: bytes | None, reason: RejectReason
) -> None:
    """Each kind of mistake has its own name, for the header and the metric."""
    rejected = DECODE(key, value, NOW_MS)

    assert _reason(rejected) == reason


@pytest.mark.parametrize("user_id", ["u", "x" * 256, "é" * 128, "名" * 85 + "x", "\U0001f600" * 64, 'a b\n"\\'])
def test_ids_of_up_to_256_bytes_are_taken(user_id: str) -> None:
    """Ids are counted in bytes of UTF-8, and any character is allowed."""
    decoded = DECODE(user_id.encode(), _value(user_id=user_id, item_id=user_id), NOW_MS)

    assert decoded == Click(user_id, user_id, NOW_MS, 0)


@pytest.mark.parametrize("long_id", ["x" * 257, "é" * 129, "名" * 86, "\U0001f600" * 65])
def test_longer_ids_are_rejected(long_id: str) -> None:
    """A character can be several bytes."""
    long_user = DECODE(long_id.encode(), _value(user_id=long_id), NOW_MS)
    long_item = DECODE(b"u1", _value(item_id=long_id), NOW_MS)

    assert _reason(long_user) == _reason(long_item) == RejectReason.BAD_FIELD


def test_a_value_at_the_limit_is_read_and_a_longer_one_is_not() -> None:
    """The size is judged before the bytes are parsed, so a huge value costs nothing."""
    fitting = _value(note="")
    fitting = _value(note="x" * (MAX_VALUE_BYTES - len(fitting)))

    assert len(fitting) == MAX_VALUE_BYTES
    assert isinstance(DECODE(b"u1", fitting, NOW_MS), Click)
    assert _reason(DECODE(b"u1", fitting + b" ", NOW_MS)) == RejectReason.TOO_LARGE
    assert _reason(DECODE(b"u1", b"x" * 1_000_000, NOW_MS)) == RejectReason.TOO_LARGE


@pytest.mark.parametrize(
    ("ahead_ms", "taken"), [(0, True), (FUTURE_TOLERANCE_MS, True), (FUTURE_TOLERANCE_MS + 1, False)]
)
@pytest.mark.parametrize("record_ms", [NOW_MS, 4_070_908_800_000])
def test_a_click_may_be_a_day_ahead_of_the_readers_clock(ahead_ms: int, taken: bool, record_ms: int) -> None:
    """Clocks differ; a click from next week would spoil gaps and popularity, whatever its record's time says."""
    decoded = decode_with(ClickSchema(), b"u1", _value(timestamp_ms=NOW_MS + ahead_ms), record_ms, NOW_MS)

    assert isinstance(decoded, Click) is taken
    assert taken or _reason(decoded) == RejectReason.IN_THE_FUTURE


def test_a_click_of_long_ago_is_taken() -> None:
    """A replay brings clicks of years ago."""
    assert isinstance(DECODE(b"u1", _value(timestamp_ms=MIN_TIMESTAMP_MS), NOW_MS), Click)


def test_a_record_without_a_timestamp_is_as_old_as_its_reading() -> None:
    """Kafka gives -1 where a record has none."""
    decoded = decode_with(ClickSchema(), b"u1", _value(), -1, NOW_MS)

    assert decoded == Click("u1", "i1", NOW_MS, 0)


def test_ids_can_be_whole_numbers() -> None:
    """Many systems number their users and items; an update then names them as strings."""
    decoded = DECODE(b"17", b'{"user_id":17,"item_id":4711}', NOW_MS)

    assert isinstance(decoded, Click)
    assert (decoded.user_id, decoded.item_id) == ("17", "4711")


def test_every_click_that_is_taken_fits_a_state() -> None:
    """A time that a state's 64 bits cannot hold would stop the worker at the same record for ever."""
    last_moment = 2**63 - 1

    decoded = DECODE(b"u1", _value(timestamp_ms=last_moment + 1), last_moment)

    if isinstance(decoded, Click):
        state = NEW_USER._replace(last_click_ms=decoded.timestamp_ms)
        assert decode_state(encode_state(state)) == state


def test_a_field_name_given_twice_is_refused_as_a_setting() -> None:
    """Two settings with the same field name are a mistake of the settings, said by name."""
    with pytest.raises(PermanentError, match="user_field"):
        click_decoder(ClickSchema.of(Settings(user_field="id", item_field="id")))


def test_the_detail_is_about_the_mistake_and_not_the_user() -> None:
    """A dead letter's headers and the log must not hold what the user did."""
    rejected = DECODE(b"secret-user", _value(user_id="secret-user", item_id={"secret-item": 1}), NOW_MS)

    assert isinstance(rejected, Rejected)
    assert "item_id" in rejected.detail
    assert "secret" not in rejected.detail


def test_an_encoded_click_is_read_back() -> None:
    """Replay, simulator and `send` write what the worker reads."""
    schema = ClickSchema.of(Settings(user_field="who", item_field="what", time_field="when", event_field="how"))

    value = encode_click(schema, "u1", "i1", NOW_MS, "purchase").value

    assert json.loads(value) == {"who": "u1", "what": "i1", "when": NOW_MS, "how": "purchase"}
    assert decode_with(schema, b"u1", value, NOW_MS) == Click("u1", "i1", NOW_MS, EVENT_TYPES.index("purchase"))


def _value(**fields: Any) -> bytes:
    return json.dumps({"user_id": "u1", "item_id": "i1"} | fields, ensure_ascii=False).encode()


def _reason(decoded: Click | Ignored | Rejected) -> RejectReason:
    assert isinstance(decoded, Rejected)
    return decoded.reason
