"""What one user who clicks without end does to all others: people click at a steady rate, and a crawler comes.

The same worker first serves the people alone, then the people beside the crawler, whose clicks all come at once.
"""

import random
import time
from typing import NamedTuple

from confluent_kafka import Producer

from bench import measure
from bench.backlog import DEADLINE_S
from bench.programs import python, running
from nextclick.hashing import partition_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import decode_update
from tools.client_config import producer_config

N_ITEMS = 10_000
PEOPLE = 40  # each clicks once a second
SECONDS = 20.0  # for each of the two parts
CRAWLER = "crawler"


class Waits(NamedTuple):
    """How long clicks waited for their updates, in ms, by their records' timestamps."""

    p50: float
    p99: float
    longest: float


class HotUser(NamedTuple):
    """What the crawler did.

    Attributes:
        alone: of the people without the crawler.
        same_partition: of the people in the crawler's partition, beside it.
        other_partitions: of all other people, beside it.
        updates_per_s: of the crawler, from its first update to its last.
        cpu_us: that the worker took for each of its clicks.
    """

    alone: Waits
    same_partition: Waits
    other_partitions: Waits
    updates_per_s: float
    cpu_us: float


def run(settings: Settings, n_clicks: int) -> HotUser:
    """Measure a worker with so many clicks of the crawler."""
    settings = measure.with_bundle(settings, N_ITEMS)
    with running(settings, python(*measure.WORKER)) as program:
        reader = measure.UpdateReader(settings)
        clicks = _Clicks(settings)
        clicks.people(PEOPLE, 0.0)  # a first update of each shows that the worker is ready
        _read(reader, PEOPLE)
        started_s = program.cpu_s()
        n_alone = clicks.people(int(PEOPLE * SECONDS), SECONDS)
        alone = _read(reader, n_alone)
        alone_s = program.cpu_s() - started_s
        clicks.crawler(n_clicks)
        n_beside = clicks.people(int(PEOPLE * SECONDS), SECONDS)
        beside = _read(reader, n_beside + n_clicks)
        crawler_s = program.cpu_s() - started_s - 2 * alone_s
        reader.close()
    home = _partition(settings, CRAWLER)
    crawled = [at_ms for user, _, at_ms in beside if user == CRAWLER]
    people = [(_partition(settings, user) == home, wait_ms) for user, wait_ms, _ in beside if user != CRAWLER]
    return HotUser(
        _waits([wait_ms for _, wait_ms, _ in alone]),
        _waits([wait_ms for is_home, wait_ms in people if is_home]),
        _waits([wait_ms for is_home, wait_ms in people if not is_home]),
        len(crawled) / max((max(crawled) - min(crawled)) / 1000, 0.001),
        crawler_s / n_clicks * 1e6,
    )


class _Clicks:
    def __init__(self, settings: Settings) -> None:
        self._topic, self._schema = settings.clicks_topic, ClickSchema.of(settings)
        self._draw = random.Random(0)
        self._producer = Producer(producer_config(settings) | {"linger.ms": 1})

    def people(self, count: int, seconds: float) -> int:
        """Send clicks of the people in turn, evenly over a time."""
        started_s = time.monotonic()
        for number in range(count):
            self._send(f"person-{number % PEOPLE}")
            self._producer.poll(0)
            time.sleep(max(0.0, started_s + number * seconds / count - time.monotonic()))
        self._producer.flush()
        return count

    def crawler(self, count: int) -> None:
        """Send the crawler's clicks, as fast as possible."""
        for _ in range(count):
            self._send(CRAWLER)

    def _send(self, user: str) -> None:
        item = f"item-{self._draw.randrange(N_ITEMS)}"
        click = encode_click(self._schema, user, item, int(time.time() * 1000))
        self._producer.produce(self._topic, click.value, click.key)


def _read(reader: measure.UpdateReader, count: int) -> list[tuple[str, float, int]]:
    """Give of so many updates the user, the wait in ms and the time in ms."""
    found: list[tuple[str, float, int]] = []
    end_s = time.monotonic() + DEADLINE_S
    while len(found) < count and time.monotonic() < end_s:
        for at_ms, value in reader.read():
            update = decode_update(value)
            found.append((update.user_id, float(at_ms - update.clicked_at_ms), at_ms))
    return found


def _partition(settings: Settings, user: str) -> int:
    return partition_of(user.encode(), settings.partitions, settings.partitioner)


def _waits(waits_ms: list[float]) -> Waits:
    ordered = sorted(waits_ms) or [float("nan")]
    return Waits(ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)], ordered[-1])
