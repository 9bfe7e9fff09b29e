"""A whole application on this machine: broker, two workers, trainer, feed, users who click and read, and Prometheus."""

import itertools
import json
import os
import signal
import threading
import time
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

from demo.children import Child
from demo.kafka_process import HOST, free_port
from demo.local_kafka import LocalKafka
from nextclick.settings import Settings
from stream.topics.topics import Topics
from tests.game_day.faster import write_faster
from tests.local_prometheus import LocalPrometheus
from tests.shared_broker import BROKER_CONFIG
from tools.client_config import producer_config

CLICKS_PER_S, READS_PER_S = 40, 20
START_S = 400.0  # until the first bundle is served; a busy machine is slow
STOP_S = 20.0
# A small model, soon, and again and again.
TRAINING = ("--set", "min_clicks=800", "--set", "hidden_size=16", "--set", "log_flush_s=1", "--set", "train_every_s=45")
WORKERS = ("worker-0", "worker-1")


@dataclass
class Application:
    """Everything that runs; as a context manager, from start to stop.

    Attributes:
        folder: gets all data and logs.
        factor: how much faster time passes for the rules.
        feed_dir: where the feed has its lists.
        kafka, prometheus: those that run.
        children: by name, those that run or ran last.
    """

    folder: Path
    factor: float
    feed_dir: Path
    kafka: LocalKafka = field(default_factory=lambda: LocalKafka(config=BROKER_CONFIG))
    children: dict[str, Child] = field(default_factory=dict)
    _ports: dict[str, int] = field(default_factory=dict)
    _closing: ExitStack = field(default_factory=ExitStack)
    _reading: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Self:
        with ExitStack() as started:
            started.enter_context(self.kafka)
            started.callback(self._kill)
            self.settings = Settings(
                broker=self.kafka.bootstrap,
                app="game-day",
                bundle_dir=self.folder / "bundles",
                log_dir=self.folder / "click-log",
                served_dir=self.folder / "served",
                feed_dir=self.feed_dir,
                session_timeout_s=3.0,
            )
            Topics(self.settings).create()
            for name in (*WORKERS, "trainer", "feed"):
                self._ports[name] = free_port()
                self.start(name)
            jobs = {"worker": [self._ports[name] for name in WORKERS]}
            jobs |= {job: [self._ports[job]] for job in ("trainer", "feed")}
            rules = write_faster(self.folder / "rules", self.factor)
            self.prometheus = started.enter_context(LocalPrometheus(self.folder / "prometheus", jobs, rules))
            self.start("users")
            threading.Thread(target=self._read_lists, name="readers", daemon=True).start()
            started.callback(self._reading.set)
            self._closing = started.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def start(self, name: str) -> None:
        """Start a part: a worker, `trainer`, `feed`, or the `users` who click."""
        port = self._ports.get(name, 0)
        data = f"data_dir={self.folder / name}"
        arguments = {
            "trainer": ("train", "--set", f"trainer_port={port}", *TRAINING),
            "feed": ("feed", "--set", f"feed_port={port}", "--set", f"feed_host={HOST}"),
            "users": ("simulate", "--rate", str(CLICKS_PER_S)),
        }.get(name, ("stream", "--set", data, "--set", f"worker_port={port}"))
        self._launch(name, *arguments)

    def run(self, *arguments: str) -> None:
        """Run a command of `nextclick` to its end, which must be a good one."""
        command = self._launch(arguments[0], *arguments)
        command.wait(STOP_S)
        assert command.exit_status == 0, command.log_tail

    def _launch(self, name: str, *arguments: str) -> Child:
        base = {k: v for k, v in os.environ.items() if not k.startswith(("NEXTCLICK_", "KAFKA_BOOTSTRAP"))}
        log = self.folder / f"{name}-{sum(1 for _ in self.folder.glob(f'{name}-*.log'))}.log"
        # With a thread for each core in every program they would wait for each other.
        environment = base | self.settings.as_environment() | {"OMP_NUM_THREADS": "1"}
        self.children[name] = Child(name, arguments, environment, log)
        return self.children[name]

    def stop(self, name: str) -> None:
        """SIGTERM a part, and wait until it has ended."""
        self.children[name].stop(STOP_S)

    def kill(self, name: str) -> None:
        """SIGKILL a part."""
        os.kill(self.children[name].pid, signal.SIGKILL)
        self.children[name].wait(STOP_S)

    def value(self, query: str) -> float:
        """The sum of what a query gives now; 0 without any series."""
        return sum(float(sample["value"][1]) for sample in self.prometheus.query(query))

    def is_serving(self) -> bool:
        """Whether all workers serve, and the trainer is at work: whatever is done next finds them so."""
        serving = self.value('sum(nextclick_phase{phase="serving"})') == len(WORKERS)
        return serving and self.value("nextclick_trainer_has_role") == 1 and self.value("count(up == 0)") == 0

    def send(self, value: bytes, count: int) -> None:
        """Send records of this value under users' keys."""
        producer = Producer(producer_config(self.settings))
        for number in range(count):
            producer.produce(self.settings.clicks_topic, value, f"user-{number % 50}")
        producer.flush(STOP_S)

    def _read_lists(self) -> None:
        """Ask the feed for lists, as a shop does, whether it answers or not."""
        for number in itertools.count():
            if self._reading.wait(1 / READS_PER_S):
                return
            with suppress(OSError, json.JSONDecodeError):
                address = f"http://{HOST}:{self._ports['feed']}/v1/users/user-{number % 500}/recommendations"
                json.load(urllib.request.urlopen(address, timeout=2))

    def _kill(self) -> None:
        for child in self.children.values():
            child.kill()


def wait_for(condition: Callable[[], object], what: str, deadline_s: float) -> float:
    """Return when a condition is true, with how long that took.

    Raises:
        TimeoutError: it did not become true.
    """
    start_s = time.monotonic()
    while not condition():
        if time.monotonic() - start_s > deadline_s:
            raise TimeoutError(f"{what} within {deadline_s:.0f} s")
        time.sleep(0.25)
    return time.monotonic() - start_s
