"""Follows the topic `models`, on which the trainer announces bundles."""

import asyncio
from collections.abc import Sequence
from typing import Any

import aiokafka

from nextclick.experiment import EXPERIMENT
from nextclick.manifest import CHAMPION
from nextclick.settings import Settings
from stream.faust_adapter.clients import aiokafka_config
from stream.faust_adapter.second_reader import SecondReader, is_unpacking
from stream.protocol.port import ClickRecord, Run
from stream.served_bundle import ServedBundle
from tools.bundle_copies import newest_announcements


async def follow_models(settings: Settings, served: ServedBundle, caught_up: asyncio.Event) -> None:
    """Follow the topic `models` for ever, with a consumer of its own that belongs to no group.

    Args:
        settings: where and what to follow.
        served: is told of every newest announcement, of champions and of experiments.
        caught_up: set once what had been announced before the start is served or refused.

    Raises:
        PermanentError: a batch of the topic cannot be read.
        KafkaError: the broker refuses, or there is none at the start.
    """
    partition = aiokafka.TopicPartition(settings.models_topic, 0)
    consumer = aiokafka.AIOKafkaConsumer(
        **aiokafka_config(settings), enable_auto_commit=False, isolation_level="read_committed", fetch_max_wait_ms=1000
    )
    second = SecondReader(settings, settings.models_topic)
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while True:
            if await consumer.position(partition) >= end:
                caught_up.set()
            timeout_s = min(60.0 if caught_up.is_set() else 0.5, served.again_in_s())
            records = await _read(consumer, partition, int(1000 * timeout_s), second)
            announcements = newest_announcements(_announcements(records))
            # What was announced before the start is not newer than a bundle that was named for it.
            if caught_up.is_set() or not settings.bundle:
                for value in announcements:
                    await served.announced(value)
                for experiment in _newest(records, EXPERIMENT):
                    await served.experiment_announced(experiment)
            await served.try_again()
    finally:
        await consumer.stop()


async def _read(consumer: Any, partition: Any, timeout_ms: int, second: SecondReader) -> Sequence[ClickRecord]:
    try:
        records: Sequence[ClickRecord] = (await consumer.getmany(partition, timeout_ms=timeout_ms)).get(partition, ())
        return records
    except Exception as error:
        if not is_unpacking(error):
            raise
        position = await consumer.position(partition)
        runs = await second.read({partition.partition: position}, error)
    run = runs.get(partition.partition, Run(position, (), position))
    consumer.seek(partition, run.end)
    return run.records


def _newest(records: Sequence[ClickRecord], key: str) -> Sequence[bytes | None]:
    """Give the newest value under a key, if there is one; None is a tombstone."""
    return [record.value for record in records if record.key == key.encode()][-1:]


def _announcements(records: Sequence[ClickRecord]) -> list[bytes]:
    return [record.value for record in records if record.key == CHAMPION.encode() and record.value is not None]
