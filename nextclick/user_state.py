"""The state that is kept per user, and its bytes: one value per user in the table `user-state` and its changelog.

Layout 1, all integers little endian:

    u8 layout, u8 flags, u64 bundle, u32 sequence, i32 partition, i64 offset, i64 last click (ms),
    u16 bytes of hidden, u8 recent clicks, u8 shown items,
    hidden (float16 x what the cell carries),
    recent clicks (u64 item hash, u32 gap in s, u8 event type each, oldest first),
    last shown (u32 each: the low bits of the item hashes, best first)

Layout 2 is layout 1 followed by

    event hashes (u32 for each recent click, oldest first: 32 bits of the event's id, 0 where it has none)

and is written only where one of them is not 0: without `id_field` states stay as they were, for every version.

There is no checksum: those who keep and carry states have one. RocksDB checks every block that it reads (XXH3), Kafka's
broker and aiokafka check every batch (CRC-32C). Decoding refuses only what no worker can have written, so a flipped bit
that got past both is noticed in the counts, the signs and the flags, not inside a value that could be anyone's.

Every layout that was ever written must still load: a golden test keeps yesterday's bytes.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from nextclick.clicks import MAX_TIMESTAMP_MS
from nextclick.errors import CorruptStateError
from nextclick.quick_tuples import quick

LAYOUT = 1
LAYOUT_WITH_EVENTS = 2
SHOWN_BY_NETWORK = 1  # flag: the list that was last sent came from the network, not from popularity
MAX_GAP_S = 0xFFFFFFFF
MAX_SEQUENCE = 0xFFFFFFFF  # a user of 4 billion clicks: counted no further

_HEADER = struct.Struct("<BBQIiqqHBB")
_RECENT = struct.Struct("<QIB")
_U32 = struct.Struct("<I")
RECENT_BYTES = _RECENT.size
SHOWN_BYTES = 4
EVENT_BYTES = 4
DAMAGE_REMEDY = "a disk or a program damaged it: remove the worker's data_dir, which restores it from the changelog"


class RecentClick(NamedTuple):
    """A click as the state remembers it."""

    item_hash: int
    gap_s: int
    event_type: int


class UserState(NamedTuple):
    """What is kept of one user.

    The variable parts stay packed bytes, so that a click that only passes through costs no unpacking.

    Attributes:
        bundle: the bundle that `hidden` belongs to, as a number; 0 when there is none.
        sequence: clicks applied so far.
        partition: of the last applied record.
        offset: of the last applied record; with `partition` this is the fence.
        last_click_ms: event time of the last applied click.
        hidden: float16, what the cell carries; empty when no click of a known item was seen under `bundle`.
        recent: packed `RecentClick`s, oldest first.
        shown: u32 each, low bits of the hashes of the items that were last sent.
        flags: `SHOWN_BY_NETWORK` or 0.
        events: u32 for each recent click, the hash of its event's id or 0; empty when all are 0.
    """

    bundle: int
    sequence: int
    partition: int
    offset: int
    last_click_ms: int
    hidden: bytes
    recent: bytes
    shown: bytes
    flags: int
    events: bytes = b""


_state = quick(UserState)
NEW_USER = UserState(0, 0, -1, -1, 0, b"", b"", b"", 0)


def encode_state(state: UserState) -> bytes:
    """Give the bytes of a state.

    Raises:
        struct.error: a part is longer than its count can say.
    """
    bundle, sequence, partition, offset, last_click_ms, hidden, recent, shown, flags, events = state
    header = _HEADER.pack(
        LAYOUT_WITH_EVENTS if events else LAYOUT,
        flags,
        bundle,
        sequence,
        partition,
        offset,
        last_click_ms,
        len(hidden),
        len(recent) // RECENT_BYTES,
        len(shown) // SHOWN_BYTES,
    )
    return header + hidden + recent + shown + events


def decode_state(data: bytes) -> UserState:
    """Read a state.

    Raises:
        CorruptStateError: the bytes are no state of a known layout, or of no user: a count, a sign or a flag is
            impossible.
    """
    if len(data) < _HEADER.size:
        raise CorruptStateError(
            f"a user's state is cut short: expected {_HEADER.size} bytes or more, found {len(data)}; {DAMAGE_REMEDY}"
        )
    layout, flags, bundle, sequence, partition, offset, last_click_ms, hidden_bytes, n_recent, n_shown = (
        _HEADER.unpack_from(data)
    )
    if layout != LAYOUT and layout != LAYOUT_WITH_EVENTS:
        raise CorruptStateError(
            f"a user's state has layout {layout}, expected {LAYOUT} or {LAYOUT_WITH_EVENTS}; it was written by a newer "
            "version: upgrade"
        )
    hidden_end = _HEADER.size + hidden_bytes
    recent_end = hidden_end + n_recent * RECENT_BYTES
    shown_end = recent_end + n_shown * SHOWN_BYTES
    end = shown_end + (n_recent * EVENT_BYTES if layout == LAYOUT_WITH_EVENTS else 0)
    if len(data) != end:
        raise CorruptStateError(
            f"a user's state has the wrong length: expected {end} bytes, found {len(data)}; {DAMAGE_REMEDY}"
        )
    if (
        flags > SHOWN_BY_NETWORK
        or hidden_bytes & 1
        or n_recent > sequence
        or partition < -1
        or offset < -1
        or not 0 <= last_click_ms <= MAX_TIMESTAMP_MS
        or (layout == LAYOUT_WITH_EVENTS and not any(data[shown_end:]))
    ):
        raise CorruptStateError(
            f"a user's state has flags, counts, times or events that no worker writes: layout {layout}, flags {flags}, "
            f"{hidden_bytes} bytes of hidden, {n_recent} recent of {sequence} clicks, partition {partition}, "
            f"offset {offset} and time {last_click_ms}; {DAMAGE_REMEDY}"
        )
    hidden, recent = data[_HEADER.size : hidden_end], data[hidden_end:recent_end]
    shown, events = data[recent_end:shown_end], data[shown_end:]
    return _state((bundle, sequence, partition, offset, last_click_ms, hidden, recent, shown, flags, events))


def with_recent(recent: bytes, item_hash: int, gap_s: int, event_type: int, keep: int) -> bytes:
    """Append a click to packed recent clicks and keep the newest `keep`."""
    return (recent + _RECENT.pack(item_hash, gap_s, event_type))[-keep * RECENT_BYTES :]


def with_event(events: bytes, event_hash: int, n_recent: int, keep: int) -> bytes:
    """Append the hash of a click's event id, and keep those of the newest `keep` clicks, in step with `with_recent`.

    Args:
        events: those of the recent clicks before this one; empty when all are 0.
        event_hash: of this click, or 0.
        n_recent: how many recent clicks there were before this one.
        keep: how many are kept.

    Returns:
        One for each click that is kept; empty when all are 0.
    """
    if not events and not event_hash:
        return b""
    events = ((events or bytes(n_recent * EVENT_BYTES)) + _U32.pack(event_hash))[-keep * EVENT_BYTES :]
    return events if any(events) else b""


def has_event(events: bytes, event_hash: int) -> bool:
    """Tell whether the event that an id's hash stands for is among those of the recent clicks; never for 0."""
    return bool(event_hash and events) and (event_hash,) in _U32.iter_unpack(events)


def recent_clicks(state: UserState) -> list[RecentClick]:
    """Unpack the recent clicks, oldest first."""
    return [RecentClick(*fields) for fields in iter_recent(state.recent)]


def iter_recent(recent: bytes) -> Iterator[tuple[int, int, int]]:
    """Unpack the fields of packed `RecentClick`s, oldest first."""
    return _RECENT.iter_unpack(recent)


def was_shown(shown: bytes, item_hash: int) -> bool:
    """Tell whether an item is in a list as the state keeps it. Called for every click; bytes are searched quickly."""
    return place_shown(shown, item_hash) is not None


def place_shown(shown: bytes, item_hash: int) -> int | None:
    """Give the place of an item in a list as the state keeps it, from 0; None: it is not there."""
    low = _U32.pack(item_hash & 0xFFFFFFFF)
    at = shown.find(low)
    while at > 0 and at % SHOWN_BYTES:  # the end of one item and the beginning of the next
        at = shown.find(low, at + 1)
    return at // SHOWN_BYTES if at >= 0 else None
