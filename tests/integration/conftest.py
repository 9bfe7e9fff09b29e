"""What the tests of running programs share: topics of their own, processes, and reading topics to their end."""

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message, Producer

from demo.children import Child
from demo.local_kafka import LocalKafka
from nextclick.advance import Limits, LoggedClick
from nextclick.errors import TemporaryError
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import RecommendationUpdate
from stream.topics.topics import Topics
from tests.chaos.bundles import load_models
from tests.chaos.evidence import TopicReader, gather, read_clicks, read_topic, read_updates
from tests.chaos.fleet import StartChild
from tests.chaos.report import Report
from tests.chaos.verifier import check_updates, uninterrupted, verify
from tests.local_registry import LocalRegistry
from tests.s3_server import FaultyNetwork, s3_server, told_to_clients
from tests.shared_broker import BROKER_CONFIG
from tools.client_config import producer_config

DEADLINE_S = 120.0  # of a machine that others share
SESSION_TIMEOUT_S = 6.0  # long enough for a busy machine
SHORT_SESSION_TIMEOUT_S = 3.0  # where the test waits until it is over
FOLDER = Path(__file__).parent
# The other modules are `long`: a run of five minutes has the way of a click, of a bundle and of a list.
IN_EVERY_RUN = {"test_doctor", "test_end_to_end", "test_feed", "test_stream", "test_trainer"}
# Tests that share something that takes long to make run in one process, one after the other.
GROUPED_BY = ("broker_to_stop", "secure_broker", "guarded_broker", "schema_registry")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep together what shares a broker of its own (`--dist loadgroup`), and leave most to `make test-all`."""
    for item in items:
        if FOLDER in item.path.parents and item.path.stem not in IN_EVERY_RUN:
            item.add_marker(pytest.mark.long)
        for fixture in GROUPED_BY:
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(fixture))


@dataclass
class Playground:
    """Topics, folders and processes of one test."""

    settings: Settings
    folder: Path
    children: list[Child] = field(default_factory=list)
    _readers: dict[Settings, TopicReader] = field(default_factory=dict)

    @staticmethod
    def wait_for(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
        """Return the condition's value once it is true; fail with what was waited for."""
        end_s = time.monotonic() + deadline_s
        while time.monotonic() < end_s:
            value = condition()
            if value:
                return value
            time.sleep(0.1)
        pytest.fail(f"{what} within {deadline_s:.0f} s")

    def start(self, name: str, *arguments: str, start_child: StartChild = Child, **environment: str) -> Child:
        """Start a part of nextclick with this test's settings."""
        base = {k: v for k, v in os.environ.items() if not k.startswith(("NEXTCLICK_", "KAFKA_BOOTSTRAP"))}
        child = start_child(name, arguments, base | self.settings.as_environment() | environment, self.log(name))
        self.children.append(child)
        return child

    def log(self, name: str) -> Path:
        """The log of the part that was started under this name."""
        return self.folder / f"{name}.log"

    def worker(
        self, name: str = "worker", *arguments: str, start_child: StartChild = Child, **environment: str
    ) -> Child:
        """Start a worker with a data folder of its own."""
        arguments = ("stream", "--set", f"data_dir={self.folder / name}", *arguments)
        return self.start(name, *arguments, start_child=start_child, **environment)

    def send(self, clicks: Iterable[tuple[str, str, int]]) -> int:
        """Send clicks (user, item, event time in ms); returns how many."""
        schema = ClickSchema.of(self.settings)
        return self.send_raw(
            (user.encode(), encode_click(schema, user, item, timestamp_ms).value) for user, item, timestamp_ms in clicks
        )

    def send_raw(self, records: Iterable[tuple[bytes | None, bytes | None]]) -> int:
        """Send records (key, value) as they are; returns how many."""
        producer = Producer(producer_config(self.settings) | {"linger.ms": 5, "message.max.bytes": 2_000_000})
        count = 0
        for key, value in records:
            producer.produce(self.settings.clicks_topic, key=key, value=value)
            count += 1
            if count % 1_000 == 0:
                producer.flush()
        assert producer.flush(30) == 0
        return count

    def read(self, topic: str) -> list[Message]:
        """Give every record of a topic up to its present end, by partition and offset."""
        return read_topic(self.settings, topic)

    def count(self, topic: str) -> int:
        """Give the number of records that a topic has had so far."""
        return self._reader().count(topic)

    def updates(self) -> list[RecommendationUpdate]:
        """Give every update so far, in log order per partition."""
        return read_updates(self.settings)

    def clicks(self) -> list[LoggedClick]:
        """Give every valid click so far, in log order per partition."""
        return read_clicks(self.settings)[0]

    def verify(self, bundles: Path | None = None) -> Report:
        """Compare all topics with an uninterrupted run."""
        limits = Limits(self.settings.recent_clicks, self.settings.list_length)
        return verify(gather(self.settings), load_models(bundles) if bundles is not None else {}, limits)

    def wait_until_answered(self, deadline_s: float = DEADLINE_S) -> list[RecommendationUpdate]:
        """Wait until every valid click so far has its update; gives all updates."""
        clicks = {(click.user[0], click.offset) for click in self.clicks()}

        def answered() -> list[RecommendationUpdate] | None:
            if self.count(self.settings.recommendations_topic) < len(clicks):
                return None
            updates = self.updates()
            found = {(update.source.partition, update.source.offset) for update in updates}
            return updates if clicks <= found else None

        result: list[RecommendationUpdate] = self.wait_for(answered, f"{len(clicks)} clicks answered", deadline_s)
        return result

    def wait_for_log(self, name: str, text: str, deadline_s: float = DEADLINE_S) -> None:
        """Wait until a part's log has a text."""
        self.wait_for(lambda: text in self.log(name).read_text(), f"{text!r} in the log of {name}", deadline_s)

    def assert_sequences_are_right(self, updates: list[RecommendationUpdate], *, after_a_crash: bool = False) -> None:
        """Every click has an update with its own sequence, and a user's updates leave in rising order.

        After a crash, a click whose state was safe but whose update was not is answered by a later state.
        """
        report, clicks = Report(), self.clicks()
        expected = uninterrupted(clicks, Limits(self.settings.recent_clicks, self.settings.list_length))
        check_updates(report, clicks, expected, updates)

        assert report.violations == {}, report.examples
        assert after_a_crash or report.answered_by_later == 0
        sources = {(update.source.partition, update.source.offset) for update in updates}
        assert sources == expected.keys()

    def assert_states_equal_offline(self, bundles: Path | None = None) -> None:
        """Guarantee 8, for every user: fence, sequence, recent clicks equal; hidden within the tolerance."""
        report = self.verify(bundles)

        assert report.users > 0
        assert report.violations == {}, report.examples

    def assert_no_error_logged(self, *names: str) -> None:
        """The logs hold nothing above a warning."""
        for name in names:
            lines = [json.loads(line) for line in self.log(name).read_text().splitlines()]
            assert [line for line in lines if line["level"] in ("error", "fatal")] == []

    def stop(self) -> None:
        """End every process, at once: what a test says of a clean end it has checked by now.

        Prints how the logs end, which pytest shows when the test failed.
        """
        for child in self.children:
            status = child.exit_status
            child.kill()
            print(f"--- {child.name}, status {status}, its last lines:\n{child.log_tail}")
        for reader in self._readers.values():
            reader.close()

    def _reader(self) -> TopicReader:
        """One client that counts records: a test that waits for them looks again and again."""
        if self.settings not in self._readers:
            self._readers[self.settings] = TopicReader(self.settings)
        return self._readers[self.settings]


def make_playground(
    broker: str, name: str, folder: Path, session_timeout_s: float, **settings_of_its_own: Any
) -> Playground:
    """Topics of their own on a broker, and folders of their own; nothing runs yet."""
    settings = Settings(
        broker=broker,
        app=f"{name}-app",
        clicks_topic=f"{name}-clicks",
        recommendations_topic=f"{name}-recommendations",
        rejected_topic=f"{name}-clicks-rejected",
        models_topic=f"{name}-models",
        items_topic=f"{name}-items",
        data_dir=folder / "worker",
        served_dir=folder / "served",
        log_dir=folder / "click-log",
        bundle_dir=folder / "bundles",
        worker_port=0,
        trainer_port=0,
        session_timeout_s=session_timeout_s,
        **settings_of_its_own,
    )
    create_topics(settings)
    return Playground(settings, folder)


def create_topics(settings: Settings) -> None:
    """Create all topics; on a busy machine a broker can take longer than a user would wait for it."""
    end_s = time.monotonic() + DEADLINE_S
    while True:
        try:
            Topics(settings).create()
            return
        except TemporaryError:
            if time.monotonic() > end_s:
                raise


@pytest.fixture
def playground(broker: str, topic_prefix: str, tmp_path: Path) -> Iterator[Playground]:
    """Topics of this test's own on the shared broker, folders of its own, and no process left behind."""
    playground = make_playground(broker, topic_prefix, tmp_path, SESSION_TIMEOUT_S)
    yield playground
    playground.stop()


@pytest.fixture(scope="session")
def broker_to_stop() -> Iterator[LocalKafka]:
    """A broker that tests may stop and pause, which those that share the other one must not suffer."""
    with LocalKafka(config=BROKER_CONFIG) as kafka:
        yield kafka


@pytest.fixture
def outage(broker_to_stop: LocalKafka, topic_prefix: str, tmp_path: Path) -> Iterator[Playground]:
    """A playground on `broker_to_stop`, which is there again at the end, whatever the test did to it."""
    playground = make_playground(broker_to_stop.bootstrap, topic_prefix, tmp_path, SHORT_SESSION_TIMEOUT_S)
    yield playground
    playground.stop()
    broker_to_stop.resume()
    broker_to_stop.start()


@pytest.fixture(scope="session")
def schema_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """A schema registry that tests share, each with its own `topic_prefix`; who stops it starts it again."""
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as registry:
        yield registry


@pytest.fixture(scope="module")
def s3_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an S3 API."""
    with s3_server(tmp_path_factory.mktemp("s3") / "log") as port:
        yield port


@pytest.fixture
def network(s3_port: int) -> Iterator[FaultyNetwork]:
    """What lies between the clients of this process and the S3 API; does nothing wrong unless it is told to."""
    with FaultyNetwork(s3_port) as network, told_to_clients(network.port):
        yield network
