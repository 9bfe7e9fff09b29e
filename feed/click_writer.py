"""Writes clicks to their topic, as producers of the application do, and says when the broker has them.

A click is written only if the worker will take it: the record is read again with the decoder that workers use, before
it is sent.
"""

import asyncio
import functools
import logging
import threading
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from feed.metrics import FeedMetrics
from feed.problems import ProblemError
from nextclick.clicks import Rejected
from nextclick.errors import PermanentError
from nextclick.feed_types import ClickIn, TakenClick
from nextclick.hashing import event_hash
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.encoder import EncodedClick, encode_click
from nextclick.settings import Settings
from tools.client_config import producer_config

DELIVERY_S = 5.0  # then a client is told, and can try again
_POLL_S = 0.1
_FLUSH_S = 3.0
_log = logging.getLogger(__name__)


class ClickWriter:
    """Sends clicks. Made on the event loop; a thread takes the broker's answers."""

    def __init__(self, settings: Settings, metrics: FeedMetrics) -> None:
        """Prepare to send; connects when the first click comes."""
        self._settings, self._metrics = settings, metrics
        self._schema = ClickSchema.of(settings)
        self._decode = click_decoder(self._schema)
        self._loop = asyncio.get_running_loop()
        self._producer = self._new_producer()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._take_answers, name="click-answers", daemon=True)
        self._thread.start()

    def record(self, click: ClickIn, event_id: str | None, now_ms: int) -> EncodedClick:
        """Give the record of a click.

        Args:
            click: from a client.
            event_id: of the event, if there is one.
            now_ms: its time, if the client gave none.

        Raises:
            ProblemError: a worker would not take it, or with these settings nothing here can write clicks.
        """
        if self._settings.partitioner == "none":
            raise ProblemError(
                "not-possible",
                "with partitioner=none nobody here knows into which partition a user's click belongs; send clicks to "
                f"the topic {self._settings.clicks_topic} yourself",
            )
        if event_id is not None and self._schema.id is None:
            raise ProblemError(
                "not-possible",
                "workers know a retry by the event's id, and id_field is empty; set it for workers and feed, or send "
                "the click without Idempotency-Key and event_id",
            )
        time_ms = click.timestamp_ms if isinstance(click.timestamp_ms, int) else now_ms
        try:
            record = encode_click(self._schema, click.user_id, click.item_id, time_ms, click.event_type, event_id)
        except PermanentError as error:
            raise ProblemError("click-refused", str(error)) from None
        found = self._decode(record.key, record.value, record.headers, now_ms, now_ms)
        if isinstance(found, Rejected):
            raise ProblemError("click-refused", f"{found.reason.value}: {found.detail}")
        hashed = event_hash(event_id) if event_id is not None else 0
        is_same = isinstance(found, tuple) and [(each.user_id, each.item_id, each.event_hash) for each in found] == [
            (click.user_id, click.item_id, hashed)
        ]
        if not is_same:
            raise ProblemError(
                "not-possible",
                f"the settings do not let a click be written that workers would read as this one (event type "
                f"{click.event_type!r:.40}); correct user_field, item_field, id_field or events",
            )
        return record

    async def send(self, records: Sequence[EncodedClick]) -> list[TakenClick]:
        """Send records, and wait until the broker has all of them.

        Raises:
            ProblemError: it has not within `DELIVERY_S`. Some may be there all the same: sending them again under the
                same id is harmless.
        """
        waiting = [self._loop.create_future() for _ in records]
        try:
            for record, future in zip(records, waiting, strict=True):
                self._producer.produce(
                    self._settings.clicks_topic,
                    record.value,
                    record.key,
                    headers=record.headers,
                    on_delivery=functools.partial(self._delivered, future),
                )
        except (BufferError, KafkaException) as error:
            self._metrics.clicks.labels("failed").inc(len(records))
            raise self._no_broker(str(error)) from None
        results = await asyncio.gather(*waiting, return_exceptions=True)
        taken = [result for result in results if isinstance(result, TakenClick)]
        self._metrics.clicks.labels("taken").inc(len(taken))
        if len(taken) < len(records):
            self._metrics.clicks.labels("failed").inc(len(records) - len(taken))
            raise self._no_broker(str(next(result for result in results if not isinstance(result, TakenClick))))
        return taken

    def close(self) -> None:
        """Wait a little for what is on its way; blocks."""
        self._stopping.set()
        self._thread.join()
        left = self._producer.flush(_FLUSH_S)
        if left:
            _log.warning("%d clicks were not taken by the broker; their clients were not told that they were", left)

    def _delivered(self, future: "asyncio.Future[TakenClick]", error: KafkaError | None, message: Message) -> None:
        """Take one answer; called from the thread."""
        if error is None:
            taken = TakenClick(int(message.partition() or 0), int(message.offset() or 0))
            self._loop.call_soon_threadsafe(_resolve, future, taken)
        else:
            self._loop.call_soon_threadsafe(_fail, future, KafkaException(error))
            if error.fatal():
                self._begin_anew()

    def _take_answers(self) -> None:
        while not self._stopping.is_set():
            self._producer.poll(_POLL_S)

    def _new_producer(self) -> Producer:
        return Producer(
            producer_config(self._settings)
            | {"linger.ms": 0, "delivery.timeout.ms": int(DELIVERY_S * 1000), "error_cb": self._note_error}
        )

    def _note_error(self, error: KafkaError) -> None:
        if error.fatal():  # an idempotent producer that the broker has lost track of takes nothing any more
            self._begin_anew()

    def _begin_anew(self) -> None:
        _log.warning("the producer of clicks is begun anew")
        self._producer = self._new_producer()

    def _no_broker(self, why: str) -> ProblemError:
        return ProblemError(
            "no-broker",
            f"the broker has not confirmed within {DELIVERY_S:g} s ({why:.200}); send it again under the same "
            "Idempotency-Key or event_id, which is harmless if it has arrived",
            {"Retry-After": "1"},
        )


def _resolve(future: "asyncio.Future[TakenClick]", taken: TakenClick) -> None:
    if not future.done():  # its client may have gone away
        future.set_result(taken)


def _fail(future: "asyncio.Future[TakenClick]", error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
