"""Sends simulated clicks in wall-clock time at a rate, and says how it goes. Decides nothing about the clicks."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from demo.click_producer import ClickProducer
from demo.simulator import Simulator

_STEP_S = 0.05  # clicks are handed over in groups this far apart: smooth enough, and nearly no CPU
_MAX_STEP_CLICKS = 1_000  # between two looks at the clock
_REPORT_S = 2.0


@dataclass(frozen=True, slots=True)
class Progress:
    """How a simulation goes. `rate` is in clicks/s since the last report; in the last report, over all."""

    clicks: int  # that the broker has
    rate: float
    ceiling_recall_at_20: float
    realised_recall_at_20: float
    predictable_clicks: int
    elapsed_s: float
    done: bool


def simulate(
    simulator: Simulator,
    producer: ClickProducer,
    clicks_per_s: float | None,
    n_clicks: int | None,
    should_stop: Callable[[], bool],
    report: Callable[[Progress], None],
) -> None:
    """Send clicks until there were n, or until asked to stop; then wait until the broker has all of them.

    Args:
        simulator: where the clicks come from; their event time is now.
        producer: sends them.
        clicks_per_s: how fast; None sends as fast as the broker takes them.
        n_clicks: how many; None never ends by itself.
        should_stop: asked about twenty times a second.
        report: told every 2 s, and once at the end with `done`.

    Raises:
        NextclickError: a click was lost.
    """
    started_s = schedule_s = reported_s = time.monotonic()
    n_sent = n_scheduled = n_reported = 0
    while not should_stop() and (n_clicks is None or n_sent < n_clicks):
        now_s = time.monotonic()
        n_due = _MAX_STEP_CLICKS
        if clicks_per_s is not None:
            n_due = int((now_s - schedule_s) * clicks_per_s) - n_scheduled
            if n_due > max(clicks_per_s, 1):
                # We were held up for more than a second: the stream goes on from here, it does not catch up.
                schedule_s, n_scheduled, n_due = now_s, 0, 0
        n_due = min(n_due, _MAX_STEP_CLICKS, n_clicks - n_sent if n_clicks is not None else n_due)
        for click in simulator.next_clicks(int(time.time() * 1000), n_due):
            producer.send(*click)
        n_sent += n_due
        n_scheduled += n_due
        if now_s - reported_s >= _REPORT_S:
            n_delivered = producer.n_delivered
            rate = (n_delivered - n_reported) / (now_s - reported_s)
            report(_progress(simulator, n_delivered, rate, now_s - started_s))
            reported_s, n_reported = now_s, n_delivered
        _pause(producer, now_s + _STEP_S if clicks_per_s is not None else now_s)
    producer.flush()
    elapsed_s = time.monotonic() - started_s
    report(_progress(simulator, producer.n_delivered, producer.n_delivered / elapsed_s, elapsed_s, done=True))


def _pause(producer: ClickProducer, until_s: float) -> None:
    producer.wait(0)
    time.sleep(max(0.0, until_s - time.monotonic()))


def _progress(simulator: Simulator, clicks: int, rate: float, elapsed_s: float, done: bool = False) -> Progress:
    ceiling = simulator.ceiling
    return Progress(
        clicks=clicks,
        rate=round(rate, 1),
        ceiling_recall_at_20=round(ceiling.recall_at_20, 4),
        realised_recall_at_20=round(ceiling.realised_recall_at_20, 4),
        predictable_clicks=ceiling.clicks,
        elapsed_s=round(elapsed_s, 1),
        done=done,
    )
