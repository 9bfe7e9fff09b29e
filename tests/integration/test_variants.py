"""A bundle on some users beside the champion: who gets it, what updates say, and who ends it."""

import dataclasses
import os
import shutil
import signal
import threading
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from nextclick.advance import Limits, advance
from nextclick.bundle import load_bundle, load_network, save_bundle
from nextclick.experiment import Experiment, Split, decode_tally
from nextclick.manifest import Manifest
from nextclick.model import ServedModel
from nextclick.updates import POPULAR, RecommendationUpdate, decode_items, ranked_list
from nextclick.user_state import decode_state
from stream.metrics import WorkerMetrics
from stream.served_bundle import ServedBundle
from stream.tally_writer import TallyWriter
from stream.topics.identity import is_note
from stream.trial import Trial as OfWorker
from tests.chaos.bundles import announce, corrupt, mixed_bundle
from tests.experiments import experiment_of
from tests.integration.test_models_command import models
from tests.integration.test_stream import worker_port
from tests.scrapes import scrape
from tests.simulated_clicks import simulated
from tests.trainers import NO_TRAINING, clicks, start_logging
from tools.client_config import producer_config
from training.service.operator import Operator, Trial

SHARE = 0.3
NOTHING = ranked_list(POPULAR, [], [])


def two_bundles(playground: Any, sent: list[tuple[str, str, int]]) -> tuple[Manifest, Manifest]:
    """Bundles of the items that are clicked; the second one knows fewer."""
    items = sorted({item for _, item, _ in sent})
    store = playground.settings.bundle_dir
    store.mkdir(parents=True, exist_ok=True)
    return mixed_bundle(store, items, 1), mixed_bundle(store, items[len(items) // 5 :], 2)


def canary(playground: Any, manifest: Manifest, share: float = SHARE, promote: Any = "never") -> Experiment:
    return Operator(playground.settings).try_out(manifest, Trial("canary", share, promote, 500))


def serves(name: str, playground: Any, manifest: Manifest) -> None:
    """Wait until a worker's metrics name a bundle: the champion, or the one on trial."""
    playground.wait_for_log("worker", "worker started")
    text = f'nextclick_{name}_info{{bundle="{manifest.bundle_id}"'
    playground.wait_for(lambda: text in scrape(worker_port(playground)), f"{text} in the metrics")


def send_and_wait(playground: Any, sent: list[tuple[str, str, int]]) -> list[RecommendationUpdate]:
    """Send clicks; gives the updates that answer them."""
    before = len(playground.updates())
    playground.send(sent)
    playground.wait_until_answered()
    updates: list[RecommendationUpdate] = playground.updates()
    assert len(updates) - before >= len(sent)
    return updates


def test_users_are_split_and_each_update_says_who_served_it(playground: Any) -> None:
    """By the same hash in every process; a user's states and lists are those of one bundle, whichever chunk."""
    sent = simulated(3_000)
    champion, other = two_bundles(playground, sent)
    announce(playground.settings, champion)
    playground.worker()
    first = send_and_wait(playground, sent[:1_000])
    experiment = canary(playground, other)
    serves("bundle_on_trial", playground, other)
    answered = {(update.source.partition, update.source.offset) for update in first}
    updates = [
        update
        for update in send_and_wait(playground, sent[1_000:2_000])
        if (update.source.partition, update.source.offset) not in answered
    ]
    split = Split(experiment)
    chosen = {user for user, _, _ in sent if split.place_of(user.encode()).is_chosen}
    Operator(playground.settings).stop()
    playground.wait_for_log("worker", "no bundle is on trial any more")
    last = send_and_wait(playground, sent[2_000:])[-1]

    assert {update.variant or "" for update in first} == {""}
    assert len(updates) == 1_000
    for update in updates:
        expected = ("canary", other) if update.user_id in chosen else ("champion", champion)
        assert (update.variant, update.bundle_id) == (expected[0], expected[1].bundle_id)
    share = sum(update.variant == "canary" for update in updates) / len(updates)
    assert share == pytest.approx(SHARE, abs=0.06)
    assert not last.variant
    assert last.bundle_id == champion.bundle_id
    playground.assert_sequences_are_right(playground.updates())
    playground.assert_states_equal_offline(playground.settings.bundle_dir)
    playground.assert_no_error_logged("worker")


def test_who_is_moved_to_another_bundle_has_the_list_of_a_fresh_rebuild(playground: Any) -> None:
    """Back and forth: what a hidden state was made with is never taken for another bundle's."""
    sent = simulated(1_200)
    champion, other = two_bundles(playground, sent)
    announce(playground.settings, champion)
    playground.worker("worker", "--set", "live_items=0")  # which are counted by the worker alone
    send_and_wait(playground, sent)
    states = states_of(playground)
    users = sorted(states, key=lambda user: -len(states[user].recent))[:60]
    models = {m.bundle_id: load_bundle(playground.settings.bundle_dir / m.bundle_id)[1] for m in (champion, other)}
    for now in (other, champion):
        if now is other:
            canary(playground, other, share=0.99)
            serves("bundle_on_trial", playground, other)
        else:
            Operator(playground.settings).stop()
            playground.wait_for_log("worker", "no bundle is on trial any more")
        before = states_of(playground)
        item = sent[0][1]
        send_and_wait(playground, [(user.decode(), item, sent[0][2]) for user in users])
        newest = {update.user_id.encode(): update for update in playground.updates()}
        n_moved = 0
        for click in playground.clicks()[-10_000:]:
            user = click.user[1]
            if (
                user not in users
                or click.offset != newest[user].source.offset
                or click.user[0] != before[user].partition
            ):
                continue
            moved = newest[user].bundle_id != f"{before[user].bundle:016x}"
            n_moved += moved
            fresh = before[user]._replace(hidden=b"", bundle=0) if moved else before[user]
            model = models[newest[user].bundle_id]
            limits = Limits(playground.settings.recent_clicks, playground.settings.list_length)
            (outcome,) = advance(model, NOTHING, {click.user: fresh}, [click], limits)
            if outcome.ranked.items != NOTHING.items:
                assert newest[user].items == decode_items(outcome.ranked.items)
        assert n_moved > 40


def states_of(playground: Any) -> dict[bytes, Any]:
    """The newest state of each user."""
    messages = playground.read(playground.settings.changelog_topic)
    return {message.key(): decode_state(message.value()) for message in messages if not is_note(message.key())}


def test_a_canary_that_cannot_be_loaded_is_refused_and_said_and_its_users_get_the_champion(playground: Any) -> None:
    """It was damaged after it was announced."""
    sent = simulated(600)
    champion, other = two_bundles(playground, sent)
    announce(playground.settings, champion)
    canary(playground, other)
    corrupt(playground.settings.bundle_dir, other)
    playground.worker()
    serves("bundle", playground, champion)
    updates = send_and_wait(playground, sent)

    assert {update.bundle_id for update in updates} == {champion.bundle_id}
    assert 'nextclick_bundle_swaps_total{result="refused"} 1.0' in scrape(worker_port(playground))
    assert "is not what the manifest says" in playground.log("worker").read_text()
    operator = Operator(playground.settings)
    experiment = operator.state().experiment
    assert experiment is not None
    playground.wait_for(lambda: operator.standing(experiment).not_serving == 1, "the tally to say so")
    assert "1 of the workers cannot load the bundle" in models(playground, "status")


@pytest.mark.release
def test_a_canary_is_promoted_by_itself_once_every_worker_can_load_it(playground: Any) -> None:
    """One of two workers does not find it. It tries again, and the trainer waits for it; a person is told."""
    sent, store = clicks(0, 4_000), playground.settings.bundle_dir
    champion, _ = two_bundles(playground, sent)
    _, network, vocabulary = load_network(store / champion.bundle_id)
    as_good = save_bundle(store, network, vocabulary, created_ms=champion.created_ms + 1, metrics={})
    late = playground.folder / "late-bundles"
    shutil.copytree(store / champion.bundle_id, late / champion.bundle_id)
    operator = Operator(playground.settings)
    operator.promote(champion, pin=False)
    playground.worker()
    playground.worker("late", "--set", f"bundle_dir={late}")
    for name in ("worker", "late"):
        playground.wait_for_log(name, "serving a new bundle")
    experiment = operator.try_out(as_good, Trial("canary", 0.5, "not_worse", 200))
    playground.wait_for(lambda: operator.standing(experiment).not_serving == 1, "the tally to say so")
    said = models(playground, "promote")
    operator.roll_back(pin=False)
    start_logging(playground, "trainer", *NO_TRAINING)
    experiment = operator.try_out(as_good, Trial("canary", 0.5, "not_worse", 200))
    playground.wait_for(lambda: trials_begun(playground.log("worker")) == 2, "the second trial")
    for first in range(0, len(sent), 97):  # a click of each user
        send_and_wait(playground, sent[first : first + 97])
        if operator.standing(experiment).judged[1] >= 300:
            break
    waits = f"the canary {as_good.bundle_id} is to be promoted, but 1 of the workers cannot load it"
    playground.wait_for_log("trainer", waits)
    before = operator.state()
    shutil.copytree(store / as_good.bundle_id, late / as_good.bundle_id)
    playground.wait_for_log("late", "a bundle is on trial")
    after = playground.wait_for(lambda: (now := operator.state()).experiment is None and now, "the promotion")

    assert f"1 of the workers cannot load it, see their logs: they go on with {champion.bundle_id}" in said
    assert (before.champion, before.experiment) == (champion, experiment)
    assert (after.champion, after.history[-1].what) == (as_good, "promoted")
    for name in ("worker", "late"):
        playground.wait_for(partial(serves_now, playground.log(name), as_good), f"{name} to serve it")


def trials_begun(log: Path) -> int:
    """How often a worker has begun to try a bundle."""
    return log.read_text().count("a bundle is on trial")


def serves_now(log: Path, manifest: Manifest) -> bool:
    """Whether a bundle is what a worker has begun to serve last."""
    served = [line for line in log.read_text().splitlines() if "serving a new bundle" in line]
    return bool(served) and manifest.bundle_id in served[-1]


@pytest.mark.release
def test_who_is_moved_while_workers_come_and_go_keeps_a_right_state(playground: Any) -> None:
    """A bundle is tried, promoted, rolled back and pinned, each time while partitions change hands."""
    sent = simulated(6_000)
    champion, other = two_bundles(playground, sent)
    operator, feeding = Operator(playground.settings), Feeding(playground, sent)
    operator.promote(champion, pin=False)
    first, second = playground.worker("first"), playground.worker("second")
    for name in ("first", "second"):
        playground.wait_for_log(name, "serving a new bundle")
    with feeding:
        tried = [canary(playground, other, 0.5)]
        playground.wait_for_log("second", "a bundle is on trial")
        feeding.wait()
        os.kill(second.pid, signal.SIGKILL)
        operator.promote(other, pin=False)
        third = playground.worker("third")
        feeding.wait()
        operator.roll_back(pin=True)
        playground.wait_for_log("third", "partitions assigned")
        tried.append(canary(playground, other, 0.5))
        os.kill(first.pid, signal.SIGTERM)
        feeding.wait()
        operator.promote(other, pin=True)
        playground.worker("fourth")
        os.kill(third.pid, signal.SIGKILL)
        operator.roll_back(pin=False)
    updates = playground.wait_until_answered()
    chosen = [[Split(each).place_of(user.encode()).is_chosen for each in tried] for user, _, _ in sent]
    chosen_by_user = dict(zip((user for user, _, _ in sent), chosen, strict=True))
    of_canary = [update for update in updates if update.variant == "canary"]

    assert {update.bundle_id for update in updates} == {champion.bundle_id, other.bundle_id}
    assert {update.bundle_id for update in of_canary} == {other.bundle_id}
    assert all(any(chosen_by_user[update.user_id]) for update in of_canary)
    assert operator.state().champion == champion
    playground.assert_sequences_are_right(updates, after_a_crash=True)
    playground.assert_states_equal_offline(playground.settings.bundle_dir)


class Feeding:
    """Sends clicks all the time, some at a time, until the end of a block; then the rest."""

    def __init__(self, playground: Any, sent: list[tuple[str, str, int]]) -> None:
        self._playground, self._sent, self._n_sent = playground, sent, 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._playground.send(self._sent[self._n_sent :])

    def wait(self) -> None:
        """Return when some more clicks are sent."""
        until = self._n_sent + 200
        self._playground.wait_for(lambda: self._n_sent >= until, f"{until} clicks to be sent")

    def _run(self) -> None:
        while self._n_sent < len(self._sent) - 500 and not self._over.wait(0.1):
            self._playground.send(self._sent[self._n_sent : self._n_sent + 10])
            self._n_sent += 10


@pytest.mark.release
def test_a_shadow_sends_nothing_and_is_counted_on_the_same_clicks(playground: Any) -> None:
    """Its lists and the champion's are judged by as many clicks; updates are as they always are."""
    sent, settings = clicks(0, 970), playground.settings
    champion, other = two_bundles(playground, sent)
    announce(playground.settings, champion)
    playground.worker()
    operator = Operator(playground.settings)
    experiment = operator.try_out(other, Trial("shadow", 1.0, "never", 500))
    serves("bundle_on_trial", playground, other)
    for first in range(0, len(sent), 97):  # a click of each user
        updates = send_and_wait(playground, sent[first : first + 97])
    known = set(load_bundle(settings.bundle_dir / other.bundle_id)[1].item_ids)
    n_compared = sum(item in known for _, item, _ in sent[97:])  # others say nothing
    standing = playground.wait_for(
        lambda: (now := operator.standing(experiment)).judged[0] >= 8 * n_compared // 9 and now, "clicks to be judged"
    )
    metrics = scrape(worker_port(playground))

    assert {update.bundle_id for update in updates} == {champion.bundle_id}
    assert {update.variant or "" for update in updates} == {""}
    assert standing.judged[0] == standing.judged[1]
    assert 'nextclick_live_variant_judged_total{variant="shadow"}' in metrics
    playground.assert_states_equal_offline(playground.settings.bundle_dir)


def test_a_worker_outlives_the_topic_of_tallies(
    playground: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has removed it, or the worker may not write there: nobody is judged, and users are answered on."""
    config = {"topic.metadata.propagation.max.ms": "1"}  # else the client gives a topic that is not there 30 s
    monkeypatch.setattr("stream.tally_writer.producer_config", lambda settings: producer_config(settings) | config)
    settings = dataclasses.replace(playground.settings, app=f"{playground.settings.app}-without-tallies")
    trial = OfWorker(experiment_of(), None, WorkerMetrics(CollectorRegistry()))
    writer = TallyWriter(settings, cast("ServedBundle", SimpleNamespace(trial=trial)))
    for _ in range(20):
        writer.write()
        time.sleep(0.1)

    assert "cannot be written" in caplog.text
    assert "Unknown topic" in caplog.text


def test_a_worker_says_again_and_again_that_it_cannot_load_the_bundle_and_at_once_that_it_can(
    playground: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though nothing was counted in between: a promotion waits for it."""
    monkeypatch.setattr("stream.tally_writer.NOT_SERVING_EVERY_S", 0.5)
    experiment, metrics = experiment_of(), WorkerMetrics(CollectorRegistry())
    served = SimpleNamespace(trial=OfWorker(experiment, None, metrics))
    writer = TallyWriter(playground.settings, cast("ServedBundle", served))

    def said() -> list[bool]:
        writer.write()
        return [decode_tally(message.value()).serves for message in playground.read(playground.settings.tallies_topic)]

    playground.wait_for(lambda: len(said()) >= 3, "the third time")
    served.trial = OfWorker(experiment, cast("ServedModel", object()), metrics)
    playground.wait_for(lambda: said()[-1], "that it can")
    n_said = len(said())
    time.sleep(1.5)

    assert said().count(True) == 1
    assert len(said()) == n_said
