"""How often the gate of new bundles, and the judge of canaries, are wrong. Simulated: no broker, no model.

python -m bench --only gate
"""

from collections.abc import Callable
from typing import NamedTuple

import click
import numpy as np
import numpy.typing as npt

from bench import false_alarms
from nextclick.ranking_metrics import Quality, Ranks
from training.learning.compared import Compared
from training.learning.judgement import Comparison, Judgement, Lists
from training.learning.lead import Lead, Leads, leads_after
from training.learning.validation import MISSED, quality_of
from training.service.publication import judge

N_USERS = 300
_LISTS = Lists(100, 50, 100, popular_share=0.1, expected_hits=50.0, hits=50, step_ms=0.1)  # that no guard minds
_POPULARITY = 0.05, 0.02, 0.03
_CHANGED = 0.1  # of the hits, and of the misses, that two networks do not share
_MORE_LOST = (0.0, 0.01, 0.025, 0.05, 0.1)  # of the hits, by the worse one
_CHAIN = 100  # bundles
_LEAD = 0.05
_LEAD_ERRORS = {0.005: "20,000 predictions", 0.01: "5,000", 0.02: "2,000", 0.06: "200"}
_FALLS = (0.001, 0.003, 0.01)
_MOVES = 0.007  # by which leads of equally good bundles move with what users do, standard deviation

Ints = npt.NDArray[np.int64]


def predictions(rng: np.random.Generator) -> tuple[Ranks, Ints]:
    """Give ranks, and whose they are, of users of whom some are easier to predict than others."""
    per_user = rng.integers(1, 8, N_USERS)
    user = np.repeat(np.arange(N_USERS), per_user)
    ease = np.repeat(rng.beta(2.0, 2.0, N_USERS), per_user)
    return np.where(rng.random(len(user)) < ease, rng.integers(1, 21, len(user)), MISSED), user


def other_network(ranks: Ranks, lost: float, won: float, rng: np.random.Generator) -> Ranks:
    """Give the ranks of another network, which misses a share of these hits and hits a share of these misses."""
    is_hit, chance = ranks <= 20, rng.random(len(ranks))
    won_ranks = np.where(chance < won, rng.integers(1, 21, len(ranks)), ranks)
    return np.where(is_hit, np.where(chance < lost, MISSED, ranks), won_ranks)


def comparison(new: Ranks, champion: Ranks, user: Ints) -> Comparison:
    """Compare two networks on the same predictions, as the gate does."""
    compared = Compared({"new": new, "champion": champion}, user, 0).over("champion")
    assert compared is not None
    return compared


def is_published(new: Ranks, champion: Ranks, user: Ints) -> bool:
    """Ask the gate."""
    popularity = Quality(*_POPULARITY, len(user))
    judgement = Judgement(quality_of(new), quality_of(champion), popularity, lists=_LISTS, champion_lists=_LISTS)
    return judge(judgement._replace(over_champion=comparison(new, champion, user))).publish


class Rate(NamedTuple):
    """What became of networks that are worse by as much.

    Attributes:
        worse: by how much Recall@20 is lower, on average.
        in_errors: the same, in standard deviations of the difference.
        published: share of them.
        by_recall: share that is not behind in Recall@20 by any amount: the rule before.
    """

    worse: float
    in_errors: float
    published: float
    by_recall: float


def rate(more_lost: float, n_runs: int) -> Rate:
    """Compare networks with champions that differ from them as much in both directions, but for some more lost hits."""
    rng = np.random.default_rng(1)
    differences, n_published = [], 0
    for _ in range(n_runs):
        ranks, user = predictions(rng)
        champion = other_network(ranks, _CHANGED, _CHANGED, rng)
        new = other_network(ranks, _CHANGED + more_lost, _CHANGED, rng)
        n_published += is_published(new, champion, user)
        differences.append(quality_of(new).recall - quality_of(champion).recall)
    found = np.array(differences)
    worse = -float(found.mean())
    return Rate(worse, worse / float(found.std()), n_published / n_runs, float((found >= 0).mean()))


def chain(
    rounds: int, fall: float, error: float, rng: np.random.Generator, moves: float = 0.0
) -> tuple[int | None, Leads]:
    """Let bundles follow one another, each worse than the one before by as much; give the round that sees a decline."""
    leads = None
    for number in range(rounds):
        measured = Lead(_LEAD - number * fall + rng.normal(0.0, error) + rng.normal(0.0, moves), error)
        leads = leads_after(measured, leads)
        if leads.decline:
            return number, leads
    assert leads is not None
    return None, leads


def false_declines(error: float, moves: float, n_chains: int) -> float:
    """Give the share of chains of equally good bundles in which a decline is seen."""
    rng = np.random.default_rng(1)
    return float(np.mean([chain(_CHAIN, 0.0, error, rng, moves)[0] is not None for _ in range(n_chains)]))


def loss_when_seen(fall: float, error: float, n_chains: int) -> float:
    """Give the loss, in parts of Recall@20 + MRR@20, at which half of the declines are seen."""
    rng = np.random.default_rng(2)
    rounds = [chain(int(1.0 / fall), fall, error, rng)[0] for _ in range(n_chains)]
    return float(np.median([np.inf if number is None else number * fall for number in rounds]))


def report(*, quick: bool) -> None:
    """Print how often both are wrong."""
    n_runs = 100 if quick else 400
    click.echo(f"\nthe gate: {N_USERS} users with {4 * N_USERS:,} predictions, {n_runs} new bundles a row")
    click.echo(f"  {'worse in Recall@20':>18} {'in std. errors':>14} {'published':>9} {'where any loss refuses':>22}")
    for more_lost in _MORE_LOST:
        found = rate(more_lost, n_runs)
        row = f"{found.worse:18.3f} {found.in_errors:14.1f} {found.published:9.2f} {found.by_recall:22.2f}"
        click.echo(f"  {row}")
    _report_declines(n_runs)
    false_alarms.report(n_runs, click.echo)


def _report_declines(n_chains: int, say: Callable[[str], None] = click.echo) -> None:
    say(f"declines by small steps, {n_chains} chains: false ones in {_CHAIN} bundles, and the loss when one is seen")
    falls = " ".join(f"{f'-{fall} a round':>14}" for fall in _FALLS)
    say(f"  {'error of a lead':32} {'false':>6} {'where leads move':>16} {falls}")
    for error, n_predictions in _LEAD_ERRORS.items():
        false, moved = (false_declines(error, moves, n_chains) for moves in (0.0, _MOVES))
        losses = " ".join(f"{loss_when_seen(fall, error, n_chains):14.3f}" for fall in _FALLS)
        say(f"  {f'{error} ({n_predictions})':32} {false:6.2f} {moved:16.2f} {losses}")
