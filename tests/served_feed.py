"""A feed inside the test's process: its real application, store and server, and no Kafka."""

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import uvloop
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from feed.app import create_app
from feed.click_writer import ClickWriter
from feed.follower import ListFollower
from feed.hub import Hub, NewList
from feed.list_store import ListStore
from feed.metrics import FeedMetrics
from feed.parts import FeedParts
from feed.served_model import ModelAtWork
from feed.server import FeedServer, listening_socket, server_config, tls_files
from feed.shop import FeedShop
from nextclick.bundle import save_bundle
from nextclick.catalogue import NOTHING_SAID, ShopItem, encode_item
from nextclick.network_config import NetworkConfig
from nextclick.newer import head_of
from nextclick.settings import Settings
from nextclick.updates import (
    POPULAR,
    AnsweredClick,
    Recommendation,
    ServedBy,
    decode_update,
    encode_update,
    ranked_list,
)
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network
from tools.bundle_copies import BundleCopies
from tools.items.follower import ItemFollower, ItemRecord
from tools.kafka import TopicIdentity

NO_BROKER = "127.0.0.1:1"
PARTITION = 2
ITEMS = [f"item-{number}" for number in range(5)]


def serve_bundle(feed: "ServedFeed", items: Sequence[str]) -> None:
    """Let a feed that runs answer from a bundle that knows items, as if it had served it before."""
    network = random_network(NetworkConfig(len(items), 8, n_neighbours=4), 1)
    vocabulary = Vocabulary(items, np.arange(len(items), dtype=np.float64))
    manifest = save_bundle(feed.settings.bundle_dir, network, vocabulary, created_ms=1_000, metrics={})
    BundleCopies(feed.settings, feed.settings.feed_dir / "bundles").fetch(manifest)
    feed.parts.model.start()
    end_s = time.monotonic() + 30.0
    while feed.parts.model.current is None:
        assert time.monotonic() < end_s
        time.sleep(0.01)


def update(user_id: str, sequence: int, items: Sequence[str] = ITEMS, strategy: str = "rnn") -> bytes:
    """A worker's answer to a user's click; the clicks stand at every tenth offset."""
    ranked = ranked_list(strategy, [Recommendation(item, 0.5 / (1 + n)) for n, item in enumerate(items)], [])
    return encode_update(
        user_id, ranked, ServedBy("b1"), sequence, AnsweredClick(PARTITION, 10 * sequence, 1_000), 2_000
    )


class ServedFeed:
    """A feed that runs in a thread for as long as the context lasts.

    Attributes:
        parts: of the feed.
        port: where it answers.
    """

    parts: FeedParts
    port: int

    def __init__(self, folder: Path, extra_routes: Sequence[BaseRoute] = (), **settings: Any) -> None:
        """Prepare.

        Args:
            folder: for its lists.
            extra_routes: of the application.
            settings: other than usual.
        """
        usual = {"broker": NO_BROKER, "feed_host": "127.0.0.1", "feed_port": 0, "bundle_dir": folder / "bundles"}
        self.settings = Settings(**(usual | {"feed_dir": folder, "served_dir": folder / "served"} | settings))
        self._extra_routes = extra_routes
        self._answers = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="served feed")

    @property
    def url(self) -> str:
        """Where it answers."""
        scheme = "https" if self.settings.feed_tls_certificate_file else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def store(self, *updates: bytes) -> None:
        """Store updates and tell those who wait, as the follower does."""
        new = [NewList(decode_update(value).user_id.encode(), head_of(value), value) for value in updates]
        popular = [each.value for each in new if each.head.strategy == POPULAR]
        self.parts.lists.write({each.user: each.value for each in new}, {}, popular[-1] if popular else None)
        self._loop.call_soon_threadsafe(self.parts.hub.tell, new)

    def say(self, said: Mapping[str, ShopItem | None]) -> None:
        """Let the shop say something of items, as the follower of its topic does; None: a tombstone."""
        shop = self.parts.shop
        if shop.stock.is_complete and not self._n_said:
            shop.begin(TopicIdentity(self.settings.items_topic, "one", 1), anew=False)
        self._n_said += len(said)
        records = [
            ItemRecord(item_id, item or NOTHING_SAID, encode_item(item) if item is not None else None)
            for item_id, item in said.items()
        ]
        shop.take(records, self._n_said)
        shop.heard(time.monotonic())

    def __enter__(self) -> Self:
        self._thread.start()
        self._answers.wait(30)
        if self._error is not None:
            self._thread.join()
            raise self._error
        return self

    def __exit__(self, *error: object) -> None:
        self._server.should_exit = True
        self._loop.call_soon_threadsafe(self.parts.hub.end)
        self._thread.join(30)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        try:
            uvloop.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._answers.set()

    async def _serve(self) -> None:
        self.failures: list[Exception] = []
        self._n_said = 0
        self._loop, registry = asyncio.get_running_loop(), CollectorRegistry()
        lists, metrics = ListStore(self.settings.feed_dir / "lists", 8 * 1024**2, 1e6), FeedMetrics(registry)
        lists.begin(TopicIdentity(self.settings.recommendations_topic, "one", 4))
        follower = ListFollower(self.settings, lists, metrics, lambda new: None, lambda error: None)
        follower.caught_up.set()
        items = ListStore(self.settings.feed_dir / "items", 8 * 1024**2, 0.0)
        shop = FeedShop(items, metrics)
        shop.absent()
        self.parts = FeedParts(
            self.settings,
            lists,
            follower,
            Hub(self.settings.feed_max_streams),
            ClickWriter(self.settings, metrics, self.failures.append),
            ModelAtWork(self.settings, metrics, shop.prepare),
            shop,
            ItemFollower(self.settings, shop, lambda: None, self.failures.append),
            metrics,
            self.failures.append,
        )
        try:
            app = create_app(self.parts, registry, self._extra_routes)
            self._server = FeedServer(server_config(app, tls_files(self.settings)), lambda: None)
            with listening_socket(self.settings) as listening:
                self.port = listening.getsockname()[1]
                self._loop.call_soon(self._answers.set)
                await self._server.serve(sockets=[listening])
        finally:
            self.parts.model.stop()
            self.parts.clicks.close()
            lists.close()
            items.close()
