"""Runs a program on a topic of clicks and measures it from outside: its updates' timestamps and its CPU time."""

import os
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from demo.simulator import Law, Simulator
from nextclick.manifest import MANIFEST_FILE, decode_manifest
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import decode_update
from stream.topics.topics import Topics
from tools.client_config import consumer_config, producer_config
from tools.processes import cpu_s, dying_with_parent

DEADLINE_S = 180.0
N_USERS, N_ITEMS = 20_000, 2_000

WORKER = ("-c", "from cli.main import main; main()", "stream")
TRAINER_ONCE = ("-c", "from cli.main import main; main()", "train", "--once")
NAIVE_FAUST = ("-m", "bench.naive_faust", "worker", "--without-web")
PLAIN_LOOP = ("-m", "bench.plain_loop")


class Throughput(NamedTuple):
    """How fast a program went through a backlog."""

    events_per_s: float
    cpu_us_per_event: float


class Steady(NamedTuple):
    """How a program did at a given rate."""

    p50_ms: float
    p99_ms: float
    cores: float


@contextmanager
def own_topics(broker: str) -> Iterator[Settings]:
    """Give settings with topics and folders of their own."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="nextclick-bench-") as folder:
        settings = Settings(
            broker=broker,
            app=name,
            clicks_topic=f"{name}-clicks",
            recommendations_topic=f"{name}-recommendations",
            rejected_topic=f"{name}-rejected",
            models_topic=f"{name}-models",
            data_dir=Path(folder) / "worker",
            log_dir=Path(folder) / "log",
            bundle_dir=Path(folder) / "bundles",
            worker_port=0,
            trainer_port=0,
        )
        Topics(settings).create()
        yield settings


@contextmanager
def running(settings: Settings, *arguments: str) -> Iterator[int]:
    """Run a Python program with these settings; gives its process id."""
    environment = dict(os.environ) | settings.as_environment()
    command = dying_with_parent([sys.executable, *arguments])
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def send_clicks(settings: Settings, count: int, events_per_s: float | None = None, n_items: int = N_ITEMS) -> None:
    """Send random clicks (users uniform, items Zipf-like), as fast as possible or at a rate."""
    draw = random.Random(0)
    producer = Producer(producer_config(settings) | {"linger.ms": 1, "queue.buffering.max.messages": 200_000})
    schema = ClickSchema.of(settings)
    started_s = time.monotonic()
    for number in range(count):
        user, item = f"user-{draw.randrange(N_USERS)}", f"item-{int(draw.paretovariate(1.0)) % n_items}"
        value = encode_click(schema, user, item, int(time.time() * 1000)).value
        producer.produce(settings.clicks_topic, value, user.encode())
        if number % 10_000 == 9_999 and events_per_s is None:
            producer.flush()
        if events_per_s is not None:
            producer.poll(0)
            time.sleep(max(0.0, started_s + number / events_per_s - time.monotonic()))
    producer.flush()


def throughput(settings: Settings, count: int, *arguments: str) -> Throughput:
    """Let a program work off `count` clicks that are there before it starts.

    The time runs from the first update's own timestamp to the last one's.
    """
    send_clicks(settings, count)
    with running(settings, *arguments) as pid:
        reader = UpdateReader(settings)
        first_ms = last_ms = 0
        n_updates, cpu_at_first_s, n_at_first = 0, 0.0, 0
        end_s = time.monotonic() + DEADLINE_S
        while n_updates < count and time.monotonic() < end_s:
            for timestamp_ms, _ in reader.read():
                first_ms = min(first_ms or timestamp_ms, timestamp_ms)
                last_ms = max(last_ms, timestamp_ms)
                n_updates += 1
            if n_updates and not n_at_first:
                cpu_at_first_s, n_at_first = cpu_s(pid), n_updates
        used_s = cpu_s(pid) - cpu_at_first_s
        reader.close()
    seconds = max(last_ms - first_ms, 1) / 1000
    return Throughput(n_updates / seconds, used_s / max(n_updates - n_at_first, 1) * 1e6)


def steady(settings: Settings, events_per_s: float, seconds: float) -> Steady:
    """Measure the worker at a rate: latency from a click's record to its update's record, and CPU."""
    with running(settings, *WORKER) as pid:
        send_clicks(settings, 100)  # a first update shows that it is ready
        reader = UpdateReader(settings)
        n_ready, end_s = 0, time.monotonic() + DEADLINE_S
        while n_ready < 100 and time.monotonic() < end_s:
            n_ready += sum(1 for _ in reader.read())
        before_s, started_s = cpu_s(pid), time.monotonic()
        send_clicks(settings, int(events_per_s * seconds), events_per_s)
        cores = (cpu_s(pid) - before_s) / (time.monotonic() - started_s)
        latencies: list[float] = []
        while len(latencies) < int(events_per_s * seconds) and time.monotonic() < end_s:
            latencies += [timestamp_ms - decode_update(value).clicked_at_ms for timestamp_ms, value in reader.read()]
        reader.close()
    ordered = sorted(latencies) or [float("nan")]
    return Steady(ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], cores)


def idle_cores(settings: Settings, seconds: float) -> float:
    """Measure the worker's CPU when there is nothing to do."""
    with running(settings, *WORKER) as pid:
        time.sleep(8)  # it takes its partitions first
        before_s = cpu_s(pid)
        time.sleep(seconds)
        return (cpu_s(pid) - before_s) / seconds


def trained_clicks_per_s(settings: Settings, count: int) -> float:
    """Train once on simulated clicks; gives the clicks learnt per second of a pass, as the bundle's manifest says."""
    simulator = Simulator(Law(), 0)
    producer = Producer(producer_config(settings) | {"linger.ms": 5, "queue.buffering.max.messages": 200_000})
    schema = ClickSchema.of(settings)
    for click in simulator.next_clicks(int(time.time() * 1000), count):
        value = encode_click(schema, click.user_id, click.item_id, click.timestamp_ms).value
        producer.produce(settings.clicks_topic, value, click.user_id.encode())
    producer.flush()
    with running(settings, *TRAINER_ONCE) as pid:
        os.waitpid(pid, 0)
    manifests = [decode_manifest(path.read_bytes()) for path in settings.bundle_dir.glob(f"*/{MANIFEST_FILE}")]
    return max(manifest.metrics["clicks_per_s"] for manifest in manifests)


class UpdateReader:
    """Reads new updates of an application."""

    def __init__(self, settings: Settings) -> None:
        self._consumer = Consumer(consumer_config(settings, "bench-reader"))
        topic = settings.recommendations_topic
        partitions = self._consumer.list_topics(topic, 10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, partition, 0) for partition in partitions])

    def read(self) -> list[tuple[int, bytes]]:
        """Timestamp and value of new updates."""
        messages = self._consumer.consume(10_000, 0.2)
        return [(message.timestamp()[1], message.value()) for message in messages if message.error() is None]

    def close(self) -> None:
        self._consumer.close()


def with_bundle(settings: Settings, n_items: int) -> Settings:
    """Give settings that serve an untrained bundle of so many items: as much work as a trained one."""
    import numpy as np
    import torch

    from nextclick.bundle import save_bundle
    from nextclick.network import Network
    from nextclick.vocabulary import Vocabulary
    from training.learning.fit import network_config

    torch.manual_seed(0)
    vocabulary = Vocabulary([f"item-{number}" for number in range(n_items)], np.ones(n_items))
    network = Network(network_config(settings, n_items))
    manifest = save_bundle(settings.bundle_dir, network, vocabulary, created_ms=1, metrics={})
    return replace(settings, bundle=str(settings.bundle_dir / manifest.bundle_id))
