"""What the routes answer with: the parts of a running feed."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from feed.click_writer import ClickWriter
from feed.follower import ListFollower
from feed.hub import Hub
from feed.list_store import ListStore
from feed.metrics import FeedMetrics
from feed.popular import PopularItems, younger
from feed.served_model import ModelAtWork
from feed.shop import FeedShop
from nextclick.settings import Settings
from tools.items.follower import ItemFollower


@dataclass(slots=True)
class FeedParts:
    """A running feed.

    Attributes:
        settings: of the feed.
        lists: the newest list of every user.
        follower: keeps them new.
        hub: who waits for a list.
        clicks: writes clicks.
        model: the bundle that is served.
        shop: what is said of items.
        items: keeps that new.
        metrics: of the feed.
        fail: ends the feed with an error.
        is_ending: whether it takes no more work.
    """

    settings: Settings
    lists: ListStore
    follower: ListFollower
    hub: Hub
    clicks: ClickWriter
    model: ModelAtWork
    shop: FeedShop
    items: ItemFollower
    metrics: FeedMetrics
    fail: Callable[[Exception], None]
    is_ending: bool = False

    @property
    def newest_popular(self) -> bytes | None:
        """The newest update with the popular list, of whichever user."""
        return self.lists.popular

    def popular(self) -> PopularItems | None:
        """Give the popular items; None where neither an update nor a bundle says what is popular."""
        bundle = self.model.current
        return younger(self.newest_popular, bundle.popular if bundle is not None else None)


def feed_of(request: Request) -> FeedParts:
    """Give the parts of the feed that a request has come to."""
    feed: FeedParts = request.app.state.feed
    return feed
