"""The demo's page: static files and the demo's figures, as routes beside those of the feed."""

import asyncio
import hmac
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from demo.page_feed import FIGURES_PATH, SECRET_HEADER, SECRET_VARIABLE
from feed.parts import feed_of
from feed.service import run_feed
from nextclick.errors import NextclickError
from nextclick.setting_sources import given_settings
from nextclick.settings import Settings
from tools.logs import set_up_logs

MAX_FIGURES_BYTES = 256 * 1024  # a long curve is 15 KB
_LOOK_S = 0.5  # between two looks whether the feed is ending
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
# The page needs nothing but what comes from here, and says so to the browser.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-cache",  # asked for anew each time: another version of the demo may run at this address
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


class NewestFigures:
    """The newest figures, for everyone who looks. Lives on the event loop."""

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self._body = b""

    def put(self, body: bytes) -> None:
        """Take figures, and tell all who wait."""
        self._body = body
        self._changed.set()
        self._changed = asyncio.Event()

    async def events(self, is_ending: Callable[[], bool]) -> AsyncIterator[bytes]:
        """Give server-sent events: the newest figures now, and then whenever there are new ones.

        Args:
            is_ending: asked twice a second, and after it nothing more comes: whoever ends waits for this.
        """
        changed = self._changed
        if self._body:
            yield self._event()
        while not is_ending():
            try:
                async with asyncio.timeout(_LOOK_S):
                    await changed.wait()
            except TimeoutError:
                continue
            changed = self._changed
            yield self._event()

    def _event(self) -> bytes:
        return b"event: figures\ndata: " + self._body + b"\n\n"


def page_routes(secret: str) -> list[BaseRoute]:
    """Give the routes of the page.

    Args:
        secret: what the demo sends with its figures; nobody else can send any.
    """
    figures = NewestFigures()

    async def events(request: Request) -> Response:
        feed = feed_of(request)
        return StreamingResponse(
            figures.events(lambda: feed.is_ending),
            media_type="text/event-stream",
            headers={"Cache-Control": "no-store"},
        )

    async def take_figures(request: Request) -> Response:
        if not hmac.compare_digest(request.headers.get(SECRET_HEADER, "").encode(), secret.encode()):
            return Response("only the demo sends figures\n", 403, media_type="text/plain")
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > MAX_FIGURES_BYTES:
                return Response(f"expected at most {MAX_FIGURES_BYTES} bytes\n", 413, media_type="text/plain")
        figures.put(bytes(body))
        return Response(status_code=204)

    return [
        *(Route(path, _static(content, media_type)) for path, (content, media_type) in page_files().items()),
        Route("/demo/events", events),
        Route(FIGURES_PATH, take_figures, methods=["POST"]),
    ]


def page_files() -> dict[str, tuple[bytes, str]]:
    """Give the files of the page by the path at which they are served, with their types."""
    folder: Traversable = files("demo") / "page"
    served = {}
    for file in folder.iterdir():
        media_type = _TYPES[os.path.splitext(file.name)[1]]
        served["/" if file.name == "index.html" else f"/page/{file.name}"] = (file.read_bytes(), media_type)
    return served


def _static(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        return Response(content, media_type=media_type, headers=_HEADERS)

    return answer


def main() -> None:
    """Serve the feed and the page until a signal; settings and the secret come from the environment."""
    set_up_logs("feed")
    try:
        run_feed(Settings.of(given_settings(os.environ, {}, None)), page_routes(os.environ[SECRET_VARIABLE]))
    except NextclickError as error:
        sys.exit(f"nextclick: {error}")
