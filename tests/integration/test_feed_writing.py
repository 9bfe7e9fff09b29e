"""What a client is told when the broker does not take clicks, and that clicks are taken again when that is mended."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from demo.kafka_process import free_port
from demo.local_kafka import LocalKafka
from tests.integration.conftest import Playground
from tests.served_feed import ServedFeed

PASSWORD = "s3cret-of-this-test"
CLICK = {"user_id": "ann", "item_id": "lamp"}


@dataclass
class GuardedBroker:
    """A broker on which the user `feed` may do what it was granted, and nothing else.

    Attributes:
        address: for that user, who has a password.
        admin: may do everything.
    """

    address: str
    admin: AdminClient

    def create(self, topic: str, **config: str) -> None:
        """Create a topic."""
        self.admin.create_topics([NewTopic(topic, 1, 1, config=config)])[topic].result(30)

    def grant(self, topic: str, operation: Any) -> None:
        """Let the user do something with a topic."""
        who, allowed = "User:feed", AclPermissionType.ALLOW
        right = AclBinding(ResourceType.TOPIC, topic, ResourcePatternType.LITERAL, who, "*", operation, allowed)
        self.admin.create_acls([right])[right].result(30)

    def revoke_all(self) -> None:
        """Let the user do nothing."""
        anything = AclBindingFilter(
            ResourceType.ANY,
            None,
            ResourcePatternType.ANY,
            "User:feed",
            None,
            AclOperation.ANY,
            AclPermissionType.ANY,
        )
        self.admin.delete_acls([anything])[anything].result(30)

    def feed(self, folder: Path, topic: str, **settings: Any) -> ServedFeed:
        """Give a feed that writes to a topic as that user."""
        login = {
            "security_protocol": "SASL_PLAINTEXT",
            "sasl_mechanism": "PLAIN",
            "sasl_username": "feed",
            "sasl_password": PASSWORD,
        }
        return ServedFeed(folder, broker=self.address, clicks_topic=topic, **(login | settings))


@pytest.fixture(scope="module")
def shared_guarded_broker() -> Iterator[GuardedBroker]:
    """One for all tests here."""
    port, guarded, controller = free_port(), free_port(), free_port()
    listener = "listener.name.sasl_plaintext"
    listeners = f"PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{guarded}"
    config = {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        f"{listener}.sasl.enabled.mechanisms": "PLAIN",
        f"{listener}.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f'user_feed="{PASSWORD}";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    with LocalKafka(port=port, config=config):
        yield GuardedBroker(f"127.0.0.1:{guarded}", AdminClient({"bootstrap.servers": f"127.0.0.1:{port}"}))


@pytest.fixture
def guarded_broker(shared_guarded_broker: GuardedBroker) -> Iterator[GuardedBroker]:
    """The broker, on which the user has no right yet."""
    yield shared_guarded_broker
    shared_guarded_broker.revoke_all()


def click(feed: ServedFeed) -> httpx2.Response:
    """Send a click."""
    return httpx2.post(f"{feed.url}/v1/clicks", json=CLICK, timeout=15)


def assert_said(answer: httpx2.Response, kind: str, *said: str) -> None:
    """The problem is of a kind, and its detail says all of this."""
    assert answer.json()["type"] == f"urn:nextclick:problem:{kind}", answer.text
    assert [text for text in said if text not in answer.json()["detail"]] == []


def wait_until_taken(feed: ServedFeed) -> None:
    """Clicks are taken, by the feed that has refused them."""
    Playground.wait_for(lambda: click(feed).status_code == 200, "clicks are taken")
    assert feed.failures == []


def test_a_producer_that_has_failed_for_good_is_replaced(
    guarded_broker: GuardedBroker, topic_prefix: str, tmp_path: Path
) -> None:
    """Here for want of a right: everyone is told at once, and when it is granted, clicks are taken."""
    guarded_broker.create(topic_prefix)
    guarded_broker.grant(topic_prefix, AclOperation.DESCRIBE)
    with guarded_broker.feed(tmp_path, topic_prefix) as feed:

        async def ask() -> list[httpx2.Response]:
            async with httpx2.AsyncClient(timeout=15) as client:
                return await asyncio.gather(*(client.post(f"{feed.url}/v1/clicks", json=CLICK) for _ in range(20)))

        answers = [*asyncio.run(ask()), click(feed), click(feed)]
        guarded_broker.grant(topic_prefix, AclOperation.WRITE)
        wait_until_taken(feed)

    for answer in answers:
        assert_said(answer, "cannot-write", "CLUSTER_AUTHORIZATION_FAILED", "grant its user WRITE", topic_prefix)


def test_a_topic_that_may_not_be_written_to_is_said(
    guarded_broker: GuardedBroker, topic_prefix: str, tmp_path: Path
) -> None:
    """With what to grant; and when it is granted, clicks are taken."""
    guarded_broker.create(topic_prefix)
    guarded_broker.grant(f"{topic_prefix}-other", AclOperation.WRITE)
    with guarded_broker.feed(tmp_path, topic_prefix) as feed:
        answer = click(feed)
        guarded_broker.grant(topic_prefix, AclOperation.WRITE)
        wait_until_taken(feed)

    assert_said(answer, "cannot-write", "TOPIC_AUTHORIZATION_FAILED", topic_prefix)


def test_a_topic_that_is_missing_is_said(guarded_broker: GuardedBroker, topic_prefix: str, tmp_path: Path) -> None:
    """With the command that creates it; and when it is there, clicks are taken."""
    guarded_broker.grant(topic_prefix, AclOperation.WRITE)
    with guarded_broker.feed(tmp_path, topic_prefix) as feed:
        answers = [click(feed), click(feed)]
        guarded_broker.create(topic_prefix)
        wait_until_taken(feed)

    for answer in answers:
        assert_said(answer, "cannot-write", f"no topic {topic_prefix}", "nextclick topics")


def test_a_record_that_is_too_large_for_the_topic_is_said(
    guarded_broker: GuardedBroker, topic_prefix: str, tmp_path: Path
) -> None:
    """It is the click's fault: others are taken."""
    guarded_broker.create(topic_prefix, **{"max.message.bytes": "300"})
    guarded_broker.grant(topic_prefix, AclOperation.WRITE)
    with guarded_broker.feed(tmp_path, topic_prefix) as feed:
        answer = httpx2.post(f"{feed.url}/v1/clicks", json=CLICK | {"item_id": "x" * 256}, timeout=15)
        wait_until_taken(feed)

    assert answer.status_code == 422
    assert_said(answer, "click-refused", "max.message.bytes", topic_prefix)


def test_a_login_that_is_wrong_is_said(guarded_broker: GuardedBroker, topic_prefix: str, tmp_path: Path) -> None:
    """Without the password."""
    with guarded_broker.feed(tmp_path, topic_prefix, sasl_password="wrong-password") as feed:
        answer = click(feed)

    assert_said(answer, "cannot-write", "login", "sasl_password")
    assert "wrong-password" not in answer.text
