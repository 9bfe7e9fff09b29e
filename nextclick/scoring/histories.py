"""Reads the clicks that users' states remember, of all users at once.

Ages, sessions and the network's own input are as training sees them (`training.learning.validation.Contexts`).
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit, jit_inner
from nextclick.user_state import RECENT_BYTES

Longs = npt.NDArray[np.int64]

_HASH_BYTES, _GAP_BYTES = 8, 4  # of a click; then its event type, see `nextclick.user_state`
_EMPTY = -1


class RowsByHash(NamedTuple):
    """Finds the rows of items by their hashes: a table with open addressing, at most half full.

    Attributes:
        hashes: uint64 (2 ** n,).
        rows: int32 (2 ** n,), -1 where there is none.
    """

    hashes: npt.NDArray[np.uint64]
    rows: npt.NDArray[np.int32]


class Behind(NamedTuple):
    """Finds items that stand behind those of a bundle.

    Attributes:
        places: finds their places by their hashes.
        n_items: of the bundle.
    """

    places: RowsByHash
    n_items: int


NOTHING_BEHIND = Behind(RowsByHash(np.zeros(1, np.uint64), np.full(1, _EMPTY, np.int32)), 2**31)


class Histories(NamedTuple):
    """What the last clicks on known items are, the newest first; on those of the bundle, and on live ones.

    Attributes:
        item_index: int64 (users, ages), rows of the bundle, or places of live items behind these; -1 where there is
            none.
        age_s: float32 (users, ages), seconds from each click to the newest of all.
        n_session: float32 (users,), clicks of the running session, at most a given number.
        newest: int64 (users, 3), of the newest one on an item of the bundle its item, gap in s and event type; the item
            is -1 if there is none.
    """

    item_index: Longs
    age_s: npt.NDArray[np.float32]
    n_session: npt.NDArray[np.float32]
    newest: Longs


class Lookback(NamedTuple):
    """How far back is looked.

    Attributes:
        ages: how many clicks.
        session_gap_s: a longer pause ends a session.
        max_session: a session's length is told apart up to here.
    """

    ages: int
    session_gap_s: int
    max_session: int


def rows_by_hash(hashes: npt.NDArray[np.uint64], room: int = 0) -> RowsByHash:
    """Make the table of hashes, each in the place that is its row; with room for so many of them."""
    size = 2
    while size < 2 * max(len(hashes), room):
        size *= 2
    table = RowsByHash(np.zeros(size, np.uint64), np.full(size, _EMPTY, np.int32))
    _fill(table, hashes)
    return table


def row_finder(table: RowsByHash) -> Callable[[int], int | None]:
    """Give a function that finds the row of one hash, or None. A call of compiled code costs ten times as much."""
    hashes, rows, mask = table.hashes.data, table.rows.data, len(table.rows) - 1

    def find(item_hash: int) -> int | None:
        place = item_hash & mask
        while (row := rows[place]) != _EMPTY:
            if hashes[place] == item_hash:
                return row
            place = (place + 1) & mask
        return None

    return find


def read_histories(
    recent: Sequence[bytes], table: RowsByHash, lookback: Lookback, live: Behind = NOTHING_BEHIND
) -> Histories:
    """Read packed recent clicks, one text of bytes per user.

    Args:
        recent: the clicks of each user.
        table: finds the bundle's items.
        lookback: how far back is looked.
        live: finds live items.
    """
    n_users = len(recent)
    histories = Histories(
        np.empty((n_users, lookback.ages), np.int64),
        np.empty((n_users, lookback.ages), np.float32),
        np.empty(n_users, np.float32),
        np.empty((n_users, 3), np.int64),
    )
    lengths = np.array([len(packed) for packed in recent], dtype=np.int64)
    _read(np.frombuffer(b"".join(recent), np.uint8), lengths, table, live, lookback, histories)
    return histories


@jit
def _fill(table: Any, hashes: Any) -> None:
    mask = np.uint64(len(table.hashes) - 1)
    for row in range(len(hashes)):
        place = hashes[row] & mask
        while table.rows[place] != _EMPTY:
            place = (place + np.uint64(1)) & mask
        table.hashes[place], table.rows[place] = hashes[row], row


@jit_inner
def find_row(table: Any, item_hash: Any) -> Any:
    return _find(table.hashes, table.rows, item_hash)


@jit_inner
def _find(hashes: Any, rows: Any, item_hash: Any) -> Any:
    # Arrays, not the tuple that holds them, which costs a count of references at each use.
    mask = np.uint64(len(hashes) - 1)
    place = item_hash & mask
    while rows[place] != _EMPTY:
        if hashes[place] == item_hash:
            return rows[place]
        place = (place + np.uint64(1)) & mask
    return np.int32(-1)


@jit_inner
def find_known(hashes: Any, rows: Any, live: Any, item_hash: Any) -> Any:
    """Give the row of a bundle's item, the place behind them of a live one, or -1.

    Args:
        hashes, rows: of the table that finds the bundle's items.
        live: finds live items.
        item_hash: of the item.
    """
    row = np.int64(_find(hashes, rows, item_hash))
    if row >= 0:
        return row
    place = np.int64(find_row(live.places, item_hash))
    return live.n_items + place if place >= 0 else np.int64(-1)


@jit_inner
def read_click(packed: Any, at: Any) -> Any:
    """Read the hash of a click's item and the gap in s before it, of packed recent clicks."""
    item_hash, gap_s = np.uint64(0), 0
    for place in range(_HASH_BYTES):
        item_hash |= np.uint64(packed[at + place]) << np.uint64(8 * place)
    for place in range(_GAP_BYTES):
        gap_s |= int(packed[at + _HASH_BYTES + place]) << (8 * place)
    return item_hash, gap_s


@jit
def _read(packed: Any, lengths: Any, table: Any, live: Any, lookback: Any, histories: Any) -> None:
    (ages, session_gap_s, max_session), (hashes, known_rows) = lookback, table
    begin, end = 0, 0
    for user in range(len(lengths)):
        begin, end = end, end + lengths[user]
        item_index, age_s, newest = histories.item_index[user], histories.age_s[user], histories.newest[user]
        for place in range(ages):
            item_index[place], age_s[place] = -1, 0.0
        newest[0], newest[1], newest[2] = -1, -1, -1
        n_known, n_running, since_s, is_running = 0, 0, 0, True
        at = end - RECENT_BYTES
        while at >= begin and (n_known < ages or is_running):
            item_hash, gap_s = read_click(packed, at)
            row = find_known(hashes, known_rows, live, item_hash)
            if row >= 0:
                if newest[0] < 0 and row < live.n_items:
                    newest[0], newest[1], newest[2] = row, gap_s, packed[at + _HASH_BYTES + _GAP_BYTES]
                if n_known < ages:
                    item_index[n_known], age_s[n_known] = row, since_s
                    n_known += 1
                n_running += is_running
            since_s += gap_s
            is_running = is_running and gap_s <= session_gap_s
            at -= RECENT_BYTES
        histories.n_session[user] = min(n_running, max_session)


class Out(NamedTuple):
    """Items that are not ranked for a user: those that are left out, and the pinned ones, which have their places.

    Attributes:
        starts: int64 (users + 1,), where each user's items begin.
        rows: int32 (n,), each once for a user, those that are left out before the pinned ones.
        pinned: int64 (users,), where each user's pinned items begin; a pinned item that is left out is none of them.
    """

    starts: Longs
    rows: npt.NDArray[np.int32]
    pinned: Longs


# Which remembered clicks are on items that are left out: as in `nextclick.rules.Rules`.
NONE, LAST, SESSION, RECENT, PURCHASED = range(5)


class Exclusion(NamedTuple):
    """Which remembered clicks are on items that are left out.

    Attributes:
        which: `NONE`, `LAST`, `SESSION`, `RECENT` or `PURCHASED`.
        session_gap_s: a longer pause ends a session.
        purchase: the event type of a purchase.
    """

    which: int
    session_gap_s: int
    purchase: int


def read_out(
    recent: Sequence[bytes],
    table: RowsByHash,
    exclusion: Exclusion,
    pinned: npt.NDArray[np.int32],
    live: Behind = NOTHING_BEHIND,
) -> Out:
    """Find the items that are not ranked; what the table does not know is in no list anyway.

    Args:
        recent: packed recent clicks, of each user.
        table: finds the items' rows.
        exclusion: which clicks' items are left out.
        pinned: int32 (n,), items, each once.
        live: finds live items.
    """
    lengths = np.array([len(packed) for packed in recent], dtype=np.int64)
    n_most = int(lengths.sum()) // RECENT_BYTES + len(recent) * len(pinned)
    out = Out(np.zeros(len(recent) + 1, np.int64), np.empty(n_most, np.int32), np.zeros(len(recent), np.int64))
    n_rows = _read_out(np.frombuffer(b"".join(recent), np.uint8), lengths, table, live, exclusion, pinned, out)
    return out._replace(rows=out.rows[:n_rows])


@jit
def _read_out(packed: Any, lengths: Any, table: Any, live: Any, exclusion: Any, pinned: Any, out: Any) -> Any:  # noqa: PLR0913
    (which, session_gap_s, purchase), (hashes, known_rows) = exclusion, table
    rows, begin, end, n_rows = out.rows, 0, 0, 0
    for user in range(len(lengths)):
        begin, end, first = end, end + lengths[user], n_rows
        at, is_looking = end - RECENT_BYTES, which != NONE
        while at >= begin and is_looking:
            item_hash, gap_s = read_click(packed, at)
            if which != PURCHASED or packed[at + _HASH_BYTES + _GAP_BYTES] == purchase:
                row = find_known(hashes, known_rows, live, item_hash)
                if row >= 0 and not _is_among(rows, first, n_rows, row):
                    rows[n_rows] = row
                    n_rows += 1
            is_looking = which >= RECENT or (which == SESSION and gap_s <= session_gap_s)
            at -= RECENT_BYTES
        out.pinned[user] = n_rows
        for place in range(len(pinned)):
            if not _is_among(rows, first, out.pinned[user], pinned[place]):
                rows[n_rows] = pinned[place]
                n_rows += 1
        out.starts[user + 1] = n_rows
    return n_rows


@jit_inner
def _is_among(rows: Any, first: Any, last: Any, row: Any) -> Any:
    is_among = False
    for place in range(first, last):
        is_among |= rows[place] == row
    return is_among
