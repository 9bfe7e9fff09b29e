"""The small HTTP server: metrics for Prometheus, health for a supervisor."""

import contextlib
import json
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from nextclick.errors import PermanentError
from tools.http_endpoint import MAX_CLIENTS, Health, HttpEndpoint, start_http


def test_metrics_are_those_of_the_registry() -> None:
    """In Prometheus' text form, as they are now."""
    registry = CollectorRegistry()
    counter = Counter("clicks", "Clicks that were seen.", registry=registry)
    with _endpoint(registry=registry) as http:
        counter.inc(3)
        status, content_type, body = _get(http, "/metrics")

    values = {
        sample.name: sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }
    assert status == 200
    assert content_type.startswith("text/plain")
    assert values["clicks_total"] == 3


@pytest.mark.parametrize("probe", ["health", "ready"])
def test_health_and_readiness_are_each_a_status_and_a_line(probe: str) -> None:
    """A supervisor looks at the status, a person at the line; it is asked for anew every time."""
    answers = iter([(True, 'serving "x"'), (False, "stalled")])
    with _endpoint(**{probe: lambda: next(answers)}) as http:
        path = {"health": "/healthz", "ready": "/readyz"}[probe]
        first, second = _get(http, path), _get(http, path)

    assert first[:2] == (200, "application/json")
    assert json.loads(first[2]) == {"status": 'serving "x"'}
    assert second[:2] == (503, "application/json")
    assert json.loads(second[2]) == {"status": "stalled"}


def test_a_process_that_starts_is_healthy_and_not_ready() -> None:
    """A supervisor that restarted whatever is not ready would never let it finish."""
    with _endpoint(health=lambda: (True, "running"), ready=lambda: (False, "restoring states")) as http:
        health, ready = _get(http, "/healthz"), _get(http, "/readyz")

    assert (health[0], json.loads(health[2])) == (200, {"status": "running"})
    assert (ready[0], json.loads(ready[2])) == (503, {"status": "restoring states"})


def test_other_paths_say_what_there_is() -> None:
    """Nothing else is served."""
    with _endpoint() as http:
        for path in ("/", "/metrics/", "/healthz/../metrics", "/readyzz", "/favicon.ico"):
            status, _, body = _get(http, path)

            assert status == 404
            assert b"/metrics, /healthz or /readyz" in body


def test_an_answer_that_fails_is_an_error_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A supervisor sees that something is wrong, the log says what, and the next request is answered."""

    def health() -> tuple[bool, str]:
        raise ZeroDivisionError

    with _endpoint(health) as http:
        failed, after = _get(http, "/healthz"), _get(http, "/readyz")

    assert (failed[0], after[0]) == (500, 200)
    assert "/healthz could not be answered" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_one_metric_can_be_asked_for() -> None:
    """A query does not make another path of it."""
    registry = CollectorRegistry()
    for name in ("clicks", "updates"):
        Counter(name, "Counted.", registry=registry).inc()
    with _endpoint(registry=registry) as http:
        status, _, body = _get(http, "/metrics?name[]=clicks_total")

    assert status == 200
    assert b"clicks_total 1.0" in body
    assert b"updates_total" not in body


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """A scrape every few seconds is no news."""
    with _endpoint() as http:
        _get(http, "/metrics")
        _get(http, "/nowhere")

    assert capfd.readouterr() == ("", "")


def test_a_port_in_use_is_refused_and_says_what_to_do() -> None:
    """One line that names the port and the settings."""
    with _endpoint() as http, pytest.raises(PermanentError) as refused:
        start_http(http.port, CollectorRegistry(), lambda: (True, ""), lambda: (True, ""))

    message = str(refused.value)
    assert f"port {http.port} cannot be used" in message
    assert "--set worker_port=N" in message
    assert "\n" not in message


def test_a_closed_endpoint_frees_its_port() -> None:
    """A worker that starts again at once finds it free."""
    with _endpoint() as first:
        _get(first, "/healthz")

    second = start_http(first.port, CollectorRegistry(), lambda: (True, ""), lambda: (True, ""))

    assert second.port == first.port
    second.close()


def test_slow_clients_do_not_keep_others_waiting() -> None:
    """However many hold on to a request that they never finish, the next scrape is answered."""
    with _endpoint() as http, contextlib.ExitStack() as clients:
        for _ in range(3 * MAX_CLIENTS):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", http.port), timeout=10))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: ")

            assert _get(http, "/healthz")[0] == 200
        threads = [thread for thread in threading.enumerate() if "process_request" in thread.name]

    assert len(threads) <= MAX_CLIENTS + 2


def test_a_client_that_takes_too_long_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also one that sends a byte now and then, which no time limit per read would notice."""
    monkeypatch.setattr("tools.http_endpoint.CLIENT_S", 0.2)
    with _endpoint() as http, socket.create_connection(("127.0.0.1", http.port), timeout=0.05) as client:
        deadline_s = time.monotonic() + 30
        cut_off = False
        while not cut_off and time.monotonic() < deadline_s:
            with contextlib.suppress(TimeoutError):
                try:
                    client.sendall(b"G")
                    cut_off = client.recv(1) == b""
                except ConnectionError:
                    cut_off = True

    assert cut_off


def test_a_client_that_goes_away_is_no_news(capfd: pytest.CaptureFixture[str]) -> None:
    """It was cut off, or did not wait for the answer: the server goes on and prints nothing."""
    gone = threading.Event()
    answered = threading.Event()

    def health() -> tuple[bool, str]:
        gone.wait(30)
        answered.set()
        return True, "x" * 1_000_000

    with _endpoint(health) as http:
        with socket.create_connection(("127.0.0.1", http.port)) as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # ends with a reset
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        gone.set()
        assert answered.wait(30)

        assert _get(http, "/healthz")[0] == 200
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"\0" * 100_000,
        b"GET " + b"/" * 100_000,
        b"GET /metrics HTTP/1.1\r\n" + b"a: b\r\n" * 1_000,
        b"GET /metrics HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
        b"POST /healthz HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n",
        b"GET /metrics HTTP/99999999.9\r\n\r\n",
        b"\xff\xfe\r\n\r\n",
    ],
)
def test_what_is_no_request_is_answered_and_forgotten(request_bytes: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    """Sizes are bounded, bodies are never read, and the next request is answered."""
    with _endpoint() as http:
        client = socket.create_connection(("127.0.0.1", http.port), timeout=10)
        with client, contextlib.suppress(OSError):  # answered, and closed, before all of it was read
            client.sendall(request_bytes)
            client.shutdown(socket.SHUT_WR)
            while client.recv(65_536):
                pass

        assert _get(http, "/healthz")[0] == 200
    assert capfd.readouterr() == ("", "")


@contextmanager
def _endpoint(
    health: Health = lambda: (True, "fine"),
    ready: Health = lambda: (True, "fine"),
    registry: CollectorRegistry | None = None,
) -> Iterator[HttpEndpoint]:
    http = start_http(0, registry or CollectorRegistry(), health, ready)
    try:
        yield http
    finally:
        http.close()


def _get(http: HttpEndpoint, path: str) -> tuple[int, str, bytes]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{http.port}{path}", timeout=10) as response:
            return response.status, response.headers["Content-Type"], response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read()
