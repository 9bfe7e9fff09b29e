"""Writes in Kafka's transactions: what one holds appears as a whole, with the source's offsets, or not at all."""

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from confluent_kafka import KafkaError, KafkaException, Message, Producer, TopicPartition

from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.settings import Settings
from rekey.pulse import Patience, Pulse, Stopped
from tools.client_config import producer_config
from tools.kafka import Failure, failure_of
from tools.records import Header
from tools.transactions import Unanswered, is_to_be_asked_again, send_offsets

_log = logging.getLogger(__name__)

WAIT_S = 1.0  # for one answer; it is asked again, and a stop is seen
LOST_S = 30.0  # a producer without an answer by then may have lost the request: the slowest takes a few seconds
BATCH_BYTES = 128 * 1024  # so that a topic that takes short requests only is not refused one of many records
MAX_RECORD_BYTES = 16 * 1024 * 1024  # what is too long is the broker's to say
# The transaction came to nothing, and the next one may well not.
_AGAIN = frozenset(
    {
        KafkaError.ILLEGAL_GENERATION,  # the partitions are being divided anew, or are another's
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,  # what follows a record that was not written
        KafkaError.UNKNOWN_PRODUCER_ID,
        KafkaError.INVALID_PRODUCER_EPOCH,
        KafkaError.INVALID_PRODUCER_ID_MAPPING,
        KafkaError.INVALID_TXN_STATE,
        KafkaError._INCONSISTENT,  # records failed, each with a reason of its own
        KafkaError._FATAL,  # a call after the producer was shut out: another one is open by then
        KafkaError._STATE,  # a record failed, and why is said by the transaction's end; if it lasts, by the next one's
    }
)
_CONSEQUENCES = frozenset({KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT})  # of another failure


class Aborted(Exception):
    """A transaction came to nothing, or nobody knows: go on from what the group has committed."""


class Writer:
    """A transactional producer; used by one thread.

    A producer that does not answer is given up for another one of the same name. When that one has begun, the broker
    has ended what the first had left open, and takes nothing of it any more.

    Attributes:
        name: its transactional id, which no other writer has or had. What is another instance's work is told by the
            membership that the offsets are committed with, not by this name.
    """

    def __init__(self, settings: Settings, pulse: Pulse) -> None:
        """Connect.

        Raises:
            PermanentError: the broker refuses transactions.
            Stopped: the job is to end.
        """
        self._settings = settings
        self._pulse = pulse
        self._transaction_s = settings.session_timeout_s  # one that is left open is over when its partitions are
        self.name = self._new_name()
        self._open()

    def _new_name(self) -> str:
        return f"{self._settings.app}-rekey-{uuid.uuid4().hex[:12]}"

    def _open(self) -> None:
        """Begin with a producer; one that does not begin may have lost its request, and is replaced."""
        config = producer_config(self._settings) | {
            "transactional.id": self.name,
            "transaction.timeout.ms": int(self._transaction_s * 1000),
            "batch.size": BATCH_BYTES,
            "message.max.bytes": MAX_RECORD_BYTES,
            "error_cb": self._pulse.presence.on_error,
            "on_delivery": self._note_failure,
        }
        self._failure: tuple[KafkaError, str] | None = None
        while True:
            self._producer = Producer(config)
            try:
                return self._until_answered(self._producer.init_transactions, "lets no transaction begin")
            except Unanswered:
                # Whenever the broker hears of the given-up one, it must not shut out its successor. What was open
                # under the old name is over when its time is, and until then nobody is told what is committed.
                self.name = self._new_name()
                config["transactional.id"] = self.name
            except KafkaException as error:
                raise PermanentError(
                    f"the broker at {self._settings.broker} does not open transactions as {self.name}: "
                    f"{error.args[0].str()}; the user needs the right to the transactional ids "
                    f"{self._settings.app}-rekey-*"
                ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is written inside, or abort all of it. A broker that is away is waited for.

        Raises:
            Aborted: it came to nothing, and what it was about is to be read again.
            NextclickError: it came to nothing, and so would the next one.
            Stopped: the job is to end; the transaction came to nothing, or will when its time is over.
        """
        began_s = time.monotonic()
        self._failure = None
        try:
            self._producer.begin_transaction()
            yield
            self._until_answered(self._producer.commit_transaction, "commits no transaction")
            self._pulse.presence.answered()
        except KafkaException as error:
            self._end(error.args[0], began_s)
        except Unanswered as error:
            self._open()
            raise Aborted(str(error)) from error
        except Aborted:
            self._abort(began_s)
            raise
        except Stopped:
            with suppress(KafkaException):
                self._producer.abort_transaction(WAIT_S)
            raise

    def write(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[Header],
        timestamp_ms: int = 0,
    ) -> None:
        """Write a record to the partition that the setting `partitioner` gives.

        Args:
            topic: that gets it.
            key: of the record.
            value: of the record.
            headers: of the record.
            timestamp_ms: of the record; 0: now.

        Raises:
            KafkaException: the transaction has failed.
            Stopped: the job is to end.
        """
        while True:
            try:
                self._producer.produce(topic, value, key, headers=list(headers), timestamp=timestamp_ms)
                self._producer.poll(0)
                return
            except BufferError:
                self._producer.poll(WAIT_S)
                self._pulse.wait()

    def commit_offsets(self, places: list[TopicPartition], membership: bytes) -> None:
        """Commit offsets of the job's group with the transaction, which then succeeds for this membership alone.

        Raises:
            KafkaException: it has failed, or the partitions are another's.
            Unanswered: nobody knows.
            Stopped: the job is to end.
        """
        end_s = time.monotonic() + self._transaction_s
        send_offsets(self._producer, places, membership, step_s=WAIT_S, end_s=end_s, wait=self._pulse.wait)

    def _until_answered(self, ask: Callable[[float], None], what: str) -> None:
        """Ask again while the client says that this is what it wants.

        Args:
            ask: the broker, for so many seconds.
            what: the broker does not do meanwhile.

        Raises:
            Unanswered: there was no answer in time.
            KafkaException, Stopped: as everywhere here.
        """
        patience, end_s = Patience(what), time.monotonic() + LOST_S
        while time.monotonic() < end_s:
            try:
                return ask(WAIT_S)
            except KafkaException as error:
                if not is_to_be_asked_again(error):
                    raise
                patience.note(error)
            self._producer.poll(0)  # lets the client say that the broker is away
            self._pulse.wait()
        raise Unanswered(f"the broker {what}")

    def _end(self, failure: KafkaError, began_s: float) -> None:
        """Abort after a failure.

        Raises:
            Aborted, NextclickError: as `transaction` does.
        """
        if failure.fatal():
            self._begin_anew(failure, began_s)
            raise Aborted(failure.str())
        self._abort(began_s)
        cause, topic = self._failure or (failure, "")
        if cause.code() not in _AGAIN and failure_of(cause) is not Failure.PASSING:
            raise self._refused(cause, topic)
        raise Aborted(cause.str())

    def _abort(self, began_s: float) -> None:
        try:
            self._until_answered(self._producer.abort_transaction, "aborts no transaction")
        except Unanswered:
            self._open()
        except KafkaException as error:
            if error.args[0].code() == KafkaError.INVALID_TXN_STATE:
                # Right behind a commit the broker takes no partition yet, so that this one has not begun for it;
                # librdkafka 2.16 asks for its end all the same, and cannot be used after the answer.
                self._open()
            else:
                self._begin_anew(error.args[0], began_s)

    def _begin_anew(self, failure: KafkaError, began_s: float) -> None:
        """Take another producer when the broker has ended a transaction that took too long: this process slept, say.

        Raises:
            TemporaryError: it was ended for another reason.
        """
        took_s = time.monotonic() - began_s
        if took_s < self._transaction_s:
            raise TemporaryError(
                f"the broker has shut out {self.name}: {failure.str()}; nothing is lost or doubled, start the job again"
            )
        _log.warning("the broker has ended a transaction that was open for %.0f s: its records are read again", took_s)
        self._open()

    def _refused(self, cause: KafkaError, topic: str) -> NextclickError:
        remedies = {
            KafkaError.MSG_SIZE_TOO_LARGE: "raise max.message.bytes of the topic to that of the source",
            KafkaError.INVALID_TIMESTAMP: "raise message.timestamp.before.max.ms of the topic",
            KafkaError.GROUP_AUTHORIZATION_FAILED: f"the user needs the group {self._settings.app}-rekey",
        }
        remedy = remedies.get(cause.code(), "correct the topic, or the rights of the user")
        return PermanentError(
            f"the broker does not take a record for {topic or 'the destination'}, or its transaction: {cause.str()}; "
            f"{remedy}, and start the job again: nothing is lost or doubled"
        )

    def _note_failure(self, failure: KafkaError | None, message: Message) -> None:
        if failure is not None and self._failure is None and failure.code() not in _CONSEQUENCES:
            self._failure = (failure, message.topic() or "")
