"""The small HTTP server of whatever runs for long: /metrics for Prometheus, /healthz and /readyz for a supervisor.

/healthz says whether the process must be restarted, /readyz whether it does its work: one that restores states is
healthy and not yet ready.
"""

import contextlib
import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

from nextclick.errors import PermanentError

Health = Callable[[], tuple[bool, str]]

MAX_CLIENTS = 32  # at once, each with a thread: a few scrapers and probes; when one more comes, the oldest is cut off
CLIENT_S = 10.0  # an answer takes milliseconds: a client that takes longer than this is cut off

_log = logging.getLogger(__name__)


class HttpEndpoint:
    """A running server.

    Attributes:
        port: where it listens, on all interfaces.
    """

    def __init__(self, port: int, registry: CollectorRegistry, health: Health, ready: Health) -> None:
        answers = {"/metrics": make_wsgi_app(registry), "/healthz": _probe(health), "/readyz": _probe(ready)}

        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
            try:
                return answers.get(environ["PATH_INFO"], _not_found)(environ, start_response)
            except Exception:
                _log.exception("the request for %s could not be answered", environ["PATH_INFO"])
                start_response("500 Internal Server Error", [])
                return []

        self._server = make_server("", port, answer, _Server, _QuietHandler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _probe(ask: Health) -> WSGIApplication:
    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        good, text = ask()
        start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps({"status": text}).encode()]

    return answer


def _not_found(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("404 Not Found", [("Content-Type", "text/plain")])
    return [b"there are /metrics, /healthz or /readyz\n"]


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: a scrape every few seconds is no news."""


class _Server(ThreadingWSGIServer):
    """Answers each client in a thread of its own, and cuts off those that would keep theirs for long.

    What a client may send is bounded by `http.server`: lines of 64 KiB, 100 headers; a body is never read.
    """

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self._since_s: dict[socket.socket, float] = {}  # oldest first
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if len(self._since_s) >= MAX_CLIENTS:
            self._cut_off(next(iter(self._since_s.copy()), request))
        self._since_s[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._since_s.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Look twice a second who has been here too long."""
        for request, since_s in self._since_s.copy().items():
            if time.monotonic() - since_s > CLIENT_S:
                self._cut_off(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep quiet, nearly: a client that went away is no news."""
        _log.debug("a client could not be answered", exc_info=True)

    def _cut_off(self, request: socket.socket) -> None:
        self._since_s.pop(request, None)
        with contextlib.suppress(OSError):  # it ended by itself
            request.shutdown(socket.SHUT_RDWR)  # its thread reads the end, and ends


def start_http(port: int, registry: CollectorRegistry, health: Health, ready: Health) -> HttpEndpoint:
    """Serve metrics, health and readiness in a thread of its own.

    Args:
        port: 0 picks a free one.
        registry: what /metrics shows.
        health: called per request to /healthz; gives whether the process may go on, and a line about it.
        ready: the same for /readyz; gives whether it does its work now.

    Raises:
        PermanentError: the port cannot be used.
    """
    try:
        return HttpEndpoint(port, registry, health, ready)
    except OSError as error:
        raise PermanentError(
            f"port {port} cannot be used for /metrics, /healthz and /readyz: {error.strerror}; "
            "choose another with --set worker_port=N, trainer_port=N or rekey_port=N, or 0 for any"
        ) from error
