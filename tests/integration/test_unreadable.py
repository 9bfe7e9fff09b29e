"""Batches of a log that aiokafka cannot read, or nobody can: what is damaged on a broker's disk, or in an odd form."""

import asyncio
import dataclasses
import itertools
import re
import struct
import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from prometheus_client import CollectorRegistry

from demo.local_kafka import LocalKafka
from nextclick.errors import PermanentError
from nextclick.hashing import partition_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import decode_update
from stream.faust_adapter.announcements import follow_models
from stream.faust_adapter.second_reader import SecondReader
from stream.repartition.log import read_batches
from stream.states.changelog_reader import ChangelogReader
from stream.topics.identity import read_identity
from stream.topics.topics import Topics
from tests.protocol.memory_port import MemoryStore
from tests.record_forms import ATTRIBUTES, RECORDS, batches_of, seal, send_with_odd_header
from tests.trainers import QUICK, logged_offsets, start_logging, wait_until_logged
from tests.trainers import clicks as walk
from tools.client_config import librdkafka_config
from tools.kafka import OffsetRange
from training.learning.cancellation import Cancellation
from training.service.click_consumer import ClickConsumer
from training.service.click_log import ReadRecord
from training.service.metrics import TrainerMetrics
from training.service.models_topic import ModelsTopic
from training.service.trainer_role import BrokerPresence

ANSWER_S = 30.0
SESSION_TIMEOUT_S = 3.0
EACH = 3  # records of a batch


class NothingServed:
    """Is told of no announcement: none can be read."""

    def again_in_s(self) -> float:
        """Nothing is to be tried again."""
        return float("inf")

    async def try_again(self) -> None:
        """There is nothing."""


def user_of(settings: Settings, partition: int) -> str:
    """A user whose clicks belong there."""
    users = (f"u-{number}" for number in itertools.count())
    return next(u for u in users if partition_of(u.encode(), settings.partitions, settings.partitioner) == partition)


def clicks(settings: Settings, user: str) -> list[bytes]:
    """Values of records."""
    schema = ClickSchema.of(settings)
    return [encode_click(schema, user, f"item-{number}", 1_764_000_000_000 + number).value for number in range(EACH)]


def send(settings: Settings, topic: str, partition: int, codec: str = "none") -> None:
    """Write clicks of a partition's user as one batch."""
    producer = Producer(librdkafka_config(settings) | {"linger.ms": 1_000, "compression.type": codec})
    producer.list_topics(topic, ANSWER_S)  # what waits for the topic's leader can leave in two batches
    user = user_of(settings, partition)
    for value in clicks(settings, user):
        producer.produce(topic, value, user, partition)
    assert producer.flush(ANSWER_S) == 0


def test_clicks_with_a_header_whose_name_is_no_utf8_are_applied_like_others(playground: Any) -> None:
    """aiokafka raises at such a record, and would at each start; what is before and behind it comes once, too."""
    settings = playground.settings
    topic, user = settings.clicks_topic, user_of(settings, 1)
    for partition in (0, 1):
        send(settings, topic, partition, "zstd")
    asyncio.run(send_with_odd_header(settings, topic, 1, user.encode(), *clicks(settings, user)))
    send(settings, topic, 1)
    playground.worker()
    start_logging(playground, "trainer", *QUICK)
    playground.wait_until_answered()
    for partition in (0, 1):
        send(settings, topic, partition)
    updates = playground.wait_until_answered()
    wait_until_logged(playground, 6 * EACH)

    written = [(0, offset) for offset in range(2 * EACH)] + [(1, offset) for offset in range(4 * EACH)]
    assert sorted((update.source.partition, update.source.offset) for update in updates) == written
    assert logged_offsets(settings.log_dir) == written
    playground.assert_states_equal_offline()
    playground.assert_no_error_logged("worker", "trainer")
    assert playground.log("worker").read_text().count("it is read with librdkafka") == 1


def break_checksum(batch: memoryview) -> None:
    """A bit has tipped."""
    batch[RECORDS + 5] ^= 0x10


def break_compression(batch: memoryview) -> None:
    """The checksum is right, but what it is of cannot be decompressed."""
    batch[RECORDS:] = bytes(byte ^ 0x5A for byte in batch[RECORDS:])
    seal(batch)


def break_codec(batch: memoryview) -> None:
    """A codec that comes with a later Kafka."""
    struct.pack_into(">h", batch, ATTRIBUTES, 6)
    seal(batch)


BREAKS: dict[str, tuple[str, Callable[[memoryview], None]]] = {
    "checksum": ("none", break_checksum),
    "gzip": ("gzip", break_compression),
    "snappy": ("snappy", break_compression),
    "zstd": ("zstd", break_compression),
    "codec": ("none", break_codec),
}


def other_application(settings: Settings) -> Settings:
    """The settings of the application whose changelog and `models` are damaged, and its clicks are not."""
    name = f"{settings.app}-other"
    return dataclasses.replace(
        settings,
        app=name,
        clicks_topic=f"{name}-clicks",
        models_topic=f"{name}-models",
        items_topic=f"{name}-items",
        log_dir=settings.log_dir.with_name("other-log"),
    )


def damage(folder: Path, topic: str, partition: int, number: int, break_it: Callable[[memoryview], None]) -> None:
    """Change a batch on the disk of a broker that is stopped."""
    [segment] = folder.glob(f"**/{topic}-{partition}/00000000000000000000.log")
    log = bytearray(segment.read_bytes())
    break_it(memoryview(log)[slice(*_bounds(log, number))])
    segment.write_bytes(log)


def _bounds(log: bytearray, number: int) -> tuple[int, int]:
    sizes = [len(batch) for batch in batches_of(bytes(log))]
    return sum(sizes[:number]), sum(sizes[: number + 1])


@pytest.fixture(scope="module")
def damaged(broker_to_stop: LocalKafka, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Topics with a batch that cannot be read: of clicks the second one, a partition for each reason."""
    name, folder = f"damaged-{uuid.uuid4().hex[:8]}", tmp_path_factory.mktemp("damaged")
    settings = Settings(
        broker=broker_to_stop.bootstrap,
        app=name,
        clicks_topic=f"{name}-clicks",
        recommendations_topic=f"{name}-recommendations",
        rejected_topic=f"{name}-rejected",
        models_topic=f"{name}-models",
        items_topic=f"{name}-items",
        partitions=len(BREAKS),
        data_dir=folder / "worker",
        served_dir=folder / "served",
        log_dir=folder / "log",
        bundle_dir=folder / "bundles",
        worker_port=0,
        trainer_port=0,
        session_timeout_s=SESSION_TIMEOUT_S,
    )
    other = other_application(settings)
    Topics(settings).create()
    Topics(other).create()
    for partition, (codec, _) in enumerate(BREAKS.values()):
        for number in range(3):
            send(settings, settings.clicks_topic, partition, codec if number == 1 else "none")
    for _ in range(3):
        send(other, other.models_topic, 0)
    broker_to_stop.stop(keep_data=True)
    data = broker_to_stop._temporary
    assert data is not None
    for partition, (_, break_it) in enumerate(BREAKS.values()):
        damage(data, settings.clicks_topic, partition, 1, break_it)
    damage(data, other.changelog_topic, 0, 0, break_checksum)  # that is the note of the clicks topic
    damage(data, other.models_topic, 0, 1, break_checksum)
    broker_to_stop.start()
    return settings


def named(topic: str, partition: int, offset: int = EACH) -> str:
    """What the line says of a damaged batch, as a pattern."""
    return f"topic {topic}, partition {partition}: the batch at offset {offset} cannot be read, and nothing behind it"


def read_to_error(consumer: ClickConsumer, into: list[ReadRecord]) -> None:
    """Read on and on."""
    while True:
        into += consumer.poll(0.1)


@pytest.mark.release
@pytest.mark.parametrize("reason", BREAKS)
def test_each_reader_of_clicks_gives_what_is_before_such_a_batch_and_names_it(damaged: Settings, reason: str) -> None:
    """The worker's, the trainer's, and the one of `nextclick repartition`."""
    topic, partition = damaged.clicks_topic, list(BREAKS).index(reason)
    second = SecondReader(damaged, topic)
    runs = asyncio.run(second.read({partition: 0}, EOFError()))
    with pytest.raises(PermanentError, match=named(topic, partition)):
        asyncio.run(second.read({partition: EACH}, EOFError()))

    consumer = ClickConsumer(damaged, BrokerPresence(damaged.broker))
    consumer.start(
        dict.fromkeys(range(damaged.partitions), 3 * EACH) | {partition: 0}, consumer.identity(), damaged.partitions
    )
    read: list[ReadRecord] = []
    with pytest.raises(PermanentError, match=named(topic, partition)):
        read_to_error(consumer, read)
    consumer.close()
    with pytest.raises(PermanentError, match=named(topic, partition)):
        list(read_batches(damaged, topic, {partition: OffsetRange(0, 3 * EACH)}))

    whole = list(range(EACH))
    assert [(run.first, run.end) for run in runs.values()] == [(0, EACH)]
    assert [record.offset for record in runs[partition].records] == whole
    assert [record.offset for record in read] == whole


def test_each_reader_of_the_changelog_and_of_models_names_such_a_batch(damaged: Settings) -> None:
    """Recovery, the note of the topic, the worker's follower, the trainer's look at the champion."""
    other = other_application(damaged)
    changelog, models = named(other.changelog_topic, 0, 0), named(other.models_topic, 0)

    with pytest.raises(PermanentError, match=changelog):
        ChangelogReader(other, MemoryStore()).restore([0], lambda left: None, threading.Event())
    with pytest.raises(PermanentError, match=changelog):
        read_identity(other)
    with pytest.raises(PermanentError, match=models):
        asyncio.run(asyncio.wait_for(follow_models(other, NothingServed(), asyncio.Event()), ANSWER_S))
    with pytest.raises(PermanentError, match=models):
        ModelsTopic(other, TrainerMetrics(CollectorRegistry()), Cancellation(threading.Event())).champion()


def test_a_trainer_logs_clicks_on_while_models_cannot_be_read(outage: Any, damaged: Settings) -> None:
    """Its membership in the group hangs on that topic, too; each training fails, and says why."""
    outage.settings = settings = other_application(damaged)
    trainer = start_logging(outage, "trainer", "--set", "min_clicks=100", "--set", "log_flush_s=0.1")
    outage.send(walk(0, 100))
    outage.wait_for_log("trainer", f"the training failed: {named(settings.models_topic, 0)}")
    outage.send(walk(100, 100))
    wait_until_logged(outage, 200)

    assert trainer.exit_status is None


def test_worker_and_trainer_end_at_such_a_batch_and_go_on_when_it_is_given_up(outage: Any, damaged: Settings) -> None:
    """One line with partition and offset, once all clicks before are answered and logged; the rest comes afterwards."""
    outage.settings = settings = damaged
    before = {(partition, offset) for partition in range(settings.partitions) for offset in range(EACH)}
    behind = {(partition, offset + 2 * EACH) for partition, offset in before}
    for name, child in (("worker", outage.worker()), ("trainer", outage.start("trainer", "train", *QUICK))):
        outage.wait_for(lambda child=child: child.exit_status is not None, f"an end of the {name}")
        last_line = outage.log(name).read_text().splitlines()[-1]
        partition = int(re.search(r"partition (\d+)", last_line)[1])  # type: ignore[index]
        assert re.search(named(settings.clicks_topic, partition), last_line), last_line
        assert "Traceback" not in outage.log(name).read_text()
        assert child.exit_status == 1
        done = answered(outage) if name == "worker" else set(logged_offsets(settings.log_dir))
        assert {place for place in before if place[0] == partition} <= done <= before

    give_up(settings)
    outage.worker("worker-again")
    start_logging(outage, "trainer-again", "--skip-lost", *QUICK)
    outage.wait_for(lambda: answered(outage) >= before | behind, "the clicks behind")
    wait_until_logged(outage, len(done | behind))

    assert answered(outage) == before | behind
    assert set(logged_offsets(settings.log_dir)) == done | behind


def answered(playground: Any) -> set[tuple[int, int]]:
    """Partition and offset of each click that has its update."""
    messages = playground.read(playground.settings.recommendations_topic)
    updates = [decode_update(message.value()) for message in messages]
    return {(update.source.partition, update.source.offset) for update in updates}


def give_up(settings: Settings) -> None:
    """Remove what stands before the third batch of each partition, as kafka-delete-records.sh does."""
    places = [TopicPartition(settings.clicks_topic, number, 2 * EACH) for number in range(settings.partitions)]
    client = AdminClient(librdkafka_config(settings))
    for deleted in client.delete_records(places).values():
        deleted.result(ANSWER_S)
