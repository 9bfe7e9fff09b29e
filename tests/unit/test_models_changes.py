"""What is written to `models` by trainer, person and judge, and what each refuses."""

from collections.abc import Callable

import pytest

from nextclick.errors import BundleError, PermanentError, TemporaryError
from nextclick.experiment import EXPERIMENT
from nextclick.experiment_judgement import Decision
from nextclick.manifest import CHAMPION, BundleFile, Manifest, bundle_id_of, encode_manifest
from nextclick.models_state import HISTORY, KEPT_CHANGES, PIN, ModelsState, Records
from tests.experiments import experiment_of
from training.service.models_changes import (
    Held,
    Moment,
    announce,
    begin,
    begin_canary_of_trainer,
    carry_out,
    pin,
    promote,
    refuse_if_held,
    roll_back,
    stop,
    unpin,
)
from training.service.rounds import gone_on_from

NOW = Moment(1_000)


def bundle(number: int) -> Manifest:
    files = (BundleFile("model.safetensors", "", number),)
    return Manifest(bundle_id=bundle_id_of(files, {}, number), created_ms=number, network={}, files=files, metrics={})


A, B, C, D = map(bundle, range(1, 5))
CANARY = experiment_of(B, experiment_id="c", champion=A.bundle_id)


def after(state: ModelsState, records: Records) -> ModelsState:
    """Read records, as everybody does."""
    for key, value in records.items():
        state = state.after(key, value)
    return state


def served(*champions: Manifest) -> ModelsState:
    """The trainer has announced some bundles, one after the other."""
    state = ModelsState()
    for manifest in champions:
        state = after(state, announce(state, manifest, state.champion, NOW))
    return state


def test_the_trainer_announces_over_the_champion_that_it_compared_with() -> None:
    state = served(A)

    assert state.champion == A
    assert after(state, announce(state, B, A, NOW)).champion == B
    assert announce(state, A, None, NOW) == {}
    with pytest.raises(TemporaryError, match="announced meanwhile"):
        announce(state, C, B, NOW)


def test_nothing_is_announced_over_a_pin_or_beside_a_canary_and_a_shadow_does_not_matter() -> None:
    """A champion that changes would be another comparison."""
    state = served(A)
    pinned = after(state, pin(state, NOW))
    tried = after(state, begin(state, CANARY))
    shadowed = after(state, begin(state, experiment_of(B, kind="shadow")))

    with pytest.raises(Held, match="unpin"):
        announce(pinned, C, A, NOW)
    with pytest.raises(Held, match=f"{B.bundle_id} is tried"):
        announce(tried, C, A, NOW)
    with pytest.raises(Held):
        refuse_if_held(pinned)
    assert after(shadowed, announce(shadowed, C, A, NOW)).champion == C
    assert after(pinned, unpin(pinned, NOW)).pin is None


def test_one_bundle_at_a_time_is_tried_against_a_champion() -> None:
    state = served(A)
    tried = after(state, begin(state, CANARY))

    assert tried.experiment == CANARY
    assert begin(tried, CANARY) == {}  # the answer was lost
    with pytest.raises(PermanentError, match="on trial already"):
        begin(tried, experiment_of(C, experiment_id="other"))
    with pytest.raises(PermanentError, match="is the champion already"):
        begin(state, experiment_of(A))
    with pytest.raises(PermanentError, match="no champion"):
        begin(ModelsState(), CANARY)


def test_the_trainers_canary_is_one_of_the_champion_that_it_compared_with() -> None:
    state = served(A)

    assert after(state, begin_canary_of_trainer(state, CANARY, A)).experiment == CANARY
    with pytest.raises(TemporaryError, match="announced meanwhile"):
        begin_canary_of_trainer(state, CANARY, C)


@pytest.mark.parametrize(
    "change",
    [lambda state: promote(state, C, NOW), lambda state: roll_back(state, C, NOW), lambda state: stop(state, NOW)],
)
def test_what_a_person_does_ends_the_experiment(change: Callable[[ModelsState], Records]) -> None:
    state = served(A)
    tried = after(state, begin(state, CANARY))

    assert after(tried, change(tried)).experiment is None


def test_a_bundle_that_is_promoted_is_pinned_if_that_is_wanted_and_a_pin_of_another_one_ends() -> None:
    state = served(A)
    pinned = after(state, pin(state, NOW))
    by_hand = after(state, promote(state, B, NOW, pin=True))

    assert by_hand.pin is not None
    assert by_hand.pin.bundle_id == B.bundle_id
    assert after(pinned, promote(pinned, B, NOW)).pin is None
    with pytest.raises(PermanentError, match="already"):
        promote(state, A, NOW)


def test_rollbacks_go_back_step_by_step_and_never_forth() -> None:
    """What was rolled back is no way back from there."""
    state = served(A, B, C)
    assert state.former_champions() == [B.bundle_id, A.bundle_id]
    state = after(state, roll_back(state, B, NOW))
    assert state.former_champions() == [A.bundle_id]
    state = after(state, announce(state, D, B, NOW))
    assert state.former_champions() == [B.bundle_id, A.bundle_id]
    state = after(after(state, roll_back(state, B, NOW)), {})

    assert after(state, roll_back(state, A, NOW)).former_champions() == []


def test_a_champion_of_before_there_was_a_history_is_a_way_back() -> None:
    """An older version announced it."""
    state = ModelsState().after(CHAMPION, encode_manifest(A))

    assert after(state, announce(state, B, A, NOW)).former_champions() == [A.bundle_id]


def test_bundles_that_are_served_tried_or_a_way_back_are_in_use() -> None:
    state = served(A, B, C)
    tried = after(state, begin(state, experiment_of(D)))

    assert tried.in_use() == {each.bundle_id for each in (A, B, C, D)}


@pytest.mark.parametrize(
    ("decision", "champion", "what"),
    [
        (Decision.ROLL_BACK, A, "canary rolled back"),
        (Decision.PROMOTE, B, "promoted"),
        (Decision.END, A, "canary ended"),
    ],
)
def test_what_was_decided_is_done_and_why_is_kept(decision: Decision, champion: Manifest, what: str) -> None:
    state = served(A)
    tried = after(state, begin(state, CANARY))
    done = after(tried, carry_out(tried, CANARY, decision, Moment(2_000, "because")))

    assert (done.champion, done.experiment) == (champion, None)
    assert (done.history[-1].what, done.history[-1].reason) == (what, "because")


def test_after_a_canary_that_was_worse_the_next_round_does_not_go_on_from_the_champion() -> None:
    """It would come to the same again; what was promoted, or ended without a result, is no reason."""
    state = served(A)
    tried = after(state, begin(state, CANARY))
    ends = {decision: carry_out(tried, CANARY, decision, NOW) for decision in Decision}

    assert gone_on_from(state) == {A.bundle_id}
    assert gone_on_from(tried) == {A.bundle_id, B.bundle_id}
    assert gone_on_from(after(tried, ends[Decision.ROLL_BACK])) == set()
    assert gone_on_from(after(tried, ends[Decision.PROMOTE])) == {B.bundle_id}
    assert gone_on_from(after(tried, ends[Decision.END])) == {A.bundle_id}


def test_nothing_is_done_to_an_experiment_that_has_ended_meanwhile() -> None:
    """A person was first."""
    state = served(A)
    other = after(state, begin(state, experiment_of(C, experiment_id="other")))

    assert carry_out(state, CANARY, Decision.ROLL_BACK, NOW) == {}
    assert carry_out(other, CANARY, Decision.ROLL_BACK, NOW) == {}


def test_a_pin_wins_over_a_promotion_by_itself() -> None:
    """The canary ends: it cannot become what it was tried for."""
    state = served(A)
    tried = after(state, begin(state, CANARY))
    pinned = after(tried, pin(tried, NOW))
    done = after(pinned, carry_out(pinned, CANARY, Decision.PROMOTE, NOW))

    assert (done.champion, done.experiment) == (A, None)


def test_a_change_that_was_made_is_known_again() -> None:
    """Its answer was lost: it must not be made twice."""
    state = served(A)
    records = promote(state, B, NOW)

    assert not state.contains(records)
    assert after(state, records).contains(records)
    assert not state.contains({})


def test_a_history_is_bounded_and_unknown_keys_are_passed_over() -> None:
    state = served(*(bundle(number) for number in range(1, KEPT_CHANGES + 20)))

    assert len(state.history) == KEPT_CHANGES
    assert state.after("of a newer version", b"?") == state
    for key in (CHAMPION, EXPERIMENT, PIN, HISTORY):
        with pytest.raises(BundleError, match="expected"):
            state.after(key, b"{")
