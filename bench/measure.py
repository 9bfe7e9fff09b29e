"""What several benchmarks need: topics of their own, a bundle to serve, a reader of updates."""

import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from bench.backlog import Throughput, work_off
from bench.programs import python, running
from demo.simulator import Law, Simulator
from nextclick.manifest import MANIFEST_FILE, decode_manifest
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from stream.topics.topics import Topics
from tools.client_config import consumer_config, librdkafka_config, producer_config

DEADLINE_S = 180.0

WORKER = ("-c", "from cli.main import main; main()", "stream")
TRAINER_ONCE = ("-c", "from cli.main import main; main()", "train", "--once")


@contextmanager
def own_topics(broker: str, *, stamped_by_broker: bool = False, partitions: int = 4) -> Iterator[Settings]:
    """Give settings with topics and folders of their own.

    Args:
        broker: that has the topics.
        stamped_by_broker: an update's timestamp is when the broker got it. Programs choose theirs in different ways:
            some give an update its click's.
        partitions: of the clicks topic.
    """
    name = f"bench-{uuid.uuid4().hex[:8]}"
    with tempfile.TemporaryDirectory(prefix="nextclick-bench-") as folder:
        settings = Settings(
            broker=broker,
            app=name,
            partitions=partitions,
            clicks_topic=f"{name}-clicks",
            recommendations_topic=f"{name}-recommendations",
            rejected_topic=f"{name}-rejected",
            models_topic=f"{name}-models",
            items_topic=f"{name}-items",
            data_dir=Path(folder) / "worker",
            served_dir=Path(folder) / "served",
            log_dir=Path(folder) / "log",
            bundle_dir=Path(folder) / "bundles",
            worker_port=0,
            trainer_port=0,
        )
        Topics(settings).create()
        if stamped_by_broker:
            _stamp_by_broker(settings)
        yield settings


def _stamp_by_broker(settings: Settings) -> None:
    entry = ConfigEntry("message.timestamp.type", "LogAppendTime", incremental_operation=AlterConfigOpType.SET)
    topic = ConfigResource(ResourceType.TOPIC, settings.recommendations_topic, incremental_configs=[entry])
    admin = AdminClient(librdkafka_config(settings))
    for altered in admin.incremental_alter_configs([topic]).values():
        altered.result()


def throughput(settings: Settings, count: int, *arguments: str) -> Throughput:
    """Let a Python program work off a backlog of so many clicks."""
    return work_off(settings, count, python(*arguments))


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


def with_bundle(settings: Settings, n_items: int, seed: int = 0) -> Settings:
    """Give settings that serve an untrained bundle of so many items: as much work as a trained one."""
    import numpy as np
    import torch

    from nextclick.bundle import save_bundle
    from nextclick.network import Network
    from nextclick.vocabulary import Vocabulary
    from training.learning.fit import network_config

    torch.manual_seed(seed)
    vocabulary = Vocabulary([f"item-{number}" for number in range(n_items)], np.ones(n_items))
    network = Network(network_config(settings, n_items))
    manifest = save_bundle(settings.bundle_dir, network, vocabulary, created_ms=1, metrics={})
    return replace(settings, bundle=str(settings.bundle_dir / manifest.bundle_id))
