"""Chooses the clicks of a training round: the newest of the log, and a sample of older users so that old things stay.

Reads only the segments of the log that it needs, however long the log is. Knows no files: whoever calls says how a
segment is read.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from training.learning.log_rows import bounded, in_time_order, numbered, without_retries
from training.learning.sequences import ClickColumns, Ints

_POOL_FACTOR = 3  # older clicks that are read for each one that is used, so that there are enough users to choose from
_MOST_READ = 8  # times the clicks that are wanted, where a crawler or retries fill the log: bounds memory and time
_BEGIN_QUANTILE = 0.05  # of a segment's event times: where it begins, whatever one click says


class LogSegment(NamedTuple):
    """A part of the click log that is read as a whole.

    Attributes:
        partition: of all its rows.
        first_offset: of the records that it covers.
        read: gives its rows by rising offset, as a table with the columns `user_id`, `item_id` (strings),
            `timestamp_ms`, `event_type`, `partition`, `offset` and `event_hash` (whole numbers), none of them null. It
            may have no rows.
    """

    partition: int
    first_offset: int
    read: Callable[[], pa.Table]


class TrainingData(NamedTuple):
    """The clicks of a training round, oldest first: those that are learnt, and the newest, which judge the result.

    Attributes:
        clicks: sampled older ones and all the recent ones.
        n_recent: how many are recent; they stand at the end.
        partition: int64 (n,), where each click comes from.
        offset: int64 (n,).
    """

    clicks: ClickColumns
    n_recent: int
    partition: Ints
    offset: Ints

    def log_range(self, n_clicks: int) -> dict[str, tuple[int, int]]:
        """Give the first and the last offset of each partition among the oldest `n_clicks`."""
        partition, offset = self.partition[:n_clicks], self.offset[:n_clicks]
        return {
            str(number): (int(offset[partition == number].min()), int(offset[partition == number].max()))
            for number in np.unique(partition)
        }


def select_training_data(
    segments: Sequence[LogSegment],
    recent_clicks: int,
    replay_share: float,
    retry_clicks: int,
    clock_ms: int,
    rng: np.random.Generator,
) -> TrainingData:
    """Read the newest clicks and a sample of older ones. Blocks while segments are read.

    Args:
        segments: the click log, at least one segment, in any order.
        recent_clicks: at most so many of the newest clicks, in event time, without what a user has beyond bounds.
        replay_share: older clicks to add, as a share of the recent ones; users are taken whole.
        retry_clicks: a client's retry is found among so many clicks of its user.
        clock_ms: what the time is now.
        rng: draws the sample.

    Raises:
        What reading a segment raises.
    """

    def learnable(table: pa.Table) -> pa.Table:
        return bounded(without_retries(in_time_order(table, clock_ms), retry_clicks))

    backwards = _Backwards(segments)
    read = backwards.read(recent_clicks)
    rows = learnable(read)
    while len(rows) < recent_clicks and backwards.n_unread and len(read) < _MOST_READ * recent_clicks:
        n_more = (recent_clicks - len(rows)) * len(read) // max(len(rows), 1)
        read = pa.concat_tables([read, backwards.read(max(n_more, 1))])
        rows = learnable(read)
    recent = rows.slice(max(0, len(rows) - recent_clicks))
    older = rows.slice(0, len(rows) - len(recent))
    n_replayed = int(replay_share * len(recent))
    unread = backwards.unread()
    for number in rng.permutation(len(unread)):
        if len(older) >= _POOL_FACTOR * n_replayed:
            break
        older = pa.concat_tables([older, unread[number].read()])
    replayed = _sample_of_users(learnable(older), n_replayed, rng)
    return _training_data(pa.concat_tables([replayed, recent]), len(recent))


class _Backwards:
    """Reads segments from the newest backwards.

    The next segment is always one of the partition that has been read back least far in time.
    """

    def __init__(self, segments: Sequence[LogSegment]) -> None:
        self._unread: dict[int, list[LogSegment]] = {}
        for segment in sorted(segments, key=lambda segment: (segment.partition, segment.first_offset)):
            self._unread.setdefault(segment.partition, []).append(segment)
        self._read_back_to_ms = {partition: np.inf for partition in self._unread}

    @property
    def n_unread(self) -> int:
        """How many segments were not read yet."""
        return sum(map(len, self._unread.values()))

    def unread(self) -> list[LogSegment]:
        """Give the segments that were not read yet."""
        return [segment for rest in self._unread.values() for segment in rest]

    def read(self, n_clicks: int) -> pa.Table:
        """Read so many clicks or more, as far as there are any."""
        tables: list[pa.Table] = []
        while sum(map(len, tables)) < n_clicks and self.n_unread:
            left = (number for number in self._unread if self._unread[number])
            partition = max(left, key=self._read_back_to_ms.__getitem__)
            table = self._unread[partition].pop().read()
            if len(table):
                begin_ms = np.quantile(table["timestamp_ms"].to_numpy(), _BEGIN_QUANTILE, method="lower")
                self._read_back_to_ms[partition] = min(self._read_back_to_ms[partition], begin_ms)
            tables.append(table)
        return pa.concat_tables(tables)


def _sample_of_users(table: pa.Table, n_clicks: int, rng: np.random.Generator) -> pa.Table:
    """Sample users, with all their clicks in the table, until there are `n_clicks`."""
    if not len(table) or not n_clicks:
        return table.slice(0, 0)
    user, n_users = numbered(table["user_id"])
    shuffled = rng.permutation(n_users)
    clicks_so_far = np.cumsum(np.bincount(user, minlength=n_users)[shuffled])
    is_chosen = np.zeros(n_users, dtype=bool)
    is_chosen[shuffled[: np.searchsorted(clicks_so_far, n_clicks) + 1]] = True
    return table.filter(pa.array(is_chosen[user]))


def _training_data(table: pa.Table, n_recent: int) -> TrainingData:
    user, _ = numbered(table["user_id"])
    items = table["item_id"].combine_chunks().dictionary_encode()
    columns = {
        name: table[name].to_numpy().astype(np.int64) for name in ("timestamp_ms", "event_type", "partition", "offset")
    }
    clicks = ClickColumns(
        user,
        items.indices.to_numpy().astype(np.int64),
        columns["timestamp_ms"],
        columns["event_type"],
        items.dictionary.to_pylist(),
    )
    return TrainingData(clicks, n_recent, columns["partition"], columns["offset"])
