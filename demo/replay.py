"""Sends recorded clicks in their order, as fast as the broker takes them or in (faster) time of their own.

Event time stays in the value. Clicks without one get the time of sending, which is what a reader of the topic would
assume anyway.
"""

import time
from collections.abc import Callable

from demo.click_producer import ClickProducer
from nextclick.errors import PermanentError
from tools.click_files.recorded import RecordedClicks

_STEP_CLICKS = 1_000  # between two looks at the clock and at `should_stop`
_STEP_S = 0.05  # while waiting for the next click that is due


def replay(
    clicks: RecordedClicks,
    producer: ClickProducer,
    speed: float | None,
    should_stop: Callable[[], bool],
    report: Callable[[int], None],
) -> None:
    """Send all clicks, or those up to a stop; then wait until the broker has them (`producer.n_delivered`).

    Args:
        clicks: what to send.
        producer: sends them.
        speed: how many seconds of event time pass in one; None sends as fast as the broker takes them.
        should_stop: asked at least twenty times a second.
        report: told the number of clicks that the broker has, after each step and at the end.

    Raises:
        PermanentError: a speed for clicks without times.
        NextclickError: a click was lost.
    """
    if speed is not None and clicks.timestamp_ms is None:
        raise PermanentError(
            "expected a column of times for a speed, found only the order of the clicks; "
            "name it with --time, or use --speed max"
        )
    started_s = time.monotonic()
    n_sent = 0
    while n_sent < len(clicks) and not should_stop():
        n_due = due(clicks, speed, time.monotonic() - started_s)
        stop = min(n_due, n_sent + _STEP_CLICKS)
        now_ms = int(time.time() * 1000)
        for user_id, item_id, timestamp_ms, event_type in clicks.between(n_sent, stop):
            producer.send(user_id, item_id, now_ms if timestamp_ms is None else timestamp_ms, event_type)
        n_sent = stop
        producer.wait(0)
        report(producer.n_delivered)
        if n_sent == n_due < len(clicks):
            time.sleep(_STEP_S)
    producer.flush()
    report(producer.n_delivered)


def due(clicks: RecordedClicks, speed: float | None, elapsed_s: float) -> int:
    """Give how many clicks are to be sent by now: those whose time, counted from the first, has passed."""
    if speed is None or clicks.timestamp_ms is None:
        return len(clicks)
    passed_ms = clicks.timestamp_ms[0] + elapsed_s * speed * 1000
    return int(clicks.timestamp_ms.searchsorted(passed_ms, side="right"))
