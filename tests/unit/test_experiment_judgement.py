"""Whether a bundle on trial is worse: seldom said of one that is as good, over all looks, and soon of a bad one."""

import numpy as np
import pytest

from bench.false_alarms import Floats, said_of
from nextclick.experiment import N_BUCKETS, Experiment, Tally
from nextclick.experiment_judgement import NOT_SERVING_MS, Decision, Standing, Verdict, decide, standing
from tests.experiments import experiment_of

RUNS = 150


def tally(champion: Floats, challenger: Floats, *beside: Floats, serves: bool = True, worker: str = "w") -> Tally:
    return Tally("e", worker, 0, serves, champion.tolist(), challenger.tolist(), *(each.tolist() for each in beside))


def standing_now(experiment: Experiment, tallies: list[Tally]) -> Standing:
    """Give how it stands at the moment when the tallies were written."""
    return standing(experiment, tallies, now_ms=0)


@pytest.mark.parametrize(("share", "hit_rate"), [(0.1, 0.3), pytest.param(0.5, 0.05, marks=pytest.mark.release)])
def test_a_canary_that_is_as_good_is_rolled_back_in_fewer_than_one_of_twenty_experiments(
    share: float, hit_rate: float
) -> None:
    """Over all looks, though clicks of a user are alike and some users click a hundred times as often as others."""
    found = [said_of(seed, share, hit_rate).verdict for seed in range(RUNS)]

    assert found.count(Verdict.WORSE) / RUNS < 0.05
    assert found.count(Verdict.BETTER) / RUNS < 0.05


def test_a_canary_that_lost_half_of_its_hits_is_called_worse_within_some_thousand_clicks() -> None:
    """A tenth of the users is enough."""
    found = [said_of(seed, 0.1, 0.3, lost=0.5) for seed in range(20)]

    assert {each.verdict for each in found} == {Verdict.WORSE}
    assert np.median([each.n_clicks for each in found]) < 5_000


def counts(judged: int, hits: int) -> Floats:
    """Clicks that the buckets share evenly; each hit is the first of the list."""
    numbers = np.arange(N_BUCKETS)
    each_judged, each_hits = ((total + numbers) // N_BUCKETS for total in (judged, hits))
    return np.column_stack([each_judged, each_hits, each_hits, each_hits]).astype(np.float64)


def test_tallies_of_workers_add_up_and_those_of_other_experiments_do_not() -> None:
    other = Tally("other", "w3", 0, True, counts(900, 900).tolist(), counts(900, 0).tolist())
    own = [tally(counts(100, 30), counts(10, 3), worker="w1"), tally(counts(200, 60), counts(20, 6), serves=False)]

    now = standing_now(experiment_of(), [*own, other])

    assert now.judged == (300, 30)
    assert (now.hits.champion, now.hits.challenger) == (0.3, 0.3)
    assert (now.workers, now.not_serving) == (2, 1)


def test_nothing_is_said_before_there_are_clicks() -> None:
    """Not even of a canary that has hit nothing."""
    assert standing_now(experiment_of(), []).verdict is Verdict.TOO_FEW
    assert standing_now(experiment_of(), [tally(counts(5_000, 2_500), counts(49, 0))]).verdict is Verdict.TOO_FEW


WORSE = [tally(counts(4_000, 2_000), counts(400, 40))]
BETTER = [tally(counts(4_000, 1_000), counts(400, 240))]
ALIKE = [tally(counts(40_000, 10_000), counts(9_999, 2_500))]
ENOUGH = [tally(counts(40_000, 10_000), counts(10_000, 2_500))]


@pytest.mark.parametrize(
    ("tallies", "promote", "decision"),
    [
        (WORSE, "never", Decision.ROLL_BACK),
        (WORSE, "not_worse", Decision.ROLL_BACK),
        (BETTER, "never", Decision.GO_ON),
        (BETTER, "better", Decision.PROMOTE),
        (BETTER, "not_worse", Decision.PROMOTE),
        (ALIKE, "not_worse", Decision.GO_ON),
        (ENOUGH, "never", Decision.GO_ON),
        (ENOUGH, "better", Decision.END),
        (ENOUGH, "not_worse", Decision.PROMOTE),
    ],
)
def test_what_becomes_of_a_canary(tallies: list[Tally], promote: str, decision: Decision) -> None:
    """It is rolled back in any case, and promoted only where that is wanted; a trial without an end has a bound."""
    canary = experiment_of(promote=promote)

    assert decide(canary, standing_now(canary, tallies)) is decision


@pytest.mark.parametrize("tallies", [BETTER, ENOUGH], ids=["better", "not worse"])
def test_no_canary_is_promoted_by_itself_while_a_worker_cannot_load_it(tallies: list[Tally]) -> None:
    """All its users would go on with another bundle. A worker that has not said so for a while is gone."""
    canary = experiment_of(promote="not_worse")
    without = tally(counts(0, 0), counts(0, 0), serves=False, worker="without")

    now = [standing(canary, [*tallies, without], now_ms) for now_ms in (0, NOT_SERVING_MS)]

    assert [each.not_serving for each in now] == [1, 0]
    assert [decide(canary, each) for each in now] == [Decision.WAIT, Decision.PROMOTE]


def test_a_canary_that_is_worse_is_rolled_back_though_a_worker_cannot_load_it() -> None:
    """And one that is not to be promoted goes on."""
    without = tally(counts(0, 0), counts(0, 0), serves=False, worker="without")

    assert decide(experiment_of(), standing_now(experiment_of(), [*WORSE, without])) is Decision.ROLL_BACK
    assert decide(experiment_of(), standing_now(experiment_of(), [*BETTER, without])) is Decision.GO_ON


def test_a_shadow_is_left_to_a_person() -> None:
    """It harms nobody."""
    shadow = experiment_of(kind="shadow", promote="better")

    now = standing_now(shadow, [tally(counts(2_000, 1_000), counts(2_000, 200))])

    assert now.verdict is Verdict.WORSE
    assert decide(shadow, now) is Decision.GO_ON


def test_a_shadow_is_compared_on_the_same_clicks() -> None:
    """What both hit says nothing of their difference: it is certain after far fewer clicks."""
    champion, shadow = counts(2_000, 1_000), counts(2_000, 1_060)
    shadow[:, 1:] = champion[:, 1:] * 1.06  # the same clicks, and some more in each bucket

    paired = standing_now(experiment_of(kind="shadow"), [tally(champion, shadow)]).hits
    apart = standing_now(experiment_of(), [tally(champion, shadow)]).hits

    assert paired.low > 0
    assert apart.low < 0


def test_lists_beside_those_of_the_champion_say_worse_sooner_and_never_better() -> None:
    """On the same clicks; but users click what they are shown, which speaks for the canary."""
    alike = counts(4_000, 2_000), counts(400, 196)
    some, fewer = counts(400, 210), counts(400, 170)

    assert standing_now(experiment_of(), [tally(*alike)]).verdict is Verdict.UNDECIDED
    assert standing_now(experiment_of(), [tally(*alike, some, fewer)]).verdict is Verdict.WORSE
    assert standing_now(experiment_of(), [tally(*alike, fewer, some)]).verdict is Verdict.UNDECIDED
