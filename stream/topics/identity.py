"""Which clicks topic the states of an application are made from: a note in its changelog says so.

The fence of a state is an offset of that very topic, and its partition the one that the topic's partition count gives.
In a topic that was created anew offsets begin again, below the fences, and every click would be skipped as one that
was applied before; in a topic that has grown, users are elsewhere than their states. The note lives in the changelog
because it is true for as long as those states exist, and for every worker, whatever is left of its folder. Notes are no
states: whoever reads the changelog passes over what `is_note` recognises.

The first note is the first record of partition 0. When a topic has grown from 3 to 5 partitions, partition 3 of the
changelog is new: `nextclick repartition` writes the next note there, as its last act. So a note is never changed, and
the newest is found by following the counts.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.errors import PermanentError, TemporaryError
from nextclick.newer import BEGIN_ANEW
from nextclick.settings import Settings
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import Failure, TopicIdentity, describe_topic, failure_of, is_partition_end, offset_ranges
from tools.records import refuse_unreadable

IDENTITY_KEY = b"\xfforigin"  # of the note
REPARTITION_KEY = b"\xffrepartition"  # what `nextclick repartition` has in hand: for itself alone
TIMEOUT_S = 10.0  # for one answer of the broker
_BATCH = 5_000
_FETCH_WAIT_MS = 20  # at a partition's end there is nothing to wait for
_POLL_S = 0.2  # a batch that is not full is waited for so long


def is_note(key: bytes | None) -> bool:
    """Tell whether a record of the changelog is no state: 0xff is no UTF-8, so no user's key begins with it."""
    return key is not None and key.startswith(b"\xff")


def refuse_other_topic(settings: Settings, noted: TopicIdentity, now: TopicIdentity) -> None:
    """Refuse to go on with states of another clicks topic, or of fewer partitions than it has.

    Args:
        settings: of the application.
        noted: what the states were made from.
        now: the clicks topic as it is.

    Raises:
        PermanentError: it is another topic, or has another number of partitions.
    """
    if not noted.is_same_topic(now):
        found = f"is another one, of id {now.topic_id}" if noted.topic == now.topic else f"is topic {now.topic}"
        raise PermanentError(
            f"the states of application {settings.app} were made from the topic {noted.topic} of id {noted.topic_id}, "
            f"but the clicks topic now {found}: its clicks would be taken for ones that were applied before; "
            f"{BEGIN_ANEW}: its states start anew, and it reads the clicks from their beginning"
        )
    if noted.partitions != now.partitions:
        raise PermanentError(
            f"topic {now.topic} has {now.partitions} partitions, but the states of application {settings.app} were "
            f"made with {noted.partitions}: users have moved away from their states. Stop all workers and run "
            "`nextclick repartition`, which moves the states too; every click waits until then, and none is lost"
        )


def read_identity(settings: Settings, *, remember: bool = True) -> tuple[TopicIdentity | None, int]:
    """Give the newest note, if there is one, and how many records stand before the first: states from before notes.

    Args:
        settings: of the application.
        remember: tell the broker where a note was found that takes long to find; without it nothing is written.

    Raises:
        PermanentError: there is something else in its place.
        TemporaryError: the broker does not answer.
    """
    with _changelog(settings, remember) as changelog:
        newest, n_before = changelog.find(0)
        while newest is not None and newest.partitions < changelog.partitions:
            later, _ = changelog.find(newest.partitions)
            if later is None:
                break
            newest = later
        return newest, n_before


def write_identity(settings: Settings, identity: TopicIdentity) -> None:
    """Note what the first states of a changelog are going to be made from.

    Raises:
        TemporaryError: the broker does not take it.
    """
    # Not idempotent: that takes a second to begin, and a note that is written twice does no harm.
    options = {"acks": "all", "linger.ms": 0, "message.timeout.ms": int(TIMEOUT_S * 1000)}
    producer = Producer(librdkafka_config(settings) | options)
    failures: list[KafkaError] = []
    producer.produce(
        settings.changelog_topic,
        msgspec.json.encode(identity),
        IDENTITY_KEY,
        0,
        on_delivery=lambda error, _: failures.append(error) if error is not None else None,
    )
    left = producer.flush(TIMEOUT_S + 1)
    if failures or left:
        raise _no_answer(settings, failures[0].str() if failures else "no answer")


class _Changelog:
    """Looks for notes in the partitions of a changelog."""

    def __init__(self, settings: Settings, consumer: Consumer, remember: bool) -> None:
        self._settings = settings
        self._remembers = remember
        self._topic = settings.changelog_topic
        self._consumer = consumer
        self._admin = AdminClient(librdkafka_config(settings))
        self.partitions = describe_topic(self._admin, self._topic).partitions

    def find(self, partition: int) -> tuple[TopicIdentity | None, int]:
        """Give a partition's note of a topic, if it has one, and how many offsets stand before it."""
        first, end = offset_ranges(self._admin, self._topic, [partition])[partition]
        if first == end:
            return None, 0
        note = next(self._from(partition, first, 1), None)
        if note is not None and note.key() != IDENTITY_KEY:
            note = self._behind_states(partition, first)
        if note is None:
            return None, end - first
        return self._decode(note.value()), note.offset() - first

    def _behind_states(self, partition: int, first: int) -> Message | None:
        """Find a note that is not the first record: where it was found the last time, for it is never written again."""
        for start in dict.fromkeys((max(first, self._remembered(partition)), first)):
            for message in self._from(partition, start, _BATCH):
                if message.key() == IDENTITY_KEY:
                    self._remember(partition, message.offset())
                    return message
        return None

    def _from(self, partition: int, first: int, size: int) -> Iterator[Message]:
        """Give the records from an offset to the partition's end, taken so many at a time."""
        self._consumer.assign([TopicPartition(self._topic, partition, first)])
        heard_s = time.monotonic()
        while time.monotonic() < heard_s + TIMEOUT_S:
            for message in self._consumer.consume(size, _POLL_S):
                error = message.error()
                refuse_unreadable(message)
                if is_partition_end(error):
                    return
                if error is None:
                    heard_s = time.monotonic()
                    yield message
                elif failure_of(error) is not Failure.PASSING:
                    raise KafkaException(error)
        raise _no_answer(self._settings, f"no answer within {TIMEOUT_S:.0f} s")

    def _remembered(self, partition: int) -> int:
        """Give the offset of the note if it is remembered, as the committed offset of a group that nobody is in."""
        try:
            [place] = self._consumer.committed([TopicPartition(self._topic, partition)], TIMEOUT_S)
        except KafkaException:  # no right to: then it is looked for
            return -1
        return int(place.offset)

    def _remember(self, partition: int, offset: int) -> None:
        if not self._remembers:
            return
        with suppress(KafkaException):
            self._consumer.commit(offsets=[TopicPartition(self._topic, partition, offset)], asynchronous=False)

    def _decode(self, value: bytes | None) -> TopicIdentity:
        try:
            return msgspec.json.decode(value or b"", type=TopicIdentity)
        except msgspec.DecodeError as error:
            raise PermanentError(
                f"topic {self._topic} has bytes under the key {IDENTITY_KEY!r} that are no note of a clicks topic "
                f"({error}); use another topic with --set app=NAME"
            ) from error


@contextmanager
def _changelog(settings: Settings, remember: bool) -> Iterator[_Changelog]:
    quick = {"enable.partition.eof": True, "fetch.wait.max.ms": _FETCH_WAIT_MS}
    consumer = Consumer(consumer_config(settings, f"{settings.app}-start") | quick)
    try:
        yield _Changelog(settings, consumer, remember)
    except KafkaException as error:
        raise _no_answer(settings, error.args[0].str()) from error
    finally:
        consumer.close()


def _no_answer(settings: Settings, reason: str) -> TemporaryError:
    return TemporaryError(
        f"the topic {settings.changelog_topic} at {settings.broker} cannot be read and written: {reason}; look at the "
        "brokers, or correct the rights of this user, and start again"
    )
