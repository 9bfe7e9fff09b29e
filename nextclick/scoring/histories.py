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


class Histories(NamedTuple):
    """What the last clicks on known items are, the newest first.

    Attributes:
        item_index: int64 (users, ages); -1 where there is none.
        age_s: float32 (users, ages), seconds from each click to the newest of all.
        n_session: float32 (users,), clicks of the running session, at most a given number.
        newest: int64 (users, 3), of the newest one its item, gap in s and event type; the item is -1 if there is none.
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


def rows_by_hash(hashes: npt.NDArray[np.uint64]) -> RowsByHash:
    """Make the table of hashes, each in the place that is its row."""
    size = 2
    while size < 2 * len(hashes):
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


def read_histories(recent: Sequence[bytes], table: RowsByHash, lookback: Lookback) -> Histories:
    """Read packed recent clicks, one text of bytes per user."""
    n_users = len(recent)
    histories = Histories(
        np.empty((n_users, lookback.ages), np.int64),
        np.empty((n_users, lookback.ages), np.float32),
        np.empty(n_users, np.float32),
        np.empty((n_users, 3), np.int64),
    )
    lengths = np.array([len(packed) for packed in recent], dtype=np.int64)
    _read(np.frombuffer(b"".join(recent), np.uint8), lengths, table, lookback, histories)
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
def _find(table: Any, item_hash: Any) -> Any:
    hashes, rows = table
    mask = np.uint64(len(hashes) - 1)
    place = item_hash & mask
    while rows[place] != _EMPTY:
        if hashes[place] == item_hash:
            return rows[place]
        place = (place + np.uint64(1)) & mask
    return np.int32(-1)


@jit
def _read(packed: Any, lengths: Any, table: Any, lookback: Any, histories: Any) -> None:
    ages, session_gap_s, max_session = lookback
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
            item_hash, gap_s = np.uint64(0), 0
            for place in range(_HASH_BYTES):
                item_hash |= np.uint64(packed[at + place]) << np.uint64(8 * place)
            for place in range(_GAP_BYTES):
                gap_s |= int(packed[at + _HASH_BYTES + place]) << (8 * place)
            row = _find(table, item_hash)
            if row >= 0:
                if newest[0] < 0:
                    newest[0], newest[1], newest[2] = row, gap_s, packed[at + _HASH_BYTES + _GAP_BYTES]
                if n_known < ages:
                    item_index[n_known], age_s[n_known] = row, since_s
                    n_known += 1
                n_running += is_running
            since_s += gap_s
            is_running = is_running and gap_s <= session_gap_s
            at -= RECENT_BYTES
        histories.n_session[user] = min(n_running, max_session)
