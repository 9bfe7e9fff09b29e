"""Is the bundle on trial worse than the champion, better, or does nobody know yet? Pure, and safe to ask at any time.

Compared are the hit rate, and the mean reciprocal rank in the list that the user had seen (MRR). Clicks of one user are
alike, so the variance is that between groups of users: the delta method for the ratio of two sums, over the buckets of
`nextclick.experiment`; it is never taken to be less than that of independent clicks. Who looks again and again would
sooner or later see a difference by chance; so the bounds are those of a confidence sequence, which holds at all looks
together (the normal mixture of Robbins 1970, as in Johari et al. 2022, "Always valid inference", arXiv:1512.04922).

A canary is compared twice: its users with the champion's users; and its lists with those that the champion would have
made for the same users, on the same clicks. Where most hits are both's, the second sees a difference after far fewer
clicks. But users click what they are shown: it favours the canary. So it can only say "worse".

With `ALPHA` = 2.5% for each figure of each comparison, a bundle that is as good as the champion is called worse, by any
of the four, in fewer than 5% of experiments over all looks: half of what each allows lies on either side.
"""

import math
from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.experiment import N_BUCKETS, Counts, Experiment, Tally

ALPHA = 0.025  # for each figure of each comparison, on both sides, over all looks
# A worker says every 10 s that it cannot load the bundle on trial; one that has not said so for this long is gone.
NOT_SERVING_MS = 60_000
MIN_JUDGED = 50  # clicks of each variant before anything is said: sums of fewer are far from normal
# The differences that the bounds are tightest for, in units of either figure; a tenth is what a broken bundle loses.
_EXPECTED = 0.1
_JUDGED, _HITS, _RECIPROCAL, _SQUARES = range(4)

Floats = npt.NDArray[np.float64]


class Difference(NamedTuple):
    """Of the bundle on trial and the champion, in one figure.

    Attributes:
        champion: the champion's figure.
        challenger: that of the bundle on trial.
        low, high: between these the true difference lies, with 97.5% confidence over all looks.
    """

    champion: float
    challenger: float
    low: float
    high: float


class Comparison(NamedTuple):
    """Of the two, in both figures.

    Attributes:
        judged: clicks of the champion, and of the bundle on trial.
        hits, mrr: the two figures.
    """

    judged: tuple[int, int]
    hits: Difference
    mrr: Difference

    @property
    def says_worse(self) -> bool:
        """Whether the bundle on trial is certainly worse, in either figure."""
        return min(self.judged) >= MIN_JUDGED and (self.hits.high < 0 or self.mrr.high < 0)


class Verdict(Enum):
    """What the counts say of the bundle on trial."""

    TOO_FEW = "too few clicks to say anything"
    UNDECIDED = "no difference is certain"
    WORSE = "worse"
    BETTER = "better"


class Standing(NamedTuple):
    """How an experiment stands.

    Attributes:
        judged: clicks on lists of the champion, and of the bundle on trial.
        hits, mrr: the two figures.
        beside: a canary's lists, and those that the champion would have made for the same users.
        verdict: what all of them say.
        workers: that have counted.
        not_serving: of these, that cannot load the bundle on trial now.
    """

    judged: tuple[int, int]
    hits: Difference
    mrr: Difference
    beside: Comparison
    verdict: Verdict
    workers: int
    not_serving: int


class Decision(Enum):
    """What is to become of an experiment."""

    GO_ON = "go on"
    WAIT = "wait"  # it would be promoted, and there are workers that cannot load it
    ROLL_BACK = "roll back"
    PROMOTE = "promote"
    END = "end"

    @property
    def ends(self) -> bool:
        """Whether the experiment is over with it."""
        return self not in (Decision.GO_ON, Decision.WAIT)


def standing(experiment: Experiment, tallies: Iterable[Tally], now_ms: int) -> Standing:
    """Give how an experiment stands.

    Args:
        experiment: that runs.
        tallies: the newest of each worker; those of other experiments are passed over.
        now_ms: ms since 1970, by a clock that goes as the workers' do, give or take some seconds.
    """
    own = [tally for tally in tallies if tally.experiment_id == experiment.experiment_id]
    champion, challenger = _sum([each.champion for each in own]), _sum([each.challenger for each in own])
    users = _compare(champion, challenger, is_paired=experiment.kind == "shadow")
    lists = [_sum(each) for each in ([t.beside_champion for t in own], [t.beside_challenger for t in own])]
    beside = _compare(lists[0], lists[1], is_paired=True)
    not_serving = sum(not tally.serves and tally.at_ms > now_ms - NOT_SERVING_MS for tally in own)
    return Standing(*users, beside, _verdict(users, beside), len(own), not_serving)


def decide(experiment: Experiment, now: Standing) -> Decision:
    """Say what is to become of a canary. A shadow harms nobody: a person ends it."""
    decision = _decision(experiment, now)
    return Decision.WAIT if decision is Decision.PROMOTE and now.not_serving else decision


def _decision(experiment: Experiment, now: Standing) -> Decision:
    if experiment.kind != "canary":
        return Decision.GO_ON
    if now.verdict is Verdict.WORSE:
        return Decision.ROLL_BACK
    if experiment.promote == "never":
        return Decision.GO_ON
    if now.verdict is Verdict.BETTER:
        return Decision.PROMOTE
    if now.judged[1] < experiment.max_judged:
        return Decision.GO_ON
    return Decision.PROMOTE if experiment.promote == "not_worse" else Decision.END


def in_words(now: Standing) -> str:
    """Say how an experiment stands, in one line."""
    if now.verdict is Verdict.TOO_FEW:
        return f"{now.verdict.value} ({now.judged[1]} judged of the bundle on trial, {now.judged[0]} of the champion)"
    return (
        f"{now.verdict.value} after {now.judged[1]} judged clicks: {_compared('hit rate', now.hits)}; "
        f"{_compared('MRR', now.mrr)}"
    ) + (f"; beside the champion's lists for the same users: {_both(now.beside)}" if now.beside.judged[1] else "")


def _both(comparison: Comparison) -> str:
    return f"{_compared('hit rate', comparison.hits)}; {_compared('MRR', comparison.mrr)}"


def _compared(name: str, found: Difference) -> str:
    figures = f"{name} {found.challenger:.3f} against {found.champion:.3f}"
    return f"{figures} ({found.low:+.3f} to {found.high:+.3f} at any look)"


def _compare(champion: Floats, challenger: Floats, *, is_paired: bool) -> Comparison:
    judged = int(champion[:, _JUDGED].sum()), int(challenger[:, _JUDGED].sum())
    hits = _difference(champion, challenger, _HITS, _HITS, is_paired=is_paired)
    return Comparison(judged, hits, _difference(champion, challenger, _RECIPROCAL, _SQUARES, is_paired=is_paired))


def _verdict(users: Comparison, beside: Comparison) -> Verdict:
    judged, hits, mrr = users
    if users.says_worse or beside.says_worse:
        return Verdict.WORSE
    if min(judged) < MIN_JUDGED:
        return Verdict.TOO_FEW
    falls = min(hits.challenger - hits.champion, mrr.challenger - mrr.champion) < 0
    return Verdict.BETTER if (hits.low > 0 or mrr.low > 0) and not falls else Verdict.UNDECIDED


def _sum(counts: list[Counts]) -> Floats:
    """Add up the counts of workers: (N_BUCKETS, N_COUNTS)."""
    return np.array(counts, np.float64).sum(axis=0) if counts else np.zeros((N_BUCKETS, 4))


def _difference(champion: Floats, challenger: Floats, gains: int, squares: int, *, is_paired: bool) -> Difference:
    """Compare two variants.

    Args:
        champion, challenger: counts, (N_BUCKETS, N_COUNTS).
        gains: the column with the sum of what each click gains.
        squares: the column with the sum of its squares.
        is_paired: the two are of the same clicks.
    """
    n0, n1 = champion[:, _JUDGED].sum(), challenger[:, _JUDGED].sum()
    if not n0 or not n1:
        return Difference(0.0, 0.0, -1.0, 1.0)
    mean0, mean1 = champion[:, gains].sum() / n0, challenger[:, gains].sum() / n1
    if is_paired:
        variance = _between_buckets(challenger[:, gains] - champion[:, gains], challenger[:, _JUDGED], mean1 - mean0)
        variance = max(variance, 1.0 / n1**2)  # of lists that are the same nobody is sure after a few clicks
    else:
        # As if both were equally good, which is what must not be refuted by chance: also where one has no hit at all.
        mean = (champion[:, gains].sum() + challenger[:, gains].sum()) / (n0 + n1)
        of_click = (champion[:, squares].sum() + challenger[:, squares].sum()) / (n0 + n1) - mean**2
        variance = sum(
            max(_between_buckets(counts[:, gains], counts[:, _JUDGED], mean), of_click / counts[:, _JUDGED].sum())
            for counts in (champion, challenger)
        )
    bound = _bound(max(float(variance), 1e-12))
    return Difference(float(mean0), float(mean1), float(mean1 - mean0 - bound), float(mean1 - mean0 + bound))


def _between_buckets(gains: Floats, judged: Floats, mean: float) -> float:
    """Give the variance of a ratio of sums, by the delta method over the buckets that have any."""
    n_buckets = max(2, int((judged > 0).sum()))
    residuals = gains - mean * judged
    return float((residuals**2).sum() * n_buckets / (n_buckets - 1) / judged.sum() ** 2)


def _bound(variance: float) -> float:
    """Give how far the estimate of a difference may be from the truth at any look, where it has this variance now.

    The estimate times its information, 1/variance, is a Brownian motion whose drift is the difference. Against a normal
    mixture of drifts with the standard deviation `_EXPECTED` it crosses this bound with probability `ALPHA` at most.
    """
    information = 1.0 / variance
    scaled = _EXPECTED**2 * information
    return math.sqrt(2 * (1 + scaled) / scaled / information * math.log(math.sqrt(1 + scaled) / ALPHA))
