"""Measures a program at a steady rate: how long clicks wait for their updates, and what that costs.

The latency of a click runs from its record's own timestamp to that of its update's record; both are set by clients on
this machine, in ms. Load and program run beside the broker; updates are read when all of it is over, so that reading
takes nothing from them.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil
from confluent_kafka import Consumer, TopicPartition

from bench.backlog import UpdateCounter, send_backlog
from bench.load import LoadReport, prepared_load
from bench.programs import ProgramStuckError, RunningProgram, running
from bench.quantiles import quantile
from nextclick.settings import Settings
from nextclick.updates import decode_update
from tools.client_config import consumer_config

SKIPPED_S = 5.0  # a program warms up: what is compiled, connected or allocated when it is first used
_READY_CLICKS = 100
_READY_DEADLINE_S = 120.0
_CATCH_UP_S = 5.0  # for what is under way when the load ends; who needs more cannot hold the rate
_READ_DEADLINE_S = 120.0
_LOOK_S = 0.1


class Latency(NamedTuple):
    """How long clicks waited for their updates, in ms; of no clicks 0."""

    n_clicks: int
    p50_ms: float
    p99_ms: float
    max_ms: float


NO_LATENCY = Latency(0, 0.0, 0.0, 0.0)


class Steady(NamedTuple):
    """How a program did at a rate, without the first seconds.

    Attributes:
        events_per_s: that were sent.
        keeps_up: whether all clicks were answered soon after the last was sent.
        latency: from click record to update record.
        cores: CPU of the program, with its children.
        machine_cores: CPU of the whole machine: program, load, broker and whatever else runs.
        max_rss_bytes: the most memory of the program.
        load: how the load did.
    """

    events_per_s: float
    keeps_up: bool
    latency: Latency
    cores: float
    machine_cores: float
    max_rss_bytes: int
    load: LoadReport


class Rate(NamedTuple):
    """What is sent to a program.

    Attributes:
        events_per_s: evenly spread.
        seconds: that count.
        n_items: that are clicked.
        skipped_s: before these.
    """

    events_per_s: float
    seconds: float
    n_items: int
    skipped_s: float = SKIPPED_S


def steady(settings: Settings, rates: Sequence[Rate], command: Sequence[str]) -> list[Steady]:
    """Measure a program at several rates, one after the other; those after one that it cannot hold are left out.

    Raises:
        ProgramDiedError: it ended.
        ProgramStuckError: it answered nothing in time.
    """
    measured: list[tuple[_Window, Steady]] = []
    counter, n_sent = UpdateCounter(settings), _READY_CLICKS
    send_backlog(settings, _READY_CLICKS, rates[0].n_items)
    with running(settings, command) as program:
        _wait_until_ready(counter, program)
        for rate in rates:
            window, result = _at_rate(settings, rate, program)
            measured.append((window, result))
            n_sent += result.load.n_sent
            if not _has_caught_up(counter, n_sent, program):
                measured[-1] = window, result._replace(keeps_up=False)
                break
        waits = read_waits(settings, counter.count())
    return [result._replace(latency=latencies(waits, *window)) for window, result in measured]


class _Window(NamedTuple):
    from_ms: int
    to_ms: int


def _at_rate(settings: Settings, rate: Rate, program: RunningProgram) -> tuple[_Window, Steady]:
    count = int(rate.events_per_s * (rate.skipped_s + rate.seconds))
    with prepared_load(settings, count, rate.events_per_s, rate.n_items) as load:
        load.start()
        time.sleep(rate.skipped_s)
        from_ms, began_s = int(time.time() * 1000), time.monotonic()
        cpu_s, machine_s = program.cpu_s(), _machine_cpu_s()
        time.sleep(rate.seconds)
        seconds = time.monotonic() - began_s
        cores, machine_cores = (program.cpu_s() - cpu_s) / seconds, (_machine_cpu_s() - machine_s) / seconds
        to_ms = int(time.time() * 1000)
        report = load.report()
    program.check()
    result = Steady(rate.events_per_s, True, NO_LATENCY, cores, machine_cores, program.max_rss_bytes(), report)
    return _Window(from_ms, to_ms), result


def latencies(waits: Sequence[tuple[int, int]], from_ms: int, to_ms: int) -> Latency:
    """Sum up waits.

    Args:
        waits: of each update when its click was sent, and when it was sent itself, in ms.
        from_ms, to_ms: clicks that were sent before or after do not count.
    """
    ordered = sorted(float(sent_ms - clicked_ms) for clicked_ms, sent_ms in waits if from_ms <= clicked_ms <= to_ms)
    if not ordered:
        return NO_LATENCY
    return Latency(len(ordered), quantile(ordered, 0.5), quantile(ordered, 0.99), ordered[-1])


def read_waits(settings: Settings, count: int) -> list[tuple[int, int]]:
    """Read so many updates; gives of each when its click was sent, and when it was sent itself, in ms."""
    consumer = Consumer(consumer_config(settings, "bench-reader"))
    topic = settings.recommendations_topic
    consumer.assign([TopicPartition(topic, number, 0) for number in range(settings.partitions)])
    waits: list[tuple[int, int]] = []
    end_s = time.monotonic() + _READ_DEADLINE_S
    while len(waits) < count and time.monotonic() < end_s:
        for message in consumer.consume(10_000, 0.2):
            if message.error() is None:
                waits.append((decode_update(message.value()).clicked_at_ms, message.timestamp()[1]))
    consumer.close()
    return waits


def _wait_until_ready(counter: UpdateCounter, program: RunningProgram) -> None:
    """Return when the clicks that were there before are answered: then the program has taken its partitions.

    Raises:
        ProgramDiedError: it ended.
        ProgramStuckError: it did not answer in time.
    """
    end_s = time.monotonic() + _READY_DEADLINE_S
    while (found := counter.count()) < _READY_CLICKS:
        program.check()
        if time.monotonic() > end_s:
            raise ProgramStuckError(
                f"{found} of the first {_READY_CLICKS} clicks were answered in {_READY_DEADLINE_S:.0f} s; the last "
                f"that it printed:\n{program.tail()}"
            )
        time.sleep(_LOOK_S)


def _has_caught_up(counter: UpdateCounter, count: int, program: RunningProgram) -> bool:
    end_s = time.monotonic() + _CATCH_UP_S
    while counter.count() < count:
        program.check()
        if time.monotonic() > end_s:
            return False
        time.sleep(_LOOK_S)
    return True


def _machine_cpu_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)
