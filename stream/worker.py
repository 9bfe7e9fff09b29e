"""Runs one worker: from the checks at its start to a clean end, or to an exit status that says it must be restarted."""

import asyncio
import contextlib
import faulthandler
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NoReturn

import uvloop

from nextclick.errors import NextclickError, PermanentError, TemporaryError
from nextclick.popularity import Popularity
from nextclick.rules import popular_rules_of
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from nextclick.updates import UpdateFormat
from stream.agent import Serving
from stream.faust_adapter.announcements import follow_models
from stream.faust_adapter.app import StreamApp, Topic, WorkerParts, build_worker
from stream.faust_adapter.clients import is_unreachable, refused_by_group
from stream.faust_adapter.clock import now_s
from stream.faust_adapter.hooks import check_codecs, check_hooks
from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Phase
from stream.protocol.port import DamagedStore
from stream.served_bundle import ServedBundle
from stream.shop_view import ShopView
from stream.standing import measure_standing
from stream.states.data_dir import DataDir
from stream.tally_writer import TallyWriter
from stream.topics.identity import refuse_other_topic
from stream.topics.topics import Topics
from tools.app_registry import AppRegistry
from tools.http_endpoint import start_http
from tools.items.follower import ItemFollower
from tools.kafka import TopicIdentity
from tools.process_metrics import ProcessMetrics
from tools.schema_registry.open_registry import open_registry
from tools.update_formats import open_update_format

_log = logging.getLogger(__name__)

STOP_S = 4.0  # a stop that takes longer is cut short: everything acknowledged is safe by then
ITEMS_ANSWER_S = 30.0  # beyond `stall_s`: the thread that follows items waits for several answers in a row at most
BLOCKED_S = 5.0  # beyond `stall_s`: a blocked event loop hears of nothing, not even of the watchdog
REPORT_S = 1.0  # between two looks at what cannot be used
COMPLAINT_S = 10.0  # between two lines about a broker that is away: it logs hundreds a second
# Chunks make many small tuples that live for milliseconds: with Python's threshold of 700 the collector would look at
# all of them over and over.
GC_THRESHOLD = 100_000
# A thread that wants to run asks the one that runs to stop after so long; Python's 5 ms would be the latency of a click
# whose chunk is ready while the next one is computed.
SWITCH_S = 0.0005
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
    faulthandler.enable()  # should a library crash the process, its log says where
    check_hooks()
    check_codecs()
    for handler in logging.getLogger().handlers:
        handler.addFilter(_News())
    data_dir = DataDir(settings.data_dir, settings.app)
    topics = Topics(settings).check()
    data_dir.claim_changelog(settings.changelog_topic, topics.changelog_id)
    output = open_update_format(settings)
    gc.set_threshold(GC_THRESHOLD, 20, 50)
    sys.setswitchinterval(SWITCH_S)
    worker = _Worker(settings, topics.clicks, settings.instance_id or data_dir.instance_id(), output)
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
    def __init__(self, settings: Settings, identity: TopicIdentity, instance_id: str, output: UpdateFormat) -> None:
        self._settings = settings
        self._identity = identity
        self._instance_id = instance_id
        self._registry = AppRegistry(settings.app)
        self._metrics = WorkerMetrics(self._registry)
        self._metrics.phase.labels("starting").set(1)
        self._metrics.topic_partitions.set(identity.partitions)
        process = ProcessMetrics(self._registry)
        process.follow(
            self._ready, self._hears_broker, {"data_dir": settings.data_dir, "served_dir": settings.served_dir}
        )
        self._output = output
        self._shop = ShopView(self._metrics)
        self._popularity = Popularity(
            settings.popularity_half_life_s, output.encode_items, self._shop.stock, popular_rules_of(settings)
        )
        seed, prepare = self._popularity.seed, self._shop.stock.prepare
        self._served = ServedBundle(settings, self._metrics, seed, output, prepare)
        self._usage = Usage(settings.clicks_topic, identity.partitions)
        self._failure: Exception | None = None
        self._parts: WorkerParts | None = None

    async def run(self) -> NoReturn:
        self._over = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._over.set)
        http = start_http(self._settings.worker_port, self._registry, self._health, self._ready)
        if not await self._load_bundle():
            http.close()
            _log.info("worker stopped before it served anything")
            _exit_at_once(None)
        caught_up = asyncio.Event()
        topic = Topic(self._identity.partitions, partial(refuse_other_topic, self._settings, self._identity))
        registry = open_registry(self._settings)
        serving = Serving(
            self._served, self._popularity, self._metrics, self._usage, registry, self._output, self._shop
        )
        items = ItemFollower(
            self._settings,
            self._shop,
            self._metrics.items_unreadable.inc,
            lambda error: _tell(loop, self._fail, error),
        )
        parts = build_worker(self._settings, topic, self._instance_id, serving, caught_up, self._fail)
        self._parts = parts
        measure_standing(self._metrics, parts)
        # None of them may end by itself: a guard that has died unseen would be none.
        tasks = [
            self._task(self._start(parts.app), "the start of the stream", may_end=True),
            self._task(self._watch_crash(parts.app), "the stream"),
            self._task(follow_models(self._settings, self._served, caught_up), "the follower of the models topic"),
            self._task(parts.membership.commit_regularly(), "the committing of offsets"),
            self._task(parts.watchdog.watch(), "the watchdog"),
            self._task(TallyWriter(self._settings, self._served).write_regularly(), "the writer of tallies"),
            self._task(self._guard_loop(), "the guard of the event loop"),
            self._task(self._guard_items(items), "the guard of the follower of items"),
            self._task(self._report_usage(), "the report of what cannot be used"),
        ]
        items.start()
        self._metrics.items_age.set_function(lambda: max(0.0, self._shop.age_s()))
        fields = {"broker": self._settings.broker, "port": http.port, "app": self._settings.app}
        _log.info("worker started", extra={"fields": fields})
        await self._over.wait()
        stopped = await self._stop(parts, tasks)
        self._say_usage(is_last=True)
        http.close()
        explained = self._explained(self._failure) if self._failure is not None else None
        if explained is None:
            _log.info("worker stopped", extra={"fields": {"in_time": stopped}})
        _exit_at_once(explained)

    async def _load_bundle(self) -> bool:
        """Load the bundle to begin with, in a thread: it takes seconds, or minutes where another worker prepares it.

        Returns:
            Whether it is there; else the worker is to stop, and the thread may still be waiting.

        Raises:
            BundleError: the bundle that the settings name cannot be used.
        """
        loading = asyncio.create_task(asyncio.to_thread(self._served.start_with))
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait([loading, over], return_when=asyncio.FIRST_COMPLETED)
        if over.done():
            return False
        over.cancel()
        await loading
        return True

    def _task(self, work: Coroutine[Any, Any, None], name: str, *, may_end: bool = False) -> "asyncio.Task[None]":
        """Run something beside the rest; whatever ends it stops the worker."""

        def ended(task: "asyncio.Task[None]") -> None:
            if task.cancelled():  # by the stop; before that, whatever it was has ended unseen
                self._fail(TemporaryError(f"{name} was cancelled; start the worker again"))
            elif (error := task.exception()) is not None:
                self._fail(error)
            elif not may_end:
                self._fail(TemporaryError(f"{name} ended by itself; start the worker again"))

        task = asyncio.create_task(work, name=name)
        task.add_done_callback(ended)
        return task

    async def _guard_loop(self) -> None:
        """End the process, with a stack trace, if the event loop is blocked."""
        try:
            while True:
                faulthandler.dump_traceback_later(self._settings.stall_s + BLOCKED_S, exit=True)
                await asyncio.sleep(1.0)
        finally:
            faulthandler.cancel_dump_traceback_later()

    async def _guard_items(self, items: ItemFollower) -> None:
        """End the worker if the thread that follows the items stands still: its lists would wait for ever.

        Raises:
            TemporaryError: it does.
        """
        patience_s, still_s = self._settings.stall_s + ITEMS_ANSWER_S, 0.0
        while still_s < patience_s:
            alive_s, began_s = items.alive_s, time.monotonic()
            await asyncio.sleep(1.0)
            slept_s = min(time.monotonic() - began_s, 2.0)  # after a longer one the thread must get to run first
            still_s = still_s + slept_s if items.alive_s == alive_s and alive_s != float("inf") else 0.0
        raise TemporaryError(
            f"the thread that follows {self._settings.items_topic} has stood still for {patience_s:.0f} s; start the "
            "worker again"
        )

    async def _report_usage(self) -> None:
        """Say soon what cannot be used."""
        while True:
            self._say_usage()
            await asyncio.sleep(REPORT_S)

    def _say_usage(self, *, is_last: bool = False) -> None:
        for line in self._usage.lines(now_s(), is_last=is_last):
            _log.warning(line)

    async def _start(self, app: StreamApp) -> None:
        app.finalize()
        await app.start()

    async def _watch_crash(self, app: StreamApp) -> None:
        await app.wait_until_stopped()
        if app.crash_reason is not None:
            raise app.crash_reason

    async def _stop(self, parts: WorkerParts, tasks: "list[asyncio.Task[None]]") -> bool:
        """Finish what was published, commit it, leave the group; bounded in time.

        Returns:
            Whether all of it was done in time.
        """
        for task in tasks:
            task.cancel()
        ending = asyncio.create_task(self._end(parts))
        # Not `wait_for`: a library that swallows the cancellation would hold it up.
        await asyncio.wait([ending], timeout=STOP_S)
        return ending.done() and ending.exception() is None

    async def _end(self, parts: WorkerParts) -> None:
        await parts.membership.close(finish=self._failure is None and parts.app.started)
        await parts.app.stop()

    def _fail(self, error: BaseException) -> None:
        if self._failure is None and not self._over.is_set():
            self._failure = error if isinstance(error, Exception) else RuntimeError(repr(error))
            self._over.set()

    def _health(self) -> tuple[bool, str]:
        if self._failure is not None:
            return False, f"stopping: {type(self._failure).__name__}"
        return True, "running"

    def _ready(self) -> tuple[bool, str]:
        healthy, text = self._health()
        if not healthy:
            return False, text
        if self._parts is None:
            return False, "starting"
        assignment = self._parts.assignments.current
        if not assignment.serves:
            left = f": {assignment.restore_left} records left" if assignment.phase is Phase.RESTORING else ""
            return False, f"{assignment.phase.value}{left}"
        if not assignment.lease.is_held(now_s()):
            return False, "waiting for the broker"
        if (trouble := self._shop.trouble()) is not None:
            return False, trouble
        if (nothing_fits := self._usage.nothing_fits()) is not None:
            return False, nothing_fits
        model = self._served.current
        return True, f"serving {f'bundle {model.bundle_id}' if model is not None else 'popularity: no bundle yet'}"

    def _hears_broker(self) -> bool:
        return self._parts is None or self._parts.watchdog.hears_broker

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
        if isinstance(failure, DamagedStore):
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


def _tell(loop: asyncio.AbstractEventLoop, tell: Callable[[Exception], None], error: Exception) -> None:
    """Tell the event loop from another thread; nobody, if it has ended."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(tell, error)


def _exit_at_once(error: NextclickError | None) -> NoReturn:
    """End the process without a wait for the clients' threads, which may be waiting for a broker themselves.

    Everything that was acknowledged is safe, and the lock on the data folder goes with the process.
    """
    if error is not None:
        sys.stderr.write(f"nextclick: {error}\n")
    sys.stderr.flush()
    os._exit(0 if error is None else 1)
