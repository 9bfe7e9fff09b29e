"""Runs the trainer: clicks go from the topic to the click log without pause; a training runs beside it in a thread."""

import logging
import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event

from prometheus_client import CollectorRegistry

from nextclick.clicks import Rejected
from nextclick.http_endpoint import start_http
from nextclick.settings import Settings
from training.click_buffer import ClickBuffer
from training.click_consumer import ClickConsumer, ReadRecord, Span
from training.click_log import ClickLog, LogFile
from training.log_lock import lock_of
from training.metrics import TrainerMetrics
from training.schedule import Progress, training_is_due
from training.start_position import start_positions
from training.watch import Watch

_POLL_S = 0.2  # so a stop is seen soon
_MAX_BUFFERED_CLICKS = 100_000  # while a backlog is read: bounds the memory
_SILENCE_S = 60.0  # a loop that has not turned for so long is stuck
_log = logging.getLogger(__name__)


def run_trainer(settings: Settings, *, once: bool) -> None:
    """Log clicks and train until SIGTERM or SIGINT.

    Args:
        settings: of the trainer.
        once: read the topic to its present end, train once if there are enough clicks, and return.

    Raises:
        NextclickError: it cannot start, or had to stop. Every click that was read is in the log or is read again.
    """
    stop = Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with lock_of(settings.log_dir, stop) as held:
        if held:
            trainer = Trainer(settings, stop)
            try:
                trainer.run(once=once)
            finally:
                trainer.close()


class Trainer:
    """One running trainer. The caller holds the lock of the click log."""

    def __init__(self, settings: Settings, stop: Event) -> None:
        """Open the click log and connect.

        Raises:
            NextclickError: it cannot start.
        """
        self._settings = settings
        self._stop = stop
        self._registry = CollectorRegistry()
        self._metrics = TrainerMetrics(self._registry)
        self._log = ClickLog(settings.log_dir)
        self._consumer = ClickConsumer(settings)
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="training")
        self._running: Future[None] | None = None
        self._last_turn_s = self._last_flush_s = self._last_training_s = time.monotonic()
        self._clicks_at_last_training = 0
        self._http = start_http(settings.trainer_port, self._registry, self._health, self._health)

    def run(self, *, once: bool) -> None:
        """Read, log and train until `stop` is set, or once."""
        spans = self._consumer.spans()
        positions = start_positions(self._log, spans, self._settings.clicks_topic, self._settings.start)
        self._remember_start(positions)
        self._buffer = ClickBuffer(positions)
        self._consumer.start(positions)
        _log.info(
            "logging clicks of %s to %s, metrics at http://127.0.0.1:%d/metrics",
            self._settings.clicks_topic,
            self._settings.log_dir,
            self._http.port,
            extra={"fields": {"clicks": self._log.n_clicks}},
        )
        try:
            if once:
                self._run_once(spans)
            else:
                self._run_until_stopped()
        finally:
            self._flush()
        if once and self._running is not None:
            self._running.result()

    def close(self) -> None:
        """End the training, disconnect and stop answering."""
        self._stop.set()
        self._threads.shutdown()
        self._consumer.close()
        self._http.close()

    def _run_until_stopped(self) -> None:
        while not self._stop.is_set():
            self._take(self._consumer.poll(_POLL_S))
            now_s = time.monotonic()
            if now_s >= self._last_flush_s + self._settings.log_flush_s:
                self._flush()
            if self._running is not None and self._running.done():
                self._running.result()  # raises what the training raised
                self._running = None
            if self._running is None and training_is_due(self._progress(now_s), self._settings):
                self._flush()
                self._start_training()

    def _run_once(self, spans: dict[int, Span]) -> None:
        while not self._stop.is_set() and not self._consumer.has_read(spans):
            self._take(self._consumer.poll(_POLL_S))
        self._flush()
        if self._log.n_clicks < self._settings.min_clicks:
            needed = {"clicks": self._log.n_clicks, "min_clicks": self._settings.min_clicks}
            _log.info("not trained: too few clicks in the log", extra={"fields": needed})
        elif not self._stop.is_set():
            self._start_training()

    def _take(self, records: list[ReadRecord]) -> None:
        self._last_turn_s = time.monotonic()
        self._buffer.add(records)
        for record in records:
            if isinstance(record.click, Rejected):
                self._metrics.rejected.labels(record.click.reason).inc()
        if self._buffer.n_clicks >= _MAX_BUFFERED_CLICKS:
            self._flush()

    def _flush(self) -> None:
        before = self._log.n_clicks
        self._buffer.write_to(self._log)
        self._last_flush_s = time.monotonic()
        self._metrics.logged.inc(self._log.n_clicks - before)
        self._metrics.log_clicks.set(self._log.n_clicks)
        self._metrics.lag.set(self._consumer.lag())

    def _progress(self, now_s: float) -> Progress:
        clicks = self._log.n_clicks + self._buffer.n_clicks
        return Progress(clicks, self._clicks_at_last_training, now_s - self._last_training_s)

    def _start_training(self) -> None:
        # Files are merged here, while no training reads them; afterwards files are only added.
        self._log.merge_small_files()
        self._clicks_at_last_training = self._log.n_clicks
        self._last_training_s = time.monotonic()
        self._running = self._threads.submit(self._train, self._log.files)

    def _train(self, files: list[LogFile]) -> None:
        # Torch takes seconds to load: the first training does it, while the loop goes on reading.
        from training.training_job import train_and_publish

        train_and_publish(self._settings, self._log, files, self._metrics, Watch(self._stop))

    def _remember_start(self, positions: dict[int, int]) -> None:
        """Note in the log what a new log leaves out, so that the next start does not leave out more."""
        for partition, position in positions.items():
            if self._settings.start == "latest" and partition not in self._log.ends and position > 0:
                self._log.append(partition, 0, position - 1, [])

    def _health(self) -> tuple[bool, str]:
        silent_s = time.monotonic() - self._last_turn_s
        if silent_s > _SILENCE_S:
            return False, f"the loop has been silent for {silent_s:.0f} s"
        return True, "training" if self._running is not None else "logging clicks"
