"""Follows the topic `models`, on which the trainer announces bundles."""

import asyncio
from typing import Any

import aiokafka

from nextclick.errors import BundleError
from nextclick.manifest import CHAMPION, decode_manifest
from nextclick.settings import Settings
from stream.faust_adapter.clients import aiokafka_config
from stream.served_bundle import ServedBundle


async def follow_models(settings: Settings, served: ServedBundle, caught_up: asyncio.Event) -> None:
    """Follow the topic `models` for ever, with a consumer of its own that belongs to no group.

    Args:
        settings: where and what to follow.
        served: is told of every newest announcement.
        caught_up: set once what had been announced before the start is served or refused.
    """
    partition = aiokafka.TopicPartition(settings.models_topic, 0)
    consumer = aiokafka.AIOKafkaConsumer(
        **aiokafka_config(settings), enable_auto_commit=False, isolation_level="read_committed", fetch_max_wait_ms=1000
    )
    await consumer.start()
    try:
        consumer.assign([partition])
        await consumer.seek_to_beginning(partition)
        end = (await consumer.end_offsets([partition]))[partition]
        while True:
            if await consumer.position(partition) >= end:
                caught_up.set()
            announcements = _newest_announcements(
                await consumer.getmany(partition, timeout_ms=60_000 if caught_up.is_set() else 500)
            )
            # What was announced before the start is not newer than a bundle that was named for it.
            if caught_up.is_set() or not settings.bundle:
                for value in announcements:
                    await served.announced(value)
    finally:
        await consumer.stop()


def _newest_announcements(fetched: dict[Any, list[Any]]) -> list[bytes]:
    """Give the newest announcement that can be decoded, and those behind it that cannot: they are said and counted."""
    values = [
        record.value
        for records in fetched.values()
        for record in records
        if record.key == CHAMPION.encode() and record.value is not None
    ]
    decodable = [place for place, value in enumerate(values) if _can_be_decoded(value)]
    return values[decodable[-1] :] if decodable else values


def _can_be_decoded(value: bytes) -> bool:
    try:
        decode_manifest(value)
    except BundleError:
        return False
    return True
