"""How long users wait when a worker goes, and how long states take to come back.

A probe sends one click per partition every 50 ms, as a user of that partition. Users are served again when every
partition has answered a click that was sent after the worker went.
"""

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.backlog import DEADLINE_S
from bench.measure import WORKER
from nextclick.hashing import partition_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import decode_update
from nextclick.user_state import RECENT_BYTES, SHOWN_BYTES, UserState, encode_state
from tools.client_config import consumer_config, producer_config
from tools.processes import dying_with_parent

PROBE_S = 0.05
SETTLE_S = 2.0  # answered by all partitions for so long: the rebalance that a start brings is over
N_ITEMS_PER_LIST = 20


class Recovery(NamedTuple):
    """How long a worker takes from its start until every partition answers, and its users' states with it."""

    cold_s: float
    warm_s: float


def write_states(settings: Settings, n_users: int) -> int:
    """Fill the changelog with states of the size that a network of width 128 has; gives the bytes of one."""
    hidden, recent = os.urandom(2 * 128), os.urandom(settings.recent_clicks * RECENT_BYTES)
    shown = os.urandom(N_ITEMS_PER_LIST * SHOWN_BYTES)
    producer = Producer(producer_config(settings) | {"linger.ms": 20, "queue.buffering.max.messages": 1_000_000})
    data = b""
    for number in range(n_users):
        key = f"user-{number}".encode()
        partition = partition_of(key, settings.partitions, settings.partitioner)
        data = encode_state(UserState(0, settings.recent_clicks, partition, -1, 1, hidden, recent, shown, 0))
        producer.produce(settings.changelog_topic, data, key, partition=partition)
        if number % 10_000 == 0:
            producer.poll(0)
    producer.flush()
    return len(data)


def recovery(settings: Settings) -> Recovery:
    """Start a worker on a filled changelog with an empty folder, kill it, and start it again on what it has."""
    with probe(settings) as users:
        seconds = []
        for _ in ("cold", "warm"):
            started_s = time.monotonic()
            process = start(settings)
            try:
                users.wait_until_served(since_s=started_s)
                seconds.append(time.monotonic() - started_s)
                time.sleep(SETTLE_S)
            finally:
                process.kill()
                process.wait()
    return Recovery(*seconds)


def failover(settings: Settings, number: signal.Signals) -> float:
    """Let two workers share the partitions, end one by a signal, and give the time until all users are served."""
    with probe(settings) as users:
        processes = [start(replace(settings, data_dir=settings.data_dir / str(worker))) for worker in range(2)]
        try:
            users.wait_until_steady()
            signalled_s = time.monotonic()
            processes[0].send_signal(number)
            processes[0].wait()  # it may still answer while it finishes its work
            users.wait_until_served(since_s=time.monotonic())
            return time.monotonic() - signalled_s
        finally:
            for process in processes:
                process.kill()
                process.wait()


def start(settings: Settings) -> "subprocess.Popen[bytes]":
    """Start a worker."""
    return subprocess.Popen(
        dying_with_parent([sys.executable, *WORKER]),
        env=dict(os.environ) | settings.as_environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@contextmanager
def probe(settings: Settings) -> "Iterator[Probe]":
    """Give a probe that is closed at the end."""
    users = Probe(settings)
    try:
        yield users
    finally:
        users.close()


class Probe:
    """A user in every partition, who clicks all the time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(producer_config(settings) | {"linger.ms": 0})
        self._consumer = Consumer(consumer_config(settings, "bench-probe"))
        topic = settings.recommendations_topic
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(settings.partitions)])
        self._users: dict[int, str] = {}
        for number in itertools.count():
            user = f"probe-{number}"
            self._users.setdefault(partition_of(user.encode(), settings.partitions, settings.partitioner), user)
            if len(self._users) == settings.partitions:
                break
        self._newest_s = dict.fromkeys(self._users, float("-inf"))  # when the newest answered click was sent
        self._epoch_s = time.time() - time.monotonic()

    def wait_until_served(self, since_s: float) -> None:
        """Click until every partition has answered a click that was sent after a time (monotonic clock)."""
        end_s = time.monotonic() + DEADLINE_S
        while min(self._newest_s.values()) < since_s:
            if time.monotonic() > end_s:
                raise SystemExit("a partition was not served again in time")
            self._click_and_read()

    def wait_until_steady(self) -> None:
        """Click until every partition has answered within moments for a while, after both workers have joined."""
        time.sleep(SETTLE_S)
        steady_since_s = time.monotonic()
        while time.monotonic() < steady_since_s + 5 * SETTLE_S:
            self._click_and_read()
            if min(self._newest_s.values()) < time.monotonic() - SETTLE_S / 2:
                steady_since_s = time.monotonic()

    def close(self) -> None:
        """Stop clicking."""
        self._consumer.close()

    def _click_and_read(self) -> None:
        schema = ClickSchema.of(self._settings)
        for user in self._users.values():
            self._producer.produce(
                self._settings.clicks_topic,
                encode_click(schema, user, "i1", int(time.time() * 1000)).value,
                user.encode(),
            )
        self._producer.flush()
        for message in self._consumer.consume(1_000, PROBE_S):
            if message.error() is None:
                update = decode_update(message.value())
                self._newest_s[message.partition()] = update.clicked_at_ms / 1000 - self._epoch_s
