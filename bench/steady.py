"""Measures a program at a steady rate: how long clicks wait for their updates, and what that costs.

The latency of a click runs from its record's own timestamp to that of its update's record; both are set by clients on
this machine, in ms. Load and program run beside the broker; updates are read when all of it is over, so that reading
takes nothing from them.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, TopicPartition

from bench.backlog import UpdateCounter, machine_cpu_s, send_backlog
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
_LOST_SHARE = 0.001  # a program that answered all but so many has kept up, and lost these
_SETTLED_S = 10.0
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
        keeps_up: whether all clicks but a few were answered soon after the last was sent.
        latency: from click record to update record.
        cores: CPU of the program, with its children.
        machine_cores: CPU of the whole machine: program, load, broker and whatever else runs.
        max_rss_bytes: the most memory of the program.
        load: how the load did.
        n_unanswered: clicks that had no update soon after the last was sent.
    """

    events_per_s: float
    keeps_up: bool
    latency: Latency
    cores: float
    machine_cores: float
    max_rss_bytes: int
    load: LoadReport
    n_unanswered: int = 0


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
    counter = UpdateCounter(settings)
    send_backlog(settings, _READY_CLICKS, rates[0].n_items)
    with running(settings, command) as program:
        _wait_until_ready(counter, program)
        for rate in rates:
            before = counter.count()
            window, result = _at_rate(settings, rate, program)
            n_unanswered = _wait_for_rest(counter, before + result.load.n_sent, program)
            keeps_up = n_unanswered <= result.load.n_sent * _LOST_SHARE
            measured.append((window, result._replace(keeps_up=keeps_up, n_unanswered=n_unanswered)))
            if not keeps_up:
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
        cpu_s, machine_s = program.cpu_s(), machine_cpu_s()
        time.sleep(rate.seconds)
        seconds = time.monotonic() - began_s
        cores, machine_cores = (program.cpu_s() - cpu_s) / seconds, (machine_cpu_s() - machine_s) / seconds
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
    """Return when clicks that were there before are answered: then the program has taken its partitions.

    Raises:
        ProgramDiedError: it ended.
        ProgramStuckError: it did not answer in time.
    """
    began_s = changed_s = time.monotonic()
    found = 0
    while found < _READY_CLICKS:
        program.check()
        before, found, now_s = found, counter.count(), time.monotonic()
        changed_s = now_s if found > before else changed_s
        if found and now_s > changed_s + _SETTLED_S:
            return  # it works, and has lost the others
        if now_s > began_s + _READY_DEADLINE_S:
            raise ProgramStuckError(
                f"nothing was answered in {_READY_DEADLINE_S:.0f} s; the last that it printed:\n{program.tail()}"
            )
        time.sleep(_LOOK_S)


def _wait_for_rest(counter: UpdateCounter, count: int, program: RunningProgram) -> int:
    """Give a program a moment for what is under way; gives how many of so many updates are still missing."""
    end_s = time.monotonic() + _CATCH_UP_S
    while (missing := count - counter.count()) > 0 and time.monotonic() < end_s:
        program.check()
        time.sleep(_LOOK_S)
    return max(missing, 0)
