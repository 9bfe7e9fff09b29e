"""Clicks of an enemy: whatever arrives is a click that goes all the way to an update, or rejected with its reason."""

import json
import math

import numpy as np
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nextclick.advance import Limits, LoggedClick, UserKey, advance
from nextclick.clicks import MAX_TIMESTAMP_MS, MAX_VALUE_BYTES, Click, Ignored, Rejected, RejectReason
from nextclick.hashing import item_hash
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.popularity import Popularity
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.encoder import encode_click
from nextclick.updates import AnsweredClick, ServedBy, decode_update, encode_update
from nextclick.user_state import MAX_SEQUENCE, NEW_USER, UserState, decode_state, encode_state
from nextclick.vocabulary import Vocabulary
from tests.networks import served_model
from tools.dead_letters import Origin, dead_letter

ITEMS = ("a", "b", "17", "x" * 256, "\x01" * 256)
NOW_MS = 1_700_000_000_000
SCHEMA = ClickSchema()


def decode(key: bytes | None, value: bytes | None, record_time_ms: int) -> Click | Rejected:
    """Decode a record as a worker of that time does; of several clicks the first."""
    decoded = click_decoder(SCHEMA)(key, value, None, record_time_ms, NOW_MS)
    assert not isinstance(decoded, Ignored)
    return decoded if isinstance(decoded, Rejected) else decoded[0]


LIMITS = Limits(recent_clicks=3, list_length=4)
MAX_DETAIL_BYTES = 300  # it goes into a header and a log

torch.manual_seed(3)
MODEL = served_model(
    "00000000000000ff", Network(NetworkConfig(len(ITEMS), hidden_size=4)), Vocabulary(ITEMS, np.ones(len(ITEMS)))
)

# Parts of JSON as they stand in the text: much of it is nothing that a JSON library would write.
tokens = st.sampled_from(
    [
        *(
            "u",
            "a",
            "b",
            "\\u0001" * 256,
            "x" * 256,
            "x" * 257,
            "é" * 128,
            "",
            " ",
            "\\u0000",
            "\\ud800",
            "\\udc00\\ud800",
        ),
        *("\\ud83d\\ude00", "view", "forget", "__class__", "user_id", "\ufeff", "\u202e", "\\x", "\n", "\x7f"),
    ]
).map('"{}"'.format) | st.sampled_from(
    [
        *(
            "0",
            "-0",
            "-1",
            "1",
            "17",
            "1.0",
            "1.5",
            "1e3",
            "1e999",
            "-1e999",
            "NaN",
            "Infinity",
            "-Infinity",
            "01",
            "+1",
        ),
        *(str(2**31), str(2**32), str(2**53 + 1), str(2**63 - 1), str(2**63), str(2**64), str(-(2**63) - 1)),
        *("9" * 257, "9" * 4300, "9" * 4301, "9" * 15_000, f"0.{'9' * 9000}", str(NOW_MS), str(MAX_TIMESTAMP_MS)),
        *(
            "true",
            "false",
            "null",
            "nul",
            "{}",
            "[]",
            "[" * 100 + "]" * 100,
            "[" * 8000,
            '{"a":' * 3000,
            "[" * 8000 + "]" * 8000,
        ),
    ]
)
names = st.sampled_from(["user_id", "item_id", "timestamp_ms", "event_type", "other", "\\u0075ser_id", "\\ud800", ""])
members = st.just([]) | st.lists(st.tuples(names, tokens), max_size=4)


def json_text(pairs: list[tuple[str, str]], begins: str) -> bytes:
    """An object in which a name can come twice."""
    return (begins + "{" + ",".join(f'"{name}":{value}' for name, value in pairs) + "}").encode(errors="surrogatepass")


hostile_objects = st.builds(
    lambda good, time, pairs, begins: json_text([*good, ("timestamp_ms", time), *pairs], begins),
    st.sampled_from([[], [("user_id", '"u"'), ("item_id", '"a"')], [("user_id", "17"), ("item_id", "17")]]),
    st.sampled_from([str(NOW_MS), "null", "0", str(MAX_TIMESTAMP_MS)]) | tokens,
    members,
    st.sampled_from(["", "", "", "", "", "\ufeff", " \n\t", "[", "\0"]),
)
damaged_clicks = st.builds(
    lambda item, time_ms, event, position, count, junk: (
        (value := encode_click(SCHEMA, "u", item, time_ms, event).value)[: position % len(value)]
        + junk
        + value[position % len(value) + count :]
    ),
    st.sampled_from(ITEMS),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from(["view", "cart", "forget", "another"]),
    st.integers(0, 400),
    st.integers(0, 2),
    st.binary(max_size=2),
)
values = (
    st.none()
    | st.binary(max_size=200)
    | hostile_objects
    | damaged_clicks
    | hostile_objects.map(lambda value: value.decode(errors="replace").encode("utf-16"))
    | st.integers(MAX_VALUE_BYTES - 60, MAX_VALUE_BYTES + 1).map(
        lambda size: b'{"user_id":"u","item_id":"a"'.ljust(size) + b"}"
    )
)
keys = (
    st.just(b"u")
    | st.sampled_from([b"u", b"u", b"17", b"", None, b"\xff\xfe", b"u\0", b"x" * 257, b"\x01" * 256])
    | st.binary(max_size=8)
)
record_times_ms = st.just(NOW_MS) | st.sampled_from([NOW_MS, -1, 2**63 - 1]) | st.integers(-(2**63), 2**63 - 1)
offsets = st.integers(0, 2**63 - 1)
befores = st.none() | st.builds(
    UserState,
    bundle=st.sampled_from([0, MODEL.bundle, 5, 2**64 - 1]),
    sequence=st.sampled_from([1, 2, MAX_SEQUENCE - 1, MAX_SEQUENCE]),
    partition=st.sampled_from([0, 2**31 - 1]),
    offset=offsets,
    last_click_ms=st.sampled_from([0, NOW_MS, MAX_TIMESTAMP_MS]),
    hidden=st.just(b"") | st.just(np.array([1, -1, 65504, 6e-8], "<f2").tobytes()),
    recent=st.just(b"\xff" * 13),
    shown=st.just(b"\xff" * 8),
    flags=st.sampled_from([0, 1]),
    events=st.sampled_from([b"", b"\xff" * 4]),  # of the one recent click
)


def all_the_way(
    key: bytes, click: Click, record_time_ms: int, offset: int, before: UserState | None, popularity: Popularity
) -> None:
    """Do with a click what a worker does; every step checks what it is given."""
    user: UserKey = (2**31 - 1, key)
    popularity.add(key, click.item_id, click.timestamp_ms)
    popular = popularity.ranked(LIMITS.list_length)
    logged = LoggedClick(user, offset, record_time_ms, click, item_hash(click.item_id))
    for model in (None, MODEL):
        (outcome,) = advance(model, popular, {} if before is None else {user: before}, [logged], LIMITS)
        state = outcome.state
        answered = AnsweredClick(user[0], offset, record_time_ms)
        value = encode_update(
            click.user_id, outcome.ranked, ServedBy(MODEL.bundle_id), outcome.sequence, answered, NOW_MS
        )
        update = decode_update(value)

        assert decode_state(encode_state(state)) == state
        assert (update.user_id, update.sequence) == (click.user_id, state.sequence)
        assert update.source.offset == offset
        assert update.items
        assert all(0 <= item.score <= 1 + 1e-6 for item in update.items)


@given(keys, values, record_times_ms, offsets, befores)
@example(b"u", b'{"user_id":"u","item_id":"a","other":' + b"[" * 8_000, NOW_MS, 0, None)
@example(b"u", b'{"user_id":"\xff","item_id":"a"}', NOW_MS, 0, None)
@example(b"u", b'{"user_id":"u","item_id":"a","timestamp_ms":9223372036854775808}', 2**63 - 1, 0, None)
def test_whatever_arrives_is_answered_or_rejected(
    key: bytes | None, value: bytes | None, record_time_ms: int, offset: int, before: UserState | None
) -> None:
    """No record stops the stream: neither when it is read nor later on its way."""
    decoded = decode(key, value, record_time_ms)

    if isinstance(decoded, Rejected):
        assert decoded.reason in RejectReason
        assert 0 < len(decoded.detail.encode()) <= MAX_DETAIL_BYTES
        letter = dead_letter(decoded, key, value, Origin("t", 0, offset, record_time_ms))
        assert dict(letter[2])["reason"].decode() == decoded.reason.value
    else:
        assert key is not None
        assert decoded.user_id.encode() == key
        all_the_way(key, decoded, record_time_ms, offset, before, Popularity(half_life_s=1.0))


@given(st.lists(st.tuples(st.sampled_from(ITEMS), st.integers(0, MAX_TIMESTAMP_MS)), min_size=1, max_size=20))
def test_popularity_stays_a_share_whatever_the_times(clicks: list[tuple[str, int]]) -> None:
    """Event times jump by ages in both directions; the weights must neither overflow nor become NaN."""
    popularity = Popularity(half_life_s=1.0)
    for item_id, timestamp_ms in clicks:
        popularity.add("u", item_id, timestamp_ms)

    shares = [item["score"] for item in json.loads(bytes(popularity.ranked(20).items))]
    assert math.isclose(sum(shares), 1.0, rel_tol=1e-6)
    assert all(0.0 <= share <= 1.0 + 1e-6 for share in shares)


def test_the_search_reaches_both_ends() -> None:
    """The strategies above make clicks that are taken and clicks that are rejected for most of the reasons."""
    found: set[object] = set()

    @settings(max_examples=500)
    @given(keys, values, record_times_ms)
    def search(key: bytes | None, value: bytes | None, record_time_ms: int) -> None:
        decoded = decode(key, value, record_time_ms)
        found.add(decoded.reason if isinstance(decoded, Rejected) else Click)

    search()

    assert found >= {
        Click,
        RejectReason.BAD_JSON,
        RejectReason.BAD_FIELD,
        RejectReason.NO_KEY,
        RejectReason.WRONG_KEY,
        RejectReason.MISSING_FIELD,
        RejectReason.IN_THE_FUTURE,
    }


def test_a_new_user_is_the_same_as_no_state() -> None:
    """So that the states above stand for every user."""
    click = LoggedClick((0, b"u"), 0, NOW_MS, Click("u", "a", NOW_MS, 0), item_hash("a"))
    popular = Popularity(1.0).ranked(1)

    assert advance(MODEL, popular, {}, [click], LIMITS) == advance(
        MODEL, popular, {(0, b"u"): NEW_USER}, [click], LIMITS
    )
