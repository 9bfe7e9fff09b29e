"""What is known of items: their neighbours, and which are popular."""

import time
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response

from feed.neighbours import neighbours
from feed.parameters import choice_of, id_in_path
from feed.parts import feed_of
from feed.popular import PopularItems, of_categories, popular_list
from feed.problems import ProblemError
from feed.shop import FeedShop
from feed.user_lists import Choice
from nextclick.feed_types import encode

if TYPE_CHECKING:
    from nextclick.model import ServedModel

_AGES = {"Cache-Control": "no-cache"}


async def item_neighbours(request: Request) -> Response:
    """Answer `GET /v1/items/{item_id:path}/neighbours` with `Neighbours`.

    Raises:
        ProblemError: there is no bundle, it does not know the item, or the request cannot be read.
    """
    feed, item_id, choice = feed_of(request), id_in_path(request, "item_id"), choice_of(request)
    served, bundle = feed.model, feed.model.current
    if bundle is None:
        raise no_model()
    found = await served.compute(partial(neighbours, bundle.model, item_id, choice._replace(explain=False), feed.shop))
    if found is None:
        raise ProblemError(
            "unknown-item",
            f"bundle {bundle.model.bundle_id} does not know the item {item_id!r:.80}: it was clicked too rarely, too "
            "long ago, or after the bundle was made",
        )
    return Response(encode(found), headers=_AGES, media_type="application/json")


async def popular(request: Request) -> Response:
    """Answer `GET /v1/popular` with `PopularList`.

    Raises:
        ProblemError: neither an update nor a bundle says what is popular, or the request cannot be read.
    """
    feed, choice = feed_of(request), choice_of(request)._replace(explain=False)
    found, bundle = feed.popular(), feed.model.current
    if found is None:
        raise no_model()
    if choice.categories and bundle is not None:
        found = await feed.model.compute(partial(_popular_in, feed.shop, bundle.model, choice, found))
    answer = encode(popular_list(found, choice, int(time.time() * 1000), feed.shop))
    return Response(answer, headers=_AGES, media_type="application/json")


def _popular_in(shop: FeedShop, model: "ServedModel", choice: Choice, popular: PopularItems) -> PopularItems:
    return of_categories(popular, shop.restricted(model, choice.categories))


def no_model() -> ProblemError:
    """Give the problem of a feed that has nothing to answer from yet."""
    return ProblemError(
        "no-model",
        "no bundle is there to answer from; the trainer announces the first one when it has min_clicks clicks, and the "
        "feed's log says if it cannot be used",
        {"Retry-After": "5"},
    )
