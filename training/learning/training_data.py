"""Chooses the clicks of a training: the newest of the log, and a sample of older users so that old things are kept.

Reads only the files that it needs, however long the log is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from training.learning.sequences import ClickColumns, Ints
from training.service.click_log import ClickLog
from training.service.log_files import LogFile

_POOL_FACTOR = 3  # older clicks that are read for each one that is used: enough users to choose from


class TrainingData(NamedTuple):
    """The clicks of a training, oldest first.

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
    log: ClickLog, files: Sequence[LogFile], recent_clicks: int, replay_share: float, rng: np.random.Generator
) -> TrainingData:
    """Read the newest clicks and a sample of older ones.

    Args:
        log: the click log.
        files: its files, as they stood when the training began.
        recent_clicks: at most so many of the newest clicks, in event time.
        replay_share: older clicks to add, as a share of the recent ones; users are taken whole.
        rng: draws the sample.
    """
    rows, older_files = _newest_files(log, files, recent_clicks)
    rows = _in_order(rows)
    recent = rows.slice(max(0, len(rows) - recent_clicks))
    older = rows.slice(0, len(rows) - len(recent))
    wanted = int(replay_share * len(recent))
    for number in rng.permutation(len(older_files)):
        if len(older) >= _POOL_FACTOR * wanted:
            break
        older = pa.concat_tables([older, log.read([older_files[number]])])
    replayed = _whole_users(older, wanted, rng)
    return _training_data(pa.concat_tables([_in_order(replayed), recent]), len(recent))


def _newest_files(log: ClickLog, files: Sequence[LogFile], n_clicks: int) -> tuple[pa.Table, list[LogFile]]:
    """Read files from the newest backwards, always of the partition that has been read back least far in time."""
    unread: dict[int, list[LogFile]] = {}
    for file in sorted(files):
        unread.setdefault(file.partition, []).append(file)
    read_back_to_ms = {partition: np.inf for partition in unread}
    tables = [log.read([])]
    n_read = 0
    while n_read < n_clicks and any(unread.values()):
        partition = max((number for number in unread if unread[number]), key=read_back_to_ms.__getitem__)
        table = log.read([unread[partition].pop()])
        if len(table):
            read_back_to_ms[partition] = min(read_back_to_ms[partition], table["timestamp_ms"][0].as_py())
        tables.append(table)
        n_read += len(table)
    return pa.concat_tables(tables), [file for left in unread.values() for file in left]


def _in_order(table: pa.Table) -> pa.Table:
    """Sort by time such that a partition's clicks stay in log order, also those that are late in event time."""
    partition, offset, clock_ms = (
        table[name].to_numpy().astype(np.int64) for name in ("partition", "offset", "timestamp_ms")
    )
    by_offset = np.lexsort((offset, partition))
    for number in np.unique(partition):
        rows = by_offset[partition[by_offset] == number]
        clock_ms[rows] = np.maximum.accumulate(clock_ms[rows])
    return table.take(pa.array(np.lexsort((offset, partition, clock_ms))))


def _whole_users(table: pa.Table, n_clicks: int, rng: np.random.Generator) -> pa.Table:
    """Sample users, with all their clicks in the table, until there are `n_clicks`."""
    if not len(table) or not n_clicks:
        return table.slice(0, 0)
    user, n_users = _codes(table["user_id"])
    shuffled = rng.permutation(n_users)
    clicks_so_far = np.cumsum(np.bincount(user, minlength=n_users)[shuffled])
    chosen = np.zeros(n_users, dtype=bool)
    chosen[shuffled[: np.searchsorted(clicks_so_far, n_clicks) + 1]] = True
    return table.filter(pa.array(chosen[user]))


def _training_data(table: pa.Table, n_recent: int) -> TrainingData:
    user, _ = _codes(table["user_id"])
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


def _codes(ids: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], int]:
    encoded = ids.combine_chunks().dictionary_encode()
    return encoded.indices.to_numpy().astype(np.int64), len(encoded.dictionary)
