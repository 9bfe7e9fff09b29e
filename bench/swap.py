"""Measures what a new bundle does to the clicks that come while it is fetched, loaded, warmed up and swapped in."""

import time
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from confluent_kafka import Producer

from bench import measure
from bench.backlog import UpdateCounter, send_backlog
from bench.load import prepared_load
from bench.programs import python, running
from bench.steady import SKIPPED_S, Latency, latencies, read_waits
from nextclick.bundle import verify_bundle
from nextclick.manifest import CHAMPION, encode_manifest
from nextclick.settings import Settings
from tools.client_config import producer_config

_READY_CLICKS = 100
_DEADLINE_S = 60.0


class Swap(NamedTuple):
    """How long clicks waited: before the second bundle was announced, and from then on."""

    before: Latency
    after: Latency


def swap(settings: Settings, events_per_s: float, n_items: int, seconds: float) -> Swap:
    """Serve one bundle, and announce another while clicks come.

    Args:
        settings: with topics of their own.
        events_per_s: of the load.
        n_items: of both bundles.
        seconds: before the announcement, after some to warm up, and again after it.
    """
    first = measure.with_bundle(settings, n_items, seed=0).bundle
    second = measure.with_bundle(settings, n_items, seed=1).bundle
    settings = replace(settings, bundle="")
    _announce(settings, Path(first))
    count = int(events_per_s * (SKIPPED_S + 2 * seconds))
    counter = UpdateCounter(settings)
    send_backlog(settings, _READY_CLICKS, n_items)
    with running(settings, python(*measure.WORKER)) as program:
        end_s = time.monotonic() + _DEADLINE_S
        while counter.count() < _READY_CLICKS and time.monotonic() < end_s:
            program.check()
            time.sleep(0.1)
        with prepared_load(settings, count, events_per_s, n_items) as load:
            load.start()
            time.sleep(SKIPPED_S)
            from_ms = int(time.time() * 1000)
            time.sleep(seconds)
            swap_ms = int(time.time() * 1000)
            _announce(settings, Path(second))
            load.report()
        time.sleep(2.0)
        waits = read_waits(settings, counter.count())
    return Swap(latencies(waits, from_ms, swap_ms), latencies(waits, swap_ms, int(time.time() * 1000)))


def _announce(settings: Settings, folder: Path) -> None:
    producer = Producer(producer_config(settings))
    producer.produce(settings.models_topic, encode_manifest(verify_bundle(folder)), CHAMPION)
    producer.flush()
