"""What the shop says of its items, from the topic to the lists of real workers and a real feed.

Where users click for some seconds without a condition, that is the time in which a list that must not come could come.
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from demo.children import Child
from demo.local_kafka import LocalKafka
from nextclick.catalogue import ShopItem, encode_item
from nextclick.updates import POPULAR, RNN, RecommendationUpdate
from stream.topics.topics import Topics
from tests.chaos.bundles import announce, mixed_bundle, untrained_bundle
from tests.clicking import clicking
from tests.feeds import FeedUnderTest
from tests.trainers import free_port, metric
from tools.client_config import librdkafka_config, producer_config
from tools.items.topic import ItemWriter

ITEMS = [f"i{number}" for number in range(30)]
NEW = [f"new{number}" for number in range(25)]  # no bundle knows them
PROMISE_MS = 1_000
# A worker that hears nothing of the topic while a file is there, as if its partition had no leader.
DEAF_WORKER = """
import os, sys
import tools.items.follower as follower
from confluent_kafka import KafkaError, KafkaException
ask = follower._Reading.ask
def deaf(self):
    if os.path.exists(os.environ["DEAF"]):
        raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))
    ask(self)
follower._Reading.ask = deaf
from cli.main import main
main()
"""


class Withdrawal(NamedTuple):
    """An item that was withdrawn: it was acknowledged at `at_ms`, and offered again from `until_ms` on."""

    item_id: str
    at_ms: int
    until_ms: float = float("inf")


def say(playground: Any, item_id: str, item: ShopItem | None) -> int:
    """Say something of an item; gives when the broker had it."""
    writer = ItemWriter(playground.settings)
    writer.write(item_id, item)
    writer.flush()
    return int(time.time() * 1000)


def run(playground: Any, name: str, *arguments: str) -> None:
    """Run a command to its end."""
    child = playground.start(name, *arguments)
    child.wait(60)
    assert child.exit_status == 0, child.log_tail


def wait_for_lists(playground: Any, more: int = 100) -> None:
    """Wait until there are so many more lists."""
    topic = playground.settings.recommendations_topic
    wanted = playground.count(topic) + more
    playground.wait_for(lambda: playground.count(topic) >= wanted, f"{more} more lists")


def times_with(updates: Sequence[RecommendationUpdate], item_id: str) -> list[int]:
    """Give when each list with an item was made."""
    return [each.produced_at_ms for each in updates if any(item.item_id == item_id for item in each.items)]


def assert_kept(updates: Sequence[RecommendationUpdate], withdrawals: Sequence[Withdrawal]) -> None:
    """No list that was made more than a second after a withdrawal has the item; says how late the last ones were."""
    late = []
    for item_id, at_ms, until_ms in withdrawals:
        times = times_with(updates, item_id)
        late.append(max((each - at_ms for each in times if at_ms < each <= until_ms), default=0))
    print("WITHDRAWN: the last lists with an item were made so many ms later:", late)

    assert max(late) <= PROMISE_MS
    assert any(times_with(updates, each.item_id) for each in withdrawals)


def test_an_item_that_is_withdrawn_is_in_no_list_made_more_than_a_second_later(playground: Any) -> None:
    """On two workers, in lists of the network and in popular ones, after both were killed, and in repeated updates."""
    announce(playground.settings, mixed_bundle(playground.settings.bundle_dir, ITEMS, seed=1))
    children = [playground.worker(name) for name in ("one", "two")]
    withdrawals = []
    with clicking(playground.settings, ITEMS + NEW):
        wait_for_lists(playground, 600)
        for item_id in [*ITEMS[:5], *NEW[:5]]:
            withdrawals.append(Withdrawal(item_id, say(playground, item_id, ShopItem(available=False))))
            time.sleep(0.2)
        wait_for_lists(playground)
        for child in children:
            child.kill()
        say(playground, ITEMS[5], ShopItem(available=False))
        time.sleep(1.0)
        killed_ms = int(time.time() * 1000)
        withdrawals.append(Withdrawal(ITEMS[5], killed_ms - 1_000))
        for name in ("one", "two"):
            playground.worker(name)
        wait_for_lists(playground, 600)
        until_ms = int(time.time() * 1000)  # a worker can know it before its sender hears that it was written
        say(playground, ITEMS[0], None)
        withdrawals[0] = withdrawals[0]._replace(until_ms=until_ms)
        time.sleep(3.0)
    updates = playground.wait_until_answered()
    after = [update for update in updates if update.produced_at_ms > killed_ms]

    assert_kept(updates, withdrawals)
    assert {update.strategy for update in after} == {RNN} or {update.strategy for update in after} == {RNN, POPULAR}
    assert any(each > until_ms for each in times_with(updates, ITEMS[0]))
    assert not times_with(after, ITEMS[5])
    sources = [(update.source.partition, update.source.offset) for update in updates]
    print("repeated updates:", len(sources) - len(set(sources)))


def test_popular_lists_have_no_item_that_is_withdrawn(playground: Any) -> None:
    """Without a bundle; also at a moment that was said before, and what cannot be read is passed over."""
    port = free_port()
    playground.worker("worker", "--set", f"worker_port={port}")
    settings = playground.settings
    with clicking(playground.settings, ITEMS):
        wait_for_lists(playground, 300)
        at_ms = int(time.time() * 1000) + 2_000
        say(playground, ITEMS[0], ShopItem(expires_at_ms=at_ms))
        say(playground, ITEMS[1], ShopItem(published_at_ms=at_ms))
        producer = Producer(producer_config(settings))
        for key, value in ((ITEMS[2], b"{"), (ITEMS[2], b'{"availble":false}'), (b"", b"{}"), (b"\xff", b"{}")):
            producer.produce(settings.items_topic, value, key)
        producer.flush()
        withdrawn_ms = say(playground, ITEMS[3], ShopItem(available=False))
        time.sleep(4.0)
    updates = playground.wait_until_answered()

    assert {update.strategy for update in updates} == {POPULAR}
    assert_kept(updates, [Withdrawal(ITEMS[0], at_ms), Withdrawal(ITEMS[3], withdrawn_ms)])
    published = times_with(updates, ITEMS[1])
    hidden_from = withdrawn_ms + PROMISE_MS
    assert not [each for each in published if hidden_from < each < at_ms]
    assert [each for each in published if each >= at_ms]
    assert metric(port, "nextclick_items_unreadable_total") == 4
    assert metric(port, "nextclick_items") == 3
    assert "a record of an item is passed over" in playground.log("worker").read_text()


@pytest.mark.release
def test_a_topic_that_is_created_late_is_followed_and_one_that_is_created_anew_begins_anew(playground: Any) -> None:
    """Until then a worker is as it was without one."""
    settings = playground.settings
    admin = AdminClient(librdkafka_config(settings))
    admin.delete_topics([settings.items_topic])[settings.items_topic].result(30)
    announce(settings, untrained_bundle(settings.bundle_dir, ITEMS, seed=1))
    playground.worker()
    with clicking(playground.settings, ITEMS):
        wait_for_lists(playground, 200)
        playground.wait_for_log("worker", "there is no topic")
        Topics(settings).create()
        playground.wait_for_log("worker", "what the shop says of its items is read")
        withdrawals = [Withdrawal(item, say(playground, item, ShopItem(available=False))) for item in ITEMS[:6]]
        wait_for_lists(playground, 300)
        time.sleep(1.0)
        admin.delete_topics([settings.items_topic])[settings.items_topic].result(30)
        time.sleep(0.5)
        deleted_ms = int(time.time() * 1000)
        Topics(settings).create()
        withdrawals = [each._replace(until_ms=deleted_ms) for each in withdrawals]
        playground.wait_for(
            lambda: playground.log("worker").read_text().count("items is read") >= 2, "the new topic is followed"
        )
        withdrawals.append(Withdrawal(ITEMS[20], say(playground, ITEMS[20], ShopItem(available=False))))
        time.sleep(3.0)
    updates = playground.wait_until_answered()

    assert_kept(updates, withdrawals)
    assert [each for each in times_with(updates, ITEMS[0]) if each > deleted_ms]


def test_lists_wait_where_it_is_not_known_whether_an_item_was_withdrawn(playground: Any) -> None:
    """Heartbeats go on and nothing is lost; an unfinished transaction of somebody's is no such case."""
    port, deaf = free_port(), playground.folder / "deaf"
    announce(playground.settings, untrained_bundle(playground.settings.bundle_dir, ITEMS, seed=1))
    start = partial(Child, program=DEAF_WORKER)
    environment = {"NEXTCLICK_STALL_S": "6", "DEAF": str(deaf)}  # more than a start may wait for its bundle
    playground.worker("worker", "--set", f"worker_port={port}", start_child=start, **environment)
    with clicking(playground.settings, ITEMS):
        wait_for_lists(playground, 200)
        deaf.touch()
        playground.wait_for_log("worker", "lists wait: it is not known")
        withdrawn_ms = say(playground, ITEMS[0], ShopItem(available=False))
        waiting = playground.count(playground.settings.recommendations_topic)
        time.sleep(13.0)  # more than twice what stands still for too long
        waited = playground.count(playground.settings.recommendations_topic)
        deaf.unlink()
        playground.wait_for_log("worker", "lists have waited for the topic of items")
        wait_for_lists(playground, 200)
        open_transaction = begin_transaction(playground, ITEMS[1])
        wait_for_lists(playground, 300)
        open_transaction.commit_transaction(30)
        committed_ms = int(time.time() * 1000)
        time.sleep(2.5)
    updates = playground.wait_until_answered()

    assert waited == waiting
    assert_kept(updates, [Withdrawal(ITEMS[0], withdrawn_ms), Withdrawal(ITEMS[1], committed_ms)])
    assert [each for each in times_with(updates, ITEMS[1]) if withdrawn_ms < each < committed_ms]
    assert metric(port, "nextclick_items_waited_seconds_total") > 13
    assert playground.log("worker").read_text().count("worker started") == 1
    playground.assert_sequences_are_right(updates)


def begin_transaction(playground: Any, item_id: str) -> Producer:
    """Withdraw an item in a transaction, which is left open."""
    transactional = {"transactional.id": f"{playground.settings.app}-shop"}
    producer = Producer(producer_config(playground.settings) | transactional)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(playground.settings.items_topic, encode_item(ShopItem(available=False)), item_id)
    producer.flush(30)
    return producer


@pytest.mark.release
def test_a_broker_that_was_away_costs_no_promise(outage: Any, broker_to_stop: LocalKafka) -> None:
    """What is withdrawn as soon as it is back is in no list a second later, and the worker has lived on."""
    announce(outage.settings, untrained_bundle(outage.settings.bundle_dir, ITEMS, seed=1))
    outage.worker()
    with clicking(outage.settings, ITEMS):
        wait_for_lists(outage, 200)
        broker_to_stop.stop(keep_data=True)
        time.sleep(3.0)
        broker_to_stop.start()
        withdrawals = [Withdrawal(item, say(outage, item, ShopItem(available=False))) for item in ITEMS[:8]]
        wait_for_lists(outage, 300)
        broker_to_stop.pause()
        time.sleep(3.0)
        broker_to_stop.resume()
        withdrawals += [Withdrawal(item, say(outage, item, ShopItem(available=False))) for item in ITEMS[8:10]]
        wait_for_lists(outage, 300)
        time.sleep(1.0)
    updates = outage.wait_until_answered()

    assert_kept(updates, withdrawals)
    assert outage.log("worker").read_text().count("worker started") == 1


@pytest.mark.release
def test_a_feed_answers_without_what_is_withdrawn_and_with_titles(playground: Any) -> None:
    """Stored lists and sessions, also right after a restart, and with the commands that an operator has."""
    settings = playground.settings
    announce(settings, untrained_bundle(settings.bundle_dir, ITEMS, seed=1))
    playground.worker()
    playground.wait_for_log("worker", "serving a new bundle")
    playground.send([("ann", ITEMS[0], 1_764_000_000_000)])
    [update] = playground.wait_until_answered()
    listed = [item.item_id for item in update.items]
    file = playground.folder / "catalogue.csv"
    rows = [f"{item_id};Title of {item_id};{'shoes|all' if n % 2 else 'all'}" for n, item_id in enumerate(listed)]
    file.write_text("\n".join(["sku;name;categories", *rows]))
    run(playground, "load", "items", "load", str(file), "--column", "title=name")
    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")
    path, session = "/v1/users/ann/recommendations", {"clicks": [{"item_id": ITEMS[0]}]}

    def ids(answer: Any) -> list[str]:
        return [item["item_id"] for item in answer.body["items"]]

    whole = feed.ask(path)
    assert ids(whole) == listed
    assert [item["title"] for item in whole.body["items"]] == [f"Title of {item_id}" for item_id in listed]
    assert ids(feed.ask(f"{path}?category=shoes")) == listed[1::2]
    run(playground, "withdraw", "items", "withdraw", listed[0], listed[3])
    playground.wait_for(lambda: listed[0] not in ids(feed.ask(path)), "the item is gone", 5.0)
    assert ids(feed.ask(path)) == [item_id for item_id in listed if item_id not in (listed[0], listed[3])]
    sessions = "/v1/sessions/recommendations?limit=200"
    playground.wait_for(lambda: feed.ask(sessions, session).status == 200, "the feed has the bundle")
    in_session = ids(feed.ask(sessions, session))
    assert sorted(in_session) == sorted(set(ITEMS) - {listed[0], listed[3]})
    feed.process.kill()
    again = FeedUnderTest(playground)
    playground.wait_for(again.is_ready, "the feed is ready again")
    assert listed[0] not in ids(again.ask(path))
    run(playground, "show", "items", "show", listed[0])
    shown = playground.log("show").read_text()
    assert '"available": false' in shown
    assert f'"title": "Title of {listed[0]}"' in shown
    assert "it cannot be in lists now" in shown
    run(playground, "offer", "items", "offer", listed[0])
    playground.wait_for(lambda: listed[0] in ids(again.ask(path)), "the item is back", 5.0)
