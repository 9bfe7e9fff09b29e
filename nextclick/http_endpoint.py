"""The small HTTP server of worker and trainer: GET /metrics for Prometheus, GET /healthz for a supervisor."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from nextclick.errors import PermanentError

Health = Callable[[], tuple[bool, str]]


class HttpEndpoint:
    """A running server.

    Attributes:
        port: where it listens, on all interfaces.
    """

    def __init__(self, port: int, registry: CollectorRegistry, health: Health) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif self.path == "/healthz":
                    healthy, text = health()
                    self._answer(200 if healthy else 503, "application/json", json.dumps({"status": text}).encode())
                else:
                    self._answer(404, "text/plain", b"expected /metrics or /healthz\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Keep quiet: a scrape every few seconds is no news."""

        self._server = ThreadingHTTPServer(("", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="http", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def start_http(port: int, registry: CollectorRegistry, health: Health) -> HttpEndpoint:
    """Serve metrics and health in a thread of its own.

    Args:
        port: 0 picks a free one.
        registry: what /metrics shows.
        health: called per request to /healthz; gives whether all is well, and a line about it.

    Raises:
        PermanentError: the port cannot be used.
    """
    try:
        return HttpEndpoint(port, registry, health)
    except OSError as error:
        raise PermanentError(
            f"expected port {port} to be free for /metrics and /healthz, found: {error.strerror}; "
            "choose another with --set worker_port=N or --set trainer_port=N, or 0 for any"
        ) from error
