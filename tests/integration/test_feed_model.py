"""The feed's model on a real broker: it follows the topic `models`, and ranks as a worker does."""

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

import feed.served_model
from feed.metrics import FeedMetrics
from feed.served_model import ModelAtWork
from feed.sessions import Ranking, SessionRules, session_list
from feed.user_lists import Choice
from nextclick.feed_types import SessionClick
from nextclick.manifest import CHAMPION, Manifest, encode_manifest
from nextclick.settings import Settings
from stream.topics.topics import Topics
from tests.chaos.bundles import announce, corrupt, untrained_bundle
from tests.simulated_clicks import NOW_MS
from tools.client_config import librdkafka_config, producer_config

ITEMS = [f"i{number}" for number in range(50)]
ANSWER_S = 30.0


class Following:
    """A model that follows, and what it has done."""

    def __init__(self, playground: Any, settings: Settings) -> None:
        self._playground = playground
        self._registry = CollectorRegistry()
        self.model = ModelAtWork(settings, FeedMetrics(self._registry))
        self.model.start()

    def wait_for(self, manifest: Manifest) -> None:
        """Wait until a bundle is served."""
        self._playground.wait_for(
            lambda: self.model.current is not None and self.model.current.model.bundle_id == manifest.bundle_id,
            f"bundle {manifest.bundle_id} served",
        )

    def swaps(self) -> tuple[float | None, float | None]:
        """Give how many bundles were swapped in, and how many refused."""
        name = "nextclick_feed_bundle_swaps_total"
        swapped = self._registry.get_sample_value(name, {"result": "swapped"})
        return swapped, self._registry.get_sample_value(name, {"result": "refused"})

    @property
    def is_refused(self) -> bool:
        """Whether what was announced last is refused."""
        return bool(self._registry.get_sample_value("nextclick_feed_bundle_refused"))


@pytest.fixture
def follow(playground: Any) -> Iterator[Callable[..., Following]]:
    """Follow `models` with the playground's settings."""
    started: list[Following] = []

    def start(**changed: Any) -> Following:
        settings = replace(playground.settings, feed_dir=playground.folder / "feed", **changed)
        started.append(Following(playground, settings))
        return started[-1]

    yield start
    for each in started:
        each.model.stop()
    playground.wait_for(lambda: "models" not in {thread.name for thread in threading.enumerate()}, "an end")


def test_a_bundle_that_is_announced_is_served_and_one_that_is_damaged_is_refused(
    playground: Any, follow: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    """The one before is served on, the next one is swapped in, and the log says why one was not."""
    store = playground.settings.bundle_dir
    first, damaged, second = (untrained_bundle(store, ITEMS, seed=seed) for seed in (1, 2, 3))
    corrupt(store, damaged)
    following = follow()
    announce(playground.settings, first)
    following.wait_for(first)
    announce(playground.settings, damaged)
    playground.wait_for(lambda: following.swaps() == (1.0, 1.0), "a refusal")
    following.wait_for(first)
    assert following.is_refused
    announce(playground.settings, second)
    following.wait_for(second)

    assert following.swaps() == (2.0, 1.0)
    playground.wait_for(lambda: not following.is_refused, "the end of the refusal")
    [refused] = [record for record in caplog.records if "bundle refused" in record.message]
    fields = refused.fields  # type: ignore[attr-defined]
    assert fields == {"bundle": damaged.bundle_id, "still_served": first.bundle_id}


def test_a_bundle_that_was_refused_in_passing_is_served_when_it_is_there(
    playground: Any, follow: Callable[..., Following], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its folder is on a network file system that comes late, for example: tried again, and said once."""
    monkeypatch.setattr(feed.served_model, "_TRY_EVERY_S", 0.2)
    store = playground.settings.bundle_dir
    bundle = untrained_bundle(store, ITEMS, seed=1)
    (store / bundle.bundle_id).rename(store / "away")
    following = follow()
    announce(playground.settings, bundle)
    playground.wait_for(lambda: following.swaps()[1] == 1.0, "a refusal")
    time.sleep(1.0)  # some more tries, which are not told
    (store / "away").rename(store / bundle.bundle_id)
    following.wait_for(bundle)

    assert following.swaps() == (1.0, 1.0)
    assert caplog.text.count("bundle refused") == 1


def test_a_bundle_that_was_refused_is_tried_at_once_when_it_is_announced_again(
    playground: Any, follow: Callable[..., Following]
) -> None:
    """Whoever has mended it does not wait."""
    store = playground.settings.bundle_dir
    bundle = untrained_bundle(store, ITEMS, seed=1)
    (store / bundle.bundle_id).rename(store / "away")
    following = follow()
    announce(playground.settings, bundle)
    playground.wait_for(lambda: following.swaps()[1] == 1.0, "a refusal")
    (store / "away").rename(store / bundle.bundle_id)
    announce(playground.settings, bundle)
    following.wait_for(bundle)

    assert following.swaps() == (1.0, 1.0)


def test_an_error_that_nobody_foresaw_is_said_and_bundles_are_followed_on(
    playground: Any, follow: Callable[..., Following], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the thread, the feed would serve an old bundle for ever, and nobody would know."""
    monkeypatch.setattr(feed.served_model, "_TRY_EVERY_S", 0.2)
    real, failed = feed.served_model.newest_announcements, threading.Event()

    def failing_once(values: Sequence[bytes]) -> Sequence[bytes]:
        if not failed.is_set():
            failed.set()
            raise RuntimeError("a mistake")
        return real(values)

    monkeypatch.setattr(feed.served_model, "newest_announcements", failing_once)
    bundle = untrained_bundle(playground.settings.bundle_dir, ITEMS, seed=1)
    announce(playground.settings, bundle)
    follow().wait_for(bundle)

    assert "following the bundles failed" in caplog.text


def test_only_the_newest_of_what_was_announced_before_the_start_is_loaded(
    playground: Any, follow: Callable[..., Following]
) -> None:
    """The others have been removed long since. A feed that starts again has its copy, and loads nothing twice."""
    store = playground.settings.bundle_dir
    old, new = (untrained_bundle(store, ITEMS, seed=seed) for seed in (1, 2))
    shutil.rmtree(store / old.bundle_id)
    announce(playground.settings, old)
    announce(playground.settings, new)
    following = follow()
    following.wait_for(new)
    following.model.stop()
    again = follow()
    again.wait_for(new)
    third = untrained_bundle(store, ITEMS, seed=3)
    announce(playground.settings, third)
    again.wait_for(third)  # and so has looked at what was announced before

    assert following.swaps() == (1.0, 0.0)
    assert again.swaps() == (2.0, 0.0)


def test_an_announcement_in_a_transaction_that_has_not_ended_holds_nobody_up(
    playground: Any, follow: Callable[..., Following]
) -> None:
    """What was announced before it is served; it is served itself once it is committed."""
    settings = playground.settings
    first, second = (untrained_bundle(settings.bundle_dir, ITEMS, seed=seed) for seed in (1, 2))
    announce(settings, first)
    producer = Producer(producer_config(settings) | {"transactional.id": f"{settings.app}-test"})
    producer.init_transactions(ANSWER_S)
    producer.begin_transaction()
    producer.produce(settings.models_topic, encode_manifest(second), CHAMPION)
    producer.flush(ANSWER_S)
    following = follow()
    following.wait_for(first)
    producer.commit_transaction(ANSWER_S)
    following.wait_for(second)

    assert following.swaps() == (2.0, 0.0)


def test_a_topic_that_is_not_there_is_waited_for(
    playground: Any, follow: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and what to do."""
    settings = playground.settings
    admin = AdminClient(librdkafka_config(settings))
    admin.delete_topics([settings.models_topic])[settings.models_topic].result(ANSWER_S)
    following = follow()
    playground.wait_for(lambda: "there is no topic" in caplog.text, "a line")
    bundle = untrained_bundle(settings.bundle_dir, ITEMS, seed=1)
    playground.wait_for(lambda: _created(settings), "the topic")
    announce(settings, bundle)
    following.wait_for(bundle)

    [said] = [record.message for record in caplog.records if "there is no topic" in record.message]
    assert said == f"there is no topic {settings.models_topic}, which is waited for; `nextclick topics` creates it"


def _created(settings: Settings) -> bool:
    """Create the topics that are missing; one that is still being deleted cannot be created yet."""
    Topics(settings).create()
    return settings.models_topic in AdminClient(librdkafka_config(settings)).list_topics(timeout=ANSWER_S).topics


def test_a_session_gets_the_list_that_a_worker_sends_a_new_user(
    playground: Any, follow: Callable[..., Following]
) -> None:
    """The same clicks, through the broker and its worker on one side: the same items, and scores to the last digit."""
    bundle = untrained_bundle(playground.settings.bundle_dir, ITEMS, seed=1)
    announce(playground.settings, bundle)
    following = follow()
    following.wait_for(bundle)
    playground.worker()
    playground.wait_for_log("worker", bundle.bundle_id)
    clicks = [(item, NOW_MS - 1_000_000 + n * 70_000) for n, item in enumerate(["i3", "i7", "unknown", "i3", "i11"])]
    playground.send(("new", item, timestamp_ms) for item, timestamp_ms in clicks)
    update = playground.wait_until_answered()[-1]
    current, settings = following.model.current, playground.settings
    assert current is not None
    session = [SessionClick(item, timestamp_ms) for item, timestamp_ms in clicks]
    choice = Choice(settings.list_length, frozenset(), False)
    found = session_list(Ranking(current.model, current.popular), session, choice, SessionRules.of(settings), NOW_MS)

    assert (update.sequence, update.strategy, update.bundle_id) == (5, "rnn", bundle.bundle_id)
    assert (found.sequence, found.strategy, found.bundle_id) == (5, "rnn", bundle.bundle_id)
    assert msgspec.json.encode(found.items) == msgspec.json.encode(update.items)
