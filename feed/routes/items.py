"""What is known of items: their neighbours, and which are popular."""

import time
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from feed.neighbours import neighbours
from feed.parameters import id_in_path, limit_of
from feed.parts import feed_of
from feed.popular import popular_list
from feed.problems import ProblemError
from nextclick.feed_types import encode

_AGES = {"Cache-Control": "no-cache"}


async def item_neighbours(request: Request) -> Response:
    """Answer `GET /v1/items/{item_id:path}/neighbours` with `Neighbours`.

    Raises:
        ProblemError: there is no bundle, it does not know the item, or the request cannot be read.
    """
    served, item_id, limit = feed_of(request).model, id_in_path(request, "item_id"), limit_of(request)
    bundle = served.current
    if bundle is None:
        raise no_model()
    found = await served.compute(partial(neighbours, bundle.model, item_id, limit))
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
    found, limit = feed_of(request).popular(), limit_of(request)
    if found is None:
        raise no_model()
    answer = encode(popular_list(found, limit, int(time.time() * 1000)))
    return Response(answer, headers=_AGES, media_type="application/json")


def no_model() -> ProblemError:
    """Give the problem of a feed that has nothing to answer from yet."""
    return ProblemError(
        "no-model",
        "no bundle is there to answer from; the trainer announces the first one when it has min_clicks clicks, and the "
        "feed's log says if it cannot be used",
        {"Retry-After": "5"},
    )
