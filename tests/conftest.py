"""What every test can ask for: one real broker for the run, and names that no other test uses."""

import os
import re
import subprocess
import sys
import uuid
from typing import Any

import pytest

from tests.shared_broker import BrokerKeeper, ask

# Several processes run the tests, and each of them starts others: with a thread per core in every one of them they
# would wait for each other. Read when torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

PROCESSES_PER_CORE = 2.5
MAX_PROCESSES = 8  # with half a gigabyte each

_KEEPER = pytest.StashKey[BrokerKeeper]()
_KEEPER_ADDRESS = "broker_keeper"


def pytest_configure(config: pytest.Config) -> None:
    """Keep the broker in the process that the run was started in, which compiles for all others, too."""
    if hasattr(config, "workerinput"):
        return
    if "KAFKA_BOOTSTRAP" not in os.environ:
        config.stash[_KEEPER] = BrokerKeeper()
    if config.getoption("numprocesses", None):
        subprocess.run([sys.executable, "-m", "tests.compiled"], cwd=config.rootpath, check=True)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a process that runs a part of the tests where the keeper is."""
    if (keeper := node.config.stash.get(_KEEPER, None)) is not None:
        node.workerinput[_KEEPER_ADDRESS] = keeper.address


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Say how many processes `-n auto` is: most tests wait for others most of the time, the rest share the cores."""
    return min(round(PROCESSES_PER_CORE * (os.cpu_count() or 1)), MAX_PROCESSES)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mix the tests that wait for processes with those that compute, where several processes share the cores.

    The order of each kind stays, and the last ones are quick: nobody waits for a long test at the end.
    """
    if not hasattr(config, "workerinput"):
        return
    waiting = [item for item in items if "integration" in item.path.parts]
    computing = [item for item in items if "integration" not in item.path.parts]
    each = len(computing) // (len(waiting) + 1)
    mixed = [
        item for place, waits in enumerate(waiting) for item in (waits, *computing[place * each : (place + 1) * each])
    ]
    items[:] = mixed + computing[len(waiting) * each :]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the broker at the end of the run."""
    if (keeper := config.stash.get(_KEEPER, None)) is not None:
        keeper.close()


@pytest.fixture(scope="session")
def broker(pytestconfig: pytest.Config) -> str:
    """The address of an Apache Kafka: the one that KAFKA_BOOTSTRAP names, else one that lives as long as the run."""
    if address := os.environ.get("KAFKA_BOOTSTRAP"):
        return address
    if (keeper := pytestconfig.stash.get(_KEEPER, None)) is not None:
        return ask(keeper.address)
    return ask(pytestconfig.workerinput[_KEEPER_ADDRESS])  # type: ignore[attr-defined]


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """A beginning for names of topics, groups and applications that is this test's alone."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{name[:60]}-{uuid.uuid4().hex[:8]}"
