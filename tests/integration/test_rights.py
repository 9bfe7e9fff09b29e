"""The rights that deploy/kubernetes gives each program's user are enough, and no more than it needs."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

from demo.kafka_process import free_port
from demo.local_kafka import LocalKafka
from nextclick.settings import Settings
from tests.integration.conftest import SESSION_TIMEOUT_S, Playground, create_topics, make_playground
from tests.shared_broker import BROKER_CONFIG

pytestmark = pytest.mark.release

USERS = Path(__file__).parents[2] / "deploy" / "kubernetes" / "components" / "strimzi" / "users.yaml"
PASSWORD = "s3cret-of-this-test"
OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}
KINDS = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}


def rights() -> dict[str, list[AclBinding]]:
    """What Strimzi's user operator would ask Kafka for, by user."""
    return {
        user["metadata"]["name"]: [
            AclBinding(
                KINDS[acl["resource"]["type"]],
                acl["resource"]["name"],
                PATTERNS[acl["resource"]["patternType"]],
                f"User:{user['metadata']['name']}",
                "*",
                OPERATIONS[operation],
                AclPermissionType.ALLOW,
            )
            for acl in user["spec"]["authorization"]["acls"]
            for operation in acl["operations"]
        ]
        for user in yaml.safe_load_all(USERS.read_text())
    }


def status(address: str, body: bytes | None = None) -> int:
    """How the feed answers; 0: not yet."""
    try:
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@dataclass
class Cluster:
    """A broker that lets users do what they were granted, with the topics of the application `nextclick`.

    Attributes:
        playground: with rights to everything.
        guarded: address for users, who have a password.
        admin: may grant rights.
    """

    playground: Playground
    guarded: str
    admin: AdminClient

    def run(self, user: str, *arguments: str) -> tuple[int | None, str]:
        """Run a command as a user; give its exit status and all that it says."""
        child = self.start(user, *arguments)
        child.wait(60)
        return child.exit_status, self.playground.log(f"{user}-{arguments[0]}").read_text()

    def start(self, user: str, *arguments: str) -> Any:
        """Start a program as a user."""
        login = {
            "NEXTCLICK_BROKER": self.guarded,
            "NEXTCLICK_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
            "NEXTCLICK_SASL_MECHANISM": "PLAIN",
            "NEXTCLICK_SASL_USERNAME": user,
            "NEXTCLICK_SASL_PASSWORD": PASSWORD,
        }
        return self.playground.start(f"{user}-{arguments[0]}", *arguments, **login)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Topics, users and rights as the manifests have them."""
    port, guarded, controller = free_port(), free_port(), free_port()
    listener, granted = "listener.name.sasl_plaintext", rights()
    users = " ".join(f'user_{user}="{PASSWORD}"' for user in granted)
    listeners = f"PLAINTEXT://127.0.0.1:{port},SASL_PLAINTEXT://127.0.0.1:{guarded}"
    config = BROKER_CONFIG | {
        "listeners": f"{listeners},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": listeners,
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        f"{listener}.sasl.enabled.mechanisms": "PLAIN",
        f"{listener}.plain.sasl.jaas.config": "org.apache.kafka.common.security.plain.PlainLoginModule required "
        f"{users};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    folder = tmp_path_factory.mktemp("rights")
    with LocalKafka(port=port, config=config) as kafka:
        playground = make_playground(kafka.bootstrap, "unused", folder, SESSION_TIMEOUT_S)
        names = {field: getattr(Settings(), field) for field in Settings.__dataclass_fields__ if "topic" in field}
        playground.settings = replace(playground.settings, app="nextclick", **names)
        create_topics(playground.settings)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for right in (right for of_user in granted.values() for right in of_user):
            admin.create_acls([right])[right].result(30)
        yield Cluster(playground, f"127.0.0.1:{guarded}", admin)
        playground.stop()


@pytest.mark.timeout(400)
def test_every_program_does_its_work_with_the_rights_of_its_user(cluster: Cluster) -> None:
    """Clicks are answered, logged, learnt from and read; a bad one is rejected; an item is withdrawn by the shop."""
    playground, folder = cluster.playground, cluster.playground.folder
    playground.settings = replace(
        playground.settings, feed_port=free_port(), feed_dir=folder / "feed", min_clicks=100, log_flush_s=1.0
    )
    lists = f"http://127.0.0.1:{playground.settings.feed_port}/v1"
    worker, feed = cluster.start("nextclick-worker", "stream"), cluster.start("nextclick-feed", "feed")
    playground.send(
        (f"user-{n % 20}", f"item-{(n % 20 * 3 + n // 20) % 60}", 1_700_000_000_000 + n * 1_000) for n in range(300)
    )
    playground.send_raw([(b"user-1", b"no click")])
    playground.wait_until_answered()
    playground.wait_for(lambda: status(f"{lists}/users/user-1/recommendations") == 200, "the feed has the list")
    taken = status(f"{lists}/clicks", b'{"user_id": "user-1", "item_id": "item-2"}')
    items = folder / "items.jsonl"
    items.write_text('{"item_id": "item-1", "available": false}\n')
    loaded = cluster.start("shop", "items", "load", str(items))
    trainer = cluster.start("nextclick-trainer", "train", "--once")
    for child in (loaded, trainer):
        child.wait(200)
    playground.wait_for(lambda: playground.count(playground.settings.rejected_topic) == 1, "the bad click is rejected")

    assert taken == 200
    assert loaded.exit_status == 0, loaded.log_tail
    assert trainer.exit_status == 0, trainer.log_tail
    assert playground.read(playground.settings.models_topic), f"a bundle is announced: {trainer.log_tail}"
    assert [child.exit_status for child in (worker, feed)] == [None, None], worker.log_tail + feed.log_tail
    for name in ("nextclick-worker-stream", "nextclick-feed-feed"):
        assert "uthoriz" not in playground.log(name).read_text()


def test_a_user_may_not_do_what_others_do(cluster: Cluster) -> None:
    """The feed's user can neither announce a bundle nor join the workers' group."""
    refused = cluster.start("nextclick-feed", "stream", "--set", f"data_dir={cluster.playground.folder / 'refused'}")
    refused.wait(60)

    assert refused.exit_status == 1
    assert "uthoriz" in refused.log_tail


@pytest.mark.parametrize("user", ["nextclick-worker", "nextclick-trainer"])
def test_doctor_may_look_at_everything_in_a_pod_of_worker_or_trainer(cluster: Cluster, user: str) -> None:
    """Topics and their configuration, groups, a sample of the clicks: the runbooks begin with it."""
    cluster.playground.send([("user-1", "item-1", 1_700_000_000_000)])
    status, said = cluster.run(user, "doctor", "--json", "--set", "min_clicks=1000000")
    found = json.loads(said)["findings"]

    assert not {refused for refused in ("Topic", "Group", "Transactional") if f"{refused} auth" in said}
    assert [each for each in found if each["level"] == "error"] == []
    assert {"broker", "topics", "workers", "trainer", "clicks", "bundles"} <= {each["about"] for each in found}
    assert status in (0, 3)


def test_doctor_tells_a_refusal_as_one(cluster: Cluster) -> None:
    """Not as a broker that is away: the feed's user may not look at how topics are configured."""
    status, said = cluster.run("nextclick-feed", "doctor", "--json")

    assert status == 1
    assert "none that answers" not in said
    assert "DescribeConfigs" in said


def test_the_shop_withdraws_shows_and_offers_items(cluster: Cluster) -> None:
    """What was said of an item is read before it is changed."""
    withdrawn, offered = (cluster.run("shop", "items", what, "item-7") for what in ("withdraw", "offer"))
    shown = cluster.run("shop", "items", "show", "item-7")

    assert [status for status, _ in (withdrawn, offered, shown)] == [0, 0, 0], (withdrawn, offered, shown)


def test_who_may_not_withdraw_an_item_is_told_so(cluster: Cluster) -> None:
    """At once, and not that no broker answers."""
    status, said = cluster.run("nextclick-feed", "items", "withdraw", "item-7")

    assert status == 1
    assert "needs the rights to read, write and describe it" in said


def test_models_are_looked_at_and_changed_in_the_trainers_pod(cluster: Cluster) -> None:
    """As the runbooks say; who may not read the topic is told so, and not that the broker is away."""
    looked = [cluster.run("nextclick-trainer", "models", what) for what in ("status", "list", "unpin")]
    _, refused = cluster.run("shop", "models", "status")

    assert "uthoriz" not in "".join(said for _, said in looked)
    assert "does not let this user read models" in refused
