"""From the clicks of the log to what the network learns from: per user in log order, cut into windows.

The clicks of all users lie one after another in flat arrays ("rows"), a user's clicks together and in log order. A
window is a range of rows of one user; where it goes on from the user's window before, so does the network's state.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.user_state import MAX_GAP_S

Ints = npt.NDArray[np.int64]


class ClickColumns(NamedTuple):
    """Clicks as the log gives them, column by column, oldest first.

    Attributes:
        user: int64 (n,), one number per user.
        item: int64 (n,), index into `item_ids`.
        timestamp_ms: int64 (n,), event time; need not rise.
        event_type: int64 (n,).
        item_ids: the items, each once.
    """

    user: Ints
    item: Ints
    timestamp_ms: Ints
    event_type: Ints
    item_ids: list[str]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Clicks, grouped by user.

    Attributes:
        item: int64 (n,), as in `ClickColumns`.
        event_type: int64 (n,).
        gap_s: int64 (n,), whole seconds since the user's click before, as `nextclick.advance` counts them.
        age_rank: int64 (n,), place in the log: 0 is the oldest click of all.
        user_starts: int64 (n_users + 1,), the first row of each user, and n.
    """

    item: Ints
    event_type: Ints
    gap_s: Ints
    age_rank: Ints
    user_starts: Ints

    def __len__(self) -> int:
        return len(self.item)

    def first_row_of_user(self) -> Ints:
        """For every row, the first row of the same user: int64 (n,)."""
        return np.repeat(self.user_starts[:-1], np.diff(self.user_starts))


class Windows(NamedTuple):
    """Ranges of rows: [first, end) each."""

    first: Ints
    end: Ints

    def __len__(self) -> int:
        return len(self.first)

    def take(self, chosen: Ints) -> "Windows":
        """Give some of the windows, in the order of `chosen`."""
        return Windows(self.first[chosen], self.end[chosen])


def group_by_user(clicks: ClickColumns) -> Sequences:
    """Bring each user's clicks together, in log order, and compute the gaps."""
    order = np.argsort(clicks.user, kind="stable")
    user = clicks.user[order]
    is_first = np.ones(len(user), dtype=bool)
    is_first[1:] = user[1:] != user[:-1]
    user_starts = np.append(np.flatnonzero(is_first), len(user))
    clock_ms = _rising_per_user(clicks.timestamp_ms[order], is_first, user_starts)
    gap_s = np.zeros(len(user), dtype=np.int64)
    gap_s[1:] = np.minimum(np.diff(clock_ms) // 1000, MAX_GAP_S)
    gap_s[is_first] = 0
    return Sequences(clicks.item[order], clicks.event_type[order], gap_s, order.astype(np.int64), user_starts)


def _rising_per_user(timestamp_ms: Ints, is_first: npt.NDArray[np.bool_], user_starts: Ints) -> Ints:
    """Let no user's clock go back: a click that arrives late in event time keeps the time of the one before."""
    clock_ms = timestamp_ms.copy()
    goes_back = np.flatnonzero((np.diff(timestamp_ms) < 0) & ~is_first[1:]) + 1
    for user in np.unique(np.searchsorted(user_starts, goes_back, side="right") - 1):
        rows = slice(user_starts[user], user_starts[user + 1])
        clock_ms[rows] = np.maximum.accumulate(clock_ms[rows])
    return clock_ms


def training_windows(sequences: Sequences, before_rank: int, max_clicks: int) -> Windows:
    """Cut users' clicks that are older than `before_rank` into windows, oldest window first.

    Every click but a user's first is the target of exactly one window: the last click of a window is the first of
    the next. Users with a single click give none.

    Args:
        sequences: the clicks.
        before_rank: only clicks with a lower `age_rank` are used.
        max_clicks: the longest window; at least 2.
    """
    first_row = sequences.user_starts[:-1]
    used = np.add.reduceat(sequences.age_rank < before_rank, first_row) if len(first_row) else first_row
    n_windows = np.maximum(-(-(used - 1) // (max_clicks - 1)), 0)  # ceiling
    which = _counting(n_windows)
    first = np.repeat(first_row, n_windows) + which * (max_clicks - 1)
    end = np.minimum(first + max_clicks, np.repeat(first_row + used, n_windows))
    oldest_first = np.argsort(sequences.age_rank[end - 1], kind="stable")
    return Windows(first[oldest_first], end[oldest_first])


def _counting(counts: Ints) -> Ints:
    """For counts (2, 3) give 0 1 0 1 2."""
    starts = np.cumsum(counts) - counts
    return np.arange(counts.sum(), dtype=np.int64) - np.repeat(starts, counts)


def batches_in_time_order(
    windows: Windows, batch_size: int, block_batches: int, rng: np.random.Generator
) -> Iterator[Windows]:
    """Give windows in batches, oldest first, mixed only within blocks of a few batches.

    Inside a block windows of like length share a batch, so that little is padding, and the batches come in random
    order. Training in time order beats shuffling: what is learnt last is what is true now.
    """
    block_size = batch_size * block_batches
    lengths = windows.end - windows.first
    for start in range(0, len(windows), block_size):
        block = np.arange(start, min(start + block_size, len(windows)))
        rng.shuffle(block)
        block = block[np.argsort(lengths[block], kind="stable")]
        for batch in rng.permutation(-(-len(block) // batch_size)):
            yield windows.take(block[batch * batch_size : (batch + 1) * batch_size])


def padded_rows(first: Ints, length: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Lay ranges of rows out as a matrix.

    Returns:
        int64 (batch, longest), rows; beyond a range's end its last row is repeated. And bool of the same shape: True
        where a row is real.
    """
    steps = np.arange(length.max(initial=0))
    rows = first[:, None] + np.minimum(steps, length[:, None] - 1)
    return rows, steps < length[:, None]
