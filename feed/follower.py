"""Follows the topic of updates in a thread: reads, compares, stores, and only then tells those who wait.

Nothing that Kafka does ends the feed, which answers from its store meanwhile: a broker that is away is waited for, a
topic that is created anew is read anew, partitions that are added are read as well.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from feed.hub import NewList
from feed.list_store import DamagedLists, ListStore
from feed.metrics import FeedMetrics
from nextclick.clicks import MAX_ID_BYTES
from nextclick.errors import PermanentError, TemporaryError
from nextclick.newer import UpdateHead, head_of, is_newer
from nextclick.settings import Settings
from nextclick.updates import POPULAR, RecommendationUpdate, decode_update
from tools.client_config import consumer_config, librdkafka_config
from tools.kafka import Failure, TopicIdentity, describe_topic, failure_of, is_partition_end
from tools.topic_look import TopicLook
from tools.trouble import Trouble
from tools.update_formats import update_decoder

_BATCH = 2_000  # updates that are compared and stored together
_POLL_S = 0.2
_AGAIN_S = 1.0  # after a failure
_REFUSED_AGAIN_S = 10.0  # where a person must do something first
_STOP_S = 2.0
_PROGRESS_EVERY_S = 5.0
_RENEW_EVERY_S = 3_600.0
_BUFFERED_KB = 32 * 1024  # of updates that were fetched and not taken yet
_log = logging.getLogger(__name__)


class ListFollower:
    """Keeps the store at the end of the topic.

    Attributes:
        stopping: set when the end is wanted.
        caught_up: set once every list that the topic had at the start is stored.
        failure: why the topic could not be read when Kafka was last asked; None: it could.
    """

    def __init__(
        self,
        settings: Settings,
        store: ListStore,
        metrics: FeedMetrics,
        tell: Callable[[Sequence[NewList]], None],
        fail: Callable[[Exception], None],
    ) -> None:
        """Prepare; `start` begins.

        Args:
            settings: where and what to follow.
            store: gets the lists; nobody else writes to it.
            metrics: of the feed.
            tell: gets lists once they are stored; called from the thread.
            fail: gets what ends the feed; called from the thread, at most once.
        """
        self.settings, self.store, self.metrics = settings, store, metrics
        self.tell, self._fail = tell, fail
        self.stopping, self.caught_up = threading.Event(), threading.Event()
        self.failure: Failure | None = None
        self.trouble = Trouble()
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was read and is not stored yet is read again at the next start. Blocks for `_STOP_S` at most."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_S)  # one that waits for an answer of Kafka's ends with the process

    def _run(self) -> None:
        try:
            while not self.stopping.is_set():
                try:
                    topic = self._find_topic()
                    _Following(self, topic).run()
                except KafkaException as error:
                    self.note_failure(error.args[0])
                    self.stopping.wait(_AGAIN_S)
        except Exception as error:
            if not self.stopping.is_set():  # a store that could not be written keeps nobody from ending
                self._fail(error)

    def _find_topic(self) -> TopicIdentity:
        """Ask for the topic; the store begins anew with one that it is not from.

        Raises:
            KafkaException: the broker does not answer, refuses, or has no such topic.
        """
        topic = describe_topic(AdminClient(librdkafka_config(self.settings)), self.settings.recommendations_topic)
        self.failure = None
        known = self.store.topic
        if known is None or not known.is_same_topic(topic):
            if known is not None:
                _log.warning("%s was created anew: its lists are read anew", topic.topic)
            self.until_done(lambda: self.store.begin(topic))
        return topic

    def until_done(self, work: Callable[[], None], while_waiting: Callable[[], None] = lambda: None) -> None:
        """Do what needs the disk or a schema registry; they are waited for, and readers are answered meanwhile.

        Args:
            work: what to do.
            while_waiting: is called before each wait.

        Raises:
            DamagedLists: the files cannot be trusted.
            PermanentError: the registry refuses us, and there is nothing to serve.
            TemporaryError: the end is wanted before it is done.
        """
        while True:
            try:
                work()
                return
            except DamagedLists:
                raise
            except (TemporaryError, PermanentError) as error:
                is_refused = isinstance(error, PermanentError)
                if is_refused and not self.store.has_lists:
                    raise
                self.trouble.say("waiting", f"{error}; it is tried again, and lists are served as they are")
                while_waiting()
                if self.stopping.wait(_REFUSED_AGAIN_S if is_refused else _AGAIN_S):
                    raise

    def note_failure(self, error: KafkaError) -> None:
        """Say why Kafka does not answer as it should.

        Raises:
            PermanentError: it refuses, and has never let the feed read: there is nothing to serve.
        """
        kind = self.failure = failure_of(error)
        if kind is Failure.REFUSED and self.store.topic is None:
            raise PermanentError(
                f"{self.settings.broker} does not let the feed read {self.settings.recommendations_topic}: "
                f"{error.str()}; correct the settings security_protocol, sasl_* and tls_*, or give it the right to read"
            )
        if kind is Failure.GONE:
            self.trouble.say(
                "gone",
                f"there is no topic {self.settings.recommendations_topic}, which is waited for; `nextclick topics` "
                "creates it, or correct recommendations_topic",
            )
        else:
            self.trouble.say(
                "away",
                f"{self.settings.broker} does not answer ({error.str()}): lists are served as they are, and it is "
                "asked again",
            )


class _Following:
    """One consumer, of one topic, until a failure or the end."""

    def __init__(self, follower: ListFollower, topic: TopicIdentity) -> None:
        self._follower, self._topic = follower, topic
        self._store, self._metrics, self._settings = follower.store, follower.metrics, follower.settings
        self._decode = update_decoder(self._settings)
        self._n_partitions = 0
        self._at_end: set[int] = set()
        self._next_offset: dict[int, int] = {}
        self._progress_s = time.monotonic() + _PROGRESS_EVERY_S
        self._renew_s = 0.0
        config = consumer_config(self._settings, f"{self._settings.app}-feed") | {
            "enable.partition.eof": True,
            "queued.max.messages.kbytes": _BUFFERED_KB,
            "fetch.wait.max.ms": 100,
        }
        self._consumer = Consumer(config)

    def run(self) -> None:
        """Follow until the end is wanted, or the topic is another one.

        Raises:
            KafkaException: the broker refuses, or has no such partition.
        """
        look = TopicLook(self._settings, self._topic.topic)
        try:
            self._assign(self._topic.partitions)
            while not self._follower.stopping.is_set():
                now = look.newest()
                if isinstance(now, KafkaException):
                    self._follower.note_failure(now.args[0])
                elif now is not None:
                    self._follower.failure = None
                    if not now.is_same_topic(self._topic):
                        return
                    if now.partitions > self._n_partitions:
                        self._assign(now.partitions)
                self._take(_read(self._consumer))
                self._say_progress()
                if time.monotonic() >= self._renew_s:
                    self._renew_s = time.monotonic() + _RENEW_EVERY_S
                    self._until_done(lambda: self._store.renew(self._n_partitions))
        finally:
            look.close()
            self._consumer.close()

    def _assign(self, n_partitions: int) -> None:
        """Read partitions from where the store's lists end."""
        from_store = self._store.positions(n_partitions)
        self._next_offset = {number: offset or 0 for number, offset in enumerate(from_store)}
        topic = self._topic.topic
        self._consumer.assign([TopicPartition(topic, number, offset) for number, offset in self._next_offset.items()])
        self._n_partitions = n_partitions

    def _take(self, messages: Sequence[Message]) -> None:
        """Store what is newer, and tell those who wait."""
        newest: dict[bytes, NewList | None] = {}
        positions: dict[int, int] = {}
        for message in messages:
            partition, error = message.partition(), message.error()
            if is_partition_end(error):
                self._at_end.add(int(partition or 0))
            elif error is not None:
                raise KafkaException(error)
            else:
                positions[int(partition or 0)] = int(message.offset() or 0) + 1
                self._sort_in(message, newest)
        if positions:
            self._keep_newer(newest)
            lists = {user: new.value if new is not None else None for user, new in newest.items()}
            popular = self._younger_popular(newest)
            self._until_done(lambda: self._store.write(lists, positions, popular))
            self._next_offset |= positions
            self._tell([new for new in newest.values() if new is not None])
        if len(self._at_end) == self._n_partitions and not self._follower.caught_up.is_set():
            self._follower.caught_up.set()
            _log.info("the lists are up to date", extra={"fields": {"users": self._store.n_users()}})

    def _sort_in(self, message: Message, newest: dict[bytes, NewList | None]) -> None:
        """Put an update into its place among those that were read with it."""
        user, value = message.key(), message.value()
        if not isinstance(user, bytes) or not 0 < len(user) <= MAX_ID_BYTES or b"\0" in user:
            self._pass_over(message, "its key is no user's id")
        elif value is None:
            newest[user] = None
        else:
            try:
                head, value = self._plain(value)
            except msgspec.DecodeError as error:
                self._pass_over(message, f"it is no update: {error}")
                return
            before = newest.get(user)
            if before is None or is_newer(head, before.head):
                newest[user] = NewList(user, head, value)

    def _plain(self, value: bytes) -> tuple[UpdateHead, bytes]:
        """Give an update's head, and the update as JSON, whatever its format is; a schema registry that is away is
        waited for.

        Raises:
            msgspec.DecodeError: it is none.
            PermanentError: the registry refuses us, and nothing was ever read.
        """
        try:
            update = decode_update(value)
        except msgspec.DecodeError:
            found: list[RecommendationUpdate] = []
            self._until_done(lambda: found.append(self._decode(value)))
            update, value = found[0], msgspec.json.encode(found[0])
        head = UpdateHead(update.strategy, update.sequence, update.source, update.clicked_at_ms, update.produced_at_ms)
        return head, value

    def _keep_newer(self, newest: dict[bytes, NewList | None]) -> None:
        """Leave out what the store has, or has a newer one of."""
        users = [user for user, new in newest.items() if new is not None]
        for user, stored in zip(users, self._store.get_many(users), strict=True):
            new = newest[user]
            if stored is not None and new is not None and not is_newer(new.head, head_of(stored)):
                del newest[user]

    def _younger_popular(self, newest: dict[bytes, NewList | None]) -> bytes | None:
        """Give the youngest popular list of those that were read, unless the store has one that is as young.

        Partitions are read in any order, and a worker that was away goes on where it was.
        """
        popular = [new for new in newest.values() if new is not None and new.head.strategy == POPULAR]
        youngest = max(popular, key=lambda new: new.head.produced_at_ms, default=None)
        stored = self._store.popular if youngest is not None else None
        if youngest is None or (stored is not None and head_of(stored).produced_at_ms >= youngest.head.produced_at_ms):
            return None
        return youngest.value

    def _until_done(self, work: Callable[[], None]) -> None:
        """Do as `ListFollower.until_done` does; measure meanwhile how far behind the store is."""
        self._follower.until_done(work, lambda: self._metrics.behind.set(self._place().n_behind))

    def _tell(self, lists: list[NewList]) -> None:
        self._follower.tell(lists)
        self._metrics.updates.inc(len(lists))
        if self._follower.caught_up.is_set():
            now_ms = time.time() * 1000
            for new in lists:
                self._metrics.latency.observe(max(0.0, now_ms - new.head.clicked_at_ms) / 1000)

    def _pass_over(self, message: Message, why: str) -> None:
        self._metrics.unreadable.inc()
        where = f"{message.topic()}/{message.partition()} at {message.offset()}"
        self._follower.trouble.say("passed over", f"a record is passed over, {where}: {why:.300}")

    def _say_progress(self) -> None:
        """Say how far a long reading is, and measure how far behind the end the store is."""
        if time.monotonic() < self._progress_s:
            return
        self._progress_s = time.monotonic() + _PROGRESS_EVERY_S
        place = self._place()
        self._metrics.behind.set(place.n_behind)
        if not self._follower.caught_up.is_set() and place.end > place.first:
            _log.info("reading the lists: %.0f%%", 100 * (place.here - place.first) / (place.end - place.first))

    def _place(self) -> "_Place":
        """Say where in the topic the store is, as far as the client knows its end. Does not block."""
        first, end, here = 0, 0, 0
        for number, offset in self._next_offset.items():
            partition = TopicPartition(self._topic.topic, number)
            low, high = self._consumer.get_watermark_offsets(partition, cached=True)
            if high >= 0:
                first, end, here = first + low, end + high, here + min(max(offset, low), high)
        return _Place(first, end, here)


class _Place(NamedTuple):
    """Sums of offsets of all partitions: where the topic begins, where it ends, and up to where it is stored."""

    first: int
    end: int
    here: int

    @property
    def n_behind(self) -> int:
        """How many records are not stored yet."""
        return self.end - self.here


def _read(consumer: Consumer) -> list[Message]:
    """Wait for an update for a moment, and take those that are there with it."""
    first = consumer.poll(_POLL_S)
    return [first, *consumer.consume(_BATCH, 0)] if first is not None else []
