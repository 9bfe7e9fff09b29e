"""What a worker and `nextclick topics` refuse or warn of before anything starts, on a real broker."""

import logging
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import (
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewPartitions,
    NewTopic,
    ResourceType,
)

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from stream.states.data_dir import DataDir
from stream.topics.identity import IDENTITY_KEY, read_identity
from stream.topics.topics import Topics
from tools.client_config import librdkafka_config, producer_config
from tools.kafka import TopicIdentity

NOW_MS = 1_700_000_000_000


def test_a_clicks_topic_that_was_created_anew_is_refused_though_nothing_local_is_left(playground: Any) -> None:
    """Its offsets have even grown past the old fences: only the note in the changelog can tell."""
    settings = playground.settings
    worker = playground.worker()
    playground.send([("u1", "i1", NOW_MS)])
    playground.wait_until_answered()
    worker.stop(10)
    create_anew(playground, settings.clicks_topic)
    playground.send([("u1", f"i{number}", NOW_MS) for number in range(5)])
    shutil.rmtree(playground.folder / "worker")
    playground.worker("again").wait(30)
    topics = playground.start("topics", "topics")
    topics.wait(30)

    said = playground.log("again").read_text()
    assert "now is another one, of id" in said
    assert "--set app=NAME --set recommendations_topic=TOPIC" in said
    assert "Traceback" not in said
    assert last_line(playground.log("topics").read_text()) == last_line(said)
    assert playground.children[1].exit_status == topics.exit_status == 1


@pytest.mark.release
def test_the_remedy_that_the_refusal_names_helps(playground: Any) -> None:
    """Without the old changelog, and the folder that is a copy of it, clicks of the new topic are answered."""
    settings = playground.settings
    worker = playground.worker()
    playground.send([("u1", "i1", NOW_MS)])
    playground.wait_until_answered()
    worker.stop(10)
    create_anew(playground, settings.clicks_topic)
    delete(playground, settings.changelog_topic)
    Topics(settings).create()
    playground.send([("u2", "i2", NOW_MS)])
    refused = playground.worker("worker")
    refused.wait(30)
    shutil.rmtree(playground.folder / "worker")
    playground.worker("again")
    playground.wait_for(lambda: {update.user_id for update in playground.updates()} == {"u1", "u2"}, "u2's update")

    assert "created anew, or is in another cluster. Delete the folder" in refused.log_tail


def test_another_clicks_topic_for_an_application_that_has_states_is_refused(playground: Any) -> None:
    """A fence is an offset of one topic: in another it would skip clicks."""
    other = replace(playground.settings, clicks_topic=f"{playground.settings.clicks_topic}-2")

    with pytest.raises(PermanentError) as refused:
        Topics(other).create()

    assert f"were made from the topic {playground.settings.clicks_topic} of id" in str(refused.value)
    assert f"now is topic {other.clicks_topic}" in str(refused.value)


@pytest.mark.parametrize("grown", ["clicks alone", "all of them"])
def test_more_partitions_than_the_states_were_made_with_are_refused(playground: Any, grown: str) -> None:
    """Users would be looked for in partitions where their states are not, and begin at zero."""
    settings = playground.settings
    topics = [settings.clicks_topic, settings.recommendations_topic, settings.rejected_topic, settings.changelog_topic]
    add_partitions(playground, topics[:1] if grown == "clicks alone" else topics)

    with pytest.raises(PermanentError) as refused:
        Topics(settings).check()

    assert f"topic {settings.clicks_topic} has 6 partitions" in str(refused.value)
    assert "were made with 4" in str(refused.value)
    assert "nextclick repartition" in str(refused.value)


def test_topics_of_different_partition_counts_are_refused_before_anything_is_noted(
    broker: str, topic_prefix: str
) -> None:
    """A changelog that does not fit must not claim to be made for these clicks."""
    settings = settings_of(broker, topic_prefix)
    create(settings, NewTopic(settings.clicks_topic, 2, 1), NewTopic(settings.changelog_topic, 3, 1, config=COMPACT))

    with pytest.raises(PermanentError, match=f"{settings.changelog_topic} has 3 partitions and needs 2"):
        Topics(settings).create()

    assert read_identity(settings) == (None, 0)


COMPACT = {"cleanup.policy": "compact"}


@pytest.mark.parametrize(
    ("name", "policy", "because"),
    [
        ("clicks_topic", "compact", "takes clicks before they are read"),
        ("clicks_topic", "compact,delete", "takes clicks before they are read"),
        ("rejected_topic", "compact", "no record without a key"),
        ("models_topic", "delete", "announcement"),
        ("models_topic", "compact,delete", "announcement"),
        ("changelog_topic", "delete", "states"),
        ("changelog_topic", "compact,delete", "states"),
    ],
)
def test_a_cleanup_policy_that_loses_something_is_refused(
    playground: Any, name: str, policy: str, because: str
) -> None:
    """Whoever created the topic; the message says what would be lost."""
    topic = getattr(playground.settings, name)
    alter(playground.settings, topic, "cleanup.policy", policy)

    with pytest.raises(PermanentError) as refused:
        Topics(playground.settings).check()

    message = str(refused.value)
    assert message.startswith(f"topic {topic} expects cleanup.policy=")
    assert f"found '{policy}'" in message
    assert because in message


@pytest.mark.parametrize(
    ("name", "option", "value", "weakens"),
    [
        ("changelog_topic", "min.compaction.lag.ms", "60000", "writes an old state late can win"),
        ("recommendations_topic", "cleanup.policy", "delete", "outdated lists"),
    ],
)
def test_what_only_weakens_a_promise_is_said(
    playground: Any, caplog: pytest.LogCaptureFixture, name: str, option: str, value: str, weakens: str
) -> None:
    """One warning that names the topic and what it weakens; the worker starts."""
    topic = getattr(playground.settings, name)
    alter(playground.settings, topic, option, value)
    with caplog.at_level(logging.WARNING, "stream"):
        checked = Topics(playground.settings).check()

    [warning] = caplog.messages
    assert checked.clicks.partitions == 4
    assert warning.startswith(f"topic {topic} should have {option}=")
    assert weakens in warning


def test_topics_as_they_are_created_raise_no_warning(playground: Any, caplog: pytest.LogCaptureFixture) -> None:
    """A second check finds what the first one noted, and says nothing."""
    with caplog.at_level(logging.WARNING):
        first, second = Topics(playground.settings).check(), Topics(playground.settings).check()

    assert first == second
    assert caplog.messages == []
    assert playground.count(playground.settings.changelog_topic) == 1


def test_states_from_before_there_were_notes_are_said_once(
    broker: str, topic_prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    """They are taken for states of the clicks topic as it is; the note is found behind them from then on."""
    settings = settings_of(broker, topic_prefix)
    create(settings, NewTopic(settings.clicks_topic, 1, 1), NewTopic(settings.changelog_topic, 1, 1, config=COMPACT))
    alter(settings, settings.changelog_topic, "min.compaction.lag.ms", "3600000")
    produce(settings, settings.changelog_topic, [(f"u{number}".encode(), b"state") for number in range(2_500)])
    with caplog.at_level(logging.WARNING, "stream"):
        Topics(settings).create()
        Topics(settings).check()

    [warning] = caplog.messages
    noted, n_before = read_identity(settings)
    assert "does not say which clicks its states were made from" in warning
    assert noted is not None
    assert noted.topic == settings.clicks_topic
    assert n_before == 2_500


def test_something_else_in_the_place_of_the_note_is_refused(broker: str, topic_prefix: str) -> None:
    """Never guessed at."""
    settings = settings_of(broker, topic_prefix)
    create(settings, NewTopic(settings.clicks_topic, 1, 1), NewTopic(settings.changelog_topic, 1, 1, config=COMPACT))
    produce(settings, settings.changelog_topic, [(IDENTITY_KEY, b"\x00")])

    with pytest.raises(PermanentError, match=f"{settings.changelog_topic} has bytes .* that are no note"):
        Topics(settings).create()


def test_a_worker_refuses_a_folder_with_states_of_another_cluster(playground: Any) -> None:
    """One line that says what to do, and a status. The other folders that are refused are in the tests of `DataDir`."""
    settings = playground.settings
    folder = DataDir(playground.folder / "worker", settings.app)
    folder.claim_changelog(settings.changelog_topic, "of-another-cluster")
    os.close(folder._lock)  # as the end of its process does
    worker = playground.worker()
    worker.wait(30)

    assert worker.exit_status == 1
    assert "created anew, or is in another cluster" in last_line(worker.log_tail)
    assert "--set data_dir=PATH" in last_line(worker.log_tail)
    assert "Traceback" not in worker.log_tail


def test_topics_that_do_not_exist_are_refused(broker: str, topic_prefix: str) -> None:
    """The message names what creates them."""
    with pytest.raises(PermanentError, match="nextclick topics"):
        Topics(settings_of(broker, topic_prefix)).check()


@pytest.mark.parametrize("session_timeout_s", ["1", "90"])
def test_a_worker_works_at_both_ends_of_the_session_timeouts_range(playground: Any, session_timeout_s: str) -> None:
    """What the setting allows, Faust takes, and a broker that allows it."""
    playground.worker("worker", "--set", f"session_timeout_s={session_timeout_s}")
    playground.send([("u1", "i1", NOW_MS)])
    [update] = playground.wait_until_answered()

    assert update.user_id == "u1"


def test_the_note_names_the_topic_by_the_id_that_the_broker_gives(playground: Any) -> None:
    """And the partition count; it is the changelog's first record."""
    settings = playground.settings

    noted, n_before = read_identity(settings)

    assert n_before == 0
    assert isinstance(noted, TopicIdentity)
    assert (noted.topic, noted.partitions) == (settings.clicks_topic, 4)
    assert len(noted.topic_id) == 22  # 16 bytes in base64


def settings_of(broker: str, name: str) -> Settings:
    """Settings with topics that do not exist yet."""
    return Settings(
        broker=broker,
        app=f"{name}-app",
        clicks_topic=f"{name}-clicks",
        recommendations_topic=f"{name}-recommendations",
        rejected_topic=f"{name}-clicks-rejected",
        models_topic=f"{name}-models",
        items_topic=f"{name}-items",
    )


def admin_of(settings: Settings) -> AdminClient:
    return AdminClient(librdkafka_config(settings))


def create(settings: Settings, *topics: NewTopic) -> None:
    """Create topics as someone else would, and wait until the broker tells of them."""
    admin = admin_of(settings)
    for future in admin.create_topics(list(topics)).values():
        future.result(10)
    names = {topic.topic for topic in topics}
    wait_for(lambda: names <= set(admin.list_topics(timeout=10).topics), "the topics are known")


def delete(playground: Any, topic: str) -> None:
    admin = admin_of(playground.settings)
    admin.delete_topics([topic])[topic].result(10)
    playground.wait_for(lambda: topic not in admin.list_topics(timeout=10).topics, f"{topic} is gone")


def create_anew(playground: Any, topic: str) -> None:
    delete(playground, topic)
    create(playground.settings, NewTopic(topic, 4, 1))


def add_partitions(playground: Any, topics: list[str]) -> None:
    admin = admin_of(playground.settings)
    for future in admin.create_partitions([NewPartitions(topic, 6) for topic in topics]).values():
        future.result(10)
    wait_for(lambda: all(len(admin.list_topics(topic, 10).topics[topic].partitions) == 6 for topic in topics), "6 each")


def alter(settings: Settings, topic: str, option: str, value: str) -> None:
    """Alter a topic's configuration, and wait until the broker gives the new value."""
    admin = admin_of(settings)
    entry = ConfigEntry(option, value, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
    admin.incremental_alter_configs([resource])[resource].result(10)
    asked = ConfigResource(ResourceType.TOPIC, topic)
    wait_for(
        lambda: admin.describe_configs([asked])[asked].result(10)[option].value == value, f"{option} of {topic} altered"
    )


def produce(settings: Settings, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    producer = Producer(producer_config(settings))
    for key, value in records:
        producer.produce(topic, value, key)
    assert producer.flush(30) == 0


def wait_for(condition: Callable[[], bool], what: str, deadline_s: float = 10.0) -> None:
    """Return once the condition is true; fail with what was waited for."""
    end_s = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end_s, f"{what} within {deadline_s:.0f} s"
        time.sleep(0.05)


def last_line(text: str) -> str:
    return text.splitlines()[-1]
