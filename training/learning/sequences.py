"""From clicks in the order of the log to batches: per user in log order, cut into windows, laid out as matrices.

1. `group_by_user` brings each user's clicks together. The clicks of all users then lie one after another in flat
   arrays; a place in these arrays is called a row.
2. `training_windows` cuts users' clicks into windows of bounded length, which are ranges of rows.
3. `batches_in_time_order` gives the windows in batches, and `padded_rows` lays a batch out as a matrix of rows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.user_state import MAX_GAP_S

Ints = npt.NDArray[np.int64]
NOW_QUANTILE = 0.99


class ClickColumns(NamedTuple):
    """Clicks, column by column, oldest first.

    Attributes:
        user: int64 (n,), one number per user.
        item_index: int64 (n,), index into `item_ids`.
        timestamp_ms: int64 (n,), event time; need not rise.
        event_type: int64 (n,).
        item_ids: the items, each once.
    """

    user: Ints
    item_index: Ints
    timestamp_ms: Ints
    event_type: Ints
    item_ids: list[str]

    def take(self, rows: "Ints | slice") -> "ClickColumns":
        """Give some of the clicks, in the order of `rows`."""
        return ClickColumns(
            self.user[rows], self.item_index[rows], self.timestamp_ms[rows], self.event_type[rows], self.item_ids
        )


def now_of(timestamp_ms: Ints) -> int:
    """Give the time until which there are clicks: a high quantile, for one wrong clock must not be everyone's now."""
    if not len(timestamp_ms):
        return 0
    place = int(NOW_QUANTILE * (len(timestamp_ms) - 1))
    return int(np.partition(timestamp_ms, place)[place])


@dataclass(frozen=True, slots=True)
class Sequences:
    """Clicks, grouped by user; a user's clicks are in log order.

    Attributes:
        item_index: int64 (n,), the row of the clicked item in the embedding of the network that sees these clicks; -1
            where that network does not know the item, or is not to see the click.
        event_type: int64 (n,).
        gap_s: int64 (n,), whole seconds since the user's click before, as `nextclick.advance` counts them.
        age_rank: int64 (n,), place in the log: 0 is the oldest click of all.
        user_starts: int64 (n_users + 1,), the first row of each user, and n.
    """

    item_index: Ints
    event_type: Ints
    gap_s: Ints
    age_rank: Ints
    user_starts: Ints

    def __len__(self) -> int:
        return len(self.item_index)

    def first_row_of_user(self) -> Ints:
        """For every row, the first row of the same user: int64 (n,)."""
        return np.repeat(self.user_starts[:-1], np.diff(self.user_starts))

    def age_shares(self) -> npt.NDArray[np.float64]:
        """Give each click's age as a share of the log: 0 for the newest, almost 1 for the oldest.

        Counted in clicks, not in seconds, so that a log without times has ages too.
        """
        newest, oldest = self.age_rank.max(initial=0), self.age_rank.min(initial=0)
        shares: npt.NDArray[np.float64] = (newest - self.age_rank) / (newest - oldest + 1)
        return shares

    def renumbered(self, new_index: Ints) -> "Sequences":
        """Give the same clicks with other item indices.

        Args:
            new_index: int64 (n_items,), for each present item index the new one, or -1.
        """
        return replace(self, item_index=new_index[self.item_index])

    def known(self) -> "Sequences":
        """Leave out the clicks without an item; a gap stays the time since the user's click before, whatever it was."""
        is_known = self.item_index >= 0
        before = np.append(0, np.cumsum(is_known))
        starts = np.unique(before[self.user_starts])  # users without any row are none
        age_rank = np.argsort(np.argsort(self.age_rank[is_known]))
        return Sequences(self.item_index[is_known], self.event_type[is_known], self.gap_s[is_known], age_rank, starts)

    def masked_from(self, age_rank: int) -> "Sequences":
        """Give the same clicks, but -1 as item of every click with this `age_rank` or a higher one."""
        return replace(self, item_index=np.where(self.age_rank < age_rank, self.item_index, -1))


class TrainingSet(NamedTuple):
    """What a network learns.

    Attributes:
        sequences: the clicks; `item_index` is -1 in rows that are not to be learnt: those from `n_clicks` on.
        n_clicks: clicks with a lower `age_rank` are learnt.
    """

    sequences: Sequences
    n_clicks: int


class Windows(NamedTuple):
    """Ranges of rows, [first, end) each, of one user each. Where a window goes on from the user's window before, so
    does the network's state.
    """

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
    return Sequences(clicks.item_index[order], clicks.event_type[order], gap_s, order.astype(np.int64), user_starts)


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
    n_used = np.add.reduceat(sequences.age_rank < before_rank, first_row) if len(first_row) else first_row
    n_windows = np.maximum(-(-(n_used - 1) // (max_clicks - 1)), 0)  # ceiling
    place_in_user = flat_ranges(np.zeros_like(n_windows), n_windows)
    first = np.repeat(first_row, n_windows) + place_in_user * (max_clicks - 1)
    end = np.minimum(first + max_clicks, np.repeat(first_row + n_used, n_windows))
    oldest_first = np.argsort(sequences.age_rank[end - 1], kind="stable")
    return Windows(first[oldest_first], end[oldest_first])


def flat_ranges(first: Ints, length: Ints) -> Ints:
    """Write ranges out one after another: first (5, 0) and length (2, 3) give 5 6 0 1 2."""
    before = np.cumsum(length) - length
    rows: Ints = np.arange(length.sum(), dtype=np.int64) + np.repeat(first - before, length)
    return rows


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
