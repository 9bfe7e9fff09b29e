"""The schedule: a pure function of the seed, with everything in it that a run must do."""

from collections import Counter

import pytest

from tests.chaos.schedule import FULL, SESSION_TIMEOUT_S, SHORT, SLOTS, Action, Step, make_schedule

SEEDS = range(1, 31)


def outages(steps: list[Step]) -> list[tuple[float, float]]:
    """When the broker was away, from and to."""
    begins = [step.at_s for step in steps if step.action in (Action.STOP_BROKER, Action.PAUSE_BROKER)]
    ends = [step.at_s for step in steps if step.action in (Action.START_BROKER, Action.RESUME_BROKER)]
    return list(zip(begins, ends, strict=True))


def test_the_same_seed_gives_the_same_steps_and_another_seed_others() -> None:
    """A failing seed can be run again."""
    assert make_schedule(7, 200, FULL) == make_schedule(7, 200, FULL)
    assert make_schedule(7, 200, FULL) != make_schedule(8, 200, FULL)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_full_schedule_has_all_that_a_run_must_do(seed: int) -> None:
    """At least 20 kills and terms, joins and leaves, and one outage past the session timeout."""
    steps = make_schedule(seed, 200, FULL)
    counts = Counter(step.action for step in steps)
    starts = [step for step in steps if step.action is Action.START]

    assert counts[Action.KILL] + counts[Action.TERM] >= 20
    assert set(counts) == set(Action)
    assert 0 < sum(step.wipe for step in starts) < len(starts)
    assert max(end_s - begin_s for begin_s, end_s in outages(steps)) > SESSION_TIMEOUT_S


@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_schedule_has_one_of_each(seed: int) -> None:
    """It stands for the full one in CI."""
    assert {step.action for step in make_schedule(seed, 30, SHORT)} == set(Action)


@pytest.mark.parametrize("seed", SEEDS)
def test_outages_of_the_broker_never_overlap(seed: int) -> None:
    """A broker that is stopped cannot be paused."""
    times = [time_s for outage in outages(make_schedule(seed, 200, FULL)) for time_s in outage]

    assert times == sorted(times)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_worker_is_frozen_past_its_eviction_and_thawed(seed: int) -> None:
    """Only then does it wake up as one whose partitions another has."""
    steps = make_schedule(seed, 200, FULL)
    frozen_s = []
    for worker in SLOTS:
        begins = [step.at_s for step in steps if step.worker == worker and step.action is Action.FREEZE]
        ends = [step.at_s for step in steps if step.worker == worker and step.action is Action.THAW]
        frozen_s += [end_s - begin_s for begin_s, end_s in zip(begins, ends, strict=True)]

    assert sum(seconds > SESSION_TIMEOUT_S for seconds in frozen_s) == FULL.long_freezes


def test_steps_say_what_they_do() -> None:
    """One line each, as a run prints them."""
    assert str(Step(1.0, Action.START, "a", wipe=True)) == "start worker a with an empty data folder"
    assert str(Step(1.0, Action.PAUSE_BROKER)) == "SIGSTOP the broker"
