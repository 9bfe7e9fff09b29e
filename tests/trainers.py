"""What the tests of trainers as running programs share: clicks, what is in the log and on `models`, metrics."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from nextclick.bundle import save_bundle
from nextclick.errors import BundleError
from nextclick.hashing import partition_of
from nextclick.manifest import CHAMPION, Manifest, decode_manifest, encode_manifest
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.vocabulary import Vocabulary
from tests.scrapes import scrape, value_of
from tools.client_config import producer_config
from tools.object_store import ObjectStore
from training.learning.cancellation import Cancellation
from training.service.click_log import ClickLog
from training.service.metrics import TrainerMetrics
from training.service.models_topic import ModelsTopic
from training.service.stored_log import StoredLog
from training.service.trainer_role import TrainerRole

NOW_MS = 1_700_000_000_000
PATIENCE_S = 120.0  # nothing takes a quarter as long on a machine that does nothing else
NO_TRAINING = ("--set", "min_clicks=1000000000")
QUICK = ("--set", "log_flush_s=0.1", *NO_TRAINING)
SMALL = (
    *("--set", "min_clicks=800", "--set", "train_least_clicks=1", "--set", "log_flush_s=0.2"),
    *("--set", "hidden_size=16", "--set", "epochs=2"),
)


def clicks(first: int, count: int) -> list[tuple[str, str, int]]:
    """Users who walk along a ring of items, two steps at a time: easy to learn."""
    numbers = range(first, first + count)
    return [(f"user-{n % 97}", f"item-{(n % 97 * 7 + n // 97 * 2) % 60}", NOW_MS + n * 1_000) for n in numbers]


def user_of(partition: int, partitions: int) -> str:
    """A user whose clicks belong into a partition of a topic that has so many."""
    users = (f"user-{number}" for number in range(1_000))
    return next(user for user in users if partition_of(user.encode(), partitions, "murmur2_random") == partition)


def logged_offsets(log_dir: Path, store: ObjectStore | None = None) -> list[tuple[int, int]]:
    """(partition, offset) of every row of a click log, as it is on disk, or in an object store."""
    log = ClickLog(log_dir, stored=StoredLog(store) if store is not None else None)
    table = log.read(log.files)
    return sorted(zip(table["partition"].to_pylist(), table["offset"].to_pylist(), strict=True))


def click_offsets(playground: Any) -> list[tuple[int, int]]:
    """(partition, offset) of every valid click of the topic."""
    return sorted((click.user[0], click.offset) for click in playground.clicks())


def wait_until_logged(playground: Any, count: int, deadline_s: float = PATIENCE_S) -> None:
    playground.wait_for(
        lambda: ClickLog(playground.settings.log_dir).n_clicks == count, f"{count} clicks in the log", deadline_s
    )


def run_once(playground: Any, name: str, *arguments: str) -> tuple[int | None, list[str]]:
    """Run `nextclick train --once` to its end; gives its exit status and its log."""
    child = playground.start(name, "train", "--once", *arguments)
    child.wait(PATIENCE_S)
    return child.exit_status, playground.log(name).read_text().splitlines()


def start_logging(playground: Any, name: str, *arguments: str) -> Any:
    """Start a trainer and wait until it has the role."""
    child = playground.start(name, "train", *arguments)
    playground.wait_for_log(name, "logging clicks")
    return child


def announced(playground: Any) -> list[Manifest]:
    """Every announcement on the topic `models` that is one."""
    manifests = []
    for message in playground.read(playground.settings.models_topic):
        if message.key() == CHAMPION.encode() and message.value() is not None:
            try:
                manifests.append(decode_manifest(message.value()))
            except BundleError:
                continue
    return manifests


def announce(playground: Any, value: bytes | None) -> None:
    """Write to the topic `models` as anybody can, without a transaction."""
    producer = Producer(producer_config(playground.settings))
    producer.produce(playground.settings.models_topic, value, CHAMPION)
    assert producer.flush(PATIENCE_S) == 0


def small_bundle(store: Path, created_ms: int) -> Manifest:
    """Save a bundle that no training made."""
    network, vocabulary = Network(NetworkConfig(n_items=1, hidden_size=4)), Vocabulary(["item-0"], np.ones(1))
    return save_bundle(store, network, vocabulary, created_ms=created_ms, metrics={})


def models_of(playground: Any) -> ModelsTopic:
    """The topic `models` as a trainer sees it."""
    return ModelsTopic(playground.settings, TrainerMetrics(CollectorRegistry()), Cancellation(Event()))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def metric(port: int, name: str) -> float:
    """The value of a metric as /metrics shows it; 0 if it is not there, or nobody serves it."""
    try:
        return value_of(scrape(port), name) or 0.0
    except OSError:
        return 0.0


_ANNOUNCER = """
import os, sys, threading
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry
from nextclick.errors import TemporaryError
from nextclick.manifest import decode_manifest
from nextclick.settings import Settings
from tools.object_store import ObjectStore
from training.learning.cancellation import Cancellation
from training.service import models_topic
from training.service.stored_log import StoredLog
from training.service.metrics import TrainerMetrics
from tools.presence import BrokerPresence
from training.service.trainer_role import TrainerRole

moment, manifest = sys.argv[1], decode_manifest(sys.argv[2].encode())

def pause_at(now):
    global moment
    if now == moment:
        moment = ""  # once
        print("paused", flush=True)
        sys.stdin.readline()

class PausingRole(TrainerRole):
    def membership(self):
        membership = super().membership()
        pause_at("before the transaction")
        return membership

class PausingProducer(Producer):
    def commit_transaction(self, timeout):
        pause_at("before the commit")
        super().commit_transaction(timeout)

models_topic.Producer = PausingProducer
models_topic._TRANSACTION_S = 3.0
settings = Settings.load(os.environ)
role = PausingRole(settings, BrokerPresence(settings.broker))
while not role.wait(0.1):
    pass
models = models_topic.ModelsTopic(settings, TrainerMetrics(CollectorRegistry()), Cancellation(threading.Event()))

def announce():
    try:
        models.announce(manifest, None, role)
        print("announced", flush=True)
    except TemporaryError as error:
        print(error, flush=True)

thread = threading.Thread(target=announce)
thread.start()
while thread.is_alive():
    role.is_held()
    thread.join(0.05)
role.close()
"""


@contextmanager
def announcer(playground: Any, moment: str) -> Iterator[tuple["subprocess.Popen[str]", Manifest]]:
    """A trainer's role and its announcement in a process of its own, which pauses at a moment until it is let go on.

    Args:
        playground: where.
        moment: `before the transaction`, when the membership is known, or `before the commit`.

    Yields:
        The process, which pauses, and what it announces.
    """
    manifest = small_bundle(playground.settings.bundle_dir, 1)
    command = [sys.executable, "-c", _ANNOUNCER, moment, encode_manifest(manifest).decode()]
    pipe = subprocess.PIPE
    environment = os.environ | playground.settings.as_environment()
    with subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True, bufsize=1) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "paused\n"
            yield process, manifest
            process.wait(PATIENCE_S)
        finally:
            process.kill()


@contextmanager
def polled(role: TrainerRole) -> Iterator[TrainerRole]:
    """A role as the loop of a trainer keeps it: it follows the group while something else is done."""
    is_over = Event()

    def poll() -> None:
        while not is_over.wait(0.05):
            role.is_held()

    polling = Thread(target=poll)
    polling.start()
    try:
        yield role
    finally:
        is_over.set()
        polling.join()


def go_on(process: "subprocess.Popen[str]") -> str:
    """Let an announcer go on to its end; gives what it says of it."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write("\n")
    return process.stdout.readline().strip()
