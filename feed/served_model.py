"""The bundle that the feed answers from, and how a newer one takes its place: in a thread, and never in the way.

The thread begins with the last verified copy, whether or not Kafka is there, and then follows the topic `models`. A
bundle is copied, verified, loaded and warmed up before it is `current`; one that cannot be used is refused, counted and
logged, and tried again every minute: its folder or its object store can have been away. The feed keeps the one it has
meanwhile. Nothing that happens here ends the feed. Only the thread loads numba and the model: until they are there,
everything is answered that needs none.
"""

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaException, Message, TopicPartition

from feed.metrics import FeedMetrics
from feed.popular import PopularItems, popular_of_bundle
from feed.problems import ProblemError
from nextclick.errors import BundleError, NextclickError
from nextclick.manifest import CHAMPION, Manifest, decode_manifest
from nextclick.settings import Settings
from tools.bundle_copies import BundleCopies, newest_announcements
from tools.client_config import consumer_config
from tools.kafka import Failure, failure_of, is_partition_end
from tools.records import is_unreadable

if TYPE_CHECKING:
    from nextclick.model import ServedModel

MAX_WAITING = 256  # answers that are computed or wait for it: more are refused at once instead of later
_BATCH = 100
_POLL_S = 0.5
_ANSWER_S = 1.0
_SILENCE_S = 10.0  # before the topic's end
_AGAIN_S = 2.0  # after a failure of Kafka's
_TRY_EVERY_S = 60.0  # what was refused, or failed for a reason that is not known
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class BundleAtWork(NamedTuple):
    """A bundle that is ready to answer.

    Attributes:
        model: its network, its items and their neighbours.
        popular: its popular items.
    """

    model: "ServedModel"
    popular: PopularItems


class ModelAtWork:
    """Holds the bundle that is served, replaces it, and computes with it.

    Attributes:
        current: the bundle; read once for each answer. None: there is none yet.
    """

    def __init__(
        self, settings: Settings, metrics: FeedMetrics, prepare: "Callable[[ServedModel], None]" = lambda model: None
    ) -> None:
        """Prepare; `start` begins.

        Args:
            settings: where bundles are, and where they are announced.
            metrics: of the feed.
            prepare: gets a model before it is served; in a thread, and may take a while.
        """
        self._prepare = prepare
        self._settings = settings
        self._metrics = metrics
        self._copies = BundleCopies(settings, settings.feed_dir / "bundles", explain=True)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)), "model")
        self._n_waiting = 0
        self._handled: Sequence[bytes] = ()  # a topic that is read again says nothing new
        self._wanted: Manifest | None = None  # was announced, and cannot be served yet
        self._try_again_s = 0.0
        self._refused = ""
        self._said = ""
        self.current: BundleAtWork | None = None

    def start(self) -> None:
        """Begin; does not block."""
        self._thread.start()

    def stop(self) -> None:
        """End; does not block. A bundle that is being loaded is given up with the process."""
        self._stopping.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def compute(self, work: Callable[[], _T]) -> _T:
        """Do what takes more than a moment in a thread, so that the event loop goes on.

        Args:
            work: what to do.

        Raises:
            ProblemError: too many wait already; or what `work` raises.
        """
        if self._n_waiting >= MAX_WAITING:
            raise ProblemError(
                "too-many",
                f"{MAX_WAITING} answers of the model are waited for already; ask in a second, or another instance",
                {"Retry-After": "1"},
            )
        self._n_waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._n_waiting -= 1

    def _run(self) -> None:
        try:
            last = self._copies.last()
        except OSError as error:
            self._say(f"{self._settings.feed_dir} cannot be read ({error.strerror}): no bundle until one is announced")
        else:
            if last is not None:
                self._serve(last, partial(self._copies.load, last))
        while not self._stopping.is_set():
            try:
                self._follow()
            except KafkaException as error:
                self._say_failure(error)
                self._stopping.wait(_AGAIN_S)
            except Exception as error:  # a mistake of ours: without this thread, bundles would stay as they are
                _log.error("following the bundles failed, and is tried again in a minute", exc_info=error)
                self._stopping.wait(_TRY_EVERY_S)

    def _follow(self) -> None:
        """Read the topic from its beginning, and serve whatever is the newest at its end.

        Raises:
            KafkaException: the broker is away; the topic is not there, cannot be read, or may not be read.
        """
        config = consumer_config(self._settings, f"{self._settings.app}-feed-models") | {"enable.partition.eof": True}
        topic, consumer = self._settings.models_topic, Consumer(config)
        try:
            # Asked for, because a client that is to read a topic that is not there says nothing (librdkafka 2.16).
            missing = consumer.list_topics(topic, _ANSWER_S).topics[topic].error
            if missing is not None:
                raise KafkaException(missing)
            consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
            values: list[bytes] = []
            was_read, heard_s = False, time.monotonic()
            # One that is being deleted can have been there when it was asked for: after a silence, it is asked again.
            while not self._stopping.is_set() and (was_read or time.monotonic() < heard_s + _SILENCE_S):
                messages = _read(consumer)
                heard_s = time.monotonic() if messages else heard_s
                values += _announcements(messages)
                if any(is_partition_end(message.error()) for message in messages):
                    was_read, self._said = True, ""  # should it fail again, that is news
                    self._announced(newest_announcements(values))
                    values = []
                if self._wanted is not None and time.monotonic() >= self._try_again_s:
                    self._fetch(self._wanted)
        finally:
            consumer.close()

    def _announced(self, values: Sequence[bytes]) -> None:
        """Serve what was announced, unless it is served already or was looked at before with success."""
        if not values or (values == self._handled and self._wanted is None):
            return
        self._refused = ""
        for value in values:
            try:
                manifest = decode_manifest(value)
            except BundleError as error:
                self._refuse("?", error)
                continue
            self._fetch(manifest)
        self._handled = values

    def _fetch(self, manifest: Manifest) -> None:
        """Serve a bundle that was announced; one that is refused is `_wanted` until it is served or another one is."""
        is_served = self.current is not None and self.current.model.bundle_id == manifest.bundle_id
        if is_served or self._serve(manifest.bundle_id, partial(self._copies.fetch, manifest)):
            self._wanted = None
            self._metrics.refused.set(0)
        else:
            self._wanted, self._try_again_s = manifest, time.monotonic() + _TRY_EVERY_S

    def _serve(self, bundle_id: str, load: "Callable[[], tuple[Manifest, ServedModel]]") -> bool:
        """Load a bundle, and let it be `current` once it is ready; tell whether it is."""
        try:
            manifest, model = load()
            self._prepare(model)
            ready = BundleAtWork(model, popular_of_bundle(model, manifest.created_ms))
        except Exception as error:  # also no memory, or a library: lists are answered from the store all the same
            self._refuse(bundle_id, error)
            return False
        self.current = ready
        self._metrics.bundle.info({"bundle": bundle_id})
        self._metrics.swaps.labels("swapped").inc()
        _log.info("serving a new bundle", extra={"fields": {"bundle": bundle_id, "items": len(model.item_ids)}})
        return True

    def _refuse(self, bundle_id: str, error: Exception) -> None:
        """Say and count why a bundle is not served; the same reason again is no news, unless it is announced again."""
        self._metrics.refused.set(1)
        refused = f"{bundle_id}: {error}"
        if refused == self._refused:
            return
        self._refused = refused
        served = self.current.model.bundle_id if self.current is not None else ""
        unforeseen = None if isinstance(error, NextclickError) else error
        _log.error(
            "bundle refused: %s",
            error,
            exc_info=unforeseen,
            extra={"fields": {"bundle": bundle_id, "still_served": served}},
        )
        self._metrics.swaps.labels("refused").inc()

    def _say_failure(self, failed: KafkaException) -> None:
        topic, error = self._settings.models_topic, failed.args[0]
        kind = failure_of(error)
        if kind is Failure.PASSING:  # a broker that is away: who follows the lists says so
            return
        if kind is Failure.GONE:
            self._say(f"there is no topic {topic}, which is waited for; `nextclick topics` creates it")
        else:
            self._say(f"topic {topic} cannot be read ({error.str()}), and is tried again: no new bundle until then")

    def _say(self, text: str) -> None:
        """Say what is wrong, once for as long as it lasts."""
        if text != self._said:
            self._said = text
            _log.warning("%s", text)


def _read(consumer: Consumer) -> list[Message]:
    """Wait for a record for a moment, and take those that are there with it.

    Raises:
        KafkaException: the topic is not there, cannot be read, or may not be read.
    """
    first = consumer.poll(_POLL_S)
    messages = [first, *consumer.consume(_BATCH, 0)] if first is not None else []
    for message in messages:
        error = message.error()
        if error is None or is_partition_end(error):
            continue
        if is_unreadable(error) or failure_of(error) is not Failure.PASSING:  # what passes, the client tries again
            raise KafkaException(error)
    return messages


def _announcements(messages: Sequence[Message]) -> list[bytes]:
    """Give what the records announce."""
    records = [message for message in messages if message.error() is None and message.key() == CHAMPION.encode()]
    return [value for record in records if isinstance(value := record.value(), bytes)]
