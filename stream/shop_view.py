"""What the shop says of its items, as a worker sees it: followed in a thread, and never older than lists may be.

**The promise: an item that is withdrawn is in no list that is made more than 1 s later.** It rests on this order:

1. The follower's thread reads a record, notes in the table that the item is in no list, sets the new traits of the
   models that are served, and only then says that the item was lost.
2. A chunk begins to be computed when what is known is at most `MAX_AGE_S` old; what was lost before is forgotten, for
   whatever is ranked from now on knows it.
3. When it is the chunk's turn to be handed on, the time is noted as that of its lists, and what is known must again be
   at most `MAX_AGE_S` old; until it is, the chunk waits. Lists with an item that was lost since step 2 are made again.

A partition without a leader, a broker that does not answer or a thread that does not get to run let what is known grow
old: then lists wait, and nothing else does.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence, Set

from stream.metrics import WorkerMetrics
from stream.protocol.assignment import Assignment, Superseded
from tools.items.follower import ItemRecord
from tools.items.live_stock import LiveStock
from tools.kafka import TopicIdentity

MAX_AGE_S = 0.8  # of what is known when a list is made: the rest of the second is for clocks and threads
SAY_AFTER_S = 3.0  # of waiting
_SAY_EVERY_S = 60.0
_LOOK_AGAIN_S = 0.02
_LOW_BITS = 0xFFFFFFFF
_ANY = -1  # any item at all
_MOST_LOST = 100_000
_log = logging.getLogger(__name__)


class ShopView:
    """Knows what the shop says, and whether that is new enough for lists to be made.

    Attributes:
        stock: what is said of items, and the models that are served.
    """

    def __init__(self, metrics: WorkerMetrics, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Know nothing: lists wait until the topic was read, or is known not to be there.

        Args:
            metrics: of the worker.
            clock_s: the clock of the follower.
        """
        self.stock = LiveStock(self._note_lost)
        self._metrics, self._clock_s = metrics, clock_s
        self._lost: deque[int] = deque()  # low bits of the hashes of items that are in no list any more; or `_ANY`
        self._heard_s = float("-inf")
        self._waits_since_s: float | None = None

    # What the follower tells, in its thread.

    def begin(self, topic: TopicIdentity, *, anew: bool) -> int | None:
        """Forget everything, and read all of the topic: it is the only copy."""
        self._heard_s = float("-inf")
        self.stock.clear()
        return None

    def take(self, records: Sequence[ItemRecord], next_offset: int) -> None:
        """Note what was read; what is served follows at once, but at the start."""
        self.stock.take(records)

    def heard(self, asked_s: float) -> None:
        """Note as of when everything is known."""
        stock = self.stock
        if stock.is_complete:
            stock.tick()
        else:
            stock.complete()
            fields = {"items": len(stock.table), "bytes": stock.table.n_bytes}
            _log.info("what the shop says of its items is read", extra={"fields": fields})
        self._heard_s = asked_s
        self._metrics.items.set(len(stock.table))

    def absent(self) -> None:
        """Note that nothing is said, for as long as the topic is not there."""
        self.stock.clear()
        self.stock.complete()
        self._heard_s = float("inf")

    def _note_lost(self, changed: Sequence[int] | None) -> None:
        if changed is None:
            self._lost.append(_ANY)
            return
        factor_of = self.stock.factor_of
        self._lost.extend([hashed & _LOW_BITS for hashed in changed if factor_of(hashed) == 0.0])
        if len(self._lost) > _MOST_LOST:  # nobody makes lists
            self._lost.append(_ANY)  # first: somebody may begin to
            with contextlib.suppress(IndexError):
                while self._lost[0] != _ANY:
                    self._lost.popleft()

    # What the worker asks.

    def age_s(self) -> float:
        """Give how old what is known may be; infinity while nothing is known, 0 or less where nothing is said."""
        return self._clock_s() - self._heard_s

    def is_new_enough(self) -> bool:
        """Tell whether lists may be made now."""
        return self._clock_s() - self._heard_s <= MAX_AGE_S

    async def wait(self, assignment: Assignment) -> None:
        """Return when lists may be made.

        Raises:
            Superseded: the assignment has ended, or is being given back.
        """
        if self.is_new_enough():
            return
        began_s = self._waits_since_s = self._clock_s()
        say_s, has_said = began_s + SAY_AFTER_S, False
        try:
            while not self.is_new_enough():
                if not assignment.serves:
                    raise Superseded
                if self._clock_s() >= say_s:
                    say_s, has_said = self._clock_s() + _SAY_EVERY_S, True
                    _log.warning("%s; clicks are answered afterwards, and nothing is lost", self.trouble())
                await asyncio.sleep(_LOOK_AGAIN_S)
        finally:
            waited_s, self._waits_since_s = self._clock_s() - began_s, None
            self._metrics.items_waited.inc(waited_s)
            if has_said:
                _log.warning("lists have waited for the topic of items for %.1f s", waited_s)

    @property
    def is_waited_for(self) -> bool:
        """Whether lists wait."""
        return self._waits_since_s is not None

    def trouble(self) -> str | None:
        """Say why lists wait, or would; None: they do not."""
        if self.is_new_enough():
            return None
        if not self.stock.is_complete:
            return "lists wait until the topic of items is read, so that none has an item that was withdrawn"
        return (
            f"lists wait: it is not known since {self.age_s():.1f} s whether an item was withdrawn, because the topic "
            "of items does not answer"
        )

    def take_lost(self) -> Set[int] | None:
        """Give the low bits of the hashes of the items that became unavailable since this was last called; None: any
        can have been among them.
        """
        lost: set[int] = set()
        while self._lost:
            with contextlib.suppress(IndexError):  # the thread has just cleared it
                lost.add(self._lost.popleft())
        return None if _ANY in lost else lost
