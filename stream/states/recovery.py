"""Brings the user states back after partitions were assigned, and keeps the standbys up to date. Takes the place of
Faust's recovery, which logs an error and goes on without the record, and waits for ever behind a transaction marker.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from mode import Service

from nextclick.errors import TemporaryError
from nextclick.settings import Settings
from stream.faust_adapter.producer import DroppedError
from stream.faust_adapter.store import DamagedError
from stream.faust_adapter.table import StateTable
from stream.metrics import WorkerMetrics
from stream.protocol.publisher import Durable
from stream.states.changelog import ChangelogReader, Restored, StalledError
from stream.states.changelog_offsets import Interrupted

_log = logging.getLogger(__name__)


class StateTables(TableManager):
    """Faust's manager of tables, without its wait of a second at every start."""

    logger = logging.getLogger("faust")

    async def on_start(self) -> None:
        await self._update_channels()
        await self.recovery.start()


class StateRecovery(Recovery):
    """Runs once after every assignment; clicks flow again when it is done.

    Attributes:
        left: changelog records that the running recovery still has to read.
    """

    logger = logging.getLogger("faust")

    def __init__(
        self,
        app: Any,
        settings: Settings,
        table: StateTable,
        durable: Durable,
        metrics: WorkerMetrics,
        on_failure: Callable[[Exception], None],
    ) -> None:
        super().__init__(app, app.tables, beacon=app.tables.beacon, loop=app.tables.loop)
        self._settings = settings
        self._table = table
        self._durable = durable
        self._metrics = metrics
        self._on_failure = on_failure
        self._reader = ChangelogReader(settings, table, self._progress)
        self._executor = ThreadPoolExecutor(1, "changelog")
        self._reading: asyncio.Future[Any] | None = None
        self._stop_reading = threading.Event()
        self._closed = False
        self.left = 0

    @property
    def is_reading(self) -> bool:
        """Whether the changelog is being read: by a recovery, or for standbys."""
        return self._reading is not None and not self._reading.done()

    async def close(self) -> None:
        """Read nothing from now on."""
        self._closed = True
        await self.stop_reading()

    async def stop_reading(self) -> None:
        """Return when nothing reads the changelog any more: only then may a local store be closed."""
        self._stop_reading.set()
        if self._reading is not None:
            await asyncio.wait([self._reading])
            self._reading.exception()  # seen: asyncio need not complain

    @Service.task
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                return
            self.signal_recovery_start.clear()
            try:
                await self._recover()
            except (RebalanceAgain, Interrupted, DroppedError, IllegalStateError):
                continue  # the next assignment is on its way
            except ServiceStopped:
                return
            except Exception as error:
                self._on_failure(error)

    @Service.task
    async def _slurp_changelogs(self) -> None:
        """Do nothing: Faust's loop over the changelog has no work here."""

    @Service.task
    async def _publish_stats(self) -> None:
        """Do nothing: the reader tells its progress."""

    async def _recover(self) -> None:
        generation, epoch = self._generation_id, self._durable.epoch
        self._set_recovery_started()
        await self.stop_reading()
        started_s = time.monotonic()
        restored = await self._restore(sorted(tp.partition for tp in self.active_tps))
        self._check(epoch)
        self._table.own({partition: one.complete_to for partition, one in restored.items()})
        await self._write_again(restored, epoch)
        self._check(epoch)
        self._metrics.recovery.observe(time.monotonic() - started_s)
        if standbys := sorted(tp.partition for tp in self.standby_tps):
            self._run_job(self._reader.follow, standbys).add_done_callback(self._standby_ended)
        await self._wait(self.on_recovery_completed(generation))

    def _check(self, epoch: int) -> None:
        """Stop here if the partitions were taken away meanwhile: Faust's waits hear only of the next assignment."""
        if epoch != self._durable.epoch:
            raise Interrupted

    async def _restore(self, partitions: Collection[int]) -> Mapping[int, Restored]:
        """Restore partitions; one that fails for a reason in its local store is built again, once."""
        built_again: set[int] = set()
        while True:
            try:
                return await self._read_to_the_end(partitions)
            except (DamagedError, StalledError) as error:
                if error.partition in built_again:
                    raise TemporaryError(
                        f"user states could not be restored: {error}; start the worker again"
                    ) from error
                _log.warning("local states are built again from the changelog: %s", error)
                self._table.data.remove(error.partition)
                built_again.add(error.partition)

    async def _read_to_the_end(self, partitions: Collection[int]) -> Mapping[int, Restored]:
        reading = self._run_job(self._reader.restore, partitions)
        try:
            await self._wait(asyncio.wait([reading]))
        finally:
            await self.stop_reading()
        restored: Mapping[int, Restored] = reading.result()
        return restored

    async def _write_again(self, restored: Mapping[int, Restored], epoch: int) -> None:
        """Let the changelog end with every user's newest state, so that compaction keeps that one."""
        for partition, one in restored.items():
            if one.outdated:
                keys = list(one.outdated)
                states = dict(zip(keys, self._table.stored(partition, keys), strict=True))
                await self._durable.write_again(partition, {key: data for key, data in states.items() if data}, epoch)
                _log.warning(
                    "an evicted worker had written late: newer states are written again",
                    extra={"fields": {"partition": partition, "states": len(keys)}},
                )

    def _run_job(self, job: Callable[..., Any], partitions: Collection[int]) -> "asyncio.Future[Any]":
        if self._closed:
            raise Interrupted
        self._stop_reading = threading.Event()
        self._reading = asyncio.get_running_loop().run_in_executor(self._executor, job, partitions, self._stop_reading)
        return self._reading

    def _standby_ended(self, following: "asyncio.Future[Any]") -> None:
        if (error := following.exception()) is not None:
            self._on_failure(error if isinstance(error, Exception) else RuntimeError(repr(error)))

    def _progress(self, left: int) -> None:
        self.left = left
        self._metrics.recovery_left.set(left)
