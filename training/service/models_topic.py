"""The topic `models`: which bundle is the champion, and the announcement of the next one. Uses confluent-kafka.

An announcement and the trainer's membership are one transaction of Kafka's, in this order:

1. Finish what any trainer of this application began before: a transaction of theirs is committed or taken back now, and
   they can begin no other (`ModelsTopic.settle`). So what `models` says from here on is certain.
2. Read the champion, train, decide.
3. In one transaction: the announcement, and a commit of the group's offset with the membership of this trainer. The
   broker refuses the commit, and with it the announcement, when the role is another's by now. A trainer that sleeps
   between this and the end of the transaction meets step 1 of its successor.
"""

import contextlib
import logging
import time
from collections.abc import Callable

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from nextclick.errors import BundleError, TemporaryError
from nextclick.manifest import CHAMPION, Manifest, decode_manifest, encode_manifest
from nextclick.settings import Settings
from tools.client_config import consumer_config, producer_config
from tools.kafka import is_partition_end
from tools.records import refuse_unreadable
from tools.transactions import Unanswered, send_offsets
from training.learning.cancellation import Cancellation
from training.service.metrics import TrainerMetrics
from training.service.trainer_role import TrainerRole

_READ_S = 15.0
# The first transaction of a cluster makes a topic of the broker's own, which takes a few seconds.
_SETTLE_S = 30.0
_TRANSACTION_S = 10.0
_ATTEMPTS = 3  # another trainer joins, and waits: every member's membership changes
_POLL_S = 0.2  # so a stop is seen soon
_log = logging.getLogger(__name__)


class ModelsTopic:
    """Reads and writes `models`. Every call blocks while the broker does not answer, up to half a minute."""

    def __init__(self, settings: Settings, metrics: TrainerMetrics, cancellation: Cancellation) -> None:
        """Do nothing yet.

        Args:
            settings: of the trainer.
            metrics: count what cannot be decoded.
            cancellation: asked while the broker is waited for: every call can raise `TrainingCancelled`.
        """
        self._settings = settings
        self._metrics = metrics
        self._cancellation = cancellation
        self._counted_to = 0  # offset below which undecodable announcements are counted

    def settle(self) -> None:
        """Finish or take back what any trainer of this application began to announce; it can begin nothing more.

        Raises:
            TemporaryError: the broker does not say so.
        """
        self._new_producer()

    def champion(self) -> Manifest | None:
        """Give the bundle that was announced last, or None: none ever was, or a tombstone took it away.

        What cannot be decoded is passed over.

        Raises:
            TemporaryError: the broker does not answer.
            PermanentError: a batch of the topic cannot be read.
        """
        config = consumer_config(self._settings, f"{self._settings.app}-trainer") | {"enable.partition.eof": True}
        consumer = Consumer(config)
        champion: Manifest | None = None
        try:
            consumer.assign([TopicPartition(self._settings.models_topic, 0, OFFSET_BEGINNING)])
            deadline_s = time.monotonic() + _READ_S
            while time.monotonic() < deadline_s:
                self._cancellation.check()
                message = consumer.poll(_POLL_S)
                if message is None:
                    continue
                refuse_unreadable(message)
                if is_partition_end(message.error()):
                    return champion
                if message.error() is None and message.key() == CHAMPION.encode():
                    champion = self._decode(message, champion)
        finally:
            consumer.close()
        raise TemporaryError(
            f"the topic {self._settings.models_topic} could not be read from the broker at {self._settings.broker} "
            f"within {_READ_S:.0f} s; is the broker up?"
        )

    def announce(self, manifest: Manifest, before: Manifest | None, role: TrainerRole) -> None:
        """Make a bundle the champion; on return the brokers have the announcement.

        Args:
            manifest: of the bundle, which workers can fetch already.
            before: the champion that it was compared with. It is announced over this one only.
            role: must be held, by the broker's word.

        Raises:
            TemporaryError: it was not announced; or, and then the message says so, nobody knows.
        """
        for _ in range(_ATTEMPTS):
            champion = self.champion()
            if champion == manifest:  # the answer to an earlier attempt was lost
                return
            if champion != before:
                raise TemporaryError(
                    f"another bundle was announced on {self._settings.models_topic} meanwhile: the next training "
                    "compares with that one"
                )
            membership = role.membership()
            try:
                self._transact(manifest, membership)
                return
            except KafkaException as error:
                found = error.args[0].str()
            try:
                role.membership()  # who has lost the role does not disturb the one who has it
                self.settle()
            except TemporaryError as error:
                raise TemporaryError(
                    f"bundle {manifest.bundle_id} was announced, or was not: {found}; {error}. The next training sees "
                    "what became of it"
                ) from error
        raise TemporaryError(
            f"{self._settings.models_topic} did not take the announcement of bundle {manifest.bundle_id}: {found}"
        )

    def _transact(self, manifest: Manifest, membership: bytes) -> None:
        producer = self._new_producer()
        end_s = time.monotonic() + _TRANSACTION_S
        offset = [TopicPartition(self._settings.models_topic, 0, 0)]  # means nothing: the membership is what counts
        producer.begin_transaction()
        try:
            producer.produce(self._settings.models_topic, encode_manifest(manifest), CHAMPION)
            check = self._cancellation.check
            send_offsets(producer, offset, membership, step_s=_POLL_S, end_s=end_s, wait=check)
            self._repeat(producer.commit_transaction, end_s)
        except Unanswered as error:  # the next producer takes back what this one began
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT, str(error))) from error
        except KafkaException:
            with contextlib.suppress(KafkaException):  # one that is being committed already is not taken back
                producer.abort_transaction(_POLL_S)
            raise

    def _new_producer(self) -> Producer:
        """Give the one producer of this application that can announce: every earlier one is shut out by the broker."""
        config = {
            "transactional.id": f"{self._settings.app}-trainer",
            "transaction.timeout.ms": int(_TRANSACTION_S * 1000),
        }
        producer = Producer(producer_config(self._settings) | config)
        try:
            self._repeat(producer.init_transactions, time.monotonic() + _SETTLE_S)
        except KafkaException as error:
            raise TemporaryError(
                f"the broker at {self._settings.broker} does not begin a transaction with the id "
                f"{self._settings.app}-trainer: {error.args[0].str()}; is it up, has the trainer's user the right to "
                "that id, and are there enough brokers for transaction.state.log.replication.factor?"
            ) from error
        return producer

    def _repeat(self, step: Callable[[float], object], end_s: float) -> None:
        """Do a step of a transaction: each can be called again when its time is over, and goes on where it was."""
        while True:
            self._cancellation.check()
            try:
                step(_POLL_S)
                return
            except KafkaException as error:
                if not error.args[0].retriable() or time.monotonic() >= end_s:
                    raise

    def _decode(self, message: Message, champion: Manifest | None) -> Manifest | None:
        value, offset = message.value(), message.offset()
        if value is None:
            return None
        try:
            return decode_manifest(value)
        except BundleError as error:
            if offset >= self._counted_to:
                self._counted_to = offset + 1
                self._metrics.undecodable.inc()
                _log.warning("an announcement on %s is passed over: %s", message.topic(), error)
            return champion
