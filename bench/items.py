"""Measures how late an item that is withdrawn is last in a list, and what a million items cost a worker."""

import random
import time
import urllib.request
from dataclasses import replace
from typing import NamedTuple

from confluent_kafka import Producer

from bench import measure
from bench.load import prepared_load
from bench.programs import python, running
from demo.kafka_process import free_port
from nextclick.catalogue import ShopItem, encode_item
from nextclick.settings import Settings
from nextclick.updates import decode_update
from tools.client_config import producer_config
from tools.items.topic import ItemWriter

N_CATALOGUE = 10_000  # items of the bundle
CLICKS_PER_S = 500
_EVERY_S = 0.1  # an item is withdrawn
_DEADLINE_S = 240.0
_CATEGORIES = 3  # of an item


class Lateness(NamedTuple):
    """How late the lists of two workers were that still had an item which was withdrawn.

    Attributes:
        n_withdrawn: how many items were.
        n_late: lists with one of them that were made afterwards.
        latest_ms: the last of these.
        n_lists: that were read.
    """

    n_withdrawn: int
    n_late: int
    latest_ms: int
    n_lists: int


class Cost(NamedTuple):
    """What items cost a worker.

    Attributes:
        read_s: until all were read, from the start of the worker.
        without_s: the same without any.
        cpu_s, without_cpu_s: CPU seconds until then.
        rss_bytes, without_bytes: the most memory that the worker held.
    """

    read_s: float
    without_s: float
    cpu_s: float
    without_cpu_s: float
    rss_bytes: int
    without_bytes: int


def lateness(settings: Settings, n_withdrawn: int) -> Lateness:
    """Withdraw items that are in lists, one after the other, while clicks come to two workers."""
    settings = measure.with_bundle(settings, N_CATALOGUE)
    other = replace(settings, data_dir=settings.data_dir.with_name("other"))
    seconds = 8.0 + _EVERY_S * n_withdrawn
    reader, chance = measure.UpdateReader(settings), random.Random(1)
    at_ms: dict[str, int] = {}
    made: list[tuple[int, list[str]]] = []

    def read() -> None:
        for _, value in reader.read():
            update = decode_update(value)
            made.append((update.produced_at_ms, [item.item_id for item in update.items]))

    with running(settings, python(*measure.WORKER)) as one, running(other, python(*measure.WORKER)) as two:
        with prepared_load(settings, int(CLICKS_PER_S * seconds), CLICKS_PER_S, N_CATALOGUE) as load:
            load.start()
            end_s = time.monotonic() + _DEADLINE_S
            while len(made) < CLICKS_PER_S and time.monotonic() < end_s:
                one.check()
                two.check()
                read()
            writer = ItemWriter(settings)
            for _ in range(n_withdrawn):
                item_id = chance.choice([item for _, items in made[-200:] for item in items if item not in at_ms])
                writer.write(item_id, ShopItem(available=False))
                writer.flush()
                at_ms[item_id] = int(time.time() * 1000)
                next_s = time.monotonic() + _EVERY_S
                while time.monotonic() < next_s:
                    read()
            load.report()
        time.sleep(2.0)
        read()
    reader.close()
    late = [made_ms - at_ms[item] for made_ms, items in made for item in items if made_ms > at_ms.get(item, made_ms)]
    return Lateness(n_withdrawn, len(late), max(late, default=0), len(made))


def cost(settings: Settings, n_items: int) -> Cost:
    """Start a worker with items, and one without."""
    without_s, without_cpu_s, without_bytes = _started(settings, 0)
    _fill(settings, n_items)
    settings = replace(settings, data_dir=settings.data_dir.with_name("other"))
    read_s, cpu_s, rss_bytes = _started(settings, n_items)
    return Cost(read_s, without_s, cpu_s, without_cpu_s, rss_bytes, without_bytes)


def _fill(settings: Settings, n_items: int) -> None:
    producer = Producer(producer_config(settings) | {"linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    for number in range(n_items):
        categories = tuple(
            f"{level}-{number % size}" for level, size in zip(range(_CATEGORIES), (20, 400, 8_000), strict=True)
        )
        item = ShopItem(categories=categories, title=f"Item number {number}", price=number / 100)
        producer.produce(settings.items_topic, encode_item(item), f"item-{number}")
        if number % 100_000 == 0:
            producer.poll(0)
    producer.flush()


def _started(settings: Settings, n_items: int) -> tuple[float, float, int]:
    """Give how long a worker takes until it knows what is said of items, its CPU seconds and its memory then."""
    port = free_port()
    began_s = time.monotonic()
    with running(replace(settings, worker_port=port), python(*measure.WORKER)) as program:
        while _n_items(port) < n_items or not _is_ready(port):
            program.check()
            if time.monotonic() > began_s + _DEADLINE_S:
                raise SystemExit("the worker did not read the items in time")
            time.sleep(0.1)
        return time.monotonic() - began_s, program.cpu_s(), program.max_rss_bytes()


def _n_items(port: int) -> float:
    try:
        text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    except OSError:
        return -1.0
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith("nextclick_items{")]
    return float(found[0]) if found else -1.0


def _is_ready(port: int) -> bool:
    try:
        return bool(urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).status == 200)
    except OSError:
        return False
