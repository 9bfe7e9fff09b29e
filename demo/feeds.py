"""What the commands `simulate`, `replay` and `send` do: each sends clicks with a `ClickProducer`.

Simulated clicks are sent in wall-clock time at a rate. Recorded clicks are sent in their order, as fast as the broker
takes them or in (faster) time of their own: their event time stays in the value. One click is sent to see its answer.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from confluent_kafka import Consumer, TopicPartition

from demo.click_producer import CONNECT_TIMEOUT_S, STOPPED_FLUSH_S, ClickProducer
from demo.simulator import Simulator
from demo.topic_fit import check_topic_fits
from nextclick.clicks import Ignored, Rejected
from nextclick.errors import PermanentError, TemporaryError
from nextclick.hashing import partition_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import RecommendationUpdate
from tools.click_files.recorded import RecordedClicks
from tools.client_config import consumer_config
from tools.missing_topics import missing_topics
from tools.update_formats import UpdateDecoder, update_decoder

_STEP_S = 0.05  # clicks are handed over in groups this far apart: smooth enough, and nearly no CPU
_MAX_STEP_CLICKS = 1_000  # between two looks at the clock and at `should_stop`
_REPORT_S = 2.0


@dataclass(frozen=True, slots=True)
class SimulationProgress:
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
    report: Callable[[SimulationProgress], None],
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
    _flush(producer, should_stop)
    elapsed_s = time.monotonic() - started_s
    report(_progress(simulator, producer.n_delivered, producer.n_delivered / elapsed_s, elapsed_s, done=True))


def _flush(producer: ClickProducer, should_stop: Callable[[], bool]) -> None:
    """Wait until the broker has every click; not for long when somebody wants the end and the broker is away."""
    if should_stop():
        producer.flush(STOPPED_FLUSH_S)
    else:
        producer.flush()


def _pause(producer: ClickProducer, until_s: float) -> None:
    producer.wait(0)
    time.sleep(max(0.0, until_s - time.monotonic()))


def _progress(
    simulator: Simulator, clicks: int, rate: float, elapsed_s: float, done: bool = False
) -> SimulationProgress:
    ceiling = simulator.ceiling
    return SimulationProgress(
        clicks=clicks,
        rate=round(rate, 1),
        ceiling_recall_at_20=round(ceiling.recall_at_20, 4),
        realised_recall_at_20=round(ceiling.realised_recall_at_20, 4),
        predictable_clicks=ceiling.clicks,
        elapsed_s=round(elapsed_s, 1),
        done=done,
    )


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
            "a speed needs times, and these clicks have only an order; name the column of times with --time, "
            "or use --speed max"
        )
    started_s = time.monotonic()
    n_sent = 0
    while n_sent < len(clicks) and not should_stop():
        n_due = due(clicks, speed, time.monotonic() - started_s)
        stop = min(n_due, n_sent + _MAX_STEP_CLICKS)
        now_ms = int(time.time() * 1000)
        for user_id, item_id, timestamp_ms, event_type in clicks.between(n_sent, stop):
            producer.send(user_id, item_id, now_ms if timestamp_ms is None else timestamp_ms, event_type)
        n_sent = stop
        producer.wait(0)
        report(producer.n_delivered)
        if n_sent == n_due < len(clicks):
            time.sleep(_STEP_S)
    _flush(producer, should_stop)
    report(producer.n_delivered)


def due(clicks: RecordedClicks, speed: float | None, elapsed_s: float) -> int:
    """Give how many clicks are to be sent by now: those whose time, counted from the first, has passed."""
    if speed is None or clicks.timestamp_ms is None:
        return len(clicks)
    passed_ms = clicks.timestamp_ms[0] + elapsed_s * speed * 1000
    return int(clicks.timestamp_ms.searchsorted(passed_ms, side="right"))


def send(
    settings: Settings, user_id: str, item_id: str, event_type: str, timeout_s: float
) -> tuple[RecommendationUpdate, float]:
    """Send one click with the event time now and wait for its answer.

    Returns:
        The answer, and the milliseconds from handing the click over to reading the answer.

    Raises:
        PermanentError: a click that a worker would reject, topics that do not exist or do not fit together, or a
            clicks topic whose records are of another schema.
        TemporaryError: no broker, or no answer within the time.
    """
    now_ms = int(time.time() * 1000)
    schema = ClickSchema.of(settings)
    key, value, headers = encode_click(schema, user_id, item_id, now_ms, event_type)
    decode, decode_update = click_decoder(schema), update_decoder(settings)
    checked = decode(key, value, headers, now_ms, now_ms)
    if isinstance(checked, Rejected):
        raise PermanentError(f"a worker would reject this click ({checked.reason}): {checked.detail}; correct it")
    if isinstance(checked, Ignored):
        raise PermanentError(
            f"a worker would pass over this click, for its type {event_type!r:.60} is not in the setting events; "
            "correct one of them"
        )
    producer = ClickProducer(settings)
    partition = partition_of(key, producer.n_partitions, settings.partitioner)
    _check_recommendations(settings, producer)
    check_topic_fits(settings, producer.n_partitions, decode, now_ms)
    with _consumer_at_end(settings, partition) as consumer:
        started_s = time.monotonic()
        producer.send(user_id, item_id, now_ms, event_type)
        producer.flush()
        source = producer.last_delivered
        answer = _wait_for_answer(consumer, decode_update, user_id.encode(), source, started_s + timeout_s)
        elapsed_ms = (time.monotonic() - started_s) * 1000
    if answer is None:
        raise TemporaryError(
            f"no answer came in {settings.recommendations_topic!r} within {timeout_s:g} s (the click is at "
            f"partition and offset {source}); check that a worker is running (`nextclick stream`), "
            f"that it has caught up, and that the click is not in {settings.rejected_topic!r}"
        )
    return answer, elapsed_ms


def _check_recommendations(settings: Settings, producer: ClickProducer) -> None:
    counts = producer.partition_counts()
    n_partitions = counts.get(settings.recommendations_topic)
    if n_partitions is None:
        raise PermanentError(missing_topics([settings.recommendations_topic], counts, settings))
    if n_partitions != producer.n_partitions:
        raise PermanentError(
            f"{settings.recommendations_topic!r} has {n_partitions} partitions and {settings.clicks_topic!r} "
            f"{producer.n_partitions}; run `nextclick topics`, which says what to do"
        )


@contextmanager
def _consumer_at_end(settings: Settings, partition: int) -> Iterator[Consumer]:
    """Give a consumer that reads what comes after now. It belongs to no group and commits nothing."""
    consumer = Consumer(consumer_config(settings, f"{settings.app}-send"))
    try:
        place = TopicPartition(settings.recommendations_topic, partition)
        # The number, not "end": that would be looked up later, when the answer may be there already.
        place.offset = consumer.get_watermark_offsets(place, timeout=CONNECT_TIMEOUT_S)[1]
        consumer.assign([place])
        yield consumer
    finally:
        consumer.close()


def _wait_for_answer(
    consumer: Consumer,
    decode: UpdateDecoder,
    key: bytes,
    source: tuple[int | None, int | None] | None,
    deadline_s: float,
) -> RecommendationUpdate | None:
    while (remaining_s := deadline_s - time.monotonic()) > 0:
        message = consumer.poll(min(remaining_s, 0.1))
        if message is None or message.error() or message.key() != key:
            continue
        value = message.value()
        answer = decode(value) if value is not None else None
        if answer is not None and (answer.source.partition, answer.source.offset) == source:
            return answer
    return None
