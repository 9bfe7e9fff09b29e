"""Runs one worker: from the checks at its start to a clean end, or to an exit status that says it must be restarted."""

import asyncio
import gc
import logging
import os
import signal
import sys
import time
from typing import NoReturn

import uvloop
from prometheus_client import CollectorRegistry

from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.popularity import Popularity
from nextclick.settings import Settings
from stream.faust_adapter.app import StreamApp, build_app
from stream.faust_adapter.clients import is_unreachable, refused_by_group
from stream.faust_adapter.hooks import check_hooks
from stream.faust_adapter.store import DamagedError
from stream.metrics import WorkerMetrics
from stream.models import ServedBundle, follow_models
from stream.protocol.lease import now_s
from stream.protocol.watchdog import Watchdog
from stream.states.data_dir import DataDir
from stream.topics.topics import Topics
from tools.http_endpoint import start_http

_log = logging.getLogger(__name__)

STOP_S = 4.0  # a stop that takes longer is cut short: everything acknowledged is safe by then
COMPLAINT_S = 10.0  # between two lines about a broker that is away: it logs hundreds a second
# Chunks make many small tuples that live for milliseconds: with Python's threshold of 700 the collector would look at
# all of them over and over.
GC_THRESHOLD = 100_000
# What the libraries log as errors and is none.
_NOISE = (
    "Crashed reason=",  # each of Faust's services, with a stack trace, when one fails: the worker says it once
    "Group Coordinator Request failed",  # a new cluster makes its topic of offsets: it is asked again at once
)


def run_worker(settings: Settings) -> NoReturn:
    """Run a worker until SIGTERM or SIGINT, and end the process.

    Raises:
        NextclickError: it cannot start.
    """
    check_hooks()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_News())
    data_dir = DataDir(settings.data_dir, settings.app)
    topics = Topics(settings).check()
    data_dir.claim_changelog(settings.changelog_topic, topics.changelog_id)
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    worker = _Worker(settings, topics.partitions, data_dir.instance_id())
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(worker.run())


class _News(logging.Filter):
    """Lets through what a reader needs: no noise, and of the client's complaints about a broker one in a while."""

    def __init__(self) -> None:
        super().__init__()
        self._next_complaint_s = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if any(noise in str(record.msg) for noise in _NOISE):
            return False
        if not record.name.startswith("aiokafka"):
            return True
        if time.monotonic() < self._next_complaint_s:
            return False
        self._next_complaint_s = time.monotonic() + COMPLAINT_S
        return True


class _Worker:
    def __init__(self, settings: Settings, n_partitions: int, instance_id: str) -> None:
        self._settings = settings
        self._n_partitions = n_partitions
        self._instance_id = instance_id
        self._registry = CollectorRegistry()
        self._metrics = WorkerMetrics(self._registry)
        self._popularity = Popularity(settings.popularity_half_life_s)
        self._served = ServedBundle(settings, self._metrics, self._popularity.seed)
        self._failure: Exception | None = None
        self._app: StreamApp | None = None

    async def run(self) -> NoReturn:
        self._over = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._over.set)
        self._served.start_with()
        http = start_http(self._settings.worker_port, self._registry, self._health, self._ready)
        caught_up = asyncio.Event()
        follower = asyncio.create_task(follow_models(self._settings, self._served, caught_up))
        follower.add_done_callback(self._follower_ended)
        app = self._app = build_app(
            self._settings,
            self._n_partitions,
            self._instance_id,
            self._metrics,
            self._served,
            self._popularity,
            caught_up,
            self._fail,
        )
        starting = asyncio.create_task(self._start(app))
        crashed = asyncio.create_task(self._watch_crash(app))
        watchdog = Watchdog(app, self._settings.clicks_topic, self._settings.stall_s, self._fail)
        watching = asyncio.create_task(watchdog.watch())
        _log.info(
            "worker started", extra={"fields": {"broker": self._settings.broker, "port": http.port, "app": app.conf.id}}
        )
        await self._over.wait()
        stopped = await self._stop(app, [starting, crashed, follower, watching])
        http.close()
        explained = self._explained(self._failure) if self._failure is not None else None
        if explained is None:
            _log.info("worker stopped", extra={"fields": {"in_time": stopped}})
        _exit_at_once(explained)

    async def _start(self, app: StreamApp) -> None:
        try:
            app.finalize()
            await app.start()
        except Exception as error:
            self._fail(error)

    async def _watch_crash(self, app: StreamApp) -> None:
        await app.wait_until_stopped()
        self._fail(app.crash_reason or PermanentError("the stream ended by itself; start the worker again"))

    async def _stop(self, app: StreamApp, tasks: "list[asyncio.Task[None]]") -> bool:
        """Finish what was published, commit it, leave the group; bounded in time.

        Returns:
            Whether all of it was done in time.
        """
        for task in tasks:
            task.cancel()
        ending = asyncio.create_task(self._end(app))
        # Not `wait_for`: a library that swallows the cancellation would hold it up.
        await asyncio.wait([ending], timeout=STOP_S)
        return ending.done() and ending.exception() is None

    async def _end(self, app: StreamApp) -> None:
        await app.recovery.close()
        if self._failure is None and app.started:
            app.consumer.leave_group_on_stop()
            app.consumer.stop_flow()
            if app.lease.is_held(now_s()):
                await app.durable.drain()
                await app.consumer.commit_all()
            else:
                app.durable.abandon()
        await app.stop()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None and not self._over.is_set():
            self._failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
            self._over.set()

    def _follower_ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail(error)

    def _health(self) -> tuple[bool, str]:
        if self._failure is not None:
            return False, f"stopping: {type(self._failure).__name__}"
        return True, "running"

    def _ready(self) -> tuple[bool, str]:
        healthy, text = self._health()
        if not healthy:
            return False, text
        app = self._app
        if app is None or not app.started or app.rebalancing or app.in_recovery:
            return False, f"taking partitions and restoring states: {app.recovery.left if app else 0} records left"
        if not app.lease.is_held(now_s()):
            return False, "waiting for the broker"
        model = self._served.current
        return True, f"serving {f'bundle {model.bundle_id}' if model is not None else 'popularity: no bundle yet'}"

    def _explained(self, failure: Exception) -> NextclickError:
        """Turn what stopped the worker into one line for the user; what nobody expected is logged with its trace."""
        if isinstance(failure, NextclickError):
            return failure
        if is_unreachable(failure):
            return TemporaryError(
                f"expected a Kafka broker at {self._settings.broker}, found none that answers ({failure}); "
                "nothing is lost, start the worker again when there is one"
            )
        if (refusal := refused_by_group(failure)) is not None:
            return PermanentError(f"the broker does not take the worker into the group {self._settings.app}: {refusal}")
        if isinstance(failure, DamagedError):
            return TemporaryError(f"{failure}; start the worker again, it builds the local states anew")
        if isinstance(failure, OSError):
            return PermanentError(
                f"expected to write to data_dir {self._settings.data_dir}, found: {failure.strerror or failure}; "
                "free some space and start the worker again, no acknowledged click is lost"
            )
        _log.critical("worker failed", exc_info=failure)
        return TemporaryError(
            f"the worker stopped at {type(failure).__name__}: {failure}; nothing unfinished is acknowledged, "
            "start it again"
        )


def _exit_at_once(error: NextclickError | None) -> NoReturn:
    """End the process without a wait for the clients' threads, which may be waiting for a broker themselves.

    Everything that was acknowledged is safe, and the lock on the data folder goes with the process.
    """
    if error is not None:
        sys.stderr.write(f"nextclick: {error}\n")
    sys.stderr.flush()
    os._exit(0 if error is None else 1)
