"""Chooses the clicks of a training round: the newest of the log, and a sample of older users so that old things stay.

Reads only the segments of the log that it needs, however long the log is: for a round that begins anew those of the
window (`select_training_data`), for one that goes on those that hold new clicks and as many older ones again, or two
or three times as many (`select_new_clicks`). Knows no files: whoever calls says how a segment is read.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from training.learning.log_rows import MAX_USER_CLICKS, bounded, in_time_order, numbered, without_retries
from training.learning.round_clicks import LEAST_READ, OLDER_FACTOR, RECENT_FACTOR, RoundClicks, chosen_clicks
from training.learning.sequences import ClickColumns, Ints

_POOL_FACTOR = 3  # older clicks that are read for each one that is used, so that there are enough users to choose from
_MOST_READ = 8  # times the clicks that are wanted, where a crawler or retries fill the log: bounds memory and time
_BEGIN_QUANTILE = 0.05  # of a segment's event times: where it begins, whatever one click says
_OLDER_SEGMENTS = 4  # that a round that goes on draws its older clicks from
_LEAST_USER_CLICKS = 20  # of a round that goes on can be one user's, however short the round is


class LogSegment(NamedTuple):
    """A part of the click log that is read as a whole.

    Attributes:
        partition: of all its rows.
        first_offset: of the records that it covers,
        last_offset: and the last of them.
        read: gives its rows by rising offset, as a table with the columns `user_id`, `item_id` (strings),
            `timestamp_ms`, `event_type`, `partition`, `offset` and `event_hash` (whole numbers), none of them null. It
            may have no rows.
    """

    partition: int
    first_offset: int
    last_offset: int
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
        return _log_range(self.partition[:n_clicks], self.offset[:n_clicks])

    def n_behind(self, log_range: Mapping[str, tuple[int, int]]) -> int:
        """Say how many clicks are behind the last offsets of such ranges; all those of a partition without one."""
        return sum(
            int((self.offset[self.partition == partition] > log_range.get(str(partition), (0, -1))[1]).sum())
            for partition in np.unique(self.partition).tolist()
        )


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


class NewClicks(NamedTuple):
    """What a round that goes on learns.

    Attributes:
        data: its clicks.
        log_range: first and last offset of the new ones, by partition.
    """

    data: RoundClicks
    log_range: dict[str, tuple[int, int]]


def select_new_clicks(
    segments: Sequence[LogSegment],
    seen: Mapping[int, int],
    window_clicks: int,
    n_context: int,
    clock_ms: int,
    rng: np.random.Generator,
) -> NewClicks:
    """Read what is new, and older clicks in proportion. Blocks while segments are read.

    Args:
        segments: the click log, in any order; one at least is new.
        seen: the last offset of each partition that earlier rounds have read.
        window_clicks: that a round that begins anew would learn: there a user may weigh `MAX_USER_CLICKS` of them.
        n_context: clicks of a user that are looked back on; a client's retry is found among as many.
        clock_ms: what the time is now.
        rng: draws the sample.

    Raises:
        What reading a segment raises.
    """
    read = [_with_part(segment.read(), segment, seen) for segment in segments if _is_new(segment, seen)]
    n_new = sum(int((part["part"].to_numpy() == _NEW).sum()) for part in read)
    n_recent, n_older = (max(LEAST_READ, factor * n_new) for factor in (RECENT_FACTOR, OLDER_FACTOR))
    backwards = _Backwards([segment for segment in segments if not _is_new(segment, seen)])
    if backwards.n_unread:
        read.append(_as_part(backwards.read(n_recent), _RECENT))
    stretches = _stretches(backwards.unread(), n_older, rng)
    rows = pa.concat_tables([*(_as_part(table, _OLDER) for table in stretches), *read])
    rows = without_retries(in_time_order(rows, clock_ms), n_context)
    # In time order within each part: a new click that is late was not there before.
    most_clicks = max(_LEAST_USER_CLICKS, MAX_USER_CLICKS * n_new // max(window_clicks, 1))
    part = rows["part"].to_numpy()
    older, recent, new = (rows.filter(pa.array(part == number)) for number in (_OLDER, _RECENT, _NEW))
    # Files hold more than was wanted, however they were merged: then older clicks are in the same ones.
    before, recent = recent.slice(0, max(0, len(recent) - n_recent)), recent.slice(max(0, len(recent) - n_recent))
    older = pa.concat_tables([older, _anywhere(before, max(0, n_older - len(older)), rng)])
    older, recent, new = (bounded(table, most_clicks) for table in (older, recent, new))
    data = chosen_clicks(_columns(pa.concat_tables([older, recent, new])), len(older), len(new), n_context, rng)
    return NewClicks(data, _log_range(*(new[name].to_numpy().astype(np.int64) for name in ("partition", "offset"))))


_OLDER, _RECENT, _NEW = range(3)


def _is_new(segment: LogSegment, seen: Mapping[int, int]) -> bool:
    return segment.last_offset > seen.get(segment.partition, -1)


def _with_part(table: pa.Table, segment: LogSegment, seen: Mapping[int, int]) -> pa.Table:
    """Say of each row of a segment whether it is new: small segments are merged, new ones with others."""
    is_new = table["offset"].to_numpy() > seen.get(segment.partition, -1)
    return table.append_column("part", pa.array(np.where(is_new, _NEW, _RECENT)))


def _as_part(table: pa.Table, part: int) -> pa.Table:
    return table.append_column("part", pa.array(np.full(len(table), part)))


def _stretches(segments: Sequence[LogSegment], n_clicks: int, rng: np.random.Generator) -> list[pa.Table]:
    """Read about so many clicks from some segments, one stretch of each."""
    length, tables = n_clicks // _OLDER_SEGMENTS, []
    for number in rng.permutation(len(segments))[:_OLDER_SEGMENTS]:
        table = segments[number].read()
        begin = int(rng.integers(max(len(table) - length, 0) + 1))
        tables.append(table.slice(begin, length))
    return tables


def _anywhere(table: pa.Table, n_clicks: int, rng: np.random.Generator) -> pa.Table:
    """Choose about so many clicks of a table, in stretches."""
    if len(table) <= n_clicks:
        return table
    length, is_chosen = n_clicks // _OLDER_SEGMENTS, np.zeros(len(table), dtype=bool)
    for begin in rng.integers(len(table) - length + 1, size=_OLDER_SEGMENTS).tolist():
        is_chosen[begin : begin + length] = True
    return table.filter(pa.array(is_chosen))


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
    partition, offset = (table[name].to_numpy().astype(np.int64) for name in ("partition", "offset"))
    return TrainingData(_columns(table), n_recent, partition, offset)


def _columns(table: pa.Table) -> ClickColumns:
    user, _ = numbered(table["user_id"])
    items = table["item_id"].combine_chunks().dictionary_encode()
    timestamp_ms, event_type = (table[name].to_numpy().astype(np.int64) for name in ("timestamp_ms", "event_type"))
    item_index = items.indices.to_numpy().astype(np.int64)
    return ClickColumns(user, item_index, timestamp_ms, event_type, items.dictionary.to_pylist())


def _log_range(partition: Ints, offset: Ints) -> dict[str, tuple[int, int]]:
    return {
        str(number): (int(offset[partition == number].min()), int(offset[partition == number].max()))
        for number in np.unique(partition)
    }
