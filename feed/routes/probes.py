"""What a supervisor, a load balancer and Prometheus ask."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feed.parts import feed_of
from tools.kafka import Failure

_AWAY = "answering, Kafka is away"
_STATUS = {
    None: "answering",
    Failure.GONE: "answering, the topic is not there",
    Failure.PASSING: _AWAY,
    Failure.REFUSED: _AWAY,
}


async def health(request: Request) -> Response:
    """Say that the feed answers; one that cannot go on ends by itself."""
    return JSONResponse({"status": "answering"})


async def readiness(request: Request) -> Response:
    """Say whether requests should come here: 503 until the lists are up to date for the first time, and at the end.

    Lists of before are enough while the topic cannot be read: another instance would not have newer ones.
    """
    feed = feed_of(request)
    failure = feed.follower.failure
    if feed.is_ending:
        return JSONResponse({"status": "ending"}, 503)
    if not feed.follower.caught_up.is_set() and (failure is None or not feed.lists.has_lists):
        return JSONResponse({"status": "reading the lists"}, 503)
    return JSONResponse({"status": _STATUS[failure]})


async def metrics(request: Request) -> Response:
    """Give Prometheus the metrics."""
    feed, registry = feed_of(request), request.app.state.registry
    assert isinstance(registry, CollectorRegistry)
    feed.metrics.streams.set(feed.hub.n_watches)
    feed.metrics.users.set(feed.lists.n_users())
    feed.metrics.store_bytes.set(feed.lists.n_bytes())
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
