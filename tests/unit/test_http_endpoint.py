"""The small HTTP server: metrics for Prometheus, health for a supervisor."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from nextclick.errors import PermanentError
from nextclick.http_endpoint import Health, HttpEndpoint, start_http


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
        for path in ("/", "/metrics/", "/healthz/../metrics", "/readyz?", "/favicon.ico"):
            status, _, body = _get(http, path)

            assert status == 404
            assert b"/metrics, /healthz or /readyz" in body


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
    assert f"expected port {http.port} to be free" in message
    assert "--set worker_port=N" in message
    assert "\n" not in message


def test_a_closed_endpoint_frees_its_port() -> None:
    """A worker that starts again at once finds it free."""
    with _endpoint() as first:
        _get(first, "/healthz")

    second = start_http(first.port, CollectorRegistry(), lambda: (True, ""), lambda: (True, ""))

    assert second.port == first.port
    second.close()


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
