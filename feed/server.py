"""The HTTP server of a feed: where it listens, TLS, and the bounds of a connection.

uvicorn bounds neither how long the head of a request may be nor how long it may take, and waits for ever for a client
that does not read. Here each of these ends the connection.
"""

import asyncio
import contextlib
import resource
import signal
import socket
import ssl
from asyncio.events import TimerHandle
from collections.abc import Callable
from types import FrameType
from typing import Any

import httptools
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nextclick.errors import PermanentError
from nextclick.settings import Settings

MAX_HEAD_BYTES = 64 * 1024  # request line and headers: room for a thousand items in `exclude`
MAX_PIPELINED = 64  # requests that wait behind another one of their connection: each takes some KB
HEAD_S = 15.0  # for the head of a request, and for what is left of a body that nobody reads
_UNREAD_S = 60  # a client that takes nothing for so long is cut off by the system
_DRAIN_S = 6  # for requests that are being answered; `docker stop` kills after 10 s
_KEEP_ALIVE_S = 75  # longer than load balancers keep idle connections, so that these close them
_BACKLOG = 4_096
_TOO_LONG = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class FeedServer(uvicorn.Server):
    """Ends the streams when it is told to end: it waits for every response, and these end by themselves never."""

    def __init__(self, config: uvicorn.Config, before_end: Callable[[], None]) -> None:
        super().__init__(config)
        self._before_end = before_end
        self._loop = asyncio.get_running_loop()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to end; the second time, at once. The signal is not raised again, as uvicorn does: a feed that was
        asked to end has done well.
        """
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True
        self._loop.call_soon_threadsafe(self._before_end)


class BoundedProtocol(HttpToolsProtocol):
    """One connection, whose client has so long, and so many bytes, for what it is expected to send."""

    _deadline: TimerHandle | None = None
    _head_bytes = 0
    _in_head = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Expect a request."""
        super().connection_made(transport)
        self.access_log = False  # whoever listens to uvicorn's loggers: these lines hold users' ids
        self._expect(HEAD_S)

    def connection_lost(self, exc: Exception | None) -> None:
        """Expect nothing any more."""
        self._expect(None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes. What is no whole head yet has its time and its length; most come whole, and need no clock."""
        super().data_received(data)
        if self._in_head:
            if self._deadline is None:
                self._expect(HEAD_S)
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response("")

    def on_message_begin(self) -> None:
        """Begin with the head of a request."""
        self._in_head, self._head_bytes = True, 0
        self._expect(None)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Let the request be answered, which reads the body in its own time."""
        self._in_head = False
        self._expect(None)
        self._head_bytes = len(self.url) + sum(len(name) + len(value) + 4 for name, value in self.headers)
        if self._head_bytes > MAX_HEAD_BYTES or len(self.pipeline) >= MAX_PIPELINED:
            raise httptools.HttpParserError("too long, or too many at once")
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect another request, if this one is answered already."""
        if self.cycle.response_complete:
            self._expect(_KEEP_ALIVE_S)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Expect the rest of a body that was answered without being read."""
        if self.cycle.more_body:
            self._expect(HEAD_S)
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed, or is too long."""
        if self._head_bytes > MAX_HEAD_BYTES:
            self.transport.write(_TOO_LONG)
            self.transport.close()
        else:
            super().send_400_response(msg)

    def _expect(self, within_s: float | None) -> None:
        """Close the connection when the time is over; None: there is no hurry."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(within_s, self.transport.close) if within_s is not None else None


def server_config(app: ASGIApp, tls: dict[str, Any]) -> uvicorn.Config:
    """Give the configuration of the server.

    Args:
        app: what answers.
        tls: as `tls_files` gives it.
    """
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=_DRAIN_S,
        **tls,
    )


def tls_files(settings: Settings) -> dict[str, Any]:
    """Give the certificate and the key of HTTPS, as uvicorn names them; empty without.

    Raises:
        PermanentError: one is missing, or they cannot be used.
    """
    certificate, key = settings.feed_tls_certificate_file, settings.feed_tls_key_file
    if bool(certificate) != bool(key):
        raise PermanentError(
            "feed_tls_certificate_file and feed_tls_key_file belong together, and one of them is empty; set both or "
            "none"
        )
    if not certificate:
        return {}
    try:
        # No password: without one, OpenSSL would ask at the terminal, and wait.
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(certificate, key, password="")
    except OSError as error:  # ssl.SSLError is one, too
        raise PermanentError(
            f"the feed's certificate {certificate} and key {key} cannot be used: {error.strerror or error}; both must "
            "be PEM files, the key without a password"
        ) from error
    return {"ssl_certfile": certificate, "ssl_keyfile": key}


def listening_socket(settings: Settings) -> socket.socket:
    """Listen where the settings say.

    Raises:
        PermanentError: the address cannot be used.
    """
    host, port = settings.feed_host, settings.feed_port
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listening = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise PermanentError(
            f"{host}:{port} cannot be used for the feed: {error.strerror or error}; choose another with --set "
            "feed_port=N (0 for any) or feed_host"
        ) from error
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; those that are accepted inherit it
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_S * 1000)
    return listening


def allow_many_connections() -> None:
    """Let the process open as many files as it may: each connection is one, and a shell's limit is often 1,024."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
