"""What is written to `models` by whom: each change as a pure function of what the topic says.

Whoever calls them writes their records in the transaction in which the state was read (`models_topic`). Each refuses
what does not fit the state: what holds can be another's by then.
"""

from typing import NamedTuple

import msgspec

from nextclick.errors import PermanentError, TemporaryError
from nextclick.experiment import EXPERIMENT, Experiment, encode_experiment
from nextclick.experiment_judgement import Decision
from nextclick.manifest import CHAMPION, Manifest, encode_manifest
from nextclick.models_state import HISTORY, PIN, ROLLED_BACK, Change, ModelsState, Pin, Records

CANARY_ROLLED_BACK = "canary rolled back"  # a change: it was worse than the champion


class Refused(TemporaryError):
    """A change does not fit what holds now."""


class Held(Refused):
    """Nothing may be announced: the champion is pinned, or a canary is compared with it."""


class Moment(NamedTuple):
    """When something is done, and why.

    Attributes:
        now_ms: ms since 1970.
        reason: in a line; empty where a person wants it.
    """

    now_ms: int
    reason: str = ""


def refuse_if_held(state: ModelsState) -> None:
    """Refuse what the trainer would announce by itself while the champion must stay what it is.

    Raises:
        Held: and why.
    """
    if state.pin is not None:
        raise Held(f"the champion {state.champion_id} is pinned; `nextclick models unpin` ends that")
    if state.experiment is not None and state.experiment.kind == "canary":
        raise Held(
            f"the bundle {state.experiment.bundle_id} is tried against the champion as a canary; "
            "`nextclick models status` says how it stands"
        )


def announce(state: ModelsState, manifest: Manifest, before: Manifest | None, moment: Moment) -> Records:
    """Let the trainer's bundle be the champion. A shadow goes on beside it.

    Raises:
        TemporaryError: another champion was announced meanwhile, or nothing may be announced.
    """
    if state.champion == manifest:  # the answer to an earlier attempt was lost
        return {}
    _refuse_other(state, before)
    refuse_if_held(state)
    return _champion(state, manifest, "announced", moment)


def begin(state: ModelsState, experiment: Experiment) -> Records:
    """Begin an experiment.

    Raises:
        PermanentError: there is no champion to compare with, it is the same bundle, or another experiment runs.
    """
    running = state.experiment
    if running is not None and running.experiment_id == experiment.experiment_id:
        return {}
    if state.champion is None:
        raise PermanentError("there is no champion to compare with; `nextclick models promote ID` makes a bundle one")
    if experiment.bundle_id == state.champion_id:
        raise PermanentError(f"{experiment.bundle_id} is the champion already; `nextclick models list` shows others")
    if running is not None:
        raise PermanentError(
            f"the bundle {running.bundle_id} is on trial already, as a {running.kind}; "
            "`nextclick models stop` ends that, `nextclick models promote` makes it the champion"
        )
    experiment = msgspec.structs.replace(experiment, champion=state.champion_id)
    what = f"{experiment.kind} begun"
    change = Change(experiment.started_ms, what, experiment.bundle_id, state.champion_id)
    return {EXPERIMENT: encode_experiment(experiment), HISTORY: state.with_change(change)}


def begin_canary_of_trainer(state: ModelsState, experiment: Experiment, before: Manifest) -> Records:
    """Let the trainer's bundle be a canary.

    Raises:
        TemporaryError: another champion was announced meanwhile, or nothing may be announced, or a shadow runs.
    """
    running = state.experiment
    if running is not None and running.experiment_id == experiment.experiment_id:
        return {}
    _refuse_other(state, before)
    refuse_if_held(state)
    if running is not None:
        raise Held(f"the bundle {running.bundle_id} is on trial as a {running.kind}; `nextclick models stop` ends that")
    return begin(state, experiment)


def promote(state: ModelsState, manifest: Manifest, moment: Moment, *, pin: bool = False) -> Records:
    """Make a bundle the champion; an experiment ends, and a pin of another bundle too unless the new one is pinned.

    Raises:
        PermanentError: it is the champion already, and there is nothing to do.
    """
    records = _ending(state)
    if state.champion == manifest:
        if not records and not pin:
            raise PermanentError(f"{manifest.bundle_id} is the champion already")
        return (
            records | _pinning(state, manifest.bundle_id, moment, pin=pin) | _noted(state, "promoted", manifest, moment)
        )
    return (
        records | _pinning(state, manifest.bundle_id, moment, pin=pin) | _champion(state, manifest, "promoted", moment)
    )


def roll_back(state: ModelsState, manifest: Manifest, moment: Moment, *, pin: bool = False) -> Records:
    """Make a former champion the champion again; an experiment ends, and so does a pin of another bundle.

    Raises:
        PermanentError: it is the champion already.
    """
    if state.champion == manifest:
        raise PermanentError(f"{manifest.bundle_id} is the champion already")
    pinning = _pinning(state, manifest.bundle_id, moment, pin=pin)
    return _ending(state) | pinning | _champion(state, manifest, ROLLED_BACK, moment)


def pin(state: ModelsState, moment: Moment) -> Records:
    """Keep the champion until a person says otherwise.

    Raises:
        PermanentError: there is none.
    """
    if state.champion is None:
        raise PermanentError("there is no champion to pin; `nextclick models promote ID --pin` makes a bundle one")
    return _pinning(state, state.champion_id, moment, pin=True) | _noted(state, "pinned", state.champion, moment)


def unpin(state: ModelsState, moment: Moment) -> Records:
    """Let the trainer announce again.

    Raises:
        PermanentError: nothing is pinned.
    """
    if state.pin is None:
        raise PermanentError("nothing is pinned")
    change = Change(moment.now_ms, "unpinned", state.pin.bundle_id, state.champion_id)
    return {PIN: None, HISTORY: state.with_change(change)}


def stop(state: ModelsState, moment: Moment) -> Records:
    """End an experiment; the champion stays.

    Raises:
        PermanentError: none runs.
    """
    running = state.experiment
    if running is None:
        raise PermanentError("no bundle is on trial")
    change = Change(moment.now_ms, f"{running.kind} ended", running.bundle_id, state.champion_id, moment.reason)
    return _ending(state) | {HISTORY: state.with_change(change)}


def carry_out(state: ModelsState, experiment: Experiment, decision: Decision, moment: Moment) -> Records:
    """Do what was decided of an experiment by itself; nothing where that has ended meanwhile."""
    running = state.experiment
    if not decision.ends or running is None or running.experiment_id != experiment.experiment_id:
        return {}
    if decision is Decision.PROMOTE and state.pin is None:
        return _ending(state) | _champion(state, running.manifest, "promoted", moment)
    what = {Decision.ROLL_BACK: CANARY_ROLLED_BACK}.get(decision, "canary ended")
    change = Change(moment.now_ms, what, running.bundle_id, state.champion_id, moment.reason)
    return _ending(state) | {HISTORY: state.with_change(change)}


def _refuse_other(state: ModelsState, before: Manifest | None) -> None:
    if state.champion != before:
        raise Refused("another bundle was announced meanwhile: the next training compares with that one")


def _champion(state: ModelsState, manifest: Manifest, what: str, moment: Moment) -> Records:
    change = Change(moment.now_ms, what, manifest.bundle_id, manifest.bundle_id, moment.reason)
    # A champion of before there was a history is a way back, too.
    if state.champion is not None and state.champion_id not in {each.champion for each in state.history}:
        state = state._replace(
            history=(*state.history, Change(moment.now_ms, "found", state.champion_id, state.champion_id))
        )
    return {CHAMPION: encode_manifest(manifest), HISTORY: state.with_change(change)}


def _noted(state: ModelsState, what: str, manifest: Manifest, moment: Moment) -> Records:
    change = Change(moment.now_ms, what, manifest.bundle_id, manifest.bundle_id, moment.reason)
    return {HISTORY: state.with_change(change)}


def _ending(state: ModelsState) -> Records:
    return {EXPERIMENT: None} if state.experiment is not None else {}


def _pinning(state: ModelsState, bundle_id: str, moment: Moment, *, pin: bool) -> Records:
    if pin:
        return {PIN: msgspec.json.encode(Pin(bundle_id, moment.now_ms))}
    return {PIN: None} if state.pin is not None and state.pin.bundle_id != bundle_id else {}
