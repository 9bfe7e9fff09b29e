"""`nextclick models` beside a running trainer, and both at once; and a canary that the trainer ends by itself."""

import contextlib
import dataclasses
import itertools
import threading
from typing import Any

import msgspec
import pytest

from demo.simulator import Law, Simulator
from nextclick.errors import TemporaryError
from nextclick.models_state import HISTORY, Change
from tests.damaged_bundles import with_shuffled_vectors
from tests.simulated_clicks import NOW_MS
from tests.trainers import (
    NO_TRAINING,
    PATIENCE_S,
    SMALL,
    announced,
    clicks,
    models_of,
    polled,
    run_once,
    small_bundle,
    start_logging,
)
from tools.presence import BrokerPresence
from training.service.operator import Operator, Trial
from training.service.trainer_role import TrainerRole


def models(playground: Any, *arguments: str, status: int = 0) -> str:
    """Run the command; gives what it prints."""
    name = f"models-{len(playground.children)}"
    child = playground.start(name, "models", *arguments)
    child.wait(PATIENCE_S)
    text = str(playground.log(name).read_text())
    assert child.exit_status == status, text
    assert status == 0 or len(text.strip().splitlines()) == 1
    return text


@pytest.mark.release
def test_a_person_decides_while_the_trainer_runs(playground: Any) -> None:
    """Promote, pin, roll back and try out; the trainer announces nothing while a person keeps the champion."""
    store = playground.settings.bundle_dir
    a, b = small_bundle(store, 1), small_bundle(store, 2)
    playground.send(clicks(0, 1_500))
    start_logging(playground, "trainer", *NO_TRAINING)
    models(playground, "promote", a.bundle_id[:8])
    models(playground, "promote", b.bundle_id)
    assert "rollback goes here" in models(playground, "list")
    assert "answers 5% of the users" in models(playground, "canary", a.bundle_id, "--share", "5%")
    assert "too few clicks" in models(playground, "status")
    assert "on trial already" in models(playground, "shadow", a.bundle_id, status=1)
    models(playground, "stop")
    assert "no bundle is on trial" in models(playground, "stop", status=1)
    models(playground, "rollback", "--pin")
    assert "champion, pinned" in models(playground, "list")
    assert "no champion before" in models(playground, "rollback", status=1)
    assert "'ffffff'" in models(playground, "promote", "ffffff", status=1)
    playground.children[0].stop(PATIENCE_S)
    status, log = run_once(playground, "held", *SMALL)

    assert status == 0
    assert any("nothing is announced" in line and "is pinned" in line for line in log)
    assert announced(playground) == [a, b, a]
    models(playground, "unpin")
    assert run_once(playground, "free", *SMALL, "--give-up-champion", a.bundle_id)[0] == 0
    assert len(announced(playground)) == 4


# What a trainer is told that another has always shut out, or whose comparison is with a champion of before.
REFUSED = ("announced meanwhile", "was announced, or was not", "does not begin a transaction", "did not take")


def test_person_and_trainer_at_once_never_decide_from_the_same_state(playground: Any) -> None:
    """Each change is made to what the one before it left: none is lost, and no champion is overwritten unseen."""
    settings = playground.settings = dataclasses.replace(playground.settings, session_timeout_s=6)
    store = settings.bundle_dir
    bundles = [small_bundle(store, number) for number in range(1, 9)]
    refused: list[str] = []
    role = TrainerRole(settings, BrokerPresence(settings.broker))
    playground.wait_for(lambda: role.wait(0.1), "the role", PATIENCE_S)

    def train() -> None:
        topic = models_of(playground)
        for manifest in bundles[:4]:
            before = topic.champion()
            try:
                topic.announce(manifest, before, role)
            except TemporaryError as error:
                refused.append(str(error))

    def decide() -> None:
        operator = Operator(settings)
        for manifest in bundles[4:]:
            with contextlib.suppress(TemporaryError):
                operator.promote(manifest, pin=False)

    threads = [threading.Thread(target=train), threading.Thread(target=decide)]
    with polled(role):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(2 * PATIENCE_S)
    role.close()
    records = [m.value() for m in playground.read(settings.models_topic) if m.key() == HISTORY.encode()]
    histories = [msgspec.json.decode(value, type=tuple[Change, ...]) for value in records]

    assert not any(thread.is_alive() for thread in threads)
    assert len(histories) >= 4
    for before, after in itertools.pairwise(histories):
        assert after[:-1] == before
    assert [change.champion for change in histories[-1]] == [manifest.bundle_id for manifest in announced(playground)]
    assert [text for text in refused if not any(reason in text for reason in REFUSED)] == []


@pytest.mark.release
def test_the_trainers_new_bundle_is_first_a_canary_where_that_is_wanted(playground: Any) -> None:
    """The first one has nothing to be compared with. While one is tried, nothing is trained."""
    as_canary = (*SMALL, "--set", "publish_as=canary", "--set", "canary_share=0.25")
    playground.send(clicks(0, 1_500))
    assert run_once(playground, "first", *as_canary)[0] == 0
    playground.send(clicks(1_500, 3_000))
    assert run_once(playground, "second", *as_canary)[0] == 0
    state = models_of(playground).read()
    status, log = run_once(playground, "third", *as_canary)

    assert status == 0
    assert any("nothing is announced" in line and "as a canary" in line for line in log)
    assert state.experiment is not None
    assert [manifest.bundle_id for manifest in announced(playground)] == [state.champion_id]
    assert state.experiment.champion == state.champion_id
    assert (state.experiment.share, state.experiment.promote) == (0.25, "never")


LAW = Law(groups=20, items_per_group=20, active_users=200, resting_users=400)


@pytest.mark.release
def test_a_damaged_canary_is_rolled_back_by_itself(playground: Any) -> None:
    """Its item vectors are shuffled; it was forced in. The trainer judges what workers count."""
    simulator = Simulator(LAW, 0)

    def send(count: int) -> None:
        playground.send([(c.user_id, c.item_id, NOW_MS) for c in simulator.next_clicks(NOW_MS, count)])

    send(9_000)
    training = ("--set", "min_clicks=800", "--set", "hidden_size=32", "--set", "log_flush_s=0.2")
    assert run_once(playground, "training", *training)[0] == 0
    operator = Operator(playground.settings)
    champion = operator.state().champion
    assert champion is not None
    damaged = with_shuffled_vectors(playground.settings.bundle_dir, champion)
    playground.worker()
    start_logging(playground, "trainer", *NO_TRAINING)
    operator.try_out(damaged, Trial("canary", 0.5, "not_worse", 100_000))
    playground.wait_for_log("worker", "a bundle is on trial")
    playground.wait_until_answered()
    n_sent = 0

    def is_over() -> bool:
        nonlocal n_sent
        if n_sent < 40_000:
            send(500)
            n_sent += 500
        return operator.state().experiment is None

    playground.wait_for(is_over, "the rollback", 3 * PATIENCE_S)
    state = operator.state()
    playground.wait_for_log("worker", "no bundle is on trial any more")
    playground.wait_for_log("trainer", "canary: roll back")
    playground.send([("somebody", "item-1", NOW_MS)])
    last = [update for update in playground.wait_until_answered() if update.user_id == "somebody"][-1]

    assert state.champion == champion
    assert state.history[-1].what == "canary rolled back"
    assert state.history[-1].reason.startswith("worse after")
    assert "for the same users: hit rate" in state.history[-1].reason
    assert (last.variant or "", last.bundle_id) == ("", champion.bundle_id)
    playground.assert_no_error_logged("worker", "trainer")
