"""The feed as an ASGI application: which request goes where, and what stands before all of them."""

import logging
import re
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from feed.access import Guard, Tokens
from feed.list_store import DamagedLists
from feed.metrics import FeedMetrics
from feed.openapi import openapi
from feed.parts import FeedParts, feed_of
from feed.problems import ProblemError
from feed.routes.clicks import take_clicks
from feed.routes.items import item_neighbours, popular
from feed.routes.probes import health, metrics, readiness
from feed.routes.sessions import session_recommendations
from feed.routes.users import events, recommendations
from nextclick.errors import NextclickError, PermanentError
from nextclick.settings import Settings

_log = logging.getLogger(__name__)


async def _description(request: Request) -> Response:
    return JSONResponse(openapi(needs_token=bool(feed_of(request).settings.feed_tokens_file)))


class _IdConvertor(Convertor[str]):
    """An id in a path: any text at all, with slashes and line breaks."""

    regex = "[\\s\\S]*"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("id", _IdConvertor())
ROUTES: Sequence[Route] = (
    Route("/v1/users/{user_id:id}/recommendations", recommendations, methods=["GET"]),
    Route("/v1/users/{user_id:id}/events", events, methods=["GET"]),
    Route("/v1/items/{item_id:id}/neighbours", item_neighbours, methods=["GET"]),
    Route("/v1/popular", popular, methods=["GET"]),
    Route("/v1/clicks", take_clicks, methods=["POST"]),
    Route("/v1/sessions/recommendations", session_recommendations, methods=["POST"]),
    Route("/openapi.json", _description, methods=["GET"]),
    Route("/healthz", health, methods=["GET"]),
    Route("/readyz", readiness, methods=["GET"]),
    Route("/metrics", metrics, methods=["GET"]),
)
_ALLOWED_HEADERS = ("Authorization", "Content-Type", "Idempotency-Key", "If-None-Match", "Last-Event-ID")
_CORS_MAX_AGE_S = 3_600
_ORIGIN = re.compile(r"https?://[^/?#@*\s]+", re.ASCII)


def create_app(feed: FeedParts, registry: CollectorRegistry, extra_routes: Sequence[BaseRoute] = ()) -> Starlette:
    """Make the application of a running feed.

    Args:
        feed: what the routes answer with.
        registry: of its metrics.
        extra_routes: come after its own.

    Raises:
        PermanentError: the file of tokens cannot be used, or feed_origins has something that is no origin.
    """
    app = Starlette(
        routes=[*ROUTES, *extra_routes],
        middleware=_middleware(feed.settings, feed.metrics),
        exception_handlers={
            ProblemError: _problem,
            HTTPException: _http_problem,
            ClientDisconnect: _gone,
            DamagedLists: _damaged,
        },
    )
    app.state.feed, app.state.registry = feed, registry
    for route in ROUTES:
        feed.metrics.begin_route(_path_of(route), (route.methods or set()) - {"HEAD"})
    app.router.redirect_slashes = False
    return app


def _middleware(settings: Settings, metrics: FeedMetrics) -> list[Middleware]:
    """Give what stands before the routes, outermost first: a page may read also why it was refused."""
    found = [Middleware(_Measured, metrics)]
    if settings.feed_origins:
        found.append(
            Middleware(
                CORSMiddleware,
                allow_origins=_origins(settings.feed_origins),
                allow_methods=["GET", "POST"],
                allow_headers=_ALLOWED_HEADERS,
                expose_headers=["ETag", "Retry-After"],
                max_age=_CORS_MAX_AGE_S,
            )
        )
    found.append(Middleware(_Failures))
    if settings.feed_tokens_file:
        found.append(Middleware(Guard, Tokens(Path(settings.feed_tokens_file))))
    return found


def _origins(listed: str) -> list[str]:
    """Read the setting feed_origins.

    Raises:
        PermanentError: a part of it is no origin: no page would ever match it.
    """
    origins = [origin.strip() for origin in listed.split(",")]
    for origin in origins:
        if origin != "*" and _ORIGIN.fullmatch(origin) is None:
            raise PermanentError(
                f"feed_origins has {origin!r}, which is no origin; write scheme, host and port as a browser sends "
                "them, without a path: https://shop.example or http://localhost:3000"
            )
    return origins


class _Measured:
    """Measures how long answers take, by route. Of an event stream, which ends when its client wants, only the count
    of open ones says something.
    """

    def __init__(self, app: ASGIApp, metrics: FeedMetrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, and note its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s, status = time.perf_counter(), 0

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = _route_name(scope)
            if status:
                is_stream = route.endswith("/events") and status == 200
                took_s = 0.0 if is_stream else time.perf_counter() - began_s
                self._metrics.note_request(route, scope["method"], status, took_s)


class _Failures:
    """Answers with a problem when a route fails, and says in the log where; never what a request held."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        has_begun = False

        async def noting(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as error:
            _log.error("%s failed: %s", _route_name(scope), _description_of(error))
            if not has_begun:  # else the server closes the connection: the client sees that something is missing
                problem = ProblemError("internal", "the feed's log says more; try again")
                await problem.response()(scope, receive, send)


def _description_of(error: Exception) -> str:
    """Say what failed and where. The text of an error that is none of ours can hold what a client has sent."""
    text = f" {error}" if isinstance(error, NextclickError) else ""
    frames = "".join(traceback.format_tb(error.__traceback__)).rstrip()
    return f"{type(error).__name__}{text}\n{frames}"


def _route_name(scope: Scope) -> str:
    """Name the route, never the path: it holds users' ids, and there are endless many."""
    found: Any = scope.get("route")
    return _path_of(found) if isinstance(found, Route) else "none"


def _path_of(route: Route) -> str:
    return route.path.replace(":id", "")


def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return error.response()


def _http_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 405:
        allowed = ", ".join(sorted((error.headers or {}).get("Allow", "").split(", ")))
        problem = ProblemError("method-not-allowed", f"use {allowed}", {"Allow": allowed})
    else:
        problem = ProblemError("not-found", "GET /openapi.json lists what there is")
    return problem.response()


def _gone(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


def _damaged(request: Request, error: Exception) -> Response:
    feed: FeedParts = request.app.state.feed
    feed.fail(error)
    return ProblemError("ending", "ask another instance: this one reads its lists again").response()
