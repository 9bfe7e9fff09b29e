"""What a shop says of its items, and the models that are served under it: each has the newest traits at all times.

Written by one thread, that of the follower; read by any. A model's traits are replaced as a whole, so that lists can be
made meanwhile.
"""

import threading
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from nextclick.hashing import item_hash
from nextclick.item_table import ItemTable
from nextclick.item_traits import ItemTraits
from nextclick.model_traits import ModelTraits
from tools.items.follower import ItemRecord

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.model import ServedModel

_CATEGORIES_EVERY_S = 1.0  # nothing is promised of them, and they take a while
_CATEGORIES_SHARE = 10  # at most such a part of the time goes to them


class LiveStock:
    """Holds what is said of items.

    Attributes:
        table: what is said, by items' hashes.
        version: another one whenever an item has another factor.
        is_complete: whether all of the topic was read once, or there is none.
    """

    def __init__(self, changed: Callable[[Sequence[int] | None], None] = lambda changed: None) -> None:
        """Know nothing.

        Args:
            changed: gets the hashes of the items whose factors have changed, once the models have them; None: any can
                have changed.
        """
        self.table, self.version, self.is_complete = ItemTable(now_ms()), 0, False
        self._changed = changed
        self._lock = threading.Lock()  # held while the table and the models' traits change
        self._models: WeakKeyDictionary[ServedModel, ModelTraits] = WeakKeyDictionary()
        self._journals: list[list[int]] = []  # what changes, for whoever makes traits meanwhile
        self._categories_changed, self._categories_s = False, 0.0
        self._n_read = 0  # how often all was read: journals do not have what was read before that

    def clear(self) -> None:
        """Forget everything, until it was read again: models keep their traits meanwhile."""
        with self._lock:
            self.is_complete = False
            self.table.clear()

    def take(self, records: Sequence[ItemRecord]) -> None:
        """Note what was read; models follow at once if it is all there."""
        with self._lock:
            if self.is_complete:
                self._pass_on(self._note(records))
            else:
                for item_id, item, _ in records:
                    self.table.say(item_hash(item_id), item)

    def complete(self) -> None:
        """All was read: let models have it."""
        with self._lock:
            self.table.tick(now_ms())
            for model, traits in list(self._models.items()):
                traits.make()
                model.set_traits(traits.traits)
            self._categories_changed, self.is_complete = False, True
            self._n_read += 1
            self.version += 1
            self._changed(None)

    def tick(self) -> None:
        """Let models know what the time has changed, and which categories are new."""
        with self._lock:
            self._pass_on(self.table.tick(now_ms()))

    def prepare(self, model: "ServedModel") -> None:
        """Give a model its traits, now and whenever they change; before it is served, in a thread. Takes 0.5 s of a
        million items.
        """
        journal: list[int] = []
        with self._lock:
            self._journals.append(journal)
            n_read = self._n_read
        made = ModelTraits(model.item_hashes, self.table)
        with self._lock:
            self._journals = [each for each in self._journals if each is not journal]
            if not self.is_complete or n_read != self._n_read:
                made.make()
            elif journal:
                made.change(journal)
                self._categories_changed = True  # they may have changed meanwhile, too
            model.set_traits(made.traits)
            self._models[model] = made

    def traits_of(self, model: "ServedModel") -> ItemTraits | None:
        """Give the traits that a model has now; None: nothing is said of its items."""
        made = self._models.get(model)
        return made.traits if made is not None else None

    def categories_of(self, hashes: Sequence[int]) -> list[tuple[int, ...]]:
        """Give the categories that items are in, by their numbers."""
        starts, numbers = self.table.categories_of(np.array(hashes, np.uint64))
        ends, all_numbers = starts.tolist(), numbers.tolist()
        return [tuple(all_numbers[begin:end]) for begin, end in pairwise(ends)]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is said of any item."""
        return len(self.table) == 0

    def factor_of(self, item_hash: int) -> float:
        """Give what an item's probability is multiplied by, whether or not a bundle knows it; 0: it is in no list."""
        return self.table.factor_of(item_hash)

    def factors_of(self, hashes: Sequence[int]) -> list[float]:
        """Give the same of many items at once."""
        factors: list[float] = self.table.factors_of(np.array(hashes, np.uint64)).tolist()
        return factors

    def _note(self, records: Sequence[ItemRecord]) -> list[int]:
        """Note records; gives the hashes of the items of which something else is said now."""
        table, changed = self.table, []
        for item_id, item, _ in records:
            hashed = item_hash(item_id)
            before = table.said_of(hashed)
            table.say(hashed, item)
            said = table.said_of(hashed)
            if said != before:
                changed.append(hashed)
                self._categories_changed |= said.categories != before.categories
        return changed

    def _pass_on(self, changed: Sequence[int]) -> None:
        """Let models have the factors of items that have changed, and now and then the categories."""
        began_s = time.monotonic()
        with_categories = self._categories_changed and began_s >= self._categories_s
        if not changed and not with_categories:
            return
        for journal in self._journals:
            journal += changed
        for model, traits in list(self._models.items()):
            if with_categories:
                traits.make()
            if with_categories or traits.change(changed):
                model.set_traits(traits.traits)
        if with_categories:
            now_s = time.monotonic()
            pause_s = max(_CATEGORIES_EVERY_S, _CATEGORIES_SHARE * (now_s - began_s))
            self._categories_changed, self._categories_s = False, now_s + pause_s
        self.version += 1
        self._changed(changed)


def now_ms() -> int:
    """Give the time that decides what is published and what has expired."""
    return int(time.time() * 1000)
