"""Items that no bundle knows, as a worker serves them: counted after each chunk, carried on when the bundle changes.

All of it happens where a chunk is computed or its lists are made again, and nothing else is meanwhile (`stream.agent`).
What was counted is this worker's alone, and gone with it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from nextclick.advance import LoggedClick, Outcome
from stream.metrics import WorkerMetrics
from stream.shop_view import ShopView

if TYPE_CHECKING:  # numba takes a second to load: only when there is a bundle
    from nextclick.live_items import LiveItems
    from nextclick.model import ServedModel


class LiveCounting:
    """Keeps the live items of the models that a worker serves."""

    def __init__(self, n_live: int, metrics: WorkerMetrics, shop: ShopView | None) -> None:
        """Begin with nothing.

        Args:
            n_live: live items of a model at most; 0: none.
            metrics: of the worker.
            shop: what is said of items; None: nothing ever is.
        """
        self._n_live, self._metrics, self._shop = n_live, metrics, shop
        self._of_champion: LiveItems | None = None
        self._followed: WeakKeyDictionary[LiveItems, tuple[int, int]] = WeakKeyDictionary()

    def begin(self, model: "ServedModel") -> None:
        """Let a model make lists: one that begins to be served goes on from what is known."""
        if self._n_live and model.live is None:
            model.begin_live(self._n_live, self._of_champion)
        self.follow_shop(model)

    def count(
        self,
        models: "Sequence[ServedModel | None]",
        clicks: Sequence[LoggedClick],
        outcomes: Sequence[Outcome],
        is_counted: Sequence[bool],
    ) -> None:
        """Count a chunk, whichever of the models has answered a user; see `LiveItems.count`.

        Args:
            models: that are served, the champion first.
            clicks, outcomes, is_counted: of the chunk.
        """
        for number, model in enumerate(models):
            if model is None or model.live is None:
                continue
            model.live.count(clicks, outcomes, is_counted)
            if number == 0:
                self._of_champion = model.live
                self._metrics.live_items.set(len(model.live))

    def follow_shop(self, model: "ServedModel | None") -> None:
        """Let the next lists follow what the shop says now of live items.

        Called after `ShopView.take_lost`: what that gives is in the table already.
        """
        if self._shop is None or model is None or model.live is None:
            return
        state = model.live.version, self._shop.stock.version
        if self._followed.get(model.live) != state:
            self._followed[model.live] = state
            model.set_live_traits(self._shop.stock.table)
