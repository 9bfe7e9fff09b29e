"""A client whose question who coordinates its group is lost: librdkafka waits for the answer, and does nothing else.

With a broker that goes away it happens now and then, for ever (`tools/group_member.py`); a network that loses the
question does the same with certainty, until the request's own time is over after a minute.
"""

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from demo.kafka_process import free_port
from demo.local_kafka import LocalKafka
from tests.integration.conftest import SHORT_SESSION_TIMEOUT_S, make_playground
from tests.integration.test_rekey import Lab
from tests.losing_proxy import LosingProxy
from tests.shared_broker import BROKER_CONFIG
from tests.trainers import metric
from tools.presence import BrokerPresence
from training.service.trainer_role import TrainerRole

BACK_S = 45.0  # less than a request's own time
pytestmark = pytest.mark.xdist_group("losing_proxy")


@pytest.fixture(scope="module")
def proxy() -> Iterator[LosingProxy]:
    """A broker behind a proxy: clients know no other way to it."""
    with LosingProxy() as proxy:
        config = BROKER_CONFIG | {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
        port = free_port()
        proxy.forward_to(port)
        with LocalKafka(port=port, config=config):
            yield proxy


@pytest.fixture
def behind_proxy(proxy: LosingProxy, topic_prefix: str, tmp_path: Path) -> Iterator[Any]:
    """A playground whose broker is behind the proxy."""
    playground = make_playground(f"127.0.0.1:{proxy.port}", topic_prefix, tmp_path, SHORT_SESSION_TIMEOUT_S)
    yield playground
    playground.stop()


@contextmanager
def losing(proxy: LosingProxy, group: str) -> Iterator[None]:
    """Cut all connections, and lose what the clients then ask about a group."""
    proxy.loses = group
    proxy.cut()
    yield
    proxy.loses = ""


@pytest.mark.release
def test_a_job_that_has_lost_its_group_joins_it_anew(behind_proxy: Any, proxy: LosingProxy) -> None:
    """The same process goes on, and nothing is lost or doubled."""
    lab, rng = Lab(behind_proxy), random.Random(16)
    job = lab.start("job")
    lab.send(2_000, rng)
    lab.wait_until_copied()
    with losing(proxy, f"{behind_proxy.settings.app}-rekey"):
        port = lab.port("job")
        log = behind_proxy.log("job")
        behind_proxy.wait_for(  # the latter when a transaction was open
            lambda: not metric(port, "nextclick_rekey_partitions") or "waiting, nothing is lost" in log.read_text(),
            "the loss of the group",
        )
    began_s = time.monotonic()
    lab.send(2_000, rng)
    lab.wait_until_copied()

    assert time.monotonic() - began_s < BACK_S
    assert job.exit_status is None
    assert "it joins anew" in behind_proxy.log("job").read_text()
    lab.assert_exactly_once()


@pytest.mark.release
def test_a_trainer_that_has_lost_its_group_takes_the_role_again(behind_proxy: Any, proxy: LosingProxy) -> None:
    """Without a restart."""
    role = TrainerRole(behind_proxy.settings, BrokerPresence(behind_proxy.settings.broker))
    try:
        behind_proxy.wait_for(lambda: role.wait(0.1), "the role")
        with losing(proxy, f"{behind_proxy.settings.app}-trainer"):
            behind_proxy.wait_for(lambda: not role.wait(0.1), "the loss of the role")
        behind_proxy.wait_for(lambda: role.wait(0.1), "the role again", BACK_S)

        assert role.membership()
    finally:
        role.close()
