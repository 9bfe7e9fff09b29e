"""A hand-written confluent-kafka loop with the same engine: what the worker should be as fast as.

Consumes a batch, updates states in a dictionary, produces changelog records and updates, flushes, commits. With a
bundle it computes with the same model in as many threads. No recovery, no safety.
"""

import os
import time

from confluent_kafka import Consumer, Message, Producer

from bench.work import Work
from nextclick.advance import UserKey
from nextclick.settings import Settings
from nextclick.user_state import UserState, decode_state, encode_state
from tools.client_config import consumer_config, producer_config
from tools.records import headers_of

_WAIT_S = 0.05


def run(settings: Settings) -> None:
    """Process clicks for ever."""
    work = Work(settings)
    consumer = Consumer(consumer_config(settings, settings.app))
    consumer.subscribe([settings.clicks_topic])
    producer = Producer(producer_config(settings) | {"linger.ms": 5, "queue.buffering.max.messages": 1_000_000})
    stored: dict[UserKey, bytes] = {}
    while True:
        batch = []
        for message in _next(consumer, settings.max_chunk_records):
            user = (message.partition(), message.key())
            logged = work.read(user, message.offset(), message.timestamp()[1], message.value(), headers_of(message))
            if logged is not None:
                batch.append(logged)
        if not batch:
            continue
        known = {logged.user: decode_state(stored[logged.user]) for logged in batch if logged.user in stored}
        newest: dict[UserKey, UserState] = {}
        outcomes = work.advance(known, batch)
        now_ms = int(time.time() * 1000)
        for logged, outcome in zip(batch, outcomes, strict=True):
            partition, key = logged.user
            newest[logged.user] = outcome.state
            producer.produce(settings.recommendations_topic, work.update(logged, outcome, now_ms), key, partition)
        for (partition, key), state in newest.items():
            stored[partition, key] = encode_state(state)
            producer.produce(settings.changelog_topic, stored[partition, key], key, partition)
        producer.flush()  # does not linger
        consumer.commit(asynchronous=True)


def _next(consumer: Consumer, at_most: int) -> list[Message]:
    """Give what is there, and wait only if that is nothing: `consume` waits until it has all that it may give."""
    first: list[Message] = consumer.consume(1, _WAIT_S)
    return first + consumer.consume(at_most - 1, 0) if first else first


if __name__ == "__main__":
    run(Settings.load(os.environ))
