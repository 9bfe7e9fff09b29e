"""The brokers of a run: one that does everything, and if the schedule wants it a second one, which alone has one of the
partitions of the clicks topic. While the second one is stopped, that partition has no leader.

Both live in a thread of their own: a start takes seconds, and the schedule and the supervisor do not wait.
"""

import base64
import tempfile
import time
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from demo.class_archives import with_class_archives
from demo.kafka_process import HOST, KafkaProcess, free_port
from demo.kafka_runtime import find_distribution
from demo.local_kafka import LocalKafka, default_cache
from nextclick.settings import Settings
from tests.chaos.schedule import Action
from tools.client_config import librdkafka_config

FIRST, SECOND = 1, 2  # node.id
STOP_PATIENCE_S = 15.0
ANSWER_S = 10.0
RETRY_S = 0.5
_OWN_TOPICS = {"offsets.topic.replication.factor": "2", "transaction.state.log.replication.factor": "2"}
_CLUSTER_ID = "bmV4dGNsaWNrLWxvY2FsIQ"  # the one that every local Kafka has


class Cluster:
    """The brokers.

    Attributes:
        leaderless_s: for how long a partition was without a leader, all in all.
    """

    def __init__(self, port: int, *, with_second: bool) -> None:
        """Choose ports; nothing starts yet.

        Args:
            port: of the first broker; 0 picks a free one.
            with_second: whether there are two.
        """
        port = port or free_port()
        self._controller = f"{HOST}:{free_port(but=port)}"
        listeners = f"PLAINTEXT://{HOST}:{port},CONTROLLER://{self._controller}"
        config = {"listeners": listeners, "controller.quorum.bootstrap.servers": self._controller}
        self._first = LocalKafka(port=port, config=config | (_OWN_TOPICS if with_second else {}))
        self._second = _SecondBroker(self._controller) if with_second else None
        # A broker lives as long as the thread that starts it. Each has its own: one waits for the other to answer.
        self._thread, self._second_thread = ThreadPoolExecutor(1, "broker"), ThreadPoolExecutor(1, "second broker")
        self._asked: list[Future[None]] = []
        self._stopped_s: float | None = None
        self.leaderless_s = 0.0

    def start(self) -> str:
        """Start the brokers, wait until they answer, and give the first one's address."""
        self._thread.submit(self._first.start).result()
        if self._second is not None:
            self._second_thread.submit(self._second.start).result()
            admin = AdminClient({"bootstrap.servers": self._first.bootstrap})
            while len(admin.list_topics(timeout=ANSWER_S).brokers) < 2:
                time.sleep(RETRY_S)
        return self._first.bootstrap

    def create_clicks(self, settings: Settings) -> None:
        """Create the clicks topic, its last partition on the second broker if there is one."""
        last = [SECOND] if self._second is not None else [FIRST]
        places = [*[[FIRST]] * (settings.partitions - 1), last]
        config = {"cleanup.policy": "delete"}
        topic = NewTopic(settings.clicks_topic, len(places), replica_assignment=places, config=config)
        admin = AdminClient(librdkafka_config(settings))
        admin.create_topics([topic])[topic.topic].result(ANSWER_S)

    def grow_clicks(self, settings: Settings, partitions: int) -> None:
        """Let the clicks topic grow, when the broker is there; returns when it has."""
        admin, topic = AdminClient(librdkafka_config(settings)), settings.clicks_topic
        places = [[FIRST]] * (partitions - settings.partitions)
        while True:
            with suppress(KafkaException):
                if len(admin.list_topics(topic, ANSWER_S).topics[topic].partitions) == partitions:
                    return
                admin.create_partitions([NewPartitions(topic, partitions, places)])[topic].result(ANSWER_S)
            time.sleep(RETRY_S)

    def ask(self, action: Action) -> None:
        """Do one of the things that the schedule does to a broker, after what was asked of the same one before."""
        actions: dict[Action, Callable[[], None]] = {
            Action.STOP_BROKER: lambda: self._first.stop(keep_data=True),
            Action.START_BROKER: self._first.start,
            Action.PAUSE_BROKER: self._first.pause,
            Action.RESUME_BROKER: self._first.resume,
            Action.STOP_SECOND: self._stop_second,
            Action.START_SECOND: self._start_second,
        }
        is_second = action in (Action.STOP_SECOND, Action.START_SECOND)
        self._asked.append((self._second_thread if is_second else self._thread).submit(actions[action]))

    def settled(self) -> bool:
        """Whether all that was asked for is done; raises what went wrong with it."""
        return all(asked.done() and asked.result() is None for asked in self._asked)

    def end(self) -> None:
        """Stop them for good."""
        if self._second is not None:
            self._second_thread.submit(self._second.end).result()
        self._thread.submit(self._first.stop).result()
        for thread in (self._thread, self._second_thread):
            thread.shutdown()

    def _stop_second(self) -> None:
        assert self._second is not None
        self._second.stop()
        self._stopped_s = time.monotonic()

    def _start_second(self) -> None:
        assert self._second is not None
        assert self._stopped_s is not None
        self.leaderless_s += time.monotonic() - self._stopped_s
        self._second.start()


class _SecondBroker:
    """A broker that is no controller."""

    def __init__(self, controller: str) -> None:
        self._port = free_port()
        self._controller = controller
        self._folder = tempfile.TemporaryDirectory(prefix="nextclick-kafka-2-")
        self._process: KafkaProcess | None = None
        self._distribution = with_class_archives(find_distribution(default_cache(), None), default_cache())

    def start(self) -> None:
        folder = Path(self._folder.name)
        properties = folder / "data" / "meta.properties"
        if not properties.exists():  # what `kafka-storage format` writes
            properties.parent.mkdir()
            directory = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            lines = ("version=1", f"cluster.id={_CLUSTER_ID}", f"node.id={SECOND}", f"directory.id={directory}")
            properties.write_text("\n".join(lines) + "\n")
        config = {
            "process.roles": "broker",
            "node.id": str(SECOND),
            "listeners": f"PLAINTEXT://{HOST}:{self._port}",
            "controller.quorum.bootstrap.servers": self._controller,
        }
        controller = free_port(but=self._port)
        self._process = KafkaProcess(self._distribution, folder, self._port, controller, config | _OWN_TOPICS)
        self._process.wait_until_it_answers()

    def stop(self) -> None:
        if self._process is not None:
            self._process.end(STOP_PATIENCE_S)

    def end(self) -> None:
        self.stop()
        self._folder.cleanup()
