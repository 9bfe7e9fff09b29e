"""How long clicks took: each of them, and the three parts of it add up."""

import re
import time

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from nextclick.advance import LoggedClick
from nextclick.clicks import Click
from nextclick.hashing import item_hash
from stream.click_times import ClickTimes
from stream.metrics import WorkerMetrics


def test_every_click_of_a_backlog_counts_with_its_own_age() -> None:
    """A worker that was paused for 25 s answers all of them at once: most are far older than the youngest."""
    registry, now_s = CollectorRegistry(), time.time()
    ages_s = [25.0 - number / 40 for number in range(1_000)]  # 40 clicks/s
    times = ClickTimes.until_now([_click(now_s - age_s) for age_s in ages_s], {}, begun_s=now_s)
    times.note_durable(WorkerMetrics(registry))

    assert _value(registry, "click_to_update_seconds_count") == 1_000
    below_2_5 = registry.get_sample_value("nextclick_click_to_update_seconds_bucket", {"le": "2.5"})
    assert below_2_5 == pytest.approx(100, abs=10)
    assert _value(registry, "click_to_update_seconds_sum") == pytest.approx(sum(ages_s), rel=0.01)


def test_the_parts_of_the_time_add_up() -> None:
    registry, now_s = CollectorRegistry(), time.time()
    times = ClickTimes.until_now([_click(now_s - 9.0), _click(now_s - 5.0)], {}, begun_s=now_s - 3.0)
    times._replace(handed_s=now_s - 1.0).note_durable(WorkerMetrics(registry))
    sums = {part: _value(registry, f"click_{part}_seconds_sum") for part in ("wait", "compute", "publish", "to_update")}

    assert sums["wait"] == pytest.approx(8.0, abs=0.1)
    assert sums["compute"] == pytest.approx(4.0, abs=0.1)
    assert sums["publish"] == pytest.approx(2.0, abs=0.1)
    assert sums["to_update"] == pytest.approx(14.0, abs=0.2)
    assert {_value(registry, f"click_{part}_seconds_count") for part in sums} == {2}


def test_a_clock_that_is_ahead_took_no_time_and_a_chunk_without_clicks_counts_nothing() -> None:
    registry, now_s = CollectorRegistry(), time.time()
    metrics = WorkerMetrics(registry)
    ClickTimes.until_now([_click(now_s + 3_600)], {}, begun_s=now_s).note_durable(metrics)
    ClickTimes.until_now([], {}, begun_s=now_s).note_durable(metrics)

    assert _value(registry, "click_to_update_seconds_count") == 1
    assert _value(registry, "click_wait_seconds_sum") == 0.0
    assert _value(registry, "click_to_update_seconds_sum") == 0.0


def test_the_slowest_click_of_a_chunk_whose_trace_is_kept_is_an_example_of_its_bucket() -> None:
    """For scrapers that ask for OpenMetrics; a trace that nobody keeps would lead nowhere."""
    registry, now_s = CollectorRegistry(), time.time()
    traces = {1: b"00-%032x-%016x-01" % (1, 1), 2: b"00-%032x-%016x-01" % (2, 1), 3: b"00-%032x-%016x-00" % (3, 1)}
    clicks = [_click(now_s - age_s) for age_s in (99.0, 3.0, 9.0, 50.0)]
    ClickTimes.until_now(clicks, traces, begun_s=now_s).note_durable(WorkerMetrics(registry))
    lines = openmetrics.generate_latest(registry).decode().splitlines()
    examples = [line for line in lines if line.startswith("nextclick_click_to_update_seconds_bucket") and "#" in line]

    assert len(examples) == 1
    found = re.search(r'le="(.*)"} 2.0 # {trace_id="(.*)"} (\S+) \S+$', examples[0])
    assert found is not None, examples
    assert found[2] == f"{2:032x}"
    assert float(found[3]) == pytest.approx(9.0, abs=0.5)
    assert b"trace_id" not in generate_latest(registry)


def _click(recorded_s: float) -> LoggedClick:
    recorded_ms = int(recorded_s * 1000)
    return LoggedClick((0, b"u"), 1, recorded_ms, Click("u", "1", recorded_ms, 0, 0), item_hash("1"))


def _value(registry: CollectorRegistry, name: str) -> float:
    found = registry.get_sample_value(f"nextclick_{name}")
    assert found is not None
    return found
