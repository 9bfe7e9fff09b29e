"""Starts a feed, runs it until a signal, and ends it in order."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import uvloop
from starlette.routing import BaseRoute

from feed.app import create_app
from feed.click_writer import ClickWriter
from feed.follower import ListFollower
from feed.hub import Hub, NewList
from feed.list_store import DamagedLists, ListStore
from feed.metrics import FeedMetrics
from feed.parts import FeedParts
from feed.readiness import hears_broker, readiness_of
from feed.served_model import ModelAtWork
from feed.server import FeedServer, allow_many_connections, listening_socket, server_config, tls_files
from feed.shop import FeedShop
from nextclick.settings import Settings
from tools.app_registry import AppRegistry
from tools.items.follower import ItemFollower
from tools.process_metrics import ProcessMetrics

_DAY_S = 86_400.0
_ITEMS_SHARE = 4  # of the memory for lists that are read often, items have a part: they are smaller, and fewer
# Each open stream is some dozen objects that live for long: a collection that looks at all of them makes everyone wait.
_GC_THRESHOLDS = (50_000, 20, 100)
_SWITCH_S = 0.0005  # after so long the thread that stores lists lets the one run that answers; 5 ms in Python
_log = logging.getLogger(__name__)


def run_feed(
    settings: Settings, extra_routes: Sequence[BaseRoute] = (), on_start: Callable[[int], None] | None = None
) -> None:
    """Serve lists until SIGTERM or SIGINT. Only for the main thread.

    Args:
        settings: of the feed.
        extra_routes: come after the feed's own.
        on_start: is told the port when requests are answered.

    Raises:
        PermanentError: a port, a folder or a file cannot be used, or the broker refuses a feed that has no lists yet.
    """
    tls = tls_files(settings)
    gc.set_threshold(*_GC_THRESHOLDS)
    sys.setswitchinterval(_SWITCH_S)
    allow_many_connections()
    with listening_socket(settings) as listening:
        lists = ListStore(settings.feed_dir / "lists", settings.feed_cache_bytes, settings.feed_keep_days * _DAY_S)
        try:
            # What is said of items stays until something else is.
            items = ListStore(settings.feed_dir / "items", settings.feed_cache_bytes // _ITEMS_SHARE, 0.0)
            try:
                uvloop.run(_Service(settings, lists, items, listening).run(extra_routes, tls, on_start))
            finally:
                items.close()
        finally:
            lists.close()


class _Service:
    def __init__(self, settings: Settings, lists: ListStore, items: ListStore, listening: socket.socket) -> None:
        self._settings, self._lists, self._items, self._listening = settings, lists, items, listening
        self._registry = AppRegistry(settings.app)
        self._error: Exception | None = None

    async def run(
        self,
        extra_routes: Sequence[BaseRoute],
        tls: dict[str, Any],
        on_start: Callable[[int], None] | None,
    ) -> None:
        """Serve, then end: first the streams, then the requests, then what they are answered with.

        Raises:
            PermanentError: see `run_feed`.
        """
        loop = asyncio.get_running_loop()
        feed = self._parts(loop)
        folders = {"feed_dir": self._settings.feed_dir}
        ProcessMetrics(self._registry).follow(lambda: readiness_of(feed), lambda: hears_broker(feed), folders)
        try:
            app = create_app(feed, self._registry, extra_routes)
            self._server = server = FeedServer(server_config(app, tls), lambda: _begin_end(feed))
            feed.follower.start()
            feed.items.start()
            feed.model.start()
            port = self._listening.getsockname()[1]
            _log.info("lists are served", extra={"fields": {"port": port, "users": self._lists.n_users()}})
            if on_start is not None:
                on_start(port)
            await server.serve(sockets=[self._listening])
        finally:
            await asyncio.to_thread(_stop, feed)
        if self._error is not None:
            raise self._error

    def _parts(self, loop: asyncio.AbstractEventLoop) -> FeedParts:
        settings, metrics = self._settings, FeedMetrics(self._registry)
        hub = Hub(settings.feed_max_streams)

        def tell(lists: Sequence[NewList]) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(hub.tell, lists)

        def fail(error: Exception) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._fail, error)

        shop = FeedShop(self._items, metrics)

        def items_failed(error: Exception) -> None:
            if isinstance(error, DamagedLists):
                fail(error)
            shop.caught_up.set()  # the log says why it is not read: another instance would not be better

        metrics.items_age.set_function(shop.age_s)
        items = ItemFollower(settings, shop, metrics.items_unreadable.inc, items_failed)
        follower = ListFollower(settings, self._lists, metrics, tell, fail)
        return FeedParts(
            settings,
            self._lists,
            follower,
            hub,
            ClickWriter(settings, metrics, fail),
            ModelAtWork(settings, metrics, shop.prepare),
            shop,
            items,
            metrics,
            fail,
        )

    def _fail(self, error: Exception) -> None:
        self._error = self._error or error
        self._server.handle_exit(signal.SIGTERM, None)


def _begin_end(feed: FeedParts) -> None:
    feed.is_ending = True
    feed.hub.end()


def _stop(feed: FeedParts) -> None:
    """End what the routes answer with; blocks for seconds at most."""
    stops = [threading.Thread(target=part) for part in (feed.follower.stop, feed.items.stop, feed.clicks.close)]
    for each in stops:
        each.start()
    feed.model.stop()
    for each in stops:
        each.join()
