"""The name of a worker in the consumer group, where a setting gives it: in Kubernetes, the pod's."""

from typing import Any

from confluent_kafka.admin import AdminClient

from tests.integration.conftest import Playground


def members(playground: Playground) -> list[str]:
    """The names of those who are in the group now."""
    group = playground.settings.app
    admin = AdminClient({"bootstrap.servers": playground.settings.broker})
    described: Any = admin.describe_consumer_groups([group], request_timeout=10)[group].result(20)
    return [str(member.group_instance_id) for member in described.members]


def test_a_worker_with_a_new_folder_takes_the_place_of_its_namesake(playground: Playground) -> None:
    """A pod that lost its volume is the same member all the same: nobody waits until the former one is forgotten."""
    same = {"NEXTCLICK_INSTANCE_ID": "worker-0", "NEXTCLICK_SESSION_TIMEOUT_S": "60"}
    first = playground.worker("first", **same)
    playground.send([("user-1", "item-1", 1_700_000_000_000)])
    playground.wait_until_answered()
    before = members(playground)
    first.kill()
    playground.worker("second", **same)
    playground.send([("user-1", "item-2", 1_700_000_001_000)])
    updates = playground.wait_until_answered(deadline_s=45)

    assert before == ["worker-0"]
    assert members(playground) == ["worker-0"]
    assert {update.sequence for update in updates} == {1, 2}
