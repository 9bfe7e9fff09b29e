"""What a supervisor, a load balancer and Prometheus ask."""

import asyncio

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from feed.parts import feed_of
from feed.readiness import readiness_of


async def health(request: Request) -> Response:
    """Say that the feed answers; one that cannot go on ends by itself."""
    return JSONResponse({"status": "answering"})


async def readiness(request: Request) -> Response:
    """Say whether requests should come here, with status 503 if not."""
    is_ready, text = readiness_of(feed_of(request))
    return JSONResponse({"status": text}, 200 if is_ready else 503)


async def metrics(request: Request) -> Response:
    """Give Prometheus the metrics, in the format that it asks for. In a thread, for folders are looked at."""
    feed, registry = feed_of(request), request.app.state.registry
    assert isinstance(registry, CollectorRegistry)
    feed.metrics.streams.set(feed.hub.n_watches)
    feed.metrics.users.set(feed.lists.n_users())
    feed.metrics.store_bytes.set(feed.lists.n_bytes())
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(await asyncio.to_thread(encode, registry), media_type=content_type)
