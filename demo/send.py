"""Sends one click and waits for the recommendations that answer it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import Consumer, TopicPartition

from demo.click_producer import CONNECT_TIMEOUT_S, ClickProducer, missing_topic
from nextclick.clicks import ClickFields, Rejected, click_decoder, encode_click
from nextclick.errors import PermanentError, TemporaryError
from nextclick.hashing import partition_of
from nextclick.settings import Settings
from nextclick.updates import RecommendationUpdate, decode_update
from tools.client_config import consumer_config


def send(
    settings: Settings, user_id: str, item_id: str, event_type: str, timeout_s: float
) -> tuple[RecommendationUpdate, float]:
    """Send one click with the event time now and wait for its answer.

    Returns:
        The answer, and the milliseconds from handing the click over to reading the answer.

    Raises:
        PermanentError: a click that a worker would reject, or topics that do not exist or do not fit together.
        TemporaryError: no broker, or no answer within the time.
    """
    now_ms = int(time.time() * 1000)
    fields = ClickFields.of(settings)
    key = user_id.encode(errors="surrogatepass")
    checked = click_decoder(fields)(key, encode_click(fields, user_id, item_id, now_ms, event_type), now_ms)
    if isinstance(checked, Rejected):
        raise PermanentError(f"a worker would reject this click ({checked.reason}): {checked.detail}; correct it")
    producer = ClickProducer(settings)
    partition = partition_of(key, producer.n_partitions, settings.partitioner)
    _check_recommendations(settings, producer)
    with _consumer_at_end(settings, partition) as consumer:
        started_s = time.monotonic()
        producer.send(user_id, item_id, now_ms, event_type)
        producer.flush()
        source = producer.last_delivered
        answer = _wait_for_answer(consumer, key, source, started_s + timeout_s)
        elapsed_ms = (time.monotonic() - started_s) * 1000
    if answer is None:
        raise TemporaryError(
            f"expected an answer in {settings.recommendations_topic!r} within {timeout_s:g} s, found none (the click "
            f"is at partition and offset {source}); check that a worker is running (`nextclick stream`), "
            f"that it has caught up, and that the click is not in {settings.rejected_topic!r}"
        )
    return answer, elapsed_ms


def _check_recommendations(settings: Settings, producer: ClickProducer) -> None:
    n_partitions = producer.partition_counts().get(settings.recommendations_topic)
    if n_partitions is None:
        raise missing_topic(settings.recommendations_topic, settings)
    if n_partitions != producer.n_partitions:
        raise PermanentError(
            f"expected {settings.recommendations_topic!r} to have as many partitions as {settings.clicks_topic!r} "
            f"({producer.n_partitions}), found {n_partitions}; run `nextclick topics`"
        )


@contextmanager
def _consumer_at_end(settings: Settings, partition: int) -> Iterator[Consumer]:
    """Give a consumer that reads what comes after now. It belongs to no group and commits nothing."""
    consumer = Consumer(consumer_config(settings, f"{settings.app}-send"))
    try:
        place = TopicPartition(settings.recommendations_topic, partition)
        # The number, not "end": that would be looked up later, when the answer may be there already.
        place.offset = consumer.get_watermark_offsets(place, timeout=CONNECT_TIMEOUT_S)[1]
        consumer.assign([place])
        yield consumer
    finally:
        consumer.close()


def _wait_for_answer(
    consumer: Consumer, key: bytes, source: tuple[int | None, int | None] | None, deadline_s: float
) -> RecommendationUpdate | None:
    while (remaining_s := deadline_s - time.monotonic()) > 0:
        message = consumer.poll(min(remaining_s, 0.1))
        if message is None or message.error() or message.key() != key:
            continue
        value = message.value()
        answer = decode_update(value) if value is not None else None
        if answer is not None and (answer.source.partition, answer.source.offset) == source:
            return answer
    return None
