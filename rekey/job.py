"""Copies records of the source to the destination, each exactly once. What a transaction does, in this order:

1. Records are read that this instance holds the partitions of, from where the group has committed.
2. What becomes of each is decided (`outcomes`); copies and dead letters are written.
3. The offsets behind the records are added to the transaction, with the membership of this instance at that moment. The
   broker takes them from nobody whose partitions are another's by now: it was killed, slept or was cut off.
4. The transaction is committed: copies, dead letters and offsets appear together, to readers of committed records.

Partitions come and go only while records are read, so never within a transaction. Who gets a partition asks for its
committed offset, and the broker answers when no transaction is open that could change it. Whatever else happens between
1 and 4, nothing of it has appeared, and the records are read again from the committed offset.
"""

import logging
import time
from collections.abc import Iterator
from threading import Event, Thread

from confluent_kafka import Message

from nextclick.errors import TemporaryError
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.times import record_time_ms
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from rekey.metrics import RekeyMetrics
from rekey.outcomes import Judge, Outcome, Part, in_parts
from rekey.progress import Progress
from rekey.pulse import Pulse, Stopped
from rekey.source import Batch, Source
from rekey.topics import Route
from rekey.trial import Trial
from rekey.writer import Aborted, Writer
from tools.app_registry import AppRegistry
from tools.dead_letters import Origin, dead_letter
from tools.http_endpoint import start_http
from tools.presence import BrokerPresence
from tools.process_metrics import ProcessMetrics
from tools.records import headers_of
from tools.schema_registry.open_registry import open_registry

_log = logging.getLogger(__name__)

MOST_WRITTEN = 10_000  # records of one transaction, which must not last for a session timeout
AHEAD_MS = 50 * 60 * 1000  # a broker refuses by default what is an hour ahead of its clock
SILENCE_S = 60.0  # a loop that has not turned for so long is stuck
REPORT_S = 1.0  # between two looks at what cannot be used, and at the lag
ASK_S = 0.5  # between two questions whether all is copied, or whether the broker is back
REGISTRY_S = 5.0  # until a schema registry that did not answer is asked again
LEAVE_S = 2.5  # to leave the group


class RekeyJob:
    """One running instance."""

    def __init__(self, settings: Settings, route: Route, stop: Event) -> None:
        """Make an instance; it connects when it runs.

        Args:
            settings: of the job; those of the clicks' schema say what the records of the source are like.
            route: from where to where.
            stop: set when the job is to end.

        Raises:
            PermanentError: a setting, or the port, cannot be used.
        """
        self._settings = settings
        self._route = route
        self._stop = stop
        self._registry = open_registry(settings)
        self._judge = Judge(ClickSchema.of(settings), self._registry)
        collectors = AppRegistry(settings.app)
        self._metrics = RekeyMetrics(collectors)
        self._usage = Usage(route.source.topic, route.source.partitions)
        self._progress = Progress(route.destination.topic, route.keeps_ms if route.keeps_times else -1)
        self._pulse = Pulse(stop, BrokerPresence(settings.broker))
        self._trial = Trial(route.source)
        self._source: Source | None = None
        self._misses_schemas = False
        self._asked_s = self._reported_s = 0.0
        ProcessMetrics(collectors).follow(self._ready, lambda: not self._pulse.presence.is_away, {})
        self._http = start_http(settings.rekey_port, collectors, self._health, self._ready)

    def run(self, *, once: bool) -> None:
        """Copy until `stop` is set, or up to the ends that the source has now.

        Raises:
            NextclickError: it had to stop; with `once` also that it was stopped before the ends.
        """
        is_done = False
        try:
            writer = Writer(self._settings, self._pulse)
            source = self._source = Source(self._settings, self._route, self._pulse, self._metrics.lost.inc)
            ends = source.group.ranges(range(self._route.source.partitions)) if once else {}
            _log.info(
                "copying %s to %s, metrics at http://127.0.0.1:%d/metrics",
                self._route.source.topic,
                self._route.destination.topic,
                self._http.port,
                extra={"fields": {"group": f"{self._settings.app}-rekey", "transactional_id": writer.name}},
            )
            while not is_done and not self._stop.is_set():
                self._turn(source, writer)
                is_done = once and self._is_due() and source.has_copied(ends)
        except Stopped:
            pass
        self._report(is_last=True)
        if once and not is_done:
            raise TemporaryError(
                f"stopped before everything in {self._route.source.topic} was copied; run it again, it goes on"
            )

    def close(self) -> bool:
        """Leave the group, and stop answering.

        Returns:
            Whether all of it was done in time.
        """
        leaving = Thread(target=self._leave, name="leave", daemon=True)
        leaving.start()
        leaving.join(LEAVE_S)
        self._http.close()
        return not leaving.is_alive()

    def _leave(self) -> None:
        """Tell the broker; it is waited for in vain while it is away."""
        if self._source is not None:
            self._source.close()

    def _turn(self, source: Source, writer: Writer) -> None:
        self._pulse.beat()
        batch = source.read()
        if not self._has_schemas(batch):
            source.go_back(batch.moved)  # so that the group is answered while the registry is waited for
            self._pulse.wait(REGISTRY_S)
        elif not self._trial.is_over and (batch.records or self._trial.moved):
            self._try(source, writer, batch)
        elif batch.ends:
            self._copy(source, writer, batch)
        elif self._pulse.presence.is_away and self._is_due():
            source.look_for_broker()
        self._metrics.partitions.set(source.n_partitions)
        self._report()

    def _copy(self, source: Source, writer: Writer, batch: Batch) -> None:
        """Copy what was read, in as many transactions as it takes; what is not copied is read again."""
        try:
            for part in in_parts(self._judged(batch), batch.ends, MOST_WRITTEN):
                with writer.transaction():
                    self._write(writer, part)
                    membership = source.membership()
                    if membership is None:
                        raise Aborted("this instance is not in the group any more")
                    writer.commit_offsets(source.places(part.ends), membership)
                source.committed(part.ends)
                self._count(part)
        except Aborted as error:
            self._metrics.transactions.labels("aborted").inc()
            _log.info("a transaction came to nothing, its records are read again: %s", error)
            source.go_back(batch.moved)

    def _try(self, source: Source, writer: Writer, batch: Batch) -> None:
        """Judge records before the first is copied; those that were read for that alone are read again."""
        is_all = not self._trial.moved
        self._trial.note(batch.moved, self._judged(batch), time.monotonic())
        if self._trial.is_over and is_all:
            self._copy(source, writer, batch)
        elif self._trial.is_over:
            source.go_back(self._trial.moved)

    def _has_schemas(self, batch: Batch) -> bool:
        """Ask the schema registry for what it takes to decode records; tell whether all of it is there."""
        if self._registry is None or not batch.records:
            return True
        records = ((None, message.value(), headers_of(message)) for message in batch.records)
        missing = self._registry.missing_schemas_of(records, with_keys=False)
        try:
            self._registry.load(missing)
            self._misses_schemas = False
        except TemporaryError as error:
            _log.warning("waiting, nothing is lost: %s", error)
            self._misses_schemas = True
        return not self._misses_schemas

    def _judged(self, batch: Batch) -> Iterator[tuple[int, int, Message, Outcome]]:
        now_ms = int(time.time() * 1000)
        for message in batch.records:
            outcome = self._judge.outcome(message.value(), headers_of(message), message.timestamp()[1], now_ms)
            yield message.partition(), message.offset(), message, outcome

    def _write(self, writer: Writer, part: Part[Message]) -> None:
        now_ms = int(time.time() * 1000)
        for message, outcome in part.records:
            for key, value in outcome.copies:
                time_ms = record_time_ms(message.timestamp()[1], now_ms)
                time_ms = time_ms if time_ms < now_ms + AHEAD_MS else now_ms
                writer.write(self._route.destination.topic, key, value, headers_of(message), time_ms)
            origin = Origin(message.topic(), message.partition(), message.offset(), message.timestamp()[1])
            for why, value in outcome.rejected:
                writer.write(self._route.rejected, *dead_letter(why, message.key(), value, origin))

    def _count(self, part: Part[Message]) -> None:
        """Count what is committed."""
        metrics, usage, now_ms = self._metrics, self._usage, int(time.time() * 1000)
        metrics.transactions.labels("committed").inc()
        metrics.records.inc(len(part.records))
        for message, outcome in part.records:
            metrics.copies.inc(len(outcome.copies))
            metrics.divided.inc(len(outcome.copies) > 1)
            for why, _ in outcome.rejected:
                metrics.rejected.labels(why.reason.value).inc()
                usage.note_dropped(why, message.key(), message.partition(), message.offset())
            for ignored in outcome.ignored:
                metrics.ignored.labels(ignored.reason.value).inc()
                usage.note_dropped(ignored, message.key(), message.partition(), message.offset())
            if outcome.copies:
                usage.note_used()
                self._progress.note_time(record_time_ms(message.timestamp()[1], now_ms))
        self._progress.add(len(part.records))

    def _report(self, *, is_last: bool = False) -> None:
        """Say what is due: what cannot be used, how far the job is."""
        now_s = time.monotonic()
        if now_s < self._reported_s + REPORT_S and not is_last:
            return
        self._reported_s = now_s
        lag = self._source.lag() if self._source is not None and not is_last else 0
        self._metrics.lag.set(lag)
        for line in (*self._usage.lines(now_s), *self._progress.warnings(time.time())):
            _log.warning(line)
        if (fields := self._progress.due(now_s, lag, is_last=is_last)) is not None:
            _log.info("copied" if is_last else "copying", extra={"fields": fields})

    def _is_due(self) -> bool:
        """Tell whether something that is asked for now and then is to be asked for now."""
        now_s = time.monotonic()
        if now_s < self._asked_s + ASK_S:
            return False
        self._asked_s = now_s
        return True

    def _health(self) -> tuple[bool, str]:
        if self._pulse.silent_s > SILENCE_S:
            return False, f"the loop has been silent for {self._pulse.silent_s:.0f} s"
        return True, "running"

    def _ready(self) -> tuple[bool, str]:
        healthy, text = self._health()
        if not healthy:
            return False, text
        if self._pulse.presence.is_away:
            return False, "waiting for the broker"
        if self._source is None or not self._source.has_joined:
            return False, "joining the group"
        if self._misses_schemas:
            return False, "waiting for the schema registry"
        if (nothing_fits := self._usage.nothing_fits()) is not None:
            return False, nothing_fits
        return True, f"copying {self._source.n_partitions} of {self._route.source.partitions} partitions"
