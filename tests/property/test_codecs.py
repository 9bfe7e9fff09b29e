"""Codecs: what is written is read back, and no bytes of the outside world ever raise what nobody expects."""

import json
import string
import struct

from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from nextclick.clicks import MAX_ID_BYTES, MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS, Click, Decoded, Ignored, Rejected
from nextclick.errors import CorruptStateError
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import (
    AnsweredClick,
    Part,
    Recommendation,
    RecommendationUpdate,
    ServedBy,
    Source,
    decode_update,
    encode_update,
    ranked_list,
)
from nextclick.user_state import (
    MAX_GAP_S,
    NEW_USER,
    RECENT_BYTES,
    SHOWN_BY_NETWORK,
    SHOWN_BYTES,
    RecentClick,
    UserState,
    decode_state,
    encode_state,
    recent_clicks,
    with_recent,
)

bounded = settings(max_examples=100, deadline=None, derandomize=True)

NOW_MS = 1_700_000_000_000
MARK = "q7Zx"  # what a user's data looks like, in the test that looks for it

u32, u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
i32, i64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
ids = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=64
)  # 4 bytes a character at most
parts = st.builds(Part, st.sampled_from(["neighbour", "reclick", "network"]), st.floats(0, 1), st.just(UNSET) | ids)
recommendations = st.builds(
    Recommendation, ids, st.floats(0, 1), st.just(UNSET) | st.lists(parts, max_size=10).map(tuple)
)


def parts(size: int, most: int) -> st.SearchStrategy[bytes]:
    """Packed parts of a state: up to `most` of `size` bytes each."""
    return st.lists(st.binary(min_size=size, max_size=size), max_size=most).map(b"".join)


states = st.builds(
    UserState,
    bundle=u64,
    sequence=st.integers(255, 2**32 - 1),
    partition=st.integers(-1, 2**31 - 1),
    offset=st.integers(-1, 2**63 - 1),
    last_click_ms=st.integers(0, MAX_TIMESTAMP_MS),
    hidden=parts(2, 300),
    recent=parts(RECENT_BYTES, 255),
    shown=parts(SHOWN_BYTES, 255),
    flags=st.integers(0, SHOWN_BY_NETWORK),
    events=st.just(b""),
)
states |= st.builds(
    lambda state, event_hashes: state._replace(
        recent=bytes(RECENT_BYTES * len(event_hashes)), events=struct.pack(f"<{len(event_hashes)}I", *event_hashes)
    ),
    states,
    st.lists(u32, min_size=1, max_size=255).filter(any),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)
almost_clicks = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.just("u") | ids | json_values,
        "item_id": ids | json_values,
        "timestamp_ms": st.integers(-1, 2 * NOW_MS) | json_values,
        "event_type": st.sampled_from(["view", "cart", "forget"]) | json_values,
        "other": json_values,
    },
)
almost_json = st.builds(
    lambda value, position, junk: value[:position] + junk + value[position + 1 :],
    almost_clicks.map(lambda value: json.dumps(value).encode()),
    st.integers(0, 60),
    st.binary(max_size=2),
)


@bounded
@given(states)
def test_a_state_is_read_back(state: UserState) -> None:
    """Encoding and decoding are each other's inverse."""
    assert decode_state(encode_state(state)) == state


@bounded
@given(st.binary(max_size=200) | states.map(encode_state), st.data())
def test_any_bytes_are_a_state_or_a_corrupt_state(data: bytes, draw: st.DataObject) -> None:
    """Never another exception, and never a state that would be written differently."""
    if data:
        position = draw.draw(st.integers(0, min(len(data) - 1, 40)))
        data = data[:position] + draw.draw(st.binary(max_size=3)) + data[position + 1 :]

    try:
        state = decode_state(data)
    except CorruptStateError:
        return

    assert encode_state(state) == data


@bounded
@given(st.lists(st.builds(RecentClick, u64, st.integers(0, MAX_GAP_S), st.integers(0, 255)), max_size=30))
def test_recent_clicks_are_the_newest_in_order(clicks: list[RecentClick]) -> None:
    """However many came."""
    recent = b""
    for click in clicks:
        recent = with_recent(recent, *click, keep=7)

    assert recent_clicks(NEW_USER._replace(recent=recent)) == clicks[-7:]


def one(decoded: Decoded) -> Click | Ignored | Rejected:
    """Give the first click of a record that was taken."""
    return decoded[0] if isinstance(decoded, tuple) else decoded


@bounded
@given(st.none() | st.binary(max_size=300), st.none() | st.binary(max_size=300) | almost_json, i64)
@example(b"u", b'{"user_id":"\xff"}', 0)
@example(b"u", b'{"user_id":"u","item_id":"\\ud800\\udc00"}', 0)
@example(b"u", b'{"user_id":"u","item_id":"\\udc00\\ud800"}', 0)
def test_any_bytes_are_a_click_or_rejected(key: bytes | None, value: bytes | None, record_timestamp_ms: int) -> None:
    """Bad input is data: the decoder never raises."""
    decoded = one(click_decoder(ClickSchema())(key, value, None, record_timestamp_ms, NOW_MS))

    assert isinstance(decoded, (Click, Rejected))


@bounded
@given(almost_clicks | json_values, st.data())
def test_any_json_is_a_click_that_fits_a_state_or_rejected(value: object, draw: st.DataObject) -> None:
    """Also where fields have the wrong type, or are nearly right."""
    user_id = value.get("user_id") if isinstance(value, dict) else None
    key = user_id.encode(errors="replace") if isinstance(user_id, str) else b"u"
    text = json.dumps(value, ensure_ascii=draw.draw(st.booleans())).encode(errors="surrogatepass")

    decoded = one(click_decoder(ClickSchema())(key, text, None, NOW_MS, NOW_MS))

    if isinstance(decoded, Click):
        assert 0 < len(decoded.user_id.encode()) <= MAX_ID_BYTES
        assert 0 < len(decoded.item_id.encode()) <= MAX_ID_BYTES
        assert decoded.user_id.encode() == key
        encode_state(NEW_USER._replace(last_click_ms=decoded.timestamp_ms))
    else:
        assert isinstance(decoded, Rejected)


@bounded
@given(
    st.dictionaries(
        st.sampled_from(["user_id", "item_id", "timestamp_ms", "event_type", MARK]),
        st.sampled_from([MARK, [MARK], {MARK: MARK}, MARK * 100, None, 1]),
    )
)
def test_a_reason_never_holds_what_the_user_did(value: dict[str, object]) -> None:
    """It goes into headers and logs."""
    decoded = one(click_decoder(ClickSchema())(MARK.encode(), json.dumps(value).encode(), None, NOW_MS, NOW_MS))

    if isinstance(decoded, Rejected):
        assert MARK not in decoded.detail


@bounded
@given(
    ids,
    ids,
    st.integers(MIN_TIMESTAMP_MS, NOW_MS),
    st.sampled_from(["view", "cart", "purchase", "like", "search", "play"]),
)
def test_a_click_is_read_back(user_id: str, item_id: str, timestamp_ms: int, event_type: str) -> None:
    """Under any names of the fields."""
    schema = ClickSchema.of(Settings(user_field="a", item_field="b", time_field="c", event_field="d"))

    key, value, headers = encode_click(schema, user_id, item_id, timestamp_ms, event_type)
    decoded = one(click_decoder(schema)(key, value, headers, NOW_MS, NOW_MS))

    assert isinstance(decoded, Click)
    assert decoded[:3] == (user_id, item_id, timestamp_ms)


@bounded
@given(
    user_id=ids,
    items=st.lists(st.tuples(recommendations, u32), max_size=30),
    strategy=st.sampled_from(["rnn", "popular"]),
    bundle_id=st.text(string.hexdigits, max_size=16),
    sequence=u32,
    source=st.tuples(i32, i64),
    times_ms=st.tuples(i64, i64),
)
def test_an_update_is_read_back(
    user_id: str,
    items: list[tuple[Recommendation, int]],
    strategy: str,
    bundle_id: str,
    sequence: int,
    source: tuple[int, int],
    times_ms: tuple[int, int],
) -> None:
    """Every field, and the probabilities to the last bit."""
    listed = [recommendation for recommendation, _ in items]
    ranked = ranked_list(strategy, listed, [low_hash for _, low_hash in items])

    answered = AnsweredClick(*source, times_ms[0])
    update = decode_update(encode_update(user_id, ranked, ServedBy(bundle_id), sequence, answered, times_ms[1]))

    assert update == RecommendationUpdate(user_id, listed, strategy, bundle_id, sequence, Source(*source), *times_ms)
    assert len(ranked.shown) == SHOWN_BYTES * len(items)
