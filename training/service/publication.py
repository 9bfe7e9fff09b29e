"""Whether a new bundle is published: pure, from the figures of its judgement, with a line that a person understands.

What has learnt newer clicks and is as good as the champion is published: the champion only grows older. So a new bundle
is refused when it is *significantly* worse than the champion, when it is no better than popularity, or when a guard
finds something that these two do not see. Every refusal is named, and docs/operating.md says what to do about each.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

from training.learning.judgement import Comparison, Judgement, Lists

_COUNTS_SHARE = 0.05  # of a few thousand clicks a network may know a little less than counts do
_SURE = 2.0  # standard deviations
_HITS_RATIO = 2.0  # of hits and what the scores say of them, beside the champion's
_FIRST_HITS_RATIO = 5.0  # at most; on recorded clicks hits are .9 to 2.5 times what scores say
_LEAST_HITS = 1e-3
_HITS_SURE = 3.0  # standard deviations of the hits
_COVERAGE_RATIO = 0.5  # different items in the lists, new to champion
_POPULAR_RISE = 0.25  # of the lists' places
_STEP_RATIO = 2.0  # of a step's time, new to champion, beyond what more items cost
_LEAST_STEP_MS = 0.02  # what is quicker is not worth a comparison


class Decision(NamedTuple):
    """Whether to publish, and why.

    Attributes:
        publish: whether to.
        reason: in one line, for log and manifest.
        refusals: names of what it is refused for, of `training.service.metrics.REFUSALS`.
    """

    publish: bool
    reason: str
    refusals: tuple[str, ...] = ()


def judge(judgement: Judgement) -> Decision:
    """Publish what is better than popularity, not significantly worse than the champion, and passes the guards."""
    if judgement.new.n_predictions == 0:
        return Decision(False, "nothing to judge it by: no user clicked twice", ("nothing_to_judge",))
    refusals = {name: refusal for name, check in _CHECKS.items() if (refusal := check(judgement))}
    if refusals:
        return Decision(False, f"{'; '.join(refusals.values())}; {_figures(judgement)}", tuple(refusals))
    champion = ", not worse than the champion" if judgement.champion else ""
    decline = f"; {_DECLINE}" if judgement.leads is not None and judgement.leads.decline else ""
    return Decision(True, f"better than popularity{champion}{decline}; {_figures(judgement)}")


_DECLINE = "its lead over neighbour counts has shrunk from bundle to bundle, so the next training begins from nothing"


def _not_finite(judgement: Judgement) -> str:
    return "" if judgement.lists is not None else "a weight is not a finite number, or is far too large"


def _no_better_than_popularity(judgement: Judgement) -> str:
    is_better = judgement.new.recall > judgement.popularity.recall  # nor is what is not a number
    return "" if is_better else "not better than popularity"


def _worse_than_champion(judgement: Judgement) -> str:
    compared = judgement.over_champion
    return "worse than the champion" if compared is not None and _is_worse(compared) else ""


def _is_worse(compared: Comparison) -> bool:
    return compared.recall.high < 0.0 or compared.mrr.high < 0.0


def _worse_than_counts(judgement: Judgement) -> str:
    """Look at the first bundle: without a champion beside it, what is mixed in must not be better than the mixture."""
    if judgement.champion is not None or judgement.leads is None:
        return ""
    lead = judgement.leads.own
    if lead.value + _SURE * lead.error >= -_COUNTS_SHARE:
        return ""
    return f"worse than its neighbour counts alone, by {1.0 - math.exp(lead.value):.0%} of recall@20 + mrr@20"


def _badly_calibrated(judgement: Judgement) -> str:
    """Compare hits with what the scores say of them, and how far both are apart with how far the champion's are."""
    new, champion = judgement.lists, judgement.champion_lists
    if new is None:
        return ""
    off = _off_by(new)
    at_least = max(_HITS_RATIO, _HITS_RATIO * _off_by(champion)) if champion is not None else _FIRST_HITS_RATIO
    if off <= min(at_least, _FIRST_HITS_RATIO):
        return ""
    return f"its scores promise {new.expected_hits:.0f} hits where there were {new.hits}"


def _off_by(lists: Lists) -> float:
    """Give the ratio, beyond what may be chance, by which hits and what the scores say of them are apart: 1 or more."""
    chance = _HITS_SURE * math.sqrt(max(lists.hits, 1))
    most, least = lists.hits + chance, max(lists.hits - chance, 0.0)
    expected = max(lists.expected_hits, _LEAST_HITS)
    return max(expected / most, least / expected, 1.0)


def _covers_little(judgement: Judgement) -> str:
    def check(new: Lists, champion: Lists) -> str:
        if new.n_items >= _COVERAGE_RATIO * min(champion.n_items, new.n_known):
            return ""
        return f"its lists hold {new.n_items} different items, the champion's {champion.n_items}"

    return _beside_champion(judgement, check)


def _mostly_popular(judgement: Judgement) -> str:
    of_clicks = judgement.popularity.recall  # what share of the clicks is on these items: of 60 items, a third

    def check(new: Lists, champion: Lists) -> str:
        if new.popular_share <= max(champion.popular_share, of_clicks) + _POPULAR_RISE:
            return ""
        return (
            f"the 20 most popular items take {new.popular_share:.0%} of its lists, {champion.popular_share:.0%} of the "
            f"champion's, and {of_clicks:.0%} of the clicks"
        )

    return _beside_champion(judgement, check)


def _slow(judgement: Judgement) -> str:
    def check(new: Lists, champion: Lists) -> str:
        growth = max(new.n_known / max(champion.n_known, 1), 1.0)
        if new.step_ms <= _STEP_RATIO * growth * max(champion.step_ms, _LEAST_STEP_MS):
            return ""
        return f"a step takes {new.step_ms:.2f} ms, the champion's {champion.step_ms:.2f} ms"

    return _beside_champion(judgement, check)


def _beside_champion(judgement: Judgement, check: Callable[[Lists, Lists], str]) -> str:
    """Compare lists, where both made some."""
    new, champion = judgement.lists, judgement.champion_lists
    return check(new, champion) if new and champion and new.n_lists and champion.n_lists else ""


_CHECKS: dict[str, Callable[[Judgement], str]] = {
    "not_finite": _not_finite,
    "not_better_than_popularity": _no_better_than_popularity,
    "worse_than_champion": _worse_than_champion,
    "worse_than_counts": _worse_than_counts,
    "badly_calibrated": _badly_calibrated,
    "covers_little": _covers_little,
    "mostly_popular": _mostly_popular,
    "slow": _slow,
}


def _figures(judgement: Judgement) -> str:
    new, champion, popularity, compared = (
        judgement.new,
        judgement.champion,
        judgement.popularity,
        judgement.over_champion,
    )
    between = [""] * 2
    if compared is not None:
        between = [f" (difference {each.low:+.4f} to {each.high:+.4f})" for each in compared]
    return (
        f"recall@20 new {new.recall:.4f}, champion {f'{champion.recall:.4f}' if champion else 'none'}{between[0]}, "
        f"popularity {popularity.recall:.4f}; mrr@20 new {new.mrr:.4f}, "
        f"champion {f'{champion.mrr:.4f}' if champion else 'none'}{between[1]}"
    )
