"""The module that a web page follows recommendations with, against a server of server-sent events."""

import http.server
import json
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.examples import USER_LISTS
from tests.node_packages import node_program

MODULE = Path(__file__).parents[2] / "docs" / "integrate" / "browser" / "recommendations.mjs"
CLIENT = Path(__file__).parents[1] / "browser_client"
LISTS = [USER_LISTS[0] | {"sequence": sequence} for sequence in (12, 13, 14)]


class OneListEach(http.server.BaseHTTPRequestHandler):
    """Sends the list behind the one that the client had last, and drops the connection."""

    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        """Answer with one event, and what a client must pass over."""
        last = self.headers.get("Last-Event-ID")
        self.asked.append((self.path, last))
        due = LISTS[int(last or 11) - 11]
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.wfile.write(b": heartbeat\n\nevent: other\ndata: {}\n\n")
        event = f"retry: 10\nid: {due['sequence']}\nevent: recommendations\ndata: {json.dumps(due)}\n\n"
        self.wfile.write(event.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[http.server.ThreadingHTTPServer]:
    """A server that runs while the test does."""
    OneListEach.asked = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), OneListEach) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_page_gets_each_list_though_the_connection_drops(server: http.server.ThreadingHTTPServer) -> None:
    """It connects again by itself and says what it had last."""
    program = node_program(CLIENT)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    command = ["node", program / "follow.mjs", MODULE, address, "ann/é", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)

    assert [json.loads(line) for line in done.stdout.splitlines()] == LISTS
    path = "/v1/users/ann%2F%C3%A9/events?limit=3"
    assert OneListEach.asked == [(path, None), (path, "12"), (path, "13")]
