"""A bundle's lead over neighbour counts, and whether bundles decline: each a little, and none by more than chance.

A new bundle is compared with the champion only, and may be a little worse than it by chance. A hundred bundles, each a
little worse, would be a bad one, and the champion, which grows old, is no fixed mark either. Neighbour counts are
(`training.learning.yardstick`): nothing is learnt in them, so they cannot decline, and the same clicks that judge a
bundle judge them. So each bundle carries by how much it is ahead of them, and passes on what the bundles before it
measured, up to the one that was trained from nothing. From round to round this adds up, as in Page's test: Page 1954,
"Continuous inspection schemes", doi:10.1093/biomet/41.1-2.100. docs/decisions/0036 has the error rates.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

_MEMORY = 0.9  # what a measurement weighs after one more round, with whose it is averaged
_SURE = 2.0  # standard deviations of chance, of what is averaged over rounds
_SURE_AT_ONCE = 3.0  # of what is measured once
_TOLERANCE = 0.015  # a lead moves with the traffic: standard deviation .006 to .017 over 8 rounds of recorded clicks
_MOST = 1e4  # of a lead or an error, or 1 / error: nothing that is measured comes near it
_SURER = 1.3  # a mark that was measured so much less exactly than what is known now is replaced by that


class Lead(NamedTuple):
    """How far a bundle is ahead of counts: the logarithm of the ratio of their Recall@20 + MRR@20.

    Attributes:
        value: 0.1 says 10% more.
        error: its standard deviation.
    """

    value: float
    error: float

    def is_below(self, other: "Lead", sure: float = _SURE) -> bool:
        """Whether it is behind another by more than chance and the traffic make."""
        return other.value - self.value > _TOLERANCE + sure * math.hypot(self.error, other.error)

    def averaged_with(self, older: "Lead") -> "Lead":
        """Average with what was measured in the rounds before, by how exact each is."""
        weight, weight_of_older = self.error**-2, _MEMORY * older.error**-2
        value = (weight * self.value + weight_of_older * older.value) / (weight + weight_of_older)
        return Lead(value, (weight + weight_of_older) ** -0.5)


class Leads(NamedTuple):
    """The leads that a bundle carries.

    Attributes:
        own: of the bundle.
        recent: averaged over it and the bundles that it goes back to, the latest of them counting most.
        best: the highest that this average has been, beyond chance.
    """

    own: Lead
    recent: Lead
    best: Lead

    @property
    def decline(self) -> bool:
        """Whether the bundles that lead to this one have declined: then the next training begins from nothing."""
        return self.recent.is_below(self.best) or self.own.is_below(self.best, _SURE_AT_ONCE)

    def metrics(self) -> dict[str, float]:
        """Give the figures for the bundle's manifest."""
        figures: dict[str, float] = {}
        for prefix, lead in zip(_PREFIXES, self, strict=True):
            figures |= {f"{prefix}lead": lead.value, f"{prefix}lead_error": lead.error}
        return figures


_PREFIXES = ("", "recent_", "best_")


def leads_after(own: Lead, before: Leads | None) -> Leads:
    """Give the leads of a bundle.

    Args:
        own: of the bundle.
        before: of its parent; None if it was trained from nothing, or its parent does not say.
    """
    if before is None:
        return Leads(own, own, own)
    recent, best = own.averaged_with(before.recent), before.best
    # One that is better by chance is not the best: of many bundles, that would be what no bundle can reach.
    is_best = best.is_below(recent) or (best.error > _SURER * recent.error and not recent.is_below(best))
    return Leads(own, recent, recent if is_best else best)


def leads_of(metrics: Mapping[str, float]) -> Leads | None:
    """Read the leads of a bundle's manifest; None if it does not say them, or what cannot be."""
    try:
        leads = Leads(*(Lead(metrics[f"{prefix}lead"], metrics[f"{prefix}lead_error"]) for prefix in _PREFIXES))
    except KeyError:
        return None
    return leads if all(abs(lead.value) < _MOST and 1 / _MOST < lead.error < _MOST for lead in leads) else None
