"""The topic `items` for those who look into it or write to it once: read to its end, written and acknowledged.

Blocks. Who follows it reads it with `tools.items.follower`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Set
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer
from confluent_kafka import TopicPartition as Place

from nextclick.catalogue import ItemError, ShopItem, decode_item, encode_item, item_id_of
from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.settings import Settings
from tools.client_config import consumer_config, producer_config
from tools.kafka import Failure, failure_of, is_forbidden, is_partition_end
from tools.missing_topics import did_you_mean
from tools.records import refuse_unreadable

_ANSWER_S = 8.0  # a broker that does not answer for so long is not there
_DELIVERY_S = 30.0  # long enough for a broker that restarts
_BATCH = 5_000
_POLL_S = 0.2
_T = TypeVar("_T")


class StoredItem(NamedTuple):
    """A record of the topic.

    Attributes:
        key: the item's id.
        value: what is said of it; None: nothing any more.
        timestamp_ms: when the broker or the producer says that it was written.
    """

    key: bytes
    value: bytes | None
    timestamp_ms: int


def read_items(settings: Settings) -> Iterator[StoredItem]:
    """Give all records up to the topic's end, the oldest first: of an item the last one counts.

    Raises:
        PermanentError: there is no such topic, or it may not be read, or a batch cannot be read.
        TemporaryError: the broker does not answer.
    """
    consumer = Consumer(consumer_config(settings, _group(settings)) | {"enable.partition.eof": True})
    try:
        _check(settings, consumer.list_topics)
        partition = Place(settings.items_topic, 0, OFFSET_BEGINNING)
        _, end = _answered(settings, lambda: consumer.get_watermark_offsets(partition, _ANSWER_S))
        consumer.assign([partition])
        last_s = time.monotonic()
        while True:
            first = consumer.poll(_POLL_S)
            for message in [first, *consumer.consume(_BATCH, 0)] if first is not None else []:
                last_s, error = time.monotonic(), message.error()
                if error is None:
                    yield _stored(message)
                if (error is None or is_partition_end(error)) and int(message.offset() or 0) + (error is None) >= end:
                    return
                refuse_unreadable(message)
                if error is not None and is_forbidden(error):
                    raise _failed(settings, error)
            if time.monotonic() > last_s + _ANSWER_S:
                raise _no_answer(settings, "no record comes")
    finally:
        consumer.close()


def newest_items(settings: Settings, wanted: Set[str] | None) -> dict[str, tuple[ShopItem | None, int]]:
    """Give what is said of items, and when that was written (ms since 1970); None: it was forgotten.

    Records that cannot be used change nothing, as for whoever follows the topic.

    Args:
        settings: where the topic is.
        wanted: the ids of the items; None: all of them, in memory.

    Raises:
        PermanentError, TemporaryError: see `read_items`.
    """
    found: dict[str, tuple[ShopItem | None, int]] = {}
    for key, value, timestamp_ms in read_items(settings):
        with contextlib.suppress(ItemError):
            item_id = item_id_of(key)
            if wanted is None or item_id in wanted:
                found[item_id] = decode_item(value) if value is not None else None, timestamp_ms
    return found


def _stored(message: Message) -> StoredItem:
    key, value = message.key(), message.value()
    return StoredItem(bytes(key or b""), value, message.timestamp()[1])


class ItemWriter:
    """Writes what is said of items; `flush` returns when the broker has all of it."""

    def __init__(self, settings: Settings) -> None:
        """Connect.

        Raises:
            PermanentError: there is no such topic, or it is not as it should be.
            TemporaryError: the broker does not answer.
        """
        self._settings = settings
        self._lost: KafkaError | None = None
        config = {"delivery.timeout.ms": int(_DELIVERY_S * 1000), "linger.ms": 5}
        self._producer = Producer(producer_config(settings) | config)
        _check(settings, self._producer.list_topics)

    def write(self, item_id: str, item: ShopItem | None) -> None:
        """Say something of an item; None: forget what was said. Waits while much is on its way.

        Raises:
            PermanentError: the broker refuses what was written before.
        """
        value = encode_item(item) if item is not None else None
        while True:
            try:
                self._producer.produce(self._settings.items_topic, value, item_id, on_delivery=self._note)
                break
            except BufferError:
                self._producer.poll(0.1)
        self._producer.poll(0)
        self._check_lost()

    def flush(self) -> None:
        """Wait until the broker has everything.

        Raises:
            PermanentError: it refuses something.
            TemporaryError: it does not answer.
        """
        left = self._producer.flush(_DELIVERY_S + 5)
        self._check_lost()
        if left:
            raise _no_answer(self._settings, f"{left} records were not taken")

    def _note(self, error: KafkaError | None, message: Message) -> None:
        if error is not None and self._lost is None:
            self._lost = error

    def _check_lost(self) -> None:
        if self._lost is None:
            return
        if failure_of(self._lost) is Failure.PASSING or is_forbidden(self._lost):
            raise _failed(self._settings, self._lost)
        raise PermanentError(f"{self._settings.items_topic} does not take a record: {self._lost.str()}")


def _check(settings: Settings, list_topics: Callable[..., Any]) -> None:
    """See that the topic is there, with one partition."""
    name = settings.items_topic
    if not name:
        raise PermanentError("the setting items_topic is empty: there is no topic of items; set it to one")
    # All topics, not this one: asking for a topic by name can create it.
    topics = _answered(settings, lambda: list_topics(timeout=_ANSWER_S)).topics
    if name not in topics:
        raise PermanentError(
            f"there is no topic {name} at {settings.broker}{did_you_mean(name, topics)}; `nextclick topics` creates it"
        )
    if len(topics[name].partitions) != 1:
        raise PermanentError(
            f"topic {name} has {len(topics[name].partitions)} partitions and needs 1; create it anew with "
            "`nextclick topics`"
        )


def _answered(settings: Settings, ask: Callable[[], _T]) -> _T:
    try:
        return ask()
    except KafkaException as error:
        raise _failed(settings, error.args[0]) from error


def _failed(settings: Settings, error: KafkaError) -> NextclickError:
    if is_forbidden(error):
        return PermanentError(
            f"{settings.broker} does not let this user do that with {settings.items_topic}: {error.str()}; `nextclick "
            f"items` needs the rights to read, write and describe it, and to describe the group {_group(settings)}"
        )
    return _no_answer(settings, error.str())


def _group(settings: Settings) -> str:
    """Nobody joins it, but the client asks the broker for it."""
    return f"{settings.app}-items-read"


def _no_answer(settings: Settings, why: str) -> TemporaryError:
    return TemporaryError(
        f"expected a Kafka broker at {settings.broker}, found none that answers ({why}); start one, or correct "
        "--broker or the security settings"
    )
