"""The topic `models`: which bundle is the champion, which is on trial, and each change of it. Uses confluent-kafka.

Trainer, command line and automatic judge write in the same way, in transactions of Kafka's with one id per application,
so that no two of them decide from the same state, in this order:

1. Finish what anybody of this application began before: a transaction of theirs is committed or taken back now, and
   they can begin no other. So what `models` says from here on is certain.
2. Read the topic, decide.
3. In one transaction: the records; and, where the trainer's role is needed, a commit of the group's offset with the
   membership of this trainer. The broker refuses the commit, and with it the records, when the role is another's by
   now. Whoever was in step 1 to 3 when another began step 1 is refused, and begins again with what holds then.

A round does step 1 and reads the champion also before it trains (`ModelsTopic.settle`): a trainer that sleeps between
its decision and the end of its transaction meets step 1 of its successor.
"""

import contextlib
import logging
import random
import time
from collections.abc import Callable
from threading import Lock

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from nextclick.errors import BundleError, TemporaryError
from nextclick.manifest import Manifest
from nextclick.models_state import ModelsState, Records
from nextclick.settings import Settings
from tools.client_config import consumer_config, producer_config
from tools.kafka import is_forbidden, is_partition_end
from tools.records import refuse_unreadable
from tools.transactions import Unanswered, send_offsets
from training.learning.cancellation import Cancellation
from training.service.metrics import TrainerMetrics
from training.service.models_changes import Moment, Refused, announce
from training.service.trainer_role import TrainerRole

_READ_S = 15.0
# The first transaction of a cluster makes a topic of the broker's own, which takes a few seconds.
_SETTLE_S = 30.0
_TRANSACTION_S = 10.0
# Another trainer joins, and waits: every member's membership changes. Or a person and the trainer shut each other out.
_ATTEMPTS = 5
_PAUSE_S = 0.5  # at most, between two of them: not as long for one as for the other
_POLL_S = 0.2  # so a stop is seen soon
_log = logging.getLogger(__name__)
_client_log = logging.getLogger("librdkafka")
_client_log.disabled = True  # else it writes to standard error that another has shut it out: that is raised, too


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
        self._lock = Lock()  # of one process nobody shuts out another
        self._counted_to = 0  # offset below which undecodable announcements are counted

    def settle(self) -> None:
        """Finish or take back what anybody of this application began to announce; they can begin nothing more.

        Raises:
            TemporaryError: the broker does not say so.
        """
        with self._lock:
            self._new_producer()

    def champion(self) -> Manifest | None:
        """Give the bundle that was announced last, or None: none ever was, or a tombstone took it away; see `read`."""
        return self.read().champion

    def read(self) -> ModelsState:
        """Give what holds now. What cannot be decoded is passed over.

        Raises:
            TemporaryError: the broker does not answer, or does not let this user read the topic.
            PermanentError: a batch of the topic cannot be read.
        """
        config = consumer_config(self._settings, f"{self._settings.app}-trainer") | {"enable.partition.eof": True}
        consumer, state = Consumer(config), ModelsState()
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
                    return state
                if (error := message.error()) is not None and is_forbidden(error):
                    raise TemporaryError(
                        f"the broker at {self._settings.broker} does not let this user read "
                        f"{self._settings.models_topic}: {error.str()}; correct its rights, on the group "
                        f"{self._settings.app}-trainer, too"
                    )
                if message.error() is None:
                    state = self._after(state, message)
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
        moment = Moment(time.time_ns() // 1_000_000)
        self.change(lambda state: announce(state, manifest, before, moment), f"bundle {manifest.bundle_id}", role)

    def change(self, decide: Callable[[ModelsState], Records], what: str, role: TrainerRole | None) -> ModelsState:
        """Write what follows from what holds now; on return the brokers have it.

        Args:
            decide: gives the records to write for a state, none if there is nothing to do. Called again when somebody
                else has written meanwhile; what it raises is raised.
            what: is changed, for messages.
            role: must be held, by the broker's word; None: a person wants it.

        Returns:
            The state from which it was decided.

        Raises:
            TemporaryError: it was not written; or, and then the message says so, nobody knows.
        """
        with self._lock:
            return self._change(decide, what, role)

    def _change(self, decide: Callable[[ModelsState], Records], what: str, role: TrainerRole | None) -> ModelsState:
        found, records = "", Records()
        for _ in range(_ATTEMPTS):
            try:
                producer = self._new_producer()
                state = self.read()
                if state.contains(records):  # only the answer to the attempt before was lost
                    return state
                records = decide(state)
            except TemporaryError as error:
                if not found or isinstance(error, Refused):
                    raise
                raise self._in_doubt(what, found, error) from error
            if not records:
                return state
            membership = role.membership() if role is not None else None
            try:
                self._transact(producer, records, membership)
                return state
            except KafkaException as error:
                found = error.args[0].str()
            time.sleep(_PAUSE_S * random.random())
            if role is not None:  # who has lost the role does not disturb the one who has it
                try:
                    role.membership()
                except TemporaryError as error:
                    raise self._in_doubt(what, found, error) from error
        raise TemporaryError(f"{self._settings.models_topic} did not take the announcement of {what}: {found}")

    def _in_doubt(self, what: str, found: str, error: TemporaryError) -> TemporaryError:
        return TemporaryError(
            f"{what} was announced, or was not: {found}; {error}. The next training sees what became of it"
        )

    def _transact(self, producer: Producer, records: Records, membership: bytes | None) -> None:
        end_s = time.monotonic() + _TRANSACTION_S
        offset = [TopicPartition(self._settings.models_topic, 0, 0)]  # means nothing: the membership is what counts
        try:
            producer.begin_transaction()
            for key, value in records.items():
                producer.produce(self._settings.models_topic, value, key)
            if membership is not None:
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
            "logger": _client_log,
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

    def _after(self, state: ModelsState, message: Message) -> ModelsState:
        key, offset = (message.key() or b"").decode(errors="replace"), message.offset()
        try:
            return state.after(key, message.value())
        except BundleError as error:
            if offset >= self._counted_to:
                self._counted_to = offset + 1
                self._metrics.undecodable.inc()
                _log.warning("an announcement on %s is passed over: %s", message.topic(), error)
            return state
