"""A hand-written confluent-kafka loop with the same work: what the worker should be as fast as. No recovery, no safety.

Consumes a batch, updates states in a dictionary, produces changelog records and updates, flushes, commits.
"""

import os
import time

from confluent_kafka import Consumer, Producer

from nextclick.advance import Limits, LoggedClick, UserKey, advance
from nextclick.hashing import item_hash
from nextclick.popularity import Popularity
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.settings import Settings
from nextclick.updates import AnsweredClick, encode_update
from nextclick.user_state import UserState, decode_state, encode_state
from tools.client_config import consumer_config, producer_config
from tools.records import headers_of


def run(settings: Settings) -> None:
    """Process clicks for ever."""
    consumer = Consumer(consumer_config(settings, settings.app))
    consumer.subscribe([settings.clicks_topic])
    producer = Producer(producer_config(settings) | {"linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    decode = click_decoder(ClickSchema.of(settings))
    limits = Limits(settings.recent_clicks, settings.list_length)
    popularity = Popularity(settings.popularity_half_life_s)
    stored: dict[UserKey, bytes] = {}
    while True:
        batch: list[LoggedClick] = []
        read_ms = int(time.time() * 1000)
        for message in consumer.consume(settings.max_chunk_records, 0.05):
            clicks = decode(message.key(), message.value(), headers_of(message), message.timestamp()[1], read_ms)
            if not isinstance(clicks, tuple):
                continue
            (click,) = clicks
            popularity.add(click.user_id, click.item_id, click.timestamp_ms)
            user = (message.partition(), message.key())
            batch.append(LoggedClick(user, message.offset(), message.timestamp()[1], click, item_hash(click.item_id)))
        if not batch:
            continue
        known = {logged.user: decode_state(stored[logged.user]) for logged in batch if logged.user in stored}
        newest: dict[UserKey, UserState] = {}
        now_ms = int(time.time() * 1000)
        popular = popularity.ranked(limits.list_length)
        for logged, outcome in zip(batch, advance(None, popular, known, batch, limits), strict=True):
            (partition, key), state = logged.user, outcome.state
            newest[logged.user] = state
            update = encode_update(
                logged.click.user_id,
                outcome.ranked,
                "",
                outcome.sequence,
                AnsweredClick(partition, logged.offset, logged.record_timestamp_ms),
                now_ms,
            )
            producer.produce(settings.recommendations_topic, update, key, partition)
        for (partition, key), state in newest.items():
            stored[partition, key] = encode_state(state)
            producer.produce(settings.changelog_topic, stored[partition, key], key, partition)
        producer.flush()
        consumer.commit(asynchronous=True)


if __name__ == "__main__":
    run(Settings.load(os.environ))
