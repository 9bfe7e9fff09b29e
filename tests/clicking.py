"""Users who click all the time, while a test does something else."""

import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from confluent_kafka import Producer

from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from tools.client_config import producer_config


@contextmanager
def clicking(settings: Settings, items: Sequence[str], clicks_per_s: float = 150.0) -> Iterator[None]:
    """Let 60 users click on random items until the block ends; all of their clicks are in the topic then."""
    stop = threading.Event()

    def click() -> None:
        chance, schema = random.Random(7), ClickSchema.of(settings)
        producer = Producer(producer_config(settings))
        while not stop.wait(1 / clicks_per_s):
            user, item_id = f"u{chance.randrange(60)}", chance.choice(items)
            encoded = encode_click(schema, user, item_id, int(time.time() * 1000))
            producer.produce(settings.clicks_topic, encoded.value, encoded.key)
            producer.poll(0)
        producer.flush()

    thread = threading.Thread(target=click, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
