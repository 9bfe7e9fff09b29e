"""Measures how fast a program goes through a backlog of clicks, from outside.

The clicks are there before the program starts. While it works nothing is read but where the topic of updates ends:
that is what the broker has, and costs next to nothing. The first part of the backlog does not count: in it a program
starts, connects, takes its partitions and compiles.
"""

import time
from collections.abc import Sequence
from typing import NamedTuple

import psutil
from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from bench.load import N_USERS, encoded_clicks
from bench.programs import ProgramStuckError, RunningProgram, running
from nextclick.settings import Settings
from tools.client_config import librdkafka_config, producer_config

N_ITEMS = 2_000
DEADLINE_S = 180.0
WARM_UP_SHARE = 0.2
_LOOK_S = 0.05
_SAMPLE_S = 0.25  # to look at the program's CPU costs more than to ask the broker
_STALL_S = 15.0  # without an update, with clicks still unanswered: the rest is lost
_FLUSH_EVERY = 10_000
_ANSWER_S = 30.0  # of a broker whose cores a program takes


class Throughput(NamedTuple):
    """How fast a program went through a backlog.

    Attributes:
        events_per_s, cpu_us_per_event: after the warm-up, with all threads and children.
        max_rss_bytes: the most memory of the program.
        watcher_cores: CPU of what measures: it is not the limit.
        n_unanswered: clicks that the program never answered.
        machine_cores: CPU of the whole machine: program, broker and whatever else runs.
    """

    events_per_s: float
    cpu_us_per_event: float
    max_rss_bytes: int = 0
    watcher_cores: float = 0.0
    n_unanswered: int = 0
    machine_cores: float = 0.0


class UpdateCounter:
    """Says how many updates of an application the broker has.

    Without what `tools` has for it: `--against` runs this in trees of before, which have other tools.
    """

    def __init__(self, settings: Settings) -> None:
        self._admin = AdminClient(librdkafka_config(settings))
        self._topic, self._partitions = settings.recommendations_topic, range(settings.partitions)

    def count(self) -> int:
        """Ask the broker where the topic's partitions end."""
        wanted = {TopicPartition(self._topic, number): OffsetSpec.latest() for number in self._partitions}
        end_s = time.monotonic() + _ANSWER_S
        while True:
            try:
                answers = self._admin.list_offsets(wanted, request_timeout=_ANSWER_S)
                return sum(answer.result().offset for answer in answers.values())
            except KafkaException:  # of a new topic, what the client knows of its leaders can be old
                if time.monotonic() > end_s:
                    raise
                self._admin.list_topics(self._topic, _ANSWER_S)


def send_backlog(settings: Settings, count: int, n_items: int = N_ITEMS, n_users: int = N_USERS) -> None:
    """Send random clicks (users uniform, items Zipf-like), as fast as possible."""
    send_clicks(settings, encoded_clicks(settings, count, n_items, n_users))


def send_clicks(settings: Settings, clicks: Sequence[tuple[bytes, bytes]]) -> None:
    """Send clicks, keys and values, as fast as possible."""
    producer = Producer(producer_config(settings) | {"linger.ms": 5, "queue.buffering.max.messages": 200_000})
    for number, (key, value) in enumerate(clicks):
        producer.produce(settings.clicks_topic, value, key)
        if number % _FLUSH_EVERY == _FLUSH_EVERY - 1:
            producer.flush()
    producer.flush()


def work_off(
    settings: Settings, count: int, command: Sequence[str], n_items: int = N_ITEMS, n_users: int = N_USERS
) -> Throughput:
    """Let a program work off a backlog of so many clicks; for what it raises see `go_through`."""
    send_backlog(settings, count, n_items, n_users)
    return go_through(settings, count, command)


def go_through(settings: Settings, count: int, command: Sequence[str]) -> Throughput:
    """Let a program work off the clicks that are there.

    Raises:
        ProgramDiedError: it ended.
        ProgramStuckError: it did not answer all clicks in time.
    """
    counter = UpdateCounter(settings)
    with running(settings, command) as program:
        end_s = time.monotonic() + DEADLINE_S
        warm: _Look | None = None
        newest = _look(0, program)
        while newest.n_updates < count:
            program.check()
            n_updates, now_s = counter.count(), time.monotonic()
            if n_updates > newest.n_updates and (now_s > newest.at_s + _SAMPLE_S or n_updates >= count):
                newest = _look(n_updates, program)
                warm = warm or (newest if n_updates >= count * WARM_UP_SHARE else None)
            elif warm is not None and now_s > newest.at_s + _STALL_S:
                break  # it has lost the others
            if now_s > end_s:
                raise ProgramStuckError(
                    f"{n_updates:,} of {count:,} clicks were answered in {DEADLINE_S:.0f} s; the last that it "
                    f"printed:\n{program.tail()}"
                )
            time.sleep(_LOOK_S)
        return _between(warm or newest, newest, count, program.max_rss_bytes())


class _Look(NamedTuple):
    n_updates: int
    at_s: float
    cpu_s: float
    watcher_s: float
    machine_s: float


def _look(n_updates: int, program: RunningProgram) -> _Look:
    return _Look(n_updates, time.monotonic(), program.cpu_s(), time.process_time(), machine_cpu_s())


def machine_cpu_s() -> float:
    """Give the CPU seconds that the machine has used since it was started."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)


def _between(warm: _Look, end: _Look, count: int, max_rss_bytes: int) -> Throughput:
    n_updates, seconds = max(end.n_updates - warm.n_updates, 1), max(end.at_s - warm.at_s, _LOOK_S)
    return Throughput(
        n_updates / seconds,
        (end.cpu_s - warm.cpu_s) / n_updates * 1e6,
        max_rss_bytes,
        (end.watcher_s - warm.watcher_s) / seconds,
        max(count - end.n_updates, 0),
        (end.machine_s - warm.machine_s) / seconds,
    )
