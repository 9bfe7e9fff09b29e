"""Runs a program on a topic of clicks and measures it from outside: its updates' timestamps and its CPU time."""

import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.load import encoded_clicks
from bench.programs import ProgramStuckError, python, running
from demo.simulator import Law, Simulator
from nextclick.manifest import MANIFEST_FILE, decode_manifest
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from stream.topics.topics import Topics
from tools.client_config import consumer_config, producer_config

DEADLINE_S = 180.0
N_ITEMS = 2_000

WORKER = ("-c", "from cli.main import main; main()", "stream")
TRAINER_ONCE = ("-c", "from cli.main import main; main()", "train", "--once")
NAIVE_FAUST = ("-m", "bench.naive_faust", "worker", "--without-web")
PLAIN_LOOP = ("-m", "bench.plain_loop")


class Throughput(NamedTuple):
    """How fast a program went through a backlog."""

    events_per_s: float
    cpu_us_per_event: float


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


def send_backlog(settings: Settings, count: int, n_items: int = N_ITEMS) -> None:
    """Send random clicks (users uniform, items Zipf-like), as fast as possible."""
    producer = Producer(producer_config(settings) | {"linger.ms": 5, "queue.buffering.max.messages": 200_000})
    for number, (key, value) in enumerate(encoded_clicks(settings, count, n_items)):
        producer.produce(settings.clicks_topic, value, key)
        if number % 10_000 == 9_999:
            producer.flush()
    producer.flush()


def throughput(settings: Settings, count: int, *arguments: str) -> Throughput:
    """Let a Python program work off `count` clicks that are there before it starts.

    The time runs from the first update's own timestamp to the last one's.

    Raises:
        ProgramDiedError: it ended.
        ProgramStuckError: it did not answer all clicks in time.
    """
    send_backlog(settings, count)
    with running(settings, python(*arguments)) as program:
        reader = UpdateReader(settings)
        first_ms = last_ms = 0
        n_updates, cpu_at_first_s, n_at_first = 0, 0.0, 0
        end_s = time.monotonic() + DEADLINE_S
        while n_updates < count:
            program.check()
            if time.monotonic() > end_s:
                raise ProgramStuckError(f"{n_updates:,} of {count:,} clicks were answered in {DEADLINE_S:.0f} s")
            for timestamp_ms, _ in reader.read():
                first_ms = min(first_ms or timestamp_ms, timestamp_ms)
                last_ms = max(last_ms, timestamp_ms)
                n_updates += 1
            if n_updates and not n_at_first:
                cpu_at_first_s, n_at_first = program.cpu_s(), n_updates
        used_s = program.cpu_s() - cpu_at_first_s
        reader.close()
    seconds = max(last_ms - first_ms, 1) / 1000
    return Throughput(n_updates / seconds, used_s / max(n_updates - n_at_first, 1) * 1e6)


def idle_cores(settings: Settings, seconds: float) -> float:
    """Measure the worker's CPU when there is nothing to do."""
    with running(settings, python(*WORKER)) as program:
        time.sleep(8)  # it takes its partitions first
        before_s = program.cpu_s()
        time.sleep(seconds)
        program.check()
        return (program.cpu_s() - before_s) / seconds


def trained_clicks_per_s(settings: Settings, count: int) -> float:
    """Train once on simulated clicks; gives the clicks learnt per second of a pass, as the bundle's manifest says."""
    simulator = Simulator(Law(), 0)
    producer = Producer(producer_config(settings) | {"linger.ms": 5, "queue.buffering.max.messages": 200_000})
    schema = ClickSchema.of(settings)
    for click in simulator.next_clicks(int(time.time() * 1000), count):
        value = encode_click(schema, click.user_id, click.item_id, click.timestamp_ms).value
        producer.produce(settings.clicks_topic, value, click.user_id.encode())
    producer.flush()
    with running(settings, python(*TRAINER_ONCE)) as trainer:
        trainer.wait()
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
