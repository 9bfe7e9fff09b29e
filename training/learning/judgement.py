"""What the newest clicks say of a new network, beside the champion and popularity. Plain figures: no torch, no numpy.

The process of a round makes a judgement (`training.learning.judging`), the trainer decides by it
(`training.service.publication`), and the bundle's manifest keeps it, under the names of docs/operating.md.
"""

from typing import NamedTuple

from nextclick.ranking_metrics import Quality
from training.learning.lead import Leads


class Difference(NamedTuple):
    """A mean over predictions, less that of another model on the same ones, and its 95% interval."""

    mean: float
    low: float
    high: float


class Comparison(NamedTuple):
    """A network and another one on the same predictions, paired, by a bootstrap over users."""

    recall: Difference
    mrr: Difference


class Lists(NamedTuple):
    """The lists that serving makes of a sample of the predictions, the 20 best items each.

    Attributes:
        n_lists: how many.
        n_items: different items in them.
        n_known: items of the bundle.
        popular_share: of their places, those that hold one of the 20 most popular items.
        expected_hits: the sum of the scores on them, of predictions of a known item.
        hits: how many of these held the item that was clicked.
        step_ms: CPU time of a step, a click of a user to the list.
    """

    n_lists: int
    n_items: int
    n_known: int
    popular_share: float
    expected_hits: float
    hits: int
    step_ms: float

    def metrics(self) -> dict[str, float]:
        """Give the figures for the bundle's manifest."""
        return {
            "lists": self.n_lists,
            "coverage": self.n_items / self.n_known,
            "popular_share": self.popular_share,
            "expected_hits": self.expected_hits,
            "hits": self.hits,
            "step_ms": self.step_ms,
        }


class Judgement(NamedTuple):
    """How a new network did.

    Attributes:
        new: quality of the new network.
        champion: quality of the champion on the same predictions; None when there is no champion.
        popularity: quality of the most popular items on the same predictions.
        counts: quality of the new network's counts alone (`training.learning.yardstick`); None where it has none.
        over_champion: the new network compared with the champion.
        lists: of the new network as it is served; None if it cannot be, because a weight is not finite.
        champion_lists: of the champion.
        leads: over counts.
    """

    new: Quality
    champion: Quality | None
    popularity: Quality
    counts: Quality | None = None
    over_champion: Comparison | None = None
    lists: Lists | None = None
    champion_lists: Lists | None = None
    leads: Leads | None = None

    def metrics(self) -> dict[str, float]:
        """Give the figures for the bundle's manifest."""
        figures: dict[str, float] = {"predictions": self.new.n_predictions}
        qualities = {"": self.new, "current_": self.champion, "popularity_": self.popularity, "counts_": self.counts}
        for prefix, quality in qualities.items():
            if quality is not None:
                figures[f"{prefix}recall@20"] = quality.recall
                figures[f"{prefix}mrr@20"] = quality.mrr
                figures[f"{prefix}ndcg@20"] = quality.ndcg
        if self.over_champion is not None:
            for name, difference in {"recall@20": self.over_champion.recall, "mrr@20": self.over_champion.mrr}.items():
                figures[f"{name}_over_current"] = difference.mean
                figures[f"{name}_over_current_low"] = difference.low
                figures[f"{name}_over_current_high"] = difference.high
        for prefix, lists in {"": self.lists, "current_": self.champion_lists}.items():
            if lists is not None:
                figures |= {f"{prefix}{name}": value for name, value in lists.metrics().items()}
        return figures | (self.leads.metrics() if self.leads is not None else {})
