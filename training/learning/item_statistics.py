"""What is known of items beside their vectors: how often, how lately and by how many they are clicked.

Like the association counts, it is brought up to date by adding: what was known fades, what is new is added.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from training.learning.sequences import ClickColumns, Ints, now_of
from training.learning.validation import popularity_clicks, popularity_shares

Doubles = npt.NDArray[np.float64]


class ItemStatistics(NamedTuple):
    """By item.

    Attributes:
        n_clicks: float64 (n_items,), clicks of each, faded by their age in clicks of the log.
        last_click: int64 (n_items,), which click of the log was the last of each: the first of all is 0.
        popularity: float64 (n_items,), as in `nextclick.popularity`, faded by their age in time.
        n_log_clicks: of the log until now.
        now_ms: until which the popularities are faded.
    """

    n_clicks: Doubles
    last_click: Ints
    popularity: Doubles
    n_log_clicks: int
    now_ms: int

    def renumbered(self, new_row: Ints, n_items: int) -> "ItemStatistics":
        """Let items leave, and give the others new rows.

        Args:
            new_row: int64 (n_items,), for each present row the new one, or -1.
            n_items: of the new vocabulary; of new items nothing is known.
        """
        stays = new_row >= 0

        n_clicks, last_click, popularity = np.zeros(n_items), np.zeros(n_items, dtype=np.int64), np.zeros(n_items)
        for rows, before in ((n_clicks, self.n_clicks), (last_click, self.last_click), (popularity, self.popularity)):
            rows[new_row[stays]] = before[stays]
        return self._replace(n_clicks=n_clicks, last_click=last_click, popularity=popularity)

    def later(
        self, clicks: ClickColumns, n_old: int, row: Ints, half_life: float, popularity_half_life_s: float
    ) -> "ItemStatistics":
        """Give what is known after more clicks.

        Args:
            clicks: older ones, by which a user's repeated clicks are told, and then new ones.
            n_old: the first so many are counted already.
            row: int64 (len(clicks.item_ids),), of each item of the clicks; -1 where it is not counted.
            half_life: clicks of the log after which a click counts half.
            popularity_half_life_s: time after which it does for the popularity.
        """
        n_items, n_new = len(self.n_clicks), len(clicks.item_index) - n_old
        item = row[clicks.item_index]
        new = np.flatnonzero(item[n_old:] >= 0)
        fading = np.exp2((new - n_new) / half_life)
        last_click = self.last_click.copy()
        last_click[item[n_old + new]] = self.n_log_clicks + new
        now_ms = max(self.now_ms, now_of(clicks.timestamp_ms[n_old:]))
        counted = popularity_clicks(clicks, len(item))
        counted = counted[(counted >= n_old) & (item[counted] >= 0)]
        shares = popularity_shares(clicks.timestamp_ms[counted], now_ms, popularity_half_life_s)
        kept = np.exp2((self.now_ms - now_ms) / (1000.0 * popularity_half_life_s))
        return ItemStatistics(
            self.n_clicks * np.exp2(-n_new / half_life) + np.bincount(item[n_old + new], fading, n_items),
            last_click,
            self.popularity * kept + np.bincount(item[counted], shares, n_items),
            self.n_log_clicks + n_new,
            now_ms,
        )


def no_statistics(n_items: int) -> ItemStatistics:
    """Give what is known before the first click."""
    return ItemStatistics(np.zeros(n_items), np.zeros(n_items, dtype=np.int64), np.zeros(n_items), 0, 0)
