"""Writes clicks to their topic, as producers of the application do, and says when the broker has them.

A click is written only if the worker will take it: the record is read again with the decoder that workers use, before
it is sent.
"""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from feed.delivery_problems import delivery_problem
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
_ANSWER_S = DELIVERY_S + 1.0  # a producer that works has said by then what became of a click
_POLL_S = 0.1
_FLUSH_S = 3.0
_ANEW_S = 1.0  # before a new producer, so that one that fails at once does not keep the broker busy
_TOPIC_S = 2.0  # a topic that is new needs a moment until all brokers know it; 30 s in librdkafka
_LOOK_S = 5.0  # how soon a topic that was missing, or a right, is found; 5 min in librdkafka
# A producer says these of its clicks when something else has happened to itself.
_CONSEQUENCES = (
    KafkaError._FATAL,
    KafkaError._PURGE_QUEUE,
    KafkaError._PURGE_INFLIGHT,
    KafkaError._MSG_TIMED_OUT,
)
_Answer: TypeAlias = "TakenClick | KafkaError"
_log = logging.getLogger(__name__)


class ClickWriter:
    """Sends clicks. Made on the event loop; a thread takes the broker's answers."""

    def __init__(self, settings: Settings, metrics: FeedMetrics, fail: Callable[[Exception], None]) -> None:
        """Prepare to send; connects when the first click comes.

        Args:
            settings: of the feed.
            metrics: of the feed.
            fail: gets what ends the thread; called from it, at most once. Nothing is written afterwards.
        """
        self._settings, self._metrics, self._fail = settings, metrics, fail
        self._schema = ClickSchema.of(settings)
        self._decode = click_decoder(self._schema)
        self._loop = asyncio.get_running_loop()
        self._trouble: KafkaError | None = None  # what has happened to the producer itself
        self._said: int | None = None  # the code of a failure that is in the log already; None since a click was taken
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
            ProblemError: it has not within `_ANSWER_S`, or does not take them. Some may be there all the same: those
                that are sent again under the same id are known, see `delivery_problem`.
        """
        waiting = [self._produce(record) for record in records]
        await asyncio.wait(waiting, timeout=_ANSWER_S)
        answers = [future.result() if future.done() else KafkaError(KafkaError._MSG_TIMED_OUT) for future in waiting]
        taken = [answer for answer in answers if isinstance(answer, TakenClick)]
        errors = [answer for answer in answers if isinstance(answer, KafkaError)]
        self._metrics.clicks.labels("taken").inc(len(taken))
        self._metrics.clicks.labels("failed").inc(len(errors))
        if errors:
            raise delivery_problem(errors[0], self._settings, DELIVERY_S)
        return taken

    def close(self) -> None:
        """Wait a little for what is on its way; blocks."""
        self._stopping.set()
        self._thread.join()
        with contextlib.suppress(KafkaException):  # it fails for good just now
            self._producer.flush(_FLUSH_S)
        if left := len(self._producer):
            _log.warning("%d clicks were not taken by the broker; their clients were not told that they were", left)

    def _produce(self, record: EncodedClick) -> "asyncio.Future[_Answer]":
        """Hand a record to the producer; the future has what becomes of it."""
        future: asyncio.Future[_Answer] = self._loop.create_future()
        try:
            self._producer.produce(
                self._settings.clicks_topic,
                record.value,
                record.key,
                headers=record.headers,
                on_delivery=functools.partial(self._delivered, future),
            )
        except BufferError:
            future.set_result(KafkaError(KafkaError._QUEUE_FULL))
        except KafkaException as error:
            future.set_result(self._cause(error.args[0]))
        return future

    def _delivered(self, future: "asyncio.Future[_Answer]", error: KafkaError | None, message: Message) -> None:
        """Take one answer; called from the thread."""
        answer: _Answer
        if error is None:
            answer = TakenClick(int(message.partition() or 0), int(message.offset() or 0))
            self._trouble = self._said = None
        else:
            answer = self._cause(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(_resolve, future, answer)

    def _cause(self, error: KafkaError) -> KafkaError:
        """Give what is behind an error."""
        return self._trouble if self._trouble is not None and error.code() in _CONSEQUENCES else error

    def _take_answers(self) -> None:
        try:
            while not self._stopping.is_set():
                try:
                    self._producer.poll(_POLL_S)
                except KafkaException as error:  # the producer has failed for good, and says so here alone
                    self._begin_anew(error.args[0])
        except Exception as error:
            self._fail(error)

    def _new_producer(self) -> Producer:
        return Producer(
            producer_config(self._settings)
            | {
                "linger.ms": 0,
                "delivery.timeout.ms": int(DELIVERY_S * 1000),
                "topic.metadata.propagation.max.ms": int(_TOPIC_S * 1000),
                "topic.metadata.refresh.interval.ms": int(_LOOK_S * 1000),
                "error_cb": self._note_error,
            }
        )

    def _note_error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._AUTHENTICATION:  # clicks would only be said to be late
            self._trouble = error

    def _begin_anew(self, error: KafkaError) -> None:
        """Replace a producer that takes nothing any more, and tell those who wait for it."""
        if error.code() != self._said:  # a feed that has no right to write fails again and again
            _log.error("the producer of clicks has failed (%s); it is begun anew until it works", error.name())
        self._trouble, self._said = error, error.code()
        self._producer.purge()
        with contextlib.suppress(KafkaException):
            self._producer.flush(_FLUSH_S)
        # Until then the old one refuses clicks at once, for the same reason.
        self._stopping.wait(_ANEW_S)
        self._producer, self._trouble = self._new_producer(), None


def _resolve(future: "asyncio.Future[_Answer]", answer: _Answer) -> None:
    if not future.done():  # its client may have gone away
        future.set_result(answer)
