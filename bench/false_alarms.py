"""How often a canary is called worse or better, over all looks. Simulated: no broker, no model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nextclick.experiment import N_BUCKETS, N_COUNTS, Experiment, Tally
from nextclick.experiment_judgement import Verdict, standing
from nextclick.manifest import BundleFile, Manifest, bundle_id_of

Floats = np.ndarray[Any, np.dtype[np.float64]]

N_USERS = 3_000
_TASTES = 8.0  # how alike users are: the sum of the two parameters of a beta distribution
_SHARED = 0.8  # of the hits, which lists of both bundles have
LOOKS, CLICKS_A_LOOK = 150, 40
_FILES = (BundleFile("model.safetensors", "", 1),)
_MANIFEST = Manifest(bundle_id=bundle_id_of(_FILES, {}, 1), created_ms=1, network={}, files=_FILES, metrics={})
CANARY = Experiment(
    experiment_id="e", kind="canary", manifest=_MANIFEST, champion="0" * 16, share=0.1, started_ms=0
)  # the share is that of `Users`


class Users:
    """Users of two variants who click again and again, each with a taste of their own for what is listed.

    Attributes:
        counts: float64 (4, N_BUCKETS, N_COUNTS), as a worker counts: of the champion and of the canary; of the canary's
            users by the champion's lists, and by the canary's.
    """

    def __init__(self, seed: int, share: float, hit_rate: float, lost: float) -> None:
        """Split them.

        Args:
            seed: of users and clicks.
            share: who get the canary.
            hit_rate: of the champion.
            lost: share of these hits that the canary has not.
        """
        self._rng = np.random.default_rng(seed)
        self._likes = self._rng.beta(_TASTES * hit_rate, _TASTES * (1 - hit_rate), N_USERS)
        self._weights = self._rng.pareto(2.0, N_USERS) + 1  # a few click a great deal
        self._weights /= self._weights.sum()
        self._bucket = self._rng.integers(N_BUCKETS, size=N_USERS)
        self._chosen = self._rng.random(N_USERS) < share
        self._likes[self._chosen] *= 1 - lost
        self._lost = lost
        self.counts = np.zeros((4, N_BUCKETS, N_COUNTS))

    def click(self, n_clicks: int) -> None:
        """Let users click, and count."""
        rng = self._rng
        users = rng.choice(len(self._likes), n_clicks, p=self._weights)
        hits = rng.random(n_clicks) < self._likes[users]
        reciprocal = hits / rng.integers(1, 21, n_clicks)
        gains = np.column_stack([np.ones(n_clicks), hits, reciprocal, reciprocal**2])
        np.add.at(self.counts, (self._chosen[users].astype(int), self._bucket[users]), gains)
        # What the champion would have listed for the canary's users: mostly the same, and where not, as good.
        likes = self._likes[users] / (1 - self._lost)
        other = np.where(rng.random(n_clicks) < _SHARED, hits, rng.random(n_clicks) < likes)
        other |= rng.random(n_clicks) < likes * self._lost
        beside = np.column_stack([np.ones(n_clicks), other, reciprocal * other, reciprocal**2 * other])
        for number, both in ((2, beside), (3, gains)):
            chosen = self._chosen[users]
            np.add.at(self.counts[number], self._bucket[users][chosen], both[chosen])


class Said(NamedTuple):
    """What was said of a canary.

    Attributes:
        verdict: `WORSE` or `BETTER`, or `UNDECIDED` until the last look.
        n_clicks: of all users, until then.
    """

    verdict: Verdict
    n_clicks: int


def said_of(seed: int, share: float, hit_rate: float, lost: float = 0.0, looks: int = LOOKS) -> Said:
    """Look at a canary again and again until it is called worse or better."""
    users = Users(seed, share, hit_rate, lost)
    for look in range(1, looks + 1):
        users.click(CLICKS_A_LOOK)
        tally = Tally(CANARY.experiment_id, "w", 0, True, *(each.tolist() for each in users.counts))
        verdict = standing(CANARY, [tally], now_ms=0).verdict
        if verdict in (Verdict.WORSE, Verdict.BETTER):
            return Said(verdict, look * CLICKS_A_LOOK)
    return Said(Verdict.UNDECIDED, looks * CLICKS_A_LOOK)


def report(n_runs: int, say: Callable[[str], None]) -> None:
    """Print how often canaries that are as good, or worse, are called so."""
    say(
        f"canaries: {N_USERS:,} users, a look every {CLICKS_A_LOOK} clicks for {LOOKS * CLICKS_A_LOOK:,} clicks, "
        f"{n_runs} canaries a row"
    )
    say(f"  {'users':>5} {'hit rate':>8} {'hits lost':>9} {'called worse':>12} {'better':>6} {'after, median':>14}")
    for share, hit_rate, lost in (
        (0.1, 0.3, 0.0),
        (0.5, 0.3, 0.0),
        (0.1, 0.05, 0.0),
        (0.1, 0.3, 0.1),
        (0.1, 0.3, 0.2),
        (0.1, 0.3, 0.5),
    ):
        found = [said_of(seed, share, hit_rate, lost) for seed in range(n_runs)]
        worse = [each.n_clicks for each in found if each.verdict is Verdict.WORSE]
        n_better = sum(each.verdict is Verdict.BETTER for each in found)
        called = f"{len(worse) / n_runs:12.1%} {n_better / n_runs:6.1%}"
        median = f" {np.median(worse):7,.0f} clicks" if lost and worse else ""
        say(f"  {share:5.0%} {hit_rate:8.2f} {lost:9.0%} {called}{median}")
