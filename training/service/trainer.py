"""Runs the trainer: clicks go from the topic to the click log without pause; trainings run beside it, in processes.

It works while it holds the role of its application's trainer, and waits while it does not.
"""

import contextlib
import logging
import time
from collections.abc import Mapping
from threading import Event, Thread

from nextclick.clicks import Ignored, Rejected
from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from tools.app_registry import AppRegistry
from tools.http_endpoint import start_http
from tools.kafka import OffsetRange, TopicIdentity
from tools.object_store import ObjectStore, StoreAway
from tools.presence import BrokerPresence
from tools.process_metrics import ProcessMetrics
from training.service.click_consumer import ClickConsumer
from training.service.click_log import ClickBuffer, ClickLog, ReadRecord
from training.service.decisions import (
    check_same_topic,
    lost_clicks,
    lost_clicks_error,
    n_not_logged,
    start_positions,
)
from training.service.experiment_watch import ExperimentWatch
from training.service.log_owner import LogOwner, read_owner, refuse_other_owner
from training.service.metrics import TrainerMetrics
from training.service.rounds import Result, Rounds
from training.service.schedule import Schedule
from training.service.stored_log import StoredLog
from training.service.trainer_role import TrainerRole

_POLL_S = 0.2  # so a stop is seen soon
_MAX_BUFFERED_CLICKS = 100_000  # while a backlog is read: bounds the memory
_SILENCE_S = 60.0  # a loop that has not turned for so long is stuck
_PARTITIONS_EVERY_S = 10.0  # how often new partitions are looked for
_STOP_PATIENCE_S = 2.5  # for a training that was asked to end: its process is killed, or an announcement given up
_STORE_ANSWER_S = 5.0  # for an answer of the click log's object store: a stop waits for it, too
_LEAVE_S = 0.5  # at least, to leave the group
_DAY_S = 24 * 3600
_log = logging.getLogger(__name__)


class Trainer:
    """One running trainer. The caller holds the lock of the click log."""

    def __init__(self, settings: Settings, stop: Event, *, skip_lost: bool, given_up: str) -> None:
        """Open the click log and connect.

        Raises:
            NextclickError: it cannot start.
        """
        self._settings = settings
        self._stop = stop
        self._skip_lost = skip_lost
        self._last_turn_s = self._last_flush_s = self._logged_s = self._looked_s = time.monotonic()
        self._works = self._store_is_away = False
        self._ends: Mapping[int, int] = {}  # of the topic's partitions, when it was last looked at
        self._registry = AppRegistry(settings.app)
        self._metrics = TrainerMetrics(self._registry)
        self._usage = Usage(settings.clicks_topic, 0)
        self._presence = BrokerPresence(settings.broker)
        self._log: ClickLog  # is opened when it is this trainer's turn
        self._stored_log = self._open_stored_log()
        if self._stored_log is None:
            ClickLog(settings.log_dir)  # damage is said now; a copy that is damaged is fetched again
        self._schedule = Schedule(settings.log_dir, settings)
        self._consumer = ClickConsumer(settings, self._presence)
        self._buffer = ClickBuffer({})
        self._measure()
        folders = {"log_dir": settings.log_dir, "bundle_dir": settings.bundle_dir}
        ProcessMetrics(self._registry).follow(self._ready, lambda: not self._presence.is_away, folders)
        self._http = start_http(settings.trainer_port, self._registry, self._health, self._ready)
        # Last: a member of a group that is not closed keeps the process from ending.
        self._role = TrainerRole(settings, self._presence)
        self._rounds = Rounds(settings, self._role, self._metrics, given_up)
        self._experiments = ExperimentWatch(settings, self._rounds.models, self._role, self._metrics)

    def _measure(self) -> None:
        """Let metrics show how far the log is, also while nothing can be written to it."""
        metrics = self._metrics
        metrics.has_role.set_function(lambda: self._works)
        metrics.log_clicks.set_function(lambda: self._log.n_clicks if self._works else 0)
        metrics.lag.set_function(lambda: n_not_logged(self._ends, self._buffer.logged) if self._works else 0)
        metrics.log_age.set_function(lambda: time.monotonic() - self._logged_s if self._works else 0)
        metrics.store_reachable.set_function(lambda: not self._store_is_away)

    def _open_stored_log(self) -> StoredLog | None:
        if not self._settings.click_log:
            return None
        is_over = self._is_over
        return StoredLog(ObjectStore(self._settings.click_log, request_s=_STORE_ANSWER_S, is_over=is_over))

    def _is_over(self) -> bool:
        """Asked before every request: a loop that makes one after the other is not stuck."""
        self._last_turn_s = time.monotonic()
        return self._stop.is_set()

    def run(self, *, once: bool) -> None:
        """Read, log and train until `stop` is set, or once.

        Raises:
            NextclickError: it had to stop; and with `once` also that the training failed, or was stopped.
        """
        is_done = False
        self._experiments.start()
        while not is_done and self._wait_for_role():
            try:
                ranges = self._begin()
            except TemporaryError as error:
                if once:
                    raise
                if self._stop.is_set():
                    break
                self._store_is_away = isinstance(error, StoreAway)
                _log.warning("waiting, nothing is lost: %s", error)
                continue
            try:
                is_done = self._run_once(ranges) if once else self._run_until_stopped()
            finally:
                self._end()
        while once and self._rounds.is_running and not self._stop.is_set():
            self._last_turn_s = time.monotonic()
            self._role.is_held()
            ended = self._rounds.ended(_POLL_S)
            if ended is not None and ended.result is Result.FAILED:
                self._mend_log()
                raise TemporaryError(f"the training failed, and nothing was published: {ended.reason}")
        if once and (not is_done or self._rounds.is_running):
            raise TemporaryError("stopped before the clicks were read and trained on")

    def close(self) -> bool:
        """End the training that goes on, leave the group, and stop answering.

        Returns:
            Whether all of it was done in time.
        """
        end_s = time.monotonic() + _STOP_PATIENCE_S
        self._stop.set()
        self._say_usage(is_last=True)
        self._experiments.stop()
        ended = self._rounds.stop(_STOP_PATIENCE_S)
        if ended is not None and ended.result is Result.STOPPED:
            _log.info("the training has not ended: %s", ended.reason)
            with contextlib.suppress(PermanentError):  # then the next training is a later one
                self._schedule.take_back()
        # Only now may another trainer begin: an announcement that was on its way has been made or given up.
        leaving = Thread(target=self._leave, name="leave", daemon=True)
        leaving.start()
        leaving.join(max(_LEAVE_S, end_s - time.monotonic()))
        self._http.close()
        return not self._rounds.is_running and not leaving.is_alive()

    def _leave(self) -> None:
        """Tell the broker; it is waited for in vain while it is away."""
        self._role.close()
        self._consumer.close()

    def _wait_for_role(self) -> bool:
        while not self._stop.is_set():
            self._last_turn_s = time.monotonic()
            if self._role.wait(_POLL_S):
                return True
        return False

    def _begin(self) -> dict[int, OffsetRange]:
        """Go on where the log ends. It is opened anew: while the role was another's, so may have been the log.

        Raises:
            TemporaryError: the broker does not say what the topic has (a partition without a leader, for example), or
                the object store does not answer.
            PermanentError: the log and the topic do not fit together.
        """
        owner = LogOwner(self._settings.app, self._consumer.identity())
        if self._stored_log is not None:
            self._stored_log.refuse_other_owner(owner)
        refuse_other_owner(self._settings.log_dir, read_owner(self._settings.log_dir), owner)
        self._log = ClickLog(self._settings.log_dir, stored=self._stored_log, tick=self._turn)
        self._schedule.log_has(self._log.n_clicks)
        is_new = self._log.owner is None and not self._log.ends
        if self._stop.is_set():
            raise TemporaryError("stopped before the clicks were read")
        ranges = self._consumer.offset_ranges(owner.clicks)
        check_same_topic(self._settings.clicks_topic, self._log.ends, ranges)
        self._log.claim(owner)
        self._pass_over_lost(ranges)
        # What is added to the topic of a log that is not new is read from its first click.
        self._read_from(ranges, owner.clicks, from_end=is_new and self._settings.start == "latest")
        self._logged_s = time.monotonic()
        self._works, self._store_is_away = True, False
        _log.info(
            "logging clicks of %s to %s, metrics at http://127.0.0.1:%d/metrics",
            self._settings.clicks_topic,
            self._settings.click_log or self._settings.log_dir,
            self._http.port,
            extra={"fields": {"clicks": self._log.n_clicks}},
        )
        return ranges

    def _turn(self) -> None:
        """Fetching a log, or joining its files, can take longer than a loop may stand still; the role is kept."""
        self._last_turn_s = time.monotonic()
        if self._stop.is_set() or not self._role.is_held():
            raise TemporaryError("stopped, or lost the role, before the files of the click log were ready")

    def _read_from(self, ranges: dict[int, OffsetRange], identity: TopicIdentity, *, from_end: bool) -> None:
        """Read on where the log ends, and new partitions from one of their ends."""
        positions = start_positions(self._log.ends, ranges, from_end=from_end)
        for partition, position in positions.items():
            if from_end and position > 0:  # noted, so that the next start does not leave out more
                self._log.append(partition, 0, position - 1, [])
        self._buffer = ClickBuffer(positions)
        self._note_ends(ranges)
        before = self._log.owner.clicks if self._log.owner is not None else identity
        self._consumer.start(positions, identity, before.partitions)
        self._usage.n_partitions = identity.partitions
        self._looked_s = time.monotonic()

    def _note_ends(self, ranges: Mapping[int, OffsetRange]) -> None:
        self._ends = {partition: offsets.end for partition, offsets in ranges.items()}

    def _end(self) -> None:
        """Write what was read, unless it may be another's to write; then it is read again."""
        self._works = False
        if self._role.is_held():
            self._flush()
            if self._buffer.n_clicks:
                text = "%d clicks are not logged, for broker or object store do not answer: they are read again"
                _log.warning(text, self._buffer.n_clicks)
        else:
            _log.warning("lost the role of trainer of the application %s: nothing more is logged", self._settings.app)
            self._store_is_away = False  # it is another's to ask
        self._consumer.stop()

    def _pass_over_lost(self, ranges: dict[int, OffsetRange]) -> None:
        topic = self._settings.clicks_topic
        lost = lost_clicks(self._log.ends, ranges)
        if lost and not self._skip_lost:
            raise lost_clicks_error(topic, lost)
        for partition, first, last in lost:
            _log.warning("going on without the clicks %d to %d of partition %d of %s", first, last, partition, topic)
            self._log.append(partition, first, last, [])
            self._metrics.lost.inc(last - first + 1)  # once, also where the object store was away before

    def _run_until_stopped(self) -> bool:
        """Tells whether a stop was what ended it; else the role was lost."""
        while not self._stop.is_set():
            if not self._role.is_held():
                return False
            self._read()
            now_s = time.monotonic()
            if now_s >= self._last_flush_s + self._settings.log_flush_s:
                self._flush()
            if now_s >= self._looked_s + _PARTITIONS_EVERY_S:
                self._look_for_partitions()
            self._look_at_training()
        return True

    def _look_at_training(self) -> None:
        """Take note of one that has ended, and begin one that is due."""
        ended = self._rounds.ended()
        if ended is not None and ended.result is Result.FAILED:
            _log.error(
                "the training failed: %s. Clicks are logged on, and the next one is made when it is due", ended.reason
            )
            self._mend_log()
        is_due = not self._rounds.is_running and self._schedule.is_due(self._log.n_clicks + self._buffer.n_clicks)
        if is_due and self._flush():
            self._start_training()

    def _mend_log(self) -> None:
        """A training fails where a file of the click log is damaged; one that is a copy can be had again."""
        try:
            for path in self._log.mend_copies():
                _log.warning("%s was damaged: it is fetched again, and the next training has it", path)
        except NextclickError as error:
            _log.error("the files of the click log were not all looked at: %s", error)

    def _run_once(self, ranges: dict[int, OffsetRange]) -> bool:
        """Tells whether everything was read, and a training begun if there are enough clicks."""
        while not self._consumer.has_read(ranges):
            if self._stop.is_set() or not self._role.is_held():
                return False
            self._read()
        self._write()
        if self._log.n_clicks < self._settings.min_clicks:
            needed = {"clicks": self._log.n_clicks, "min_clicks": self._settings.min_clicks}
            _log.info("not trained: too few clicks in the log", extra={"fields": needed})
        else:
            self._start_training()
        return True

    def _look_for_partitions(self) -> None:
        """Begin to read partitions that were added to the topic. A broker that does not answer is asked again later."""
        with contextlib.suppress(TemporaryError):
            topic = self._consumer.confirm_topic()
            n_new = topic.partitions - self._consumer.n_partitions
            if n_new > 0:
                ranges = self._consumer.offset_ranges(topic)
                self._write()  # from here on the log ends where the consumer is
                self._read_from(ranges, topic, from_end=False)
                _log.info("%d new partitions of %s: they are logged, too", n_new, topic.topic)
            else:
                self._look_at_ends(topic)
        self._looked_s = time.monotonic()  # also a look that took long leaves time to read

    def _look_at_ends(self, topic: TopicIdentity) -> None:
        """Note where the partitions end: the client by itself learns that only while it reads.

        Only a metric needs it, so that no answer, whatever it is, ends the trainer.
        """
        with contextlib.suppress(NextclickError):
            self._note_ends(self._consumer.offset_ranges(topic))

    def _read(self) -> None:
        """Take what comes. A buffer that is full is written first, however long that takes."""
        self._last_turn_s = time.monotonic()
        if self._buffer.n_clicks >= _MAX_BUFFERED_CLICKS and not self._flush():
            self._stop.wait(_POLL_S)
            return
        records = self._consumer.poll(_POLL_S)
        self._buffer.add(records)
        for record in records:
            if isinstance(record.clicks, tuple):
                self._usage.note_used(bool(record.clicks))
            else:
                self._note_dropped(record, record.clicks)
        self._say_usage()

    def _say_usage(self, *, is_last: bool = False) -> None:
        for line in self._usage.lines(time.monotonic(), is_last=is_last):
            _log.warning(line)

    def _note_dropped(self, record: ReadRecord, why: Rejected | Ignored) -> None:
        self._usage.note_dropped(why, record.key, record.partition, record.offset)
        counter = self._metrics.rejected if isinstance(why, Rejected) else self._metrics.ignored
        counter.labels(why.reason.value).inc()

    def _flush(self) -> bool:
        """Write what was read, unless broker or object store do not answer: then it waits for the next time."""
        try:
            self._write()
        except StoreAway as away:
            if not self._store_is_away:
                _log.warning("clicks wait to be logged, and none is lost: %s", away)
            self._store_is_away = True
            return False
        except TemporaryError:
            return False
        return True

    def _write(self) -> None:
        self._last_flush_s = time.monotonic()
        self._consumer.confirm_topic()
        before = self._log.n_clicks
        try:
            self._buffer.write_to(self._log)
            self._logged_s = time.monotonic()
            self._store_is_away = False
        finally:  # also what was written of it before the object store went away
            self._metrics.logged.inc(self._log.n_clicks - before)
        if not self._rounds.is_running:  # a training reads the files that were there when it began
            self._remove_old_clicks()

    def _remove_old_clicks(self) -> None:
        before_s = time.time() - self._settings.log_keep_days * _DAY_S
        removed = self._log.remove_old(before_s, self._settings.log_keep_bytes)
        if removed:
            _log.info("removed the oldest clicks from the log", extra={"fields": {"clicks": removed}})
            self._schedule.removed(removed)

    def _start_training(self) -> None:
        try:
            # Here, while no training reads them; afterwards files are only added.
            self._log.merge_small_files()
        except NextclickError as error:  # a damaged file, say: the training will say so, too, and clicks are logged on
            _log.error("small files of the click log were not merged: %s", error)
        self._schedule.begin(self._log.n_clicks)
        self._rounds.begin(self._log.files)

    def _health(self) -> tuple[bool, str]:
        silent_s = time.monotonic() - self._last_turn_s
        if silent_s > _SILENCE_S:
            return False, f"the loop has been silent for {silent_s:.0f} s"
        if not self._works:
            return True, "waiting for the broker, or for the trainer that works now to end"
        return True, "training" if self._rounds.is_running else "logging clicks"

    def _ready(self) -> tuple[bool, str]:
        healthy, text = self._health()
        if healthy and self._works and (nothing_fits := self._usage.nothing_fits()) is not None:
            return False, nothing_fits
        return healthy and self._works, text
