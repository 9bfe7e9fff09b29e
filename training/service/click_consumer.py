"""Reads the clicks topic for the click log: every partition, from given offsets, without a consumer group.

The position is kept by the click log, not by the broker, so nothing is ever committed. Uses confluent-kafka.
"""

import contextlib
import logging
import time
from collections.abc import Mapping

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.settings import Settings
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import (
    Failure,
    OffsetRange,
    TopicIdentity,
    describe_topic,
    failure_of,
    is_partition_end,
    offset_ranges,
)
from tools.missing_topics import missing_topics
from tools.presence import BrokerPresence
from tools.records import is_unreadable, refuse_unreadable
from training.service.click_log import ReadRecord
from training.service.decisions import check_same_topic, lost_clicks, lost_clicks_error
from training.service.log_owner import refuse_other_topic
from training.service.record_judge import RecordJudge
from training.service.trainer_role import GONE_AFTER_S

_ANSWER_S = 6.0  # for the first answer of the broker
_DESCRIPTION_S = 3.0  # for an answer that is waited for, again and again; a stop waits for it, too
_CONFIRMATION_S = 1.0  # for an answer that can also be asked for later
# Of one poll, and fetched ahead of it: so that even records of a megabyte each do not fill the memory.
_MAX_RECORDS = 30
_FETCHED_KB = 16 * 1024
_AGAIN_S = 1.0
_SAY_EVERY_S = 10.0  # between two lines about what is waited for
_FULL_MS = 20  # the client looks again so soon whether there is room to fetch more
_log = logging.getLogger(__name__)


class ClickConsumer:
    """The records of the clicks topic, in order per partition."""

    def __init__(self, settings: Settings, presence: BrokerPresence) -> None:
        """Connect.

        Args:
            settings: of the trainer.
            presence: is told when the broker goes away and answers again.

        Raises:
            TemporaryError: the broker does not answer.
            PermanentError: a topic does not exist.
        """
        self._settings = settings
        self._presence = presence
        self._judge = RecordJudge(settings)
        self._last_error = ""
        self._unknown_since_s: float | None = None
        self._again_s: float | None = None  # when all partitions are read anew: the client asks once for an offset
        self._failures: list[Message] = []
        self._next: dict[int, int] = {}
        self._at_end: set[int] = set()
        self._held: list[Message] = []  # until broker and schema registry have said what it takes to judge them
        self._said_s = -_SAY_EVERY_S
        config = consumer_config(settings, f"{settings.app}-trainer") | {
            "auto.offset.reset": "error",  # clicks that are gone must be noticed, not jumped over
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": _FETCHED_KB,
            "fetch.max.bytes": _FETCHED_KB * 1024,
            "fetch.queue.backoff.ms": _FULL_MS,
            "error_cb": self._on_error,
        }
        self._consumer = Consumer(config)
        self._admin = AdminClient(librdkafka_config(settings))
        self._topic: TopicIdentity | None = None
        try:
            self._check_topics()
        except BaseException:
            self.close()
            raise

    @property
    def n_partitions(self) -> int:
        """How many partitions are read."""
        return len(self._next)

    def offset_ranges(self, topic: TopicIdentity) -> dict[int, OffsetRange]:
        """Ask the broker which offsets each partition holds now.

        Raises:
            TemporaryError: the broker does not answer.
            PermanentError: it refuses to.
        """
        try:
            return offset_ranges(self._admin, topic.topic, range(topic.partitions), _DESCRIPTION_S)
        except KafkaException as error:
            raise self._explained(error) from error

    def identity(self) -> TopicIdentity:
        """Ask the broker which topic has the name of the clicks topic now.

        Raises:
            TemporaryError: the broker does not answer.
            PermanentError: it refuses to.
        """
        try:
            now = describe_topic(self._admin, self._settings.clicks_topic, _DESCRIPTION_S)
            return msgspec.structs.replace(now, cluster_id=self._cluster_id)
        except KafkaException as error:
            raise self._explained(error) from error

    def confirm_topic(self) -> TopicIdentity:
        """Make sure that all records so far came from the topic that reading began with. Blocks for 2 s at most.

        A topic can be deleted and created anew at any time, and the client reads on. Its id never comes again: if it
        is still the one of the beginning, nothing that was read until now is another topic's.

        Returns:
            The topic as it is now: it can have more partitions.

        Raises:
            TemporaryError: the broker does not say so now; ask again later.
            PermanentError: the topic was created anew, or is gone, or the broker refuses to describe it.
        """
        topic = self._settings.clicks_topic
        try:
            now = describe_topic(self._admin, topic, _CONFIRMATION_S)
        except KafkaException as error:
            if failure_of(error.args[0]) is Failure.PASSING:
                self._presence.missed()
            raise self._explained(error) from error
        self._presence.answered()
        if self._topic is not None:
            refuse_other_topic(self._settings.click_log or self._settings.log_dir, self._topic, now)
        return now

    def start(self, positions: Mapping[int, int], identity: TopicIdentity, partitions_before: int) -> None:
        """Read from these offsets on, one for each partition, of this topic and of no other.

        Args:
            positions: partition to the offset that is read next.
            identity: of the topic.
            partitions_before: that it had when its first click was logged.
        """
        self._topic = identity
        self._judge.counts |= {identity.partitions, partitions_before}
        self._held.clear()
        self._read_on(positions)

    def _read_on(self, positions: Mapping[int, int]) -> None:
        self._held.clear()  # it comes again
        topic = self._settings.clicks_topic
        self._consumer.poll(0)  # what the client had to say of a time that is over
        self._next = dict(positions)
        self._again_s = None
        self._at_end.clear()
        self._consumer.assign([TopicPartition(topic, partition, offset) for partition, offset in positions.items()])

    def stop(self) -> None:
        """Read no more, until the next `start`."""
        self._consumer.unassign()
        self._next = {}
        self._held.clear()
        self._unknown_since_s = self._again_s = None
        self._failures.clear()

    def poll(self, timeout_s: float) -> list[ReadRecord]:
        """Give the next records, waiting for the first ones.

        Raises:
            PermanentError: the topic is gone, or records that are next to be read are, or cannot be read.
        """
        while self._failures and not self._held:
            self._handle(self._failures.pop(0))
        if self._again_s is not None and time.monotonic() > self._again_s:
            self._read_on(self._next)
        if self._unknown_since_s is not None:
            self._suspect_gone()
        self._held = self._held or self._consume(timeout_s)
        try:
            self._judge.load_schemas(self._held)
            records = self._records()
            if self._judge.n_misplaced(records):  # does the topic still have as many partitions?
                self._judge.counts.add(self.confirm_topic().partitions)
                records = self._judge.placed(records)
        except TemporaryError as error:  # the same records are looked at again by the next poll
            self._say_waiting(error)
            time.sleep(timeout_s)
            return []
        for message in self._held:
            self._pass(message)
        self._held = []
        return records

    def _consume(self, timeout_s: float) -> list[Message]:
        """Give what comes, without the errors among it: the next poll looks at these, which may raise."""
        messages = []
        for message in self._consumer.consume(_MAX_RECORDS, timeout_s):
            error = message.error()
            if error is None or is_partition_end(error):
                messages.append(message)
            else:
                self._failures.append(message)
                if is_unreadable(error):
                    break
        if messages:
            self._presence.answered()
        return messages

    def _records(self) -> list[ReadRecord]:
        """Decode the records that are held; changes nothing."""
        records, now_ms = [], int(time.time() * 1000)
        following = dict(self._next)
        for message in self._held:
            partition, offset = _place(message)
            if message.error() is None:
                records.append(ReadRecord(partition, offset, message.key(), self._judge.clicks(message, now_ms)))
                following[partition] = offset + 1
            elif offset > following[partition]:  # what ends a transaction is no record
                records.append(ReadRecord(partition, offset - 1, None, ()))
                following[partition] = offset
        return records

    def _pass(self, message: Message) -> None:
        """Take note that a record, or the end of a partition, was read."""
        partition, offset = _place(message)
        if message.error() is None:
            self._next[partition] = offset + 1
            self._at_end.discard(partition)
        else:
            self._next[partition] = max(offset, self._next[partition])
            self._at_end.add(partition)

    def _say_waiting(self, error: TemporaryError) -> None:
        now_s = time.monotonic()
        if now_s > self._said_s + _SAY_EVERY_S:
            self._said_s = now_s
            _log.warning("waiting, no click is lost: %s", error)

    def has_read(self, ranges: Mapping[int, OffsetRange]) -> bool:
        """Tell whether everything up to the ends of some ranges was read."""
        return not self._held and all(
            partition in self._at_end or self._next[partition] >= offsets.end or offsets.first == offsets.end
            for partition, offsets in ranges.items()
        )

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _check_topics(self) -> None:
        try:
            metadata = self._consumer.list_topics(timeout=_ANSWER_S)
        except KafkaException as error:
            raise self._no_answer(error) from error
        self._cluster_id = metadata.cluster_id or ""
        needed = (self._settings.clicks_topic, self._settings.models_topic)
        if missing := [name for name in needed if name not in metadata.topics]:
            raise PermanentError(missing_topics(missing, metadata.topics, self._settings))

    def _explained(self, error: KafkaException) -> NextclickError:
        """Say what an error about the clicks topic means.

        Raises:
            PermanentError: the topic has been gone for a while.
        """
        topic, reason = self._settings.clicks_topic, error.args[0].str()
        match failure_of(error.args[0]):
            case Failure.REFUSED:
                return PermanentError(
                    f"the broker refuses to describe the topic {topic}: {reason}; correct the rights of the trainer's "
                    "user"
                )
            case Failure.GONE:
                self._suspect_gone()
            case Failure.PASSING:
                pass
        return TemporaryError(
            f"the broker at {self._settings.broker} does not say what the topic {topic} has: {reason}; is it up, and "
            "does each partition have a leader?"
        )

    def _no_answer(self, error: KafkaException) -> TemporaryError:
        found = self._last_error or error.args[0].str()
        return TemporaryError(
            f"expected a broker at {self._settings.broker}, found: {found}; start it, or give its address with --broker"
        )

    def _on_error(self, error: KafkaError) -> None:
        self._last_error = error.str()
        if self._next:  # before that, no answer is an error of the start
            self._presence.on_error(error)

    def _handle(self, message: Message) -> None:
        refuse_unreadable(message)
        error, partition = message.error(), message.partition()
        failure = failure_of(error)
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            self._explain_missing_offset(partition)
        if failure is Failure.GONE:
            self._suspect_gone()
        elif failure is Failure.REFUSED:
            fields = {"partition": partition}
            _log.warning("reading %s: %s", self._settings.clicks_topic, error.str(), extra={"fields": fields})

    def _suspect_gone(self) -> None:
        """Tell a topic that is gone from one that the broker does not know yet, and go on with it once it does."""
        now_s = time.monotonic()
        self._unknown_since_s = self._unknown_since_s or now_s
        if now_s < self._unknown_since_s + GONE_AFTER_S:
            return
        self._unknown_since_s = now_s
        with contextlib.suppress(TemporaryError):  # no answer: the next look is as long again from now
            self._check_topics()
            if self._topic is not None:
                self.confirm_topic()
                self._read_on(self._next)
            self._unknown_since_s = None

    def _explain_missing_offset(self, partition: int | None) -> None:
        """Say why the broker does not have what should be read next, if it can be said; else it is tried again soon."""
        if self._again_s is not None:  # all partitions were looked at for another one
            return
        self._again_s = time.monotonic() + _AGAIN_S
        try:
            topic = self.confirm_topic()
            ranges = self.offset_ranges(topic)
        except TemporaryError:
            return
        lost = lost_clicks(self._next, ranges)
        if lost:
            raise lost_clicks_error(topic.topic, lost)
        check_same_topic(topic.topic, self._next, ranges)
        text = "the broker does not give offset %s of partition %s of %s though it should be there: tried again"
        _log.warning(text, self._next.get(partition or 0), partition, topic.topic)


def _place(message: Message) -> tuple[int, int]:
    partition, offset = message.partition(), message.offset()
    assert partition is not None
    assert offset is not None
    return partition, offset
