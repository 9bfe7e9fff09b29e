"""A shop's rules in an evaluation: what is left out of a list, and what stands first in it, as a worker has it.

What a rule leaves out is no candidate, so a click on it is a miss. Categories need what a shop says of its items, and
exploration the lists that were shown before: neither is there, and lists are without.
"""

from typing import NamedTuple, Self

import numpy as np

from nextclick.network_config import SESSION_GAP_S
from nextclick.rules import PURCHASE, Exclude, rules_in_words, rules_of
from nextclick.settings import Settings
from training.evaluation.offline_data import OfflineData
from training.evaluation.recommender import Floats
from training.learning.sequences import Ints, Sequences

_FIRST = np.float32(1e30)  # above every score: of the first pinned item; others follow
_STEP = np.float32(1e24)
_NOT_FOLLOWED = ("max_per_category", "explore")


class OfflineRules(NamedTuple):
    """What lists must be like.

    Attributes:
        exclude: which items are left out.
        recent_clicks: how many clicks of a user are remembered.
        pinned: int64 (n,), items that stand first, in this order; of those that the training part knows.
    """

    exclude: Exclude
    recent_clicks: int
    pinned: Ints

    @classmethod
    def of(cls, settings: Settings, data: OfflineData) -> Self:
        """Give the rules that the settings say, for these items."""
        rules, index = rules_of(settings), {item_id: number for number, item_id in enumerate(data.item_ids)}
        pinned = [index[item_id] for item_id in rules.pinned if item_id in index]
        return cls(rules.exclude, settings.recent_clicks, np.array(pinned, np.int64))

    def apply(self, scores: Floats, clicks: Sequences, rows: Ints) -> Floats:
        """Give scores under the rules: minus infinity for what is left out.

        Args:
            scores: float32 (n, n_items); may be overwritten.
            clicks: the users' clicks.
            rows: int64 (n,), the clicks that are predicted, each from those before it.
        """
        if self.exclude == "none" and not len(self.pinned):
            return scores
        scores = np.require(scores, requirements=["W"])
        for place, item in enumerate(self.pinned):
            scores[:, item] = np.where(np.isneginf(scores[:, item]), scores[:, item], _FIRST - place * _STEP)
        predictions, items = self.excluded(clicks, rows)
        scores[predictions, items] = -np.inf
        return scores

    def excluded(self, clicks: Sequences, rows: Ints) -> tuple[Ints, Ints]:
        """Give which items are left out where: numbers of predictions, and an item for each; as `nextclick.rules`."""
        if self.exclude == "none":
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        first = clicks.first_row_of_user()[rows]
        predictions, items = [], []
        is_looked_at = np.ones(len(rows), dtype=bool)
        for age in range(1, (1 if self.exclude == "last" else self.recent_clicks) + 1):
            before = rows - age
            is_looked_at &= before >= first
            chosen = np.flatnonzero(is_looked_at)
            if not len(chosen):
                break
            before = before[chosen]
            is_left_out = clicks.item_index[before] >= 0
            if self.exclude == "purchased":
                is_left_out &= clicks.event_type[before] == PURCHASE
            predictions.append(chosen[is_left_out])
            items.append(clicks.item_index[before[is_left_out]])
            if self.exclude == "session":
                is_looked_at[chosen] = clicks.gap_s[before] <= SESSION_GAP_S
        return np.concatenate(predictions), np.concatenate(items)


def rules_followed(settings: Settings) -> dict[str, str]:
    """Give the rules that an evaluation counts under, as settings say them; none without any."""
    said = rules_in_words(rules_of(settings))
    return {name: value for name, value in said.items() if name not in _NOT_FOLLOWED}


def left_aside(settings: Settings) -> list[str]:
    """Name the rules that are set and that an evaluation cannot follow."""
    return [name for name in rules_in_words(rules_of(settings)) if name in _NOT_FOLLOWED]
