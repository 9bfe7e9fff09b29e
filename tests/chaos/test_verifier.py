"""The verifier, on made-up topics: a good run has no violation, and each kind of damage is called by its name."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nextclick.advance import Limits, LoggedClick, Model, Outcome, UserKey, advance
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.updates import RecommendationUpdate, Source, ranked_list
from nextclick.user_state import UserState
from tests.chaos.bundles import load_models, untrained_bundle
from tests.chaos.evidence import Evidence
from tests.chaos.report import Report
from tests.chaos.verifier import verify

LIMITS = Limits(20, 20)
ITEMS = [f"item-{number}" for number in range(30)]
NOTHING = ranked_list("popular", [], [])


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Model]:
    """Two bundles."""
    store: Path = tmp_path_factory.mktemp("bundles")
    for seed in (1, 2):
        untrained_bundle(store, ITEMS, seed)
    return load_models(store)


def clicks_of(users: int, each: int) -> list[LoggedClick]:
    """Clicks of users in turn, all in partition 0."""
    return [
        LoggedClick(
            (0, b"u%d" % (offset % users)),
            offset,
            1_000 * offset,
            Click(f"u{offset % users}", ITEMS[offset % 29], 1_000 * offset, 0),
            item_hash(ITEMS[offset % 29]),
        )
        for offset in range(users * each)
    ]


def update(click: LoggedClick, outcome: Outcome) -> RecommendationUpdate:
    """What leaves after a click."""
    bundle = f"{outcome.state.bundle:016x}" if outcome.state.bundle else ""
    source = Source(click.user[0], click.offset)
    return RecommendationUpdate(click.click.user_id, [], "rnn", bundle, outcome.sequence, source, 0, 0)


def stream(batches: Sequence[tuple[Model | None, Sequence[LoggedClick]]]) -> Evidence:
    """What a worker leaves that takes batches of clicks, each with a bundle."""
    evidence = Evidence([], [], [], [], [], [])
    states: dict[UserKey, UserState] = {}
    for model, clicks in batches:
        outcomes = advance(model, NOTHING, states, clicks, LIMITS)
        batch = {click.user: outcome.state for click, outcome in zip(clicks, outcomes, strict=True)}
        states |= batch
        evidence.clicks.extend(click for click in clicks if click not in evidence.clicks)
        evidence.updates.extend(update(c, outcome) for c, outcome in zip(clicks, outcomes, strict=True))
        evidence.states.extend(batch.items())
    return evidence


def good_run(models: dict[int, Model]) -> Evidence:
    """Popularity, then one bundle, then the other."""
    one, two = models.values()
    clicks = clicks_of(users=4, each=30)
    return stream([(None, clicks[:20]), (one, clicks[20:50]), (one, clicks[50:90]), (two, clicks[90:])])


def check(evidence: Evidence, models: dict[int, Model]) -> Report:
    return verify(evidence, models, LIMITS)


def test_a_good_run_has_no_violation(models: dict[int, Model]) -> None:
    """Batches and swaps change nothing that counts."""
    report = check(good_run(models), models)

    assert report.violations == {}
    assert (report.users, report.clicks, report.updates) == (4, 120, 120)
    assert report.repeated_updates == report.answered_by_later == report.other_bundle == report.late_states == 0


def test_clicks_read_again_under_another_bundle_are_no_violation(models: dict[int, Model]) -> None:
    """After a crash: the states were safe, the updates were not, and the next worker has another bundle."""
    one, two = models.values()
    clicks = clicks_of(users=4, each=30)
    evidence = stream([(one, clicks[:60]), (one, clicks[60:90]), (two, clicks[60:90]), (two, clicks[90:])])
    del evidence.updates[60:90]
    report = check(evidence, models)

    assert report.violations == {}
    assert report.other_bundle == 30
    assert report.answered_by_later > 0


def test_an_older_state_that_is_written_late_is_told_and_no_violation(models: dict[int, Model]) -> None:
    """The highest fence wins, whatever its place."""
    evidence = good_run(models)
    evidence.states.extend(evidence.states[4:8])
    report = check(evidence, models)

    assert report.violations == {}
    assert report.late_states == 4


def test_a_state_that_follows_from_an_older_one_than_the_newest_is_reproduced(models: dict[int, Model]) -> None:
    """A late write under another bundle came between two states of the worker that had taken over."""
    one, two = models.values()
    clicks = clicks_of(users=1, each=60)
    evidence = stream([(one, clicks[:10]), (two, clicks[10:60])])
    late = stream([(one, clicks[:10]), (one, clicks[10:40])]).states[1]
    evidence.states.insert(1, late)
    report = check(evidence, models)

    assert report.violations == {}


def with_state(evidence: Evidence, **changes: Any) -> None:
    user, state = evidence.states[-1]
    evidence.states[-1] = (user, state._replace(**changes))


def lose_a_state(evidence: Evidence) -> None:
    del evidence.states[-1]


def double_a_click(evidence: Evidence) -> None:
    with_state(evidence, sequence=31)


def forget_a_click(evidence: Evidence) -> None:
    with_state(evidence, sequence=29)


def change_the_history(evidence: Evidence) -> None:
    with_state(evidence, recent=evidence.states[0][1].recent)


def change_hidden(evidence: Evidence) -> None:
    with_state(evidence, hidden=evidence.states[-2][1].hidden)


def name_another_bundle(evidence: Evidence) -> None:
    with_state(evidence, bundle=12345)


def drop_an_update(evidence: Evidence) -> None:
    del evidence.updates[-1]


def swap_updates(evidence: Evidence) -> None:
    evidence.updates[-1], evidence.updates[-5] = evidence.updates[-5], evidence.updates[-1]


def understate_an_update(evidence: Evidence) -> None:
    last = evidence.updates[-1]
    evidence.updates[-1] = RecommendationUpdate("u3", [], "rnn", last.bundle_id, 29, last.source, 0, 0)


def forget_a_reject(evidence: Evidence) -> None:
    evidence.bad.append((0, 999))


def reject_a_click(evidence: Evidence) -> None:
    evidence.rejected.append((0, 5))


def corrupt_a_state(evidence: Evidence) -> None:
    evidence.corrupt.append((0, 7))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lose_a_state, {"lost": 7}),  # the clicks of one user in the last batch
        (double_a_click, {"doubled": 1, "wrong_states": 1}),
        (forget_a_click, {"lost": 1, "wrong_states": 1}),
        (change_the_history, {"wrong_states": 1}),
        (change_hidden, {"wrong_hidden": 1}),
        (name_another_bundle, {"wrong_hidden": 1}),
        (drop_an_update, {"unanswered": 1}),
        (swap_updates, {"out_of_order": 1}),
        (understate_an_update, {"unanswered": 1, "wrong_updates": 1}),
        (forget_a_reject, {"missing_rejects": 1}),
        (reject_a_click, {"wrong_rejects": 1}),
        (corrupt_a_state, {"corrupt_states": 1}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_damage_is_called_by_its_name(
    models: dict[int, Model], damage: Callable[[Evidence], None], expected: dict[str, int]
) -> None:
    """Of a good run, one thing is changed."""
    evidence = good_run(models)
    damage(evidence)
    report = check(evidence, models)

    assert report.violations == expected
    assert all(report.examples[name] for name in expected)


def test_examples_name_places_and_no_user(models: dict[int, Model]) -> None:
    """A report can be shown to anybody."""
    evidence = good_run(models)
    report = check(replace(evidence, updates=[]), models)

    assert report.unanswered == 120
    assert report.examples["unanswered"] == ["0/116", "0/117", "0/118"]
