"""What a worker's metrics cost, and whether they tell the truth of a backlog.

The cost is what all that is counted for a click takes, on chunks that a model has really answered, beside what a whole
worker takes for a click. For the truth a worker is paused while clicks come: what a panel would show of their waits is
put beside what the two topics say.
"""

import os
import re
import signal
import statistics
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from confluent_kafka import Producer
from prometheus_client import CollectorRegistry

from bench import measure
from bench.model_step import LIST_LENGTH, full_network
from bench.programs import RunningProgram, python, running
from bench.quantiles import quantile
from demo.kafka_process import free_port
from nextclick.advance import Limits, LoggedClick, advance
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.popular_lists import PopularItem, PopularLists
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import POPULAR, decode_update, encode_items
from nextclick.user_state import UserState
from nextclick.vocabulary import Vocabulary
from stream.click_times import ClickTimes
from stream.live_quality import LiveQuality
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Partition
from tools.client_config import producer_config

N_ITEMS = 10_000
CLICKS_PER_S = 200
_WARM_S, _PAUSE_S, _AFTER_S = 3.0, 25.0, 5.0
_N_USERS = 2_000
_READY_S = 60.0
_QUANTILE = 0.99
_NAME = "nextclick_click_to_update_seconds"


class Backlog(NamedTuple):
    """The waits of clicks that a pause held up, in s: their 99th percentile.

    Attributes:
        panel_s: as Prometheus computes it from what the worker shows.
        topics_s: by the timestamps of the clicks' and the updates' records.
        n_updates: how many there were.
    """

    panel_s: float
    topics_s: float
    n_updates: int


def cost_us(n_clicks: int, rounds: int) -> float:
    """Give the CPU time, in us for a click, of all that is counted for a chunk of so many clicks; a median."""
    limits, rng = Limits(Settings().recent_clicks, LIST_LENGTH), np.random.default_rng(0)
    network = full_network(N_ITEMS)
    ids = [f"item-{number}" for number in range(N_ITEMS)]
    model = ServedModel("1".zfill(16), network.config, network.arrays(), Vocabulary(ids, np.ones(N_ITEMS)))
    popular = PopularLists([PopularItem(each, 0.1, item_hash(each)) for each in ids[:40]], 20, 0, encode_items)
    metrics = WorkerMetrics(CollectorRegistry())
    quality, partition = LiveQuality(metrics, limits), Partition(0)
    states: dict[tuple[int, bytes], UserState] = {}
    taken_us = []
    for number in range(rounds + 2):  # in the first nobody had a list, in the second something is compiled
        clicks = _clicks(number * n_clicks, rng.integers(N_ITEMS, size=n_clicks).tolist())
        outcomes = advance(model, popular, states, clicks, limits)
        began_s = time.thread_time()
        partition.backlog.note_run(
            (number + 1) * n_clicks, clicks[0].record_timestamp_ms, clicks[-1].record_timestamp_ms
        )
        quality.count(clicks, states, outcomes, model, popular)
        metrics.clicks.labels("applied").inc(n_clicks)
        metrics.chunk.observe(n_clicks)
        metrics.advance.observe(0.01)
        metrics.updates.labels(POPULAR).inc(n_clicks)
        ClickTimes.until_now(clicks, {}, time.time()).note_durable(metrics)
        partition.acknowledge(number * n_clicks, (number + 1) * n_clicks)
        if number > 1:
            taken_us.append((time.thread_time() - began_s) / n_clicks * 1e6)
        states |= {logged.user: outcome.state for logged, outcome in zip(clicks, outcomes, strict=True)}
    return statistics.median(taken_us)


def _clicks(first: int, items: Sequence[int]) -> list[LoggedClick]:
    """Make a chunk: of each user one click."""
    now_ms, clicks = int(time.time() * 1000), []
    for user, number in enumerate(items):
        click = Click(f"u{user}", f"item-{number}", now_ms, 0, 0)
        clicks.append(LoggedClick((0, click.user_id.encode()), first + user, now_ms, click, item_hash(click.item_id)))
    return clicks


def backlog(settings: Settings) -> Backlog:
    """Pause a worker while clicks come, and compare what it shows afterwards with its topics.

    Raises:
        ProgramDiedError: the worker ended.
        TimeoutError: it is not ready, or has not answered, in time.
    """
    port = free_port()
    with running(replace(settings, worker_port=port), python(*measure.WORKER)) as program:
        _wait_until_ready(port, program)
        reader, clicks = measure.UpdateReader(settings), _Sender(settings)
        before = _buckets(port)
        clicks.send_for(_WARM_S)
        os.kill(program.pid, signal.SIGSTOP)
        clicks.send_for(_PAUSE_S)
        os.kill(program.pid, signal.SIGCONT)
        clicks.send_for(_AFTER_S)
        waits_s, answered = [], set[tuple[int, int]]()
        end_s = time.monotonic() + _READY_S
        while len(answered) < clicks.n_sent:
            program.check()
            if time.monotonic() > end_s:
                raise TimeoutError(f"{clicks.n_sent - len(answered)} clicks were not answered in time")
            for at_ms, value in reader.read():
                update = decode_update(value)
                answered.add((update.source.partition, update.source.offset))
                waits_s.append((at_ms - update.clicked_at_ms) / 1000)
        reader.close()
        time.sleep(1.0)  # until the worker, too, knows that its updates are there
        after = _buckets(port)
    counts = {bound: count - before.get(bound, 0.0) for bound, count in after.items()}
    return Backlog(histogram_quantile(_QUANTILE, counts), quantile(sorted(waits_s), _QUANTILE), len(waits_s))


class _Sender:
    """Sends clicks at a steady rate, and counts them."""

    def __init__(self, settings: Settings) -> None:
        self.n_sent = 0
        self._topic, self._schema = settings.clicks_topic, ClickSchema.of(settings)
        self._producer = Producer(producer_config(settings) | {"linger.ms": 1})

    def send_for(self, seconds: float) -> None:
        began_s, first = time.monotonic(), self.n_sent
        while (passed_s := time.monotonic() - began_s) < seconds:
            while self.n_sent - first < passed_s * CLICKS_PER_S:
                user, item = f"user-{self.n_sent % _N_USERS}", f"item-{self.n_sent % N_ITEMS}"
                click = encode_click(self._schema, user, item, int(time.time() * 1000))
                self._producer.produce(self._topic, click.value, click.key)
                self.n_sent += 1
            self._producer.poll(0)
            time.sleep(0.005)
        self._producer.flush()


def histogram_quantile(share: float, counts: dict[float, float]) -> float:
    """Give a quantile as Prometheus' function of this name does: evenly spread within its bucket.

    Args:
        share: from 0 to 1.
        counts: by upper bound, how many are at most so large.
    """
    bounds = [0.0, *sorted(counts)]
    wanted = share * counts[bounds[-1]]
    for lower, upper in pairwise(bounds):
        below = counts.get(lower, 0.0)
        if counts[upper] >= wanted and counts[upper] > below:
            share_of_bucket = (wanted - below) / (counts[upper] - below)
            return lower if upper == float("inf") else lower + (upper - lower) * share_of_bucket
    return float("nan")


def _buckets(port: int) -> dict[float, float]:
    text = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
    found = re.findall(rf'^{_NAME}_bucket{{.*le="([^"]+)".*}} (\S+)$', text, re.MULTILINE)
    return {float(bound): float(count) for bound, count in found}


def _wait_until_ready(port: int, program: RunningProgram) -> None:
    end_s = time.monotonic() + _READY_S
    while time.monotonic() < end_s:
        program.check()
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5).close()
        except OSError:  # also a 503
            time.sleep(0.2)
        else:
            return
    raise TimeoutError("the worker was not ready in time")
