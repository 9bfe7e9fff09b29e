"""Sends clicks at a rate, from a process of its own that costs little, and says whether it was the limit.

Clicks are encoded before. Every two milliseconds those that are due leave in one burst, with Kafka's timestamp of that
moment; in between the process sleeps. It reports its own CPU and how late its bursts left: a program is measured at a
rate only while both are small.

`python -m bench.load COUNT RATE N_ITEMS`: prints `ready`, waits for a line, sends, and prints a report in JSON.
"""

import gc
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, NamedTuple

import msgspec
from confluent_kafka import Message, Producer

from bench.quantiles import quantile
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from tools.client_config import producer_config
from tools.processes import dying_with_parent

N_USERS = 20_000
BURST_S = 0.002
_WATCHED_EVERY = 10  # of so many clicks one is followed until the broker has it: following costs more than sending
_PREPARED_CLICKS = 200_000  # then they begin again: all clicks of a long run would not fit into memory
_FLUSH_S = 30.0


class LoadReport(NamedTuple):
    """How the load itself did.

    Attributes:
        n_sent: clicks that the broker got.
        seconds: from the first burst to the last.
        cores: CPU that the load used, with its client's threads.
        late_p99_ms, late_max_ms: how long after its time a burst left.
        broker_p50_ms, broker_p99_ms: until the broker had acknowledged a click.
    """

    n_sent: int
    seconds: float
    cores: float
    late_p99_ms: float
    late_max_ms: float
    broker_p50_ms: float
    broker_p99_ms: float


class Burst(NamedTuple):
    """Clicks that leave together: those from `first` up to, but without `end`, at a time in s from the start."""

    at_s: float
    first: int
    end: int


def bursts(count: int, events_per_s: float, burst_s: float = BURST_S) -> Iterator[Burst]:
    """Spread clicks evenly over time: a click leaves with the first burst after its own time."""
    sent = tick = 0
    while sent < count:
        due = min(count, int(tick * burst_s * events_per_s) + 1)
        if due > sent:
            yield Burst(tick * burst_s, sent, due)
            sent = due
        tick += 1


@contextmanager
def prepared_load(settings: Settings, count: int, events_per_s: float, n_items: int) -> "Iterator[Load]":
    """Give a load that has its clicks ready, in a process of its own; it ends with the block."""
    command = [sys.executable, "-m", "bench.load", str(count), str(events_per_s), str(n_items)]
    process = subprocess.Popen(
        dying_with_parent(command),
        env=dict(os.environ) | settings.as_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        if process.stdout.readline() != b"ready\n":
            raise SystemExit("the load did not start; its error stands above")
        yield Load(process.stdin, process.stdout)
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


class Load:
    """A load that is ready."""

    def __init__(self, orders: IO[bytes], answers: IO[bytes]) -> None:
        self._orders, self._answers = orders, answers

    def start(self) -> None:
        """Begin to send; returns at once."""
        self._orders.write(b"go\n")
        self._orders.flush()

    def report(self) -> LoadReport:
        """Wait until all clicks are sent, and say how that went."""
        return msgspec.json.decode(self._answers.readline(), type=LoadReport)


def encoded_clicks(settings: Settings, count: int, n_items: int, n_users: int = N_USERS) -> list[tuple[bytes, bytes]]:
    """Give keys and values of random clicks: users uniform, items Zipf-like."""
    draw = random.Random(0)
    schema, now_ms = ClickSchema.of(settings), int(time.time() * 1000)
    clicks = []
    for _ in range(count):
        user, item = f"user-{draw.randrange(n_users)}", f"item-{int(draw.paretovariate(1.0)) % n_items}"
        click = encode_click(schema, user, item, now_ms)
        clicks.append((click.key, click.value))
    return clicks


def send(settings: Settings, clicks: list[tuple[bytes, bytes]], count: int, events_per_s: float) -> LoadReport:
    """Send so many clicks at a rate, these in turn."""
    producer = Producer(producer_config(settings) | {"linger.ms": 0, "queue.buffering.max.messages": 1_000_000})
    producer.list_topics(settings.clicks_topic, 10)  # connected before the first burst
    topic, produce = settings.clicks_topic, producer.produce
    watched_s: list[float] = []
    late_s: list[float] = []

    def arrived(error: object, message: Message) -> None:
        if error is None:
            watched_s.append(message.latency())

    cpu_s, began_s = time.process_time(), time.monotonic()
    for at_s, first, end in bursts(count, events_per_s):
        wait_s = began_s + at_s - time.monotonic()
        if wait_s > 0.0:
            time.sleep(wait_s)
        late_s.append(time.monotonic() - began_s - at_s)
        for number in range(first, end):
            key, value = clicks[number % len(clicks)]
            if number % _WATCHED_EVERY:
                produce(topic, value, key)
            else:
                produce(topic, value, key, on_delivery=arrived)
        producer.poll(0)
    seconds = time.monotonic() - began_s
    cores = (time.process_time() - cpu_s) / seconds
    n_sent = count - int(producer.flush(_FLUSH_S))
    late, watched = sorted(late_s), sorted(watched_s)
    return LoadReport(
        n_sent,
        seconds,
        cores,
        quantile(late, 0.99) * 1000.0,
        late[-1] * 1000.0,
        quantile(watched, 0.5) * 1000.0,
        quantile(watched, 0.99) * 1000.0,
    )


def main() -> None:
    """Run the process of a load."""
    count, events_per_s, n_items = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])
    settings = Settings.load(os.environ)
    clicks = encoded_clicks(settings, min(count, _PREPARED_CLICKS), n_items)
    gc.disable()  # a collection would go over all clicks, and a burst would be late
    print("ready", flush=True)
    sys.stdin.readline()
    print(msgspec.json.encode(send(settings, clicks, count, events_per_s)).decode(), flush=True)


if __name__ == "__main__":
    main()
