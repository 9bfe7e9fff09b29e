"""The bytes of a user's state, and what is read from them without unpacking everything."""

import struct

import pytest

from nextclick.clicks import MAX_TIMESTAMP_MS
from nextclick.errors import CorruptStateError
from nextclick.user_state import (
    LAYOUT,
    LAYOUT_WITH_EVENTS,
    MAX_GAP_S,
    NEW_USER,
    RECENT_BYTES,
    SHOWN_BY_NETWORK,
    RecentClick,
    UserState,
    decode_state,
    encode_state,
    recent_clicks,
    was_shown,
    with_event,
    with_recent,
)

HEADER_BYTES = 38
STATE = UserState(
    bundle=2**64 - 1,
    sequence=2**32 - 1,
    partition=2**31 - 1,
    offset=2**63 - 1,
    last_click_ms=1_700_000_000_000,
    hidden=b"\x00\x3c\x00\xbc",
    recent=struct.pack("<QIBQIB", 2**64 - 1, 0, 255, 5, MAX_GAP_S, 0),
    shown=struct.pack("<3I", 7, 0xFFFFFFFF, 9),
    flags=SHOWN_BY_NETWORK,
)


def test_a_state_is_read_back() -> None:
    """Also at the largest values of every field."""
    data = encode_state(STATE)

    assert data[0] == LAYOUT
    assert decode_state(data) == STATE


def test_a_state_with_events_is_read_back() -> None:
    """In the second layout, which is the first and four bytes for each recent click."""
    state = STATE._replace(events=struct.pack("<2I", 0, 2**32 - 1))

    data = encode_state(state)

    assert data[0] == LAYOUT_WITH_EVENTS
    assert data[1:] == encode_state(STATE)[1:] + state.events
    assert decode_state(data) == state


def test_a_new_user_is_a_state_too() -> None:
    """Its fence lets every record pass."""
    assert decode_state(encode_state(NEW_USER)) == NEW_USER
    assert NEW_USER.sequence == 0
    assert NEW_USER.offset < 0


def test_a_usual_state_takes_about_630_bytes() -> None:
    """Width 128, 20 recent clicks and 20 shown items: changelog and disk are planned with this number."""
    usual = STATE._replace(hidden=bytes(2 * 128), recent=bytes(13 * 20), shown=bytes(4 * 20))

    assert len(encode_state(usual)) == HEADER_BYTES + 256 + 260 + 80


@pytest.mark.parametrize("events", [b"", b"\x01\0\0\0\xff\xff\xff\xff"])
def test_every_cut_is_noticed(events: bytes) -> None:
    """Bytes that are missing or too many are never taken for a state."""
    data = encode_state(STATE._replace(events=events))

    for length in range(len(data)):
        with pytest.raises(CorruptStateError, match="expected"):
            decode_state(data[:length])
    with pytest.raises(CorruptStateError, match="wrong length"):
        decode_state(data + b"\0")


def test_a_newer_layout_is_refused_and_says_what_to_do() -> None:
    """An older program must not guess."""
    newer = bytes([LAYOUT_WITH_EVENTS + 1]) + encode_state(STATE)[1:]

    with pytest.raises(CorruptStateError, match=f"layout 3, expected {LAYOUT} or {LAYOUT_WITH_EVENTS}.*upgrade"):
        decode_state(newer)


@pytest.mark.parametrize(
    "state",
    [
        NEW_USER._replace(recent=bytes(13 * 256)),
        NEW_USER._replace(shown=bytes(4 * 256)),
        NEW_USER._replace(hidden=bytes(2**16)),
    ],
    ids=["recent", "shown", "hidden"],
)
def test_a_part_that_its_count_cannot_say_is_an_error(state: UserState) -> None:
    """Never a state whose counts have wrapped around."""
    with pytest.raises(struct.error):
        encode_state(state)


def test_recent_clicks_keep_the_newest_in_order() -> None:
    """Oldest first, and no more than asked for."""
    recent = b""
    for number in range(5):
        recent = with_recent(recent, number, 10 * number, number, keep=3)

    assert recent_clicks(NEW_USER._replace(recent=recent)) == [
        RecentClick(2, 20, 2),
        RecentClick(3, 30, 3),
        RecentClick(4, 40, 4),
    ]


def test_keeping_fewer_clicks_than_before_drops_the_oldest() -> None:
    """The setting may be lowered while states exist."""
    recent = b""
    for number in range(5):
        recent = with_recent(recent, number, 0, 0, keep=5)

    recent = with_recent(recent, 5, 0, 0, keep=2)

    assert [click.item_hash for click in recent_clicks(NEW_USER._replace(recent=recent))] == [4, 5]


def test_events_keep_in_step_with_the_recent_clicks() -> None:
    """Also where the first one comes after clicks without an id, and where the setting is lowered."""
    recent, events, found = b"", b"", []
    for number, (event_hash, keep) in enumerate([(0, 3), (0, 3), (7, 3), (8, 3), (0, 3), (9, 2), (0, 2), (0, 2)]):
        events = with_event(events, event_hash, len(recent) // RECENT_BYTES, keep)
        recent = with_recent(recent, number, 0, 0, keep)
        found.append(struct.unpack(f"<{len(events) // 4}I", events))

    assert found == [(), (), (0, 0, 7), (0, 7, 8), (7, 8, 0), (0, 9), (9, 0), ()]


def test_shown_items_are_known_by_their_low_bits() -> None:
    """The state keeps 32 of 64 bits: enough to judge a list of 20."""
    state = NEW_USER._replace(shown=struct.pack("<2I", 0x11111111, 0x22222222))

    assert was_shown(state.shown, 0x11111111)
    assert was_shown(state.shown, 0xABCDEF0022222222)
    assert not was_shown(state.shown, 0x1111111122222223)
    assert not was_shown(b"", 0)


def test_what_two_shown_items_have_between_them_was_not_shown() -> None:
    """Bytes are searched: what begins in the middle of an item is none, and hides none that comes later."""
    between = 0x22221111  # little endian: the end of the first one and the beginning of the second
    shown = struct.pack("<2I", 0x11110000, 0x00002222)

    assert not was_shown(shown, between)
    assert was_shown(shown + struct.pack("<I", between), between)


@pytest.mark.parametrize(
    "change",
    [
        {"flags": 2},
        {"flags": 255},
        {"partition": -2},
        {"offset": -2},
        {"last_click_ms": -1},
        {"last_click_ms": MAX_TIMESTAMP_MS + 1},
        {"sequence": 1},
        {"hidden": b"\0" * 5},
        {"events": bytes(8)},  # a layout 2 without a hash
    ],
    ids=str,
)
def test_what_no_worker_writes_is_refused(change: dict[str, int | bytes]) -> None:
    """A flipped bit is noticed where it makes a state impossible, and the error says what to do."""
    with pytest.raises(CorruptStateError, match=r"flags, counts, times or events that no worker writes.*data_dir"):
        decode_state(encode_state(STATE._replace(**change)))
