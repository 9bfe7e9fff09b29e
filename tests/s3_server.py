"""An S3 API in a process of its own (moto), and a network in between that goes wrong."""

import http.client
import math
import os
import random
import socket
import struct
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

BUCKET = "shop"
START_S = 60.0
_HANG_S = 3.0
_SERVER = [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p"]


def environment_of(port: int) -> dict[str, str]:
    """What a client reads to find the server that listens on a port of this machine."""
    return {
        "AWS_ACCESS_KEY_ID": "key-of-a-test",
        "AWS_SECRET_ACCESS_KEY": "secret-of-a-test",
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
    }


@contextmanager
def s3_server(log: Path) -> Iterator[int]:
    """Run the server, with one bucket; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    with log.open("wb") as output, subprocess.Popen([*_SERVER, str(port)], stdout=output, stderr=output) as process:
        try:
            _make_bucket(port, process)
            yield port
        finally:
            process.kill()


def _make_bucket(port: int, process: "subprocess.Popen[bytes]") -> None:
    end_s = time.monotonic() + START_S
    while True:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
            with urllib.request.urlopen(request, timeout=START_S):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, "the server has ended"
            assert time.monotonic() < end_s, "the server does not answer"
            time.sleep(0.1)


class FaultyNetwork:
    """Forwards requests to a server, and lets some go wrong; a context manager.

    The kinds of faults: `error` (a 500), `busy` (a 503), `reset` (the connection is cut before the server has seen all
    of it), `lost` (the server did what was asked, and nobody hears of it), `half` (an answer breaks off), `short` (half
    an object comes as if it were whole), `hang` (nothing comes for seconds).

    Attributes:
        port: where it listens.
        share: kind of fault to the share of requests that it hits.
        is_away: every connection is cut.
        delay_s: that every request takes longer.
        bytes_per_s: that can be sent, by all requests together.
        n_faults: by kind.
        n_objects: how often an object's content was asked for, by its path.
    """

    def __init__(self, target: int, seed: int = 0) -> None:
        self.share: Mapping[str, float] = {}
        self.is_away, self.delay_s, self.bytes_per_s = False, 0.0, math.inf
        self.n_faults: Counter[str] = Counter()
        self.n_objects: Counter[str] = Counter()
        self.target = target
        self._rng, self._lock, self._line = random.Random(seed), Lock(), Lock()
        network = self

        class Handler(_Handler):
            faults = network

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = int(self._server.server_port)

    def __enter__(self) -> "FaultyNetwork":
        Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def carry(self, n_bytes: int) -> None:
        """Take as long as the line takes for so much, while nothing else is on it."""
        with self._line:
            time.sleep(n_bytes / self.bytes_per_s)

    def fault(self, method: str, path: str) -> str:
        """Decide what happens to a request; empty: nothing."""
        with self._lock:
            is_object = method == "GET" and "?" not in path and path.count("/") > 1
            self.n_objects[path] += is_object
            if self.is_away:
                return "reset"
            possible = [kind for kind in self.share if kind != "short" or is_object]
            if self._rng.random() >= sum(self.share[kind] for kind in possible):
                return ""
            # Which one is not drawn: so even a rare kind comes in a short test.
            kind = min(possible, key=lambda kind: self.n_faults[kind] / self.share[kind])
            self.n_faults[kind] += 1
            return kind


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing: clients that are killed cut their connections, too."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    faults: FaultyNetwork

    def do_GET(self) -> None:
        self._answer()

    do_PUT = do_POST = do_DELETE = do_HEAD = do_GET

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self) -> None:
        fault = self.faults.fault(self.command, self.path)
        time.sleep(self.faults.delay_s)
        n_bytes = int(self.headers.get("Content-Length", 0))
        if fault == "reset":
            self.rfile.read(n_bytes // 2)
            self._reset()
            return
        body = self.rfile.read(n_bytes)
        self.faults.carry(n_bytes)
        if fault == "hang":
            time.sleep(_HANG_S)
            self._reset()
        elif fault in ("error", "busy"):
            self._send(500 if fault == "error" else 503, [], b"<Error><Code>InternalError</Code></Error>")
        else:
            status, headers, answer = self._forwarded(body)
            if fault == "lost":
                self._reset()
            elif fault == "short":
                self._send(status, headers, answer[: len(answer) // 2])
            else:
                self._send(status, headers, answer, is_half=fault == "half")

    def _forwarded(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        server = http.client.HTTPConnection("127.0.0.1", self.faults.target, timeout=30)
        try:
            server.request(self.command, self.path, body, dict(self.headers))
            response = server.getresponse()
            dropped = ("content-length", "connection", "transfer-encoding", "server", "date")
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in dropped]
            answer = response.read()
            if self.command == "HEAD":
                headers.append(("Content-Length", response.getheader("Content-Length") or "0"))
            return response.status, headers, answer
        finally:
            server.close()

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes, *, is_half: bool = False) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        if self.command != "HEAD" and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if is_half else body)
        if is_half:
            self._reset()

    def _reset(self) -> None:
        """Cut the connection without a word."""
        self.wfile.flush()
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close_connection = True
        self.connection.close()


FAULTS = {"error": 0.03, "busy": 0.03, "reset": 0.03, "lost": 0.03, "half": 0.03, "short": 0.03}


@contextmanager
def told_to_clients(port: int) -> Iterator[None]:
    """Let clients in this process find a server."""
    before = dict(os.environ)
    os.environ.update(environment_of(port))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
