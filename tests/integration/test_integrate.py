"""The consumers in docs/integrate, each with its own language's client, on a real broker."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from nextclick.updates import JSON_FORMAT, POPULAR, AnsweredClick, Recommendation, ServedBy, encode_update, ranked_list
from tests.feeds import FeedUnderTest
from tests.integration.conftest import Playground
from tests.node_packages import node_program

FOLDER = Path(__file__).parents[2] / "docs" / "integrate"
BROWSER_CLIENT = Path(__file__).parents[1] / "browser_client"
DEADLINE_S = 60.0
BUILD_S = 300.0
# Maven's and Go's words for what a registry does not give.
_NOT_TO_BE_HAD = ("Could not resolve", "Could not transfer", "dial tcp", "no such host", "toolchain not available")
EXPECTED = ["u-1 1 lamp vase", "u-2 1 lamp", "u-1 2 vase", "été 7 lamp rug"]


def update(user_id: str, sequence: int, *items: str) -> tuple[bytes, bytes]:
    """Give a record as a worker writes it."""
    ranked = ranked_list(POPULAR, [Recommendation(item, 0.5) for item in items], [], JSON_FORMAT.encode_items)
    return user_id.encode(), encode_update(user_id, ranked, ServedBy(""), sequence, AnsweredClick(0, sequence, 1), 2)


@pytest.fixture
def recommendations(broker: str, topic_prefix: str) -> str:
    """A topic of one partition with updates, two of which come again, and a user who was deleted."""
    admin = AdminClient({"bootstrap.servers": broker})
    admin.create_topics([NewTopic(topic_prefix, 1)])[topic_prefix].result(30)
    producer = Producer({"bootstrap.servers": broker})
    for user_id, sequence, *items in (
        ("u-1", 1, "lamp", "vase"),
        ("u-2", 1, "lamp"),
        ("u-1", 2, "vase"),
        ("u-1", 2, "rug"),
        ("u-1", 1, "lamp", "vase"),
    ):
        key, value = update(user_id, sequence, *items)
        producer.produce(topic_prefix, value, key)
    producer.produce(topic_prefix, None, b"u-3")
    key, value = update("été", 7, "lamp", "rug")
    producer.produce(topic_prefix, value, key)
    assert producer.flush(30) == 0
    return topic_prefix


@contextmanager
def output_of(command: list[str | Path], folder: Path) -> Iterator[list[str]]:
    """Run a program; gives the lines that it prints, as they come."""
    lines: list[str] = []
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as program:
        assert program.stdout is not None
        output = program.stdout
        reader = threading.Thread(target=lambda: lines.extend(line.decode().strip() for line in output), daemon=True)
        reader.start()
        try:
            yield lines
        finally:
            program.kill()
            reader.join(10)


def needs(*tools: str) -> None:
    """Skip the test where a tool is not installed."""
    if missing := [tool for tool in tools if shutil.which(tool) is None]:
        pytest.skip(f"needs {' and '.join(missing)}, which is not installed")


def build(command: list[str], folder: Path, what: str) -> None:
    """Build a consumer; skips the test where its packages are not to be had."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_S, check=False)
    if done.returncode != 0 and any(
        sign in done.stdout + done.stderr for sign in ("resolve", "dial tcp", "no such host")
    ):
        pytest.skip(f"the packages of {what} cannot be had: {(done.stdout + done.stderr).strip().splitlines()[0]:.200}")
    assert done.returncode == 0, done.stdout + done.stderr


def python(_: Path) -> tuple[list[str | Path], Path]:
    """The consumer of confluent-kafka."""
    return [sys.executable, "consumer.py"], FOLDER / "python"


def node(_: Path) -> tuple[list[str | Path], Path]:
    """The consumer of kafkajs."""
    return ["node", "consumer.mjs"], node_program(FOLDER / "node")


def java(folder: Path) -> tuple[list[str | Path], Path]:
    """The consumer of Kafka's own client."""
    needs("java", "javac", "mvn")
    shutil.copytree(FOLDER / "java", folder / "java", ignore=shutil.ignore_patterns("target"))
    build(["mvn", "--quiet", "--batch-mode", "package"], folder / "java", "Java's consumer")
    return ["java", "-cp", "target/*:target/lib/*", "nextclick.integrate.Consumer"], folder / "java"


def go(folder: Path) -> tuple[list[str | Path], Path]:
    """The consumer of franz-go."""
    needs("go")
    build(["go", "build", "-o", str(folder / "consumer"), "."], FOLDER / "go", "Go's consumer")
    return [folder / "consumer"], folder


@pytest.mark.parametrize(
    "language",
    [python, node, pytest.param(java, marks=pytest.mark.release), pytest.param(go, marks=pytest.mark.release)],
    ids=["python", "node", "java", "go"],
)
def test_a_consumer_shows_each_list_once(language: object, broker: str, recommendations: str, tmp_path: Path) -> None:
    """In order, without what came again, and without an end at a record that it does not expect."""
    command, folder = language(tmp_path)  # type: ignore[operator]
    with output_of([*command, broker, recommendations], folder) as lines:
        end_s = time.monotonic() + DEADLINE_S
        while len(lines) < len(EXPECTED) and time.monotonic() < end_s:
            time.sleep(0.1)

        assert lines == EXPECTED


def test_a_page_gets_each_new_list_though_the_feed_is_started_again(playground: Playground) -> None:
    """The module of the page connects again by itself and says what it had last: nothing comes twice."""
    program = node_program(BROWSER_CLIENT)
    playground.worker()
    feed = FeedUnderTest(playground)
    playground.wait_for(feed.is_ready, "the feed is ready")
    address = f"http://127.0.0.1:{feed.port}"
    command = ["node", program / "follow.mjs", FOLDER / "browser" / "recommendations.mjs", address, "ann/é", "3"]
    with output_of(command, program) as lines:
        playground.wait_for(lambda: len(lines) == 1, "the list of now")
        playground.send([("ann/é", "i1", 1_764_000_000_000)])
        playground.wait_for(lambda: len(lines) == 2, "the list after a click")
        feed.process.kill()
        again = FeedUnderTest(playground, port=feed.port)
        playground.wait_for(again.is_ready, "the feed is ready again")
        playground.send([("ann/é", "i2", 1_764_000_000_001)])
        playground.wait_for(lambda: len(lines) == 3, "the list after another click")

    lists = [json.loads(line) for line in lines]
    assert [(listed["user_id"], listed["sequence"]) for listed in lists] == [("ann/é", 0), ("ann/é", 1), ("ann/é", 2)]
    assert {item["item_id"] for item in lists[-1]["items"]} == {"i1", "i2"}


@pytest.mark.parametrize("file", ["python/consumer.py", "node/consumer.mjs", "go/main.go"])
def test_a_consumer_is_short(file: str) -> None:
    """Who reads it sees at once what there is to do."""
    lines = (FOLDER / file).read_text().splitlines()

    assert 15 <= len([line for line in lines if line.strip()]) <= 45
