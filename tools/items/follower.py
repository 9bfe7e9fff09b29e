"""Follows the topic `items` in a thread, and knows as of when: whoever is told what was read is told, too, up to which
moment nothing can have been written that is not in it.

The broker is asked for the end of the topic again and again. Once everything before that end was handed on, what is
known is as new as the question. A broker that does not answer leaves it as old as it is, and so does a thread that
does not get to run: nobody mistakes silence for the absence of news.

A topic that is not there says nothing of any item. One that is created later, or anew, is noticed within seconds.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicCollection
from confluent_kafka import TopicPartition as Place
from confluent_kafka.admin import AdminClient

from nextclick.catalogue import ItemError, ShopItem, decode_item, item_id_of
from nextclick.errors import NextclickError, PermanentError
from nextclick.settings import Settings
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import ANSWER_S, Failure, TopicIdentity, answer_of, failure_of, is_partition_end
from tools.records import refuse_unreadable
from tools.topic_look import TopicLook
from tools.trouble import Trouble

ASK_EVERY_S = 0.2  # for the end of the topic
_ASK_S = 0.5  # for an answer
_POLL_S = 0.05
_BATCH = 2_000  # records that are handed on together: whoever takes them holds others up
_LOOK_EVERY_S = 2.0  # at the topic: is it there, is it the same
_AGAIN_S = 0.5  # after a failure
_MISTAKE_AGAIN_S = 60.0
_STOP_S = 2.0
_log = logging.getLogger(__name__)


class ItemRecord(NamedTuple):
    """A record of the topic that can be used.

    Attributes:
        item_id: of the item.
        item: what is said of it; nothing by a tombstone.
        value: the same as it stands in the topic; None: a tombstone.
    """

    item_id: str
    item: ShopItem
    value: bytes | None


class ItemSink(Protocol):
    """Who is told. All of it is called by the follower's thread, and must return soon."""

    def begin(self, topic: TopicIdentity, *, anew: bool) -> int | None:
        """Begin to follow a topic; until `heard` is called, nothing is known to be new enough.

        Args:
            topic: that is followed from now on.
            anew: whether whatever was read of it must be forgotten.

        Returns:
            The offset to read first; None: all of the topic.
        """

    def take(self, records: Sequence[ItemRecord], next_offset: int) -> None:
        """Take what was read: in order, at most a few thousand records. `next_offset` comes behind them."""

    def heard(self, asked_s: float) -> None:
        """Everything is known that was written before a moment of `time.monotonic`. Called a few times a second."""

    def absent(self) -> None:
        """There is no such topic: forget whatever was known. Called once."""


class ItemFollower:
    """Follows until it is stopped.

    Attributes:
        alive_s: when the thread was last seen to move, whether or not a broker answers; infinity without one.
    """

    def __init__(
        self,
        settings: Settings,
        sink: ItemSink,
        pass_over: Callable[[], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            settings: where and what to follow.
            sink: is told.
            pass_over: called for each record that cannot be used.
            fail: gets what ends a worker: the topic cannot be read, or a mistake of ours. Following goes on after a
                while, for whoever does not end.
        """
        self._settings, self._sink, self._pass_over, self._fail = settings, sink, pass_over, fail
        self._topic = settings.items_topic
        self._stopping = threading.Event()
        self._trouble = Trouble()
        self.alive_s = float("inf")
        self._is_absent = False
        self._anew = False
        self._thread = threading.Thread(target=self._run, name="items", daemon=True)

    def start(self) -> None:
        """Begin to follow; without a topic (the setting is empty) there is nothing to follow."""
        if self._topic:
            self.alive_s = time.monotonic()
            self._thread.start()
        else:
            self._sink.absent()

    def stop(self) -> None:
        """End; blocks for `_STOP_S` at most."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)

    def _run(self) -> None:
        while not self._stopping.is_set():
            again_s, self.alive_s = _AGAIN_S, time.monotonic()
            try:
                topic = self._look()
                if topic is not None:
                    self._follow(topic)
                    continue
                self._say_absent()
                again_s = _LOOK_EVERY_S
            except KafkaException as error:
                self._note(error.args[0])
            except NextclickError as error:
                self._trouble.say("failed", f"topic {self._topic} is not followed: {error}")
                self._fail(error)
                again_s = _MISTAKE_AGAIN_S
            except Exception as error:
                _log.error("following the topic %s failed", self._topic, exc_info=error)
                self._fail(error)
                again_s = _MISTAKE_AGAIN_S
            self._stopping.wait(again_s)

    def _look(self) -> TopicIdentity | None:
        """Ask for the topic; None: it is not there, said by a broker that knows the others.

        Raises:
            KafkaException: no broker says so.
            PermanentError: we may not know.
        """
        admin = AdminClient(librdkafka_config(self._settings))
        future = admin.describe_topics(TopicCollection([self._topic]), request_timeout=ANSWER_S)[self._topic]
        try:
            described = answer_of(future)
        except KafkaException as error:
            if failure_of(error.args[0]) is Failure.REFUSED:
                raise self._refused(error.args[0]) from error
            if failure_of(error.args[0]) is not Failure.GONE:
                raise
            if self._settings.recommendations_topic not in admin.list_topics(timeout=ANSWER_S).topics:
                raise  # a broker that has just started knows of none
            return None
        return TopicIdentity(self._topic, str(described.topic_id), len(described.partitions))

    def _say_absent(self) -> None:
        if not self._is_absent:
            self._is_absent = True
            _log.info(
                "there is no topic %s: nothing is known of single items; `nextclick topics` creates it, and it is "
                "followed from then on",
                self._topic,
            )
            self._sink.absent()

    def _follow(self, topic: TopicIdentity) -> None:
        """Follow one topic, until it is another one.

        Raises:
            KafkaException: it is gone, or cannot be read from where it was read to.
            PermanentError: it has more than one partition, or a batch that cannot be read.
        """
        if topic.partitions != 1:
            raise PermanentError(
                f"topic {self._topic} has {topic.partitions} partitions and needs 1: the newer of two records of an "
                "item would not be known; create it anew with one, and load the items again"
            )
        first = self._sink.begin(topic, anew=self._anew)
        self._is_absent = self._anew = False
        consumer = Consumer(_consumer_config(self._settings))
        look = TopicLook(self._settings, self._topic, _LOOK_EVERY_S)
        try:
            partition = Place(self._topic, 0, OFFSET_BEGINNING if first is None else first)
            consumer.assign([partition])
            reading = _Reading(consumer, partition, first or 0)
            while not self._stopping.is_set():
                self.alive_s = time.monotonic()
                now = look.newest()
                if isinstance(now, KafkaException) and failure_of(now.args[0]) is Failure.GONE:
                    return  # looked at again, and more closely
                if isinstance(now, TopicIdentity) and now != topic:
                    self._anew = not now.is_same_topic(topic)
                    return
                self._take(reading)
        finally:
            look.close()
            consumer.close()

    def _take(self, reading: "_Reading") -> None:
        """Hand on what has come, and say as of when all is known."""
        try:
            reading.ask()
            messages = reading.read()
        except KafkaException as error:
            if error.args[0].code() == KafkaError._AUTO_OFFSET_RESET:  # the broker has lost what was read
                self._anew = True
            if failure_of(error.args[0]) is not Failure.PASSING:
                raise
            self._note(error.args[0])  # the client goes on by itself
            return
        if messages:
            self._sink.take([record for each in messages if (record := self._record(each)) is not None], reading.seen)
        if (asked_s := reading.known_as_of()) is not None:
            self._sink.heard(asked_s)

    def _record(self, message: Message) -> ItemRecord | None:
        key, value = message.key(), message.value()
        try:
            return ItemRecord(item_id_of(key), decode_item(value), value)
        except ItemError as error:
            self._pass_over()
            where = f"topic {self._topic}, offset {message.offset()}"
            self._trouble.say("passed over", f"a record of an item is passed over ({where}): {error}")
            return None

    def _note(self, error: KafkaError) -> None:
        self._trouble.say("away", f"topic {self._topic} cannot be read ({error.str()}), and is tried again")

    def _refused(self, error: KafkaError) -> PermanentError:
        return PermanentError(
            f"{self._settings.broker} does not let us read {self._topic}: {error.str()}; give this user the rights to "
            "read and describe it, or say that there is no such topic: --set items_topic="
        )


class _Reading:
    """Reads one partition, and compares how far it is with where the partition ended when the broker was asked.

    Attributes:
        seen: the offset behind what was given.
    """

    def __init__(self, consumer: Consumer, partition: Place, first: int) -> None:
        self._consumer, self._partition, self.seen = consumer, partition, first
        self._asked_s, self._end = 0.0, -1
        self._is_new = False  # the answer to the last question: nobody knows yet that it was reached
        self._next_s = 0.0
        self._error: KafkaException | None = None  # that came behind records

    def ask(self) -> None:
        """Ask for the end, if it is time and the last one was reached.

        Raises:
            KafkaException: no answer.
        """
        if self._is_new or time.monotonic() < self._next_s:
            return
        asked_s = time.monotonic()
        self._next_s = asked_s + ASK_EVERY_S
        _, self._end = self._consumer.get_watermark_offsets(self._partition, _ASK_S)
        self._asked_s, self._is_new = asked_s, True

    def known_as_of(self) -> float | None:
        """Give the moment of the last question, once, when all before the end that it brought was given."""
        if not self._is_new or self.seen < self._end:
            return None
        self._is_new = False
        return self._asked_s

    def read(self) -> list[Message]:
        """Wait for a record for a moment, and give those that are there with it.

        Raises:
            KafkaException: they cannot be read.
            PermanentError: a batch is damaged.
        """
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        first = self._consumer.poll(_POLL_S)
        found = [first, *self._consumer.consume(_BATCH, 0)] if first is not None else []
        records = []
        for message in found:
            failure = message.error()
            if failure is None:
                records.append(message)
                self.seen = int(message.offset() or 0) + 1
            elif is_partition_end(failure):
                self.seen = max(self.seen, int(message.offset() or 0))  # behind what transactions leave there
            else:
                refuse_unreadable(message)
                self._error = KafkaException(failure)
        return records


def _consumer_config(settings: Settings) -> dict[str, str | int | float | bool]:
    return consumer_config(settings, f"{settings.app}-items") | {
        "enable.partition.eof": True,
        # Never the beginning unasked: what was said long ago would be taken for the newest.
        "auto.offset.reset": "error",
        "fetch.wait.max.ms": 50,  # a broker answers the question for the end only behind a fetch that waits there
        "fetch.error.backoff.ms": 100,
        "reconnect.backoff.max.ms": 1_000,
        "socket.timeout.ms": 5_000,
        "queued.max.messages.kbytes": 16_384,
    }
