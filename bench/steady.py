"""Measures a program at a steady rate: how long clicks wait for their updates, and what that costs.

The latency of a click runs from its record's own timestamp to that of its update's record; both are set by clients on
this machine, in ms. Load and program run beside the broker; updates are read when all of it is over, so that reading
takes nothing from them.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from bench.load import LoadReport, encoded_clicks, prepared_load
from bench.programs import ProgramStuckError, RunningProgram, running
from bench.quantiles import quantile
from nextclick.settings import Settings
from nextclick.updates import decode_update
from tools.client_config import consumer_config, librdkafka_config, producer_config

SKIPPED_S = 5.0  # a program warms up: what is compiled, connected or allocated when it is first used
_READY_CLICKS = 100
_READY_DEADLINE_S = 120.0
_CATCH_UP_S = 20.0  # for what is under way when the load ends; who needs more cannot hold the rate
_LOOK_S = 0.25


class Latency(NamedTuple):
    """How long clicks waited for their updates, in ms."""

    n_clicks: int
    p50_ms: float
    p99_ms: float
    max_ms: float


class Steady(NamedTuple):
    """How a program did at a rate, without the first seconds.

    Attributes:
        events_per_s: that were sent.
        latency: from click record to update record.
        cores: CPU of the program, with its children.
        machine_cores: CPU of the whole machine: program, load, broker and whatever else runs.
        max_rss_bytes: the most memory of the program.
        load: how the load did.
    """

    events_per_s: float
    latency: Latency
    cores: float
    machine_cores: float
    max_rss_bytes: int
    load: LoadReport


class Rate(NamedTuple):
    """What is sent to a program.

    Attributes:
        events_per_s: evenly spread.
        seconds: that count, after `SKIPPED_S`.
        n_items: that are clicked.
    """

    events_per_s: float
    seconds: float
    n_items: int


def steady(settings: Settings, rate: Rate, command: Sequence[str]) -> Steady:
    """Measure a program at a rate.

    Raises:
        ProgramDiedError: it ended.
        ProgramStuckError: it did not answer all clicks in time.
    """
    count = int(rate.events_per_s * (SKIPPED_S + rate.seconds))
    with (
        running(settings, command) as program,
        prepared_load(settings, count, rate.events_per_s, rate.n_items) as load,
    ):
        _make_ready(settings, rate.n_items, program)
        load.start()
        time.sleep(SKIPPED_S)
        from_ms, began_s = int(time.time() * 1000), time.monotonic()
        cpu_s, machine_s = program.cpu_s(), _machine_cpu_s()
        time.sleep(rate.seconds)
        seconds = time.monotonic() - began_s
        cores = (program.cpu_s() - cpu_s) / seconds
        machine_cores = (_machine_cpu_s() - machine_s) / seconds
        report = load.report()
        _wait_for_updates(settings, _READY_CLICKS + report.n_sent, _CATCH_UP_S, program)
        latency = latencies(read_waits(settings), from_ms)
        return Steady(rate.events_per_s, latency, cores, machine_cores, program.max_rss_bytes(), report)


def latencies(waits: Sequence[tuple[int, int]], from_ms: int) -> Latency:
    """Sum up waits.

    Args:
        waits: of each update when its click was sent, and when it was sent itself, in ms.
        from_ms: earlier clicks do not count.
    """
    ordered = sorted(float(sent_ms - clicked_ms) for clicked_ms, sent_ms in waits if clicked_ms >= from_ms)
    longest = ordered[-1] if ordered else float("nan")
    return Latency(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.99), longest)


def read_waits(settings: Settings) -> list[tuple[int, int]]:
    """Read all updates; gives of each when its click was sent, and when it was sent itself, in ms."""
    count = _n_updates(AdminClient(librdkafka_config(settings)), settings)
    consumer = Consumer(consumer_config(settings, "bench-reader"))
    topic = settings.recommendations_topic
    consumer.assign([TopicPartition(topic, number, 0) for number in range(settings.partitions)])
    waits: list[tuple[int, int]] = []
    end_s = time.monotonic() + _CATCH_UP_S
    while len(waits) < count and time.monotonic() < end_s:
        for message in consumer.consume(10_000, 0.2):
            if message.error() is None:
                waits.append((decode_update(message.value()).clicked_at_ms, message.timestamp()[1]))
    consumer.close()
    return waits


def _make_ready(settings: Settings, n_items: int, program: RunningProgram) -> None:
    """Send clicks and wait for their updates: then the program has taken its partitions."""
    producer = Producer(producer_config(settings))
    for key, value in encoded_clicks(settings, _READY_CLICKS, n_items):
        producer.produce(settings.clicks_topic, value, key)
    producer.flush()
    _wait_for_updates(settings, _READY_CLICKS, _READY_DEADLINE_S, program)


def _wait_for_updates(settings: Settings, count: int, patience_s: float, program: RunningProgram) -> None:
    """Return when so many updates are there. Asks where the topic ends, which costs next to nothing."""
    admin = AdminClient(librdkafka_config(settings))
    end_s = time.monotonic() + patience_s
    while (found := _n_updates(admin, settings)) < count:
        program.check()
        if time.monotonic() > end_s:
            raise ProgramStuckError(
                f"{found:,} of {count:,} clicks were answered in time; the last that it printed:\n{program.tail()}"
            )
        time.sleep(_LOOK_S)


def _n_updates(admin: AdminClient, settings: Settings) -> int:
    topic = settings.recommendations_topic
    asked = {TopicPartition(topic, number): OffsetSpec.latest() for number in range(settings.partitions)}
    return sum(answer.result().offset for answer in admin.list_offsets(asked, request_timeout=10.0).values())


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
