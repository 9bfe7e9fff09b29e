"""What the shop says of its items, as the feed sees it: records in a store of their own, and traits for the bundle.

A list is made of what is said at the moment of the answer. What was read before is known at once after a start; what
came meanwhile follows. With Kafka away the feed goes on with what it knows, as it does with lists.
"""

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence, Set
from contextlib import suppress
from typing import TYPE_CHECKING

from feed.list_store import ListStore
from feed.metrics import FeedMetrics
from nextclick.catalogue import NOTHING_SAID, ItemError, ShopItem, decode_item
from tools.items.follower import ItemRecord
from tools.kafka import TopicIdentity

if TYPE_CHECKING:  # numba takes a second to load, numpy a part of one: the feed answers before
    from nextclick.item_traits import ItemTraits
    from nextclick.model import ServedModel
    from tools.items.live_stock import LiveStock

_BATCH = 2_000  # records of the store that are noted together
_MAX_RESTRICTED = 4  # models under a category: each has 20 bytes for each item of the bundle
_log = logging.getLogger(__name__)


class FeedShop:
    """Keeps what is said of items; told by the follower of the topic, in its thread.

    Attributes:
        caught_up: set once all of the topic was read, or there is none.
    """

    def __init__(self, store: ListStore, metrics: FeedMetrics) -> None:
        """Know nothing.

        Args:
            store: of the records, by item; nobody else writes to it.
            metrics: of the feed.
        """
        self.caught_up = threading.Event()
        self._stock: LiveStock | None = None
        self._making_stock = threading.Lock()
        self._store, self._metrics = store, metrics
        self._heard_s = float("-inf")
        self._has_items = store.topic is not None
        self._restricted: OrderedDict[tuple[int, Set[str]], tuple[ItemTraits | None, ServedModel]] = OrderedDict()

    @property
    def stock(self) -> "LiveStock":
        """What is said, and the bundle that is served under it; made where it is first asked for, in a thread."""
        with self._making_stock:
            if self._stock is None:
                from tools.items.live_stock import LiveStock

                self._stock = LiveStock()
            return self._stock

    def begin(self, topic: TopicIdentity, *, anew: bool) -> int | None:
        """Go on from where the store ends, with what it has; from the beginning with a topic that it is not from."""
        self.stock.clear()
        known = self._store.topic
        if anew or known is None or not known.is_same_topic(topic):
            self._store.begin(topic)
            self._has_items = True
            return None
        records: list[ItemRecord] = []
        for key, value in self._store.entries():
            with suppress(ItemError):
                records.append(ItemRecord(key.decode(), decode_item(value), value))
            if len(records) == _BATCH:
                self.stock.take(records)
                records = []
        self.stock.take(records)
        [position] = self._store.positions(1)
        return position

    def take(self, records: Sequence[ItemRecord], next_offset: int) -> None:
        """Store records, and then let the bundle be served under them.

        Raises:
            DamagedLists, TemporaryError: the store cannot be written.
        """
        self._store.write({record.item_id.encode(): record.value for record in records}, {0: next_offset})
        self.stock.take(records)

    def heard(self, asked_s: float) -> None:
        """Note as of when everything is known."""
        if self.stock.is_complete:
            self.stock.tick()
        else:
            self.stock.complete()
            _log.info("what the shop says of its items is read", extra={"fields": {"items": len(self.stock.table)}})
        self._heard_s = asked_s
        self._metrics.items.set(len(self.stock.table))
        self.caught_up.set()

    def absent(self) -> None:
        """Forget what was said: there is no topic any more, or none yet."""
        self.stock.clear()
        self.stock.complete()
        if self._store.topic is not None:
            self._store.begin(_NO_TOPIC)
        self._has_items = False
        self._heard_s = float("inf")
        self.caught_up.set()

    def prepare(self, model: "ServedModel") -> None:
        """Give a model its traits, now and whenever they change; before it is served, in a thread."""
        self.stock.prepare(model)

    def age_s(self) -> float:
        """Give how old what is known can be; 0 where there is no such topic."""
        return max(0.0, time.monotonic() - self._heard_s)

    def look(self, item_ids: Sequence[str]) -> Sequence[ShopItem]:
        """Give what is said of items, in their order; from any thread.

        Raises:
            DamagedLists: the files cannot be trusted.
            TemporaryError: the disk cannot be read.
        """
        if not self._has_items or not item_ids:
            return [NOTHING_SAID] * len(item_ids)
        values = self._store.get_many([item_id.encode(errors="replace") for item_id in item_ids])
        return [_decoded(value) if value is not None else NOTHING_SAID for value in values]

    def restricted(self, model: "ServedModel", categories: Set[str]) -> "ServedModel":
        """Give a model whose lists have only items of some categories; takes 40 ms of a million items, once.

        Args:
            model: of the bundle.
            categories: an item is in one of them.
        """
        from nextclick.model_traits import restricted

        traits = self.stock.traits_of(model)
        key = id(model), frozenset(categories)
        known = self._restricted.get(key)
        if known is not None and known[0] is traits:
            return known[1]
        found = model.with_traits(restricted(traits, len(model.item_ids), self._numbers(categories)))
        self._restricted[key] = traits, found
        while len(self._restricted) > _MAX_RESTRICTED:
            with suppress(KeyError):  # another thread was quicker
                self._restricted.popitem(last=False)
        return found

    def _numbers(self, categories: Set[str]) -> Sequence[int]:
        numbers = (self.stock.table.number_of(category) for category in categories)
        return [number for number in numbers if number is not None]


_NO_TOPIC = TopicIdentity("", "", 0)


def _decoded(value: bytes) -> ShopItem:
    try:
        return decode_item(value)
    except ItemError:  # of a version that knew more
        return NOTHING_SAID
