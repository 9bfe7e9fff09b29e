"""Which items the next network knows: items that nobody clicks any more leave, and new ones come."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.vocabulary import Vocabulary
from training.learning.item_statistics import ItemStatistics
from training.learning.round_clicks import RoundClicks
from training.learning.sequences import ClickColumns, Ints


class NextItems(NamedTuple):
    """The items of the next network: those that stay, in their order, and then the new ones.

    Attributes:
        item_ids: of every row.
        kept: int64 (n_kept,), the rows before of the items that stay.
        new_row: int64 (n_items_before,), of each item before, or -1.
        row: int64 (len(clicks.item_ids),), of each item of the clicks, or -1.
    """

    item_ids: list[str]
    kept: Ints
    new_row: Ints
    row: Ints

    @property
    def n_kept(self) -> int:
        """How many items stay."""
        return len(self.kept)


_NOTHING: Ints = np.zeros(0, dtype=np.int64)


def known_items(clicks: ClickColumns, max_items: int) -> NextItems:
    """Give the items of a network that learns these clicks from nothing.

    Args:
        clicks: oldest first.
        max_items: of more items, those with the fewest clicks leave, of equal ones those that were clicked longer ago;
            0: no bound.
    """
    n_clicks = np.bincount(clicks.item_index, minlength=len(clicks.item_ids))
    last_click = np.zeros(len(clicks.item_ids), dtype=np.int64)
    last_click[clicks.item_index] = np.arange(len(clicks.item_index))
    chosen = _bounded(np.flatnonzero(n_clicks), n_clicks, last_click, max_items)
    return _next_items([], _NOTHING, _NOTHING, [clicks.item_ids[item] for item in chosen.tolist()], clicks)


def next_items(
    vocabulary: Vocabulary, statistics: ItemStatistics, data: RoundClicks, window: int, max_items: int
) -> NextItems:
    """Give the items of a network that goes on.

    Args:
        vocabulary: of its parent.
        statistics: of the parent's items.
        data: the clicks of the round; a new item comes with its first click.
        window: an item leaves that was not clicked among so many newest clicks of the log.
        max_items: as for `known_items`; clicks fade with their age here.
    """
    clicks, row_of = data.clicks, vocabulary.index_of
    item, of_click, n_times = np.unique(clicks.item_index[data.n_old :], return_inverse=True, return_counts=True)
    ids = [clicks.item_ids[number] for number in item.tolist()]
    before = np.array([row_of.get(item_id, -1) for item_id in ids], dtype=np.int64)
    is_known = before >= 0
    n_known, n_all = len(vocabulary), len(vocabulary) + int((~is_known).sum())
    place = before.copy()
    place[~is_known] = np.arange(n_known, n_all)
    last_click, n_clicks = np.empty(n_all, dtype=np.int64), np.zeros(n_all)
    last_click[:n_known], n_clicks[:n_known] = statistics.last_click, statistics.n_clicks
    n_clicks[place] += n_times
    last_click[place[of_click]] = statistics.n_log_clicks + np.arange(data.n_new)
    oldest = statistics.n_log_clicks + data.n_new - window
    chosen = _bounded(np.flatnonzero(last_click >= oldest), n_clicks, last_click, max_items)
    kept = chosen[chosen < n_known]
    new_row = np.full(n_known, -1, dtype=np.int64)
    new_row[kept] = np.arange(len(kept))
    new_ids = [item_id for item_id, known in zip(ids, is_known.tolist(), strict=True) if not known]
    new_ids = [new_ids[number] for number in (chosen[chosen >= n_known] - n_known).tolist()]
    return _next_items([vocabulary.item_ids[row] for row in kept.tolist()], kept, new_row, new_ids, clicks)


def _bounded(items: Ints, n_clicks: npt.NDArray[np.float64] | Ints, last_click: Ints, max_items: int) -> Ints:
    """Give the items that are clicked most, rising."""
    if not max_items or len(items) <= max_items:
        return items
    return np.sort(items[np.lexsort((last_click[items], n_clicks[items]))[-max_items:]])


def _next_items(kept_ids: list[str], kept: Ints, new_row: Ints, new_ids: list[str], clicks: ClickColumns) -> NextItems:
    item_ids = [*kept_ids, *sorted(new_ids)]
    row_of = {item_id: row for row, item_id in enumerate(item_ids)}
    row = np.array([row_of.get(item_id, -1) for item_id in clicks.item_ids], dtype=np.int64)
    return NextItems(item_ids, kept, new_row, row)
