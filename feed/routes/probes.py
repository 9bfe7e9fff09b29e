"""What a supervisor, a load balancer and Prometheus ask."""

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feed.parts import feed_of


async def health(request: Request) -> Response:
    """Say that the feed answers; one that cannot go on ends by itself."""
    return JSONResponse({"status": "answering"})


async def readiness(request: Request) -> Response:
    """Say whether requests should come here: 503 until the lists are up to date for the first time, and at the end."""
    feed = feed_of(request)
    if feed.is_ending:
        return JSONResponse({"status": "ending"}, 503)
    if not feed.follower.caught_up.is_set() and not (feed.follower.is_away and feed.lists.topic is not None):
        return JSONResponse({"status": "reading the lists"}, 503)
    return JSONResponse({"status": "answering, Kafka is away" if feed.follower.is_away else "answering"})


async def metrics(request: Request) -> Response:
    """Give Prometheus the metrics."""
    feed, registry = feed_of(request), request.app.state.registry
    assert isinstance(registry, CollectorRegistry)
    feed.metrics.streams.set(feed.hub.n_watches)
    feed.metrics.users.set(feed.lists.n_users())
    feed.metrics.store_bytes.set(feed.lists.n_bytes())
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)
