"""Runs the trainer: clicks go from the topic to the click log without pause; a training runs beside it in a thread.

It works while it holds the role of its application's trainer, and waits while it does not.
"""

import logging
import os
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event, Thread

from prometheus_client import CollectorRegistry

from nextclick.clicks import Rejected
from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from tools.http_endpoint import start_http
from training.learning.cancellation import Cancellation
from training.service.broker_presence import BrokerPresence
from training.service.click_consumer import ClickConsumer
from training.service.click_log import ClickBuffer, ClickLog
from training.service.log_files import LogFile
from training.service.log_owner import LogOwner, lock_of, refuse_other_owner
from training.service.metrics import TrainerMetrics
from training.service.schedule import Progress, training_is_due
from training.service.start_position import Span, check_same_topic, lost_clicks, lost_clicks_error, start_positions
from training.service.trainer_role import TrainerRole

_POLL_S = 0.2  # so a stop is seen soon
_MAX_BUFFERED_CLICKS = 100_000  # while a backlog is read: bounds the memory
_SILENCE_S = 60.0  # a loop that has not turned for so long is stuck
_STOP_PATIENCE_S = 2.5  # for a training that was asked to end: between two looks it may read or write a large file
_LEAVE_S = 0.5  # at least, to leave the group
_DAY_S = 24 * 3600
_log = logging.getLogger(__name__)


def run_trainer(settings: Settings, *, once: bool, skip_lost: bool) -> None:
    """Log clicks and train until SIGTERM or SIGINT.

    Args:
        settings: of the trainer.
        once: read the topic to its present end, train once if there are enough clicks, and return.
        skip_lost: go on past clicks that the topic's retention removed before they were logged.

    Raises:
        NextclickError: it cannot start, or had to stop. Every click that was read is in the log or is read again.
    """
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with lock_of(settings.log_dir, settings.app, stop) as held:
        if held:
            trainer = Trainer(settings, stop, skip_lost=skip_lost)
            try:
                trainer.run(once=once)
            finally:
                has_ended = trainer.close()
            if not has_ended:
                _log.warning("a training, or leaving the group, takes more than %g s: cut off", _STOP_PATIENCE_S)
                logging.shutdown()
                os._exit(0)  # a kill at any moment does no harm


class Trainer:
    """One running trainer. The caller holds the lock of the click log."""

    def __init__(self, settings: Settings, stop: Event, *, skip_lost: bool) -> None:
        """Open the click log and connect.

        Raises:
            NextclickError: it cannot start.
        """
        self._settings = settings
        self._stop = stop
        self._skip_lost = skip_lost
        self._registry = CollectorRegistry()
        self._metrics = TrainerMetrics(self._registry)
        self._presence = BrokerPresence(settings.broker)
        self._log = ClickLog(settings.log_dir)
        self._consumer = ClickConsumer(settings, self._presence)
        self._role = TrainerRole(settings, self._presence)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="training")
        self._running: Future[None] | None = None
        self._last_turn_s = self._last_flush_s = self._last_training_s = time.monotonic()
        self._clicks_at_last_training = 0
        self._works = False
        self._http = start_http(settings.trainer_port, self._registry, self._health, self._ready)

    def run(self, *, once: bool) -> None:
        """Read, log and train until `stop` is set, or once."""
        is_done = False
        while not is_done and self._wait_for_role():
            spans = self._begin()
            try:
                is_done = self._run_once(spans) if once else self._run_until_stopped()
            finally:
                self._end()
        if once and self._running is not None:
            while not self._running.done() and not self._stop.is_set():
                self._last_turn_s = time.monotonic()
                self._role.is_held()
                wait([self._running], _POLL_S)
            if self._running.done():
                self._running.result()

    def close(self) -> bool:
        """Ask the training to end, leave the group, and stop answering.

        Returns:
            Whether all of it was done in time.
        """
        end_s = time.monotonic() + _STOP_PATIENCE_S
        self._stop.set()
        has_ended = self._running is None or not wait([self._running], _STOP_PATIENCE_S).not_done
        # Only now may another trainer begin: an announcement that was on its way has been made or given up.
        leaving = Thread(target=self._leave, name="leave", daemon=True)
        leaving.start()
        leaving.join(max(_LEAVE_S, end_s - time.monotonic()))
        self._http.close()
        return has_ended and not leaving.is_alive()

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

    def _begin(self) -> dict[int, Span]:
        """Go on where the log ends. It is opened anew: while the role was another's, so may have been the log."""
        self._log = ClickLog(self._settings.log_dir)
        owner = LogOwner(self._settings.app, self._consumer.identity())
        refuse_other_owner(self._log.folder, self._log.owner, owner)
        spans = self._consumer.spans()
        check_same_topic(self._settings.clicks_topic, self._log.ends, spans)
        self._log.claim(owner)
        self._pass_over_lost(spans)
        positions = start_positions(self._log.ends, spans, self._settings.start)
        self._remember_start(positions)
        self._buffer = ClickBuffer(positions)
        self._consumer.start(positions, owner.clicks)
        self._works = True
        _log.info(
            "logging clicks of %s to %s, metrics at http://127.0.0.1:%d/metrics",
            self._settings.clicks_topic,
            self._settings.log_dir,
            self._http.port,
            extra={"fields": {"clicks": self._log.n_clicks}},
        )
        return spans

    def _end(self) -> None:
        """Write what was read, unless it may be another's to write; then it is read again."""
        self._works = False
        if self._role.is_held():
            self._flush()
            if self._buffer.n_clicks:
                text = "%d clicks are not logged, for the broker does not confirm their topic: they are read again"
                _log.warning(text, self._buffer.n_clicks)
        else:
            _log.warning("lost the role of trainer of the application %s: nothing more is logged", self._settings.app)
        self._consumer.stop()

    def _pass_over_lost(self, spans: dict[int, Span]) -> None:
        topic = self._settings.clicks_topic
        lost = lost_clicks(self._log.ends, spans)
        if lost and not self._skip_lost:
            raise lost_clicks_error(topic, lost)
        for partition, first, last in lost:
            _log.warning("going on without the clicks %d to %d of partition %d of %s", first, last, partition, topic)
            self._log.append(partition, first, last, [])

    def _run_until_stopped(self) -> bool:
        """Tells whether a stop was what ended it; else the role was lost."""
        while not self._stop.is_set():
            if not self._role.is_held():
                return False
            self._read()
            now_s = time.monotonic()
            if now_s >= self._last_flush_s + self._settings.log_flush_s:
                self._flush()
            if self._running is not None and self._running.done():
                self._running.result()  # raises what the training raised
                self._running = None
            if self._running is None and training_is_due(self._progress(now_s), self._settings):
                self._flush()
                self._start_training()
        return True

    def _run_once(self, spans: dict[int, Span]) -> bool:
        while not self._stop.is_set() and not self._consumer.has_read(spans):
            if not self._role.is_held():
                return False
            self._read()
        self._write()
        if self._log.n_clicks < self._settings.min_clicks:
            needed = {"clicks": self._log.n_clicks, "min_clicks": self._settings.min_clicks}
            _log.info("not trained: too few clicks in the log", extra={"fields": needed})
        elif not self._stop.is_set():
            self._start_training()
        return True

    def _read(self) -> None:
        """Take what comes. A buffer that is full is written first, however long that takes."""
        self._last_turn_s = time.monotonic()
        if self._buffer.n_clicks >= _MAX_BUFFERED_CLICKS and not self._flush():
            self._stop.wait(_POLL_S)
            return
        records = self._consumer.poll(_POLL_S)
        self._buffer.add(records)
        for record in records:
            if isinstance(record.click, Rejected):
                self._metrics.rejected.labels(record.click.reason).inc()

    def _flush(self) -> bool:
        """Write what was read, unless the broker does not answer: then it waits for the next time."""
        try:
            self._write()
        except TemporaryError:
            return False
        return True

    def _write(self) -> None:
        self._last_flush_s = time.monotonic()
        self._consumer.confirm_topic()
        before = self._log.n_clicks
        self._buffer.write_to(self._log)
        self._metrics.logged.inc(self._log.n_clicks - before)
        if self._running is None:  # a training reads the files that were there when it began
            self._remove_old_clicks()
        self._metrics.log_clicks.set(self._log.n_clicks)
        self._metrics.lag.set(self._consumer.lag())

    def _remove_old_clicks(self) -> None:
        before_s = time.time() - self._settings.log_keep_days * _DAY_S
        removed = self._log.remove_old(before_s, self._settings.log_keep_bytes)
        if removed:
            _log.info("removed the oldest clicks from the log", extra={"fields": {"clicks": removed}})
        self._clicks_at_last_training = max(0, self._clicks_at_last_training - removed)

    def _progress(self, now_s: float) -> Progress:
        clicks = self._log.n_clicks + self._buffer.n_clicks
        return Progress(clicks, self._clicks_at_last_training, now_s - self._last_training_s)

    def _start_training(self) -> None:
        # Files are merged here, while no training reads them; afterwards files are only added.
        self._log.merge_small_files()
        self._clicks_at_last_training = self._log.n_clicks
        self._last_training_s = time.monotonic()
        self._running = self._threads.submit(self._train, self._log, self._log.files)

    def _train(self, log: ClickLog, files: list[LogFile]) -> None:
        # Torch takes seconds to load: the first training does it, while the loop goes on reading.
        from training.service.training_job import train_and_publish

        train_and_publish(self._settings, log, files, self._metrics, self._role, Cancellation(self._stop))

    def _remember_start(self, positions: dict[int, int]) -> None:
        """Note in the log what a new log leaves out, so that the next start does not leave out more."""
        for partition, position in positions.items():
            if self._settings.start == "latest" and partition not in self._log.ends and position > 0:
                self._log.append(partition, 0, position - 1, [])

    def _health(self) -> tuple[bool, str]:
        silent_s = time.monotonic() - self._last_turn_s
        if silent_s > _SILENCE_S:
            return False, f"the loop has been silent for {silent_s:.0f} s"
        if not self._works:
            return True, "waiting for the broker, or for the trainer that works now to end"
        return True, "training" if self._running is not None else "logging clicks"

    def _ready(self) -> tuple[bool, str]:
        healthy, text = self._health()
        return healthy and self._works, text
