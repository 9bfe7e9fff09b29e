"""The chaos suite notices when a mechanism is missing."""

import os
import signal
from typing import Any

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from demo.children import Child
from demo.simulator import Law, Simulator
from tests.chaos.broken_worker import broken
from tools.client_config import consumer_config, producer_config

NOW_MS = 1_700_000_000_000
FEW_USERS = Law(active_users=60, resting_users=60)
Playground = Any


def clicks(count: int) -> list[tuple[str, str, int]]:
    """Clicks of few users: every user has several."""
    return [(c.user_id, c.item_id, NOW_MS) for c in Simulator(FEW_USERS, 1).next_clicks(NOW_MS, count)]


def starter(mechanism: str | None) -> Any:
    """What starts a worker without a mechanism, or a whole one."""
    return broken(mechanism) if mechanism is not None else Child


def committed(playground: Playground) -> int:
    """How many clicks the workers have committed."""
    consumer = Consumer(consumer_config(playground.settings, playground.settings.app))
    try:
        partitions = range(playground.settings.partitions)
        offsets = consumer.committed([TopicPartition(playground.settings.clicks_topic, p) for p in partitions], 10)
        return sum(max(0, position.offset) for position in offsets)
    finally:
        consumer.close()


@pytest.mark.parametrize("mechanism", ["fence", None])
def test_without_the_fence_clicks_are_reported_as_doubled(playground: Playground, mechanism: str | None) -> None:
    """Nothing is committed before the kill, so every click is read again."""
    options = {"start_child": starter(mechanism), "NEXTCLICK_COMMIT_INTERVAL_S": "600"}
    worker = playground.worker(**options)
    playground.send(clicks(600))
    playground.wait_until_answered()
    os.kill(worker.pid, signal.SIGKILL)
    n_before = playground.count(playground.settings.recommendations_topic)
    playground.worker(**options)
    playground.wait_for(
        lambda: playground.count(playground.settings.recommendations_topic) >= n_before + 600, "600 repeated updates"
    )
    report = playground.verify()

    assert report.repeated_updates == (0 if mechanism else 600)
    assert report.doubled == (600 if mechanism else 0)
    assert set(report.violations) == ({"doubled", "wrong_states"} if mechanism else set())


@pytest.mark.parametrize("mechanism", ["order", None])
def test_without_the_ordered_acknowledgement_clicks_are_reported_as_lost(
    playground: Playground, mechanism: str | None
) -> None:
    """A kill between the commit and the results of a chunk."""
    worker = playground.worker(start_child=starter(mechanism), NEXTCLICK_COMMIT_INTERVAL_S="0.1")
    playground.wait_for_log("worker", "partitions assigned")
    playground.send(clicks(600))
    playground.wait_for(lambda: committed(playground) > 0, "a commit")
    os.kill(worker.pid, signal.SIGKILL)
    playground.worker()
    playground.wait_for(lambda: committed(playground) == 600, "everything committed")
    report = playground.verify()

    assert (report.lost > 0) == (mechanism is not None)
    assert (report.unanswered > 0) == (mechanism is not None)
    assert set(report.violations) == ({"lost", "unanswered"} if mechanism else set())


@pytest.mark.parametrize("mechanism", ["recovery", None])
def test_without_the_rule_of_the_highest_fence_clicks_are_reported_as_lost(
    playground: Playground, mechanism: str | None
) -> None:
    """A late write of an evicted worker, and a recovery from nothing after it."""
    settings = playground.settings
    worker = playground.worker("first")
    sent = clicks(600)
    playground.send(sent[:300])
    playground.wait_until_answered()
    late = playground.read(settings.changelog_topic)
    playground.send(sent[300:])
    playground.wait_until_answered()
    worker.stop(10)
    producer = Producer(producer_config(settings))
    for message in late:
        producer.produce(settings.changelog_topic, message.value(), message.key(), message.partition())
    assert producer.flush(10) == 0
    playground.worker("second", start_child=starter(mechanism))
    playground.send(sent[300:])
    playground.wait_until_answered()
    report = playground.verify()

    assert report.late_states > 0
    assert (report.lost > 0) == (mechanism is not None)
    assert ("out_of_order" in report.violations) == (mechanism is not None)
    assert mechanism is not None or report.violations == {}
