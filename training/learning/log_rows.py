"""Rows of the click log before anything is learnt from them: in order, without retries, and no user beyond bounds.

A log holds whatever was sent: event times of years to come, clicks that a client sent twice, a crawler that clicks more
than all others. The functions take and give tables with the columns of a `LogSegment`.
"""

from collections import deque

import numpy as np
import pyarrow as pa

from nextclick.clicks import FUTURE_TOLERANCE_MS
from training.learning.sequences import NOW_QUANTILE, Ints, now_of

# What one user can weigh in networks, counts, gate and validation: so many clicks, or so many times what users weigh on
# average, where that is more. Of 241,000 users and sessions of recorded shops none has more clicks than the first.
MAX_USER_CLICKS = 200
_TIMES_THE_AVERAGE = 10
_BLOCK_CLICKS = 20  # of a user with more are kept or left out together: what is kept are sequences as they were


def in_time_order(table: pa.Table, clock_ms: int) -> pa.Table:
    """Sort by time such that a partition's clicks stay in log order, also those that are late in event time.

    A click that is far after all others, or more than a day after now, gets the time of the one before it in its
    partition. Far is a tenth of the time that the clicks span, and a day at least: the newest hundredth of a small
    shop's clicks can be days.

    Args:
        table: clicks of any partitions.
        clock_ms: what the time is now: later clicks have a wrong time, however many they are.
    """
    timestamp_ms, partition, offset = (
        table[name].to_numpy().astype(np.int64) for name in ("timestamp_ms", "partition", "offset")
    )
    now_ms = now_of(timestamp_ms)
    span_ms = now_ms - int(np.quantile(timestamp_ms, 1 - NOW_QUANTILE)) if len(timestamp_ms) else 0
    is_ahead = timestamp_ms > min(now_ms + span_ms // 10, clock_ms) + FUTURE_TOLERANCE_MS
    rising_ms = np.where(is_ahead, timestamp_ms[~is_ahead].min(initial=clock_ms), timestamp_ms)
    by_offset = np.lexsort((offset, partition))
    for number in np.unique(partition):
        rows = by_offset[partition[by_offset] == number]
        rising_ms[rows] = np.maximum.accumulate(rising_ms[rows])
    if is_ahead.any():
        column = table.schema.get_field_index("timestamp_ms")
        table = table.set_column(column, "timestamp_ms", pa.array(np.where(is_ahead, rising_ms, timestamp_ms)))
    return table.take(pa.array(np.lexsort((offset, partition, rising_ms))))


def without_retries(table: pa.Table, among_clicks: int) -> pa.Table:
    """Leave out clicks whose event was there already: the worker applies such a one once, too.

    Args:
        table: in time order.
        among_clicks: an event is found again among so many clicks of its user.
    """
    event_hash = table["event_hash"].to_numpy().astype(np.int64)
    if not event_hash.any():
        return table
    user, n_users = numbered(table["user_id"])
    with_id = np.flatnonzero(event_hash)
    _, event, n_times = np.unique(user[with_id] << 32 | event_hash[with_id], return_inverse=True, return_counts=True)
    is_suspect = np.zeros(n_users, dtype=bool)
    is_suspect[user[with_id[n_times[event] > 1]]] = True
    is_kept = np.ones(len(table), dtype=bool)
    recent: dict[int, deque[int]] = {}
    for row in np.flatnonzero(is_suspect[user]).tolist():
        before = recent.setdefault(int(user[row]), deque(maxlen=among_clicks))
        if event_hash[row] and event_hash[row] in before:
            is_kept[row] = False
        else:
            before.append(int(event_hash[row]))
    return table.filter(pa.array(is_kept))


def bounded(table: pa.Table, most_clicks: int = MAX_USER_CLICKS) -> pa.Table:
    """Thin out the clicks of users who have more than a user may weigh, evenly over their time.

    Args:
        table: each user's clicks in log order.
        most_clicks: that a user can have, or so many times what users have on average, where that is more.
    """
    user, n_users = numbered(table["user_id"])
    n_clicks = np.bincount(user, minlength=n_users)
    most = _most(n_clicks, most_clicks)
    if n_clicks.max(initial=0) <= most:
        return table
    by_user = np.argsort(user, kind="stable")
    place = np.empty(len(user), dtype=np.int64)
    place[by_user] = np.arange(len(user)) - np.repeat(np.cumsum(n_clicks) - n_clicks, n_clicks)
    share = np.minimum(most / n_clicks, 1.0)[user]
    block = place // _BLOCK_CLICKS
    return table.filter(pa.array(np.floor((block + 1) * share) > np.floor(block * share)))


def _most(n_clicks: Ints, least: int) -> int:
    """Give the clicks that a user may weigh, for the numbers that all users have: int64 (n_users,)."""
    most = max(least, int(n_clicks.max(initial=0)))
    # Less and less: what crawlers have too much does not count in the average that bounds them.
    while True:
        average = np.minimum(n_clicks, most).sum() / max(len(n_clicks), 1)
        bound = max(least, int(_TIMES_THE_AVERAGE * average))
        if bound >= most:
            return most
        most = bound


def numbered(ids: pa.ChunkedArray) -> tuple[Ints, int]:
    """Number different strings: gives each row's number, int64 (n,), and how many different ones there are."""
    encoded = ids.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)
