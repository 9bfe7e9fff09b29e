"""What every test can ask for: one real broker for the run, and names that no other test uses."""

import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.local_kafka import LocalKafka


@pytest.fixture(scope="session")
def broker() -> Iterator[str]:
    """The address of an Apache Kafka: the one that KAFKA_BOOTSTRAP names, else one that lives as long as the run."""
    address = os.environ.get("KAFKA_BOOTSTRAP")
    if address:
        yield address
        return
    kafka_home = os.environ.get("KAFKA_HOME")
    with LocalKafka(kafka_home=Path(kafka_home) if kafka_home else None) as kafka:
        yield kafka.bootstrap


@pytest.fixture
def topic_prefix(request: pytest.FixtureRequest) -> str:
    """A beginning for names of topics, groups and applications that is this test's alone."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return f"{name[:60]}-{uuid.uuid4().hex[:8]}"
