"""What the demo's page is made of, and how figures reach it: only from the demo, and only the newest."""

import asyncio
import re
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import SimpleNamespace

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from demo.page_feed import FIGURES_PATH, SECRET_HEADER, FiguresSender, PageAddress, choose_address
from demo.page_figures import Curve, PageFigures
from demo.page_server import MAX_FIGURES_BYTES, NewestFigures, page_files, page_routes

SECRET = "a secret of the demo"


@pytest.fixture
def page() -> TestClient:
    return TestClient(Starlette(routes=page_routes(SECRET)))


def test_every_file_is_served_with_its_type(page: TestClient) -> None:
    """A browser refuses a module of another type."""
    types = {path: page.get(path).headers["content-type"].partition(";")[0] for path in page_files()}

    assert types["/"] == "text/html"
    assert types["/page/main.mjs"] == types["/page/theme.js"] == "text/javascript"
    assert types["/page/shop.css"] == "text/css"
    assert types["/page/icon.svg"] == "image/svg+xml"


def test_nothing_is_loaded_from_elsewhere(page: TestClient) -> None:
    """No file names another place, whatever it asks for is there, and the browser is told to refuse all else."""
    files = {path: content.decode() for path, (content, _) in page_files().items()}
    text = "".join(files.values()).replace("http://www.w3.org/2000/svg", "")
    wanted = set(re.findall(r'(?:src|href)="(/[^"]*)"', files["/"]))
    wanted |= {f"/page/{name}" for name in re.findall(r'from "\./([^"]+)"', text)}

    assert not re.search(r"https?:|//[a-z]+\.|@import|url\(", text)
    assert wanted <= files.keys()
    assert files.keys() - wanted == {"/"}
    assert "default-src 'none'; script-src 'self'; style-src 'self'" in page.get("/").headers["content-security-policy"]


def test_figures_are_taken_from_the_demo_only(page: TestClient) -> None:
    """It has the secret."""
    statuses = [
        page.post(FIGURES_PATH, content=b"{}", headers=headers).status_code
        for headers in ({}, {SECRET_HEADER: "another"}, {SECRET_HEADER: SECRET})
    ]

    assert statuses == [403, 403, 204]


def test_figures_that_are_too_large_are_refused(page: TestClient) -> None:
    """Everyone who looks would get them."""
    done = page.post(FIGURES_PATH, content=b" " * (MAX_FIGURES_BYTES + 1), headers={SECRET_HEADER: SECRET})

    assert done.status_code == 413


def test_a_stream_begins_with_what_is_there_and_ends_with_the_feed() -> None:
    """The feed waits for its streams when it ends."""
    page = Starlette(routes=page_routes(SECRET))
    page.state.feed = SimpleNamespace(is_ending=True)
    client = TestClient(page)
    client.post(FIGURES_PATH, content=b'{"a":1}', headers={SECRET_HEADER: SECRET})
    answer = client.get("/demo/events")

    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.text == 'event: figures\ndata: {"a":1}\n\n'


def test_who_is_slow_gets_the_newest_figures_only() -> None:
    """Nothing is kept for anybody."""

    async def look() -> list[bytes]:
        figures = NewestFigures()
        figures.put(b"1")
        events = figures.events(lambda: False)
        seen = [await anext(events)]
        for body in (b"2", b"3", b"4"):
            figures.put(body)
        seen.append(await anext(events))
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0)
        figures.put(b"5")
        seen.append(await waiting)
        return seen

    assert asyncio.run(look()) == [b"event: figures\ndata: %b\n\n" % number for number in (b"1", b"4", b"5")]


def test_a_port_that_is_taken_is_not_chosen() -> None:
    """Another demo may be running."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        other = choose_address(port)
    free = choose_address(port)

    assert other.port != port
    assert free.port == port
    assert other.secret != free.secret
    assert choose_address(0).port > 0


@pytest.fixture
def taker() -> Iterator[tuple[HTTPServer, list[tuple[str | None, bytes]]]]:
    """A server that takes whatever is posted, and what it got."""
    taken: list[tuple[str | None, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            taken.append((self.headers[SECRET_HEADER], self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Keep quiet."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server, taken
        server.shutdown()
        thread.join()


def test_figures_are_handed_over_with_the_secret(taker: tuple[HTTPServer, list[tuple[str | None, bytes]]]) -> None:
    """And the demo learns that the page is there."""
    server, taken = taker
    sender = FiguresSender(PageAddress(server.server_port, SECRET))
    before = sender.has_answered
    sender.send(_figures())
    _wait_for(lambda: sender.has_answered)
    sender.close()

    assert not before
    assert taken[0][0] == SECRET
    assert b'"list_length":20' in taken[0][1]


def test_a_server_that_is_away_holds_nobody_up() -> None:
    """It is being started again: the next figures find it."""
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        port = nobody.getsockname()[1]
    sender = FiguresSender(PageAddress(port, SECRET))
    for _ in range(100):
        sender.send(_figures())
    sender.close()

    assert not sender.has_answered


def _figures() -> PageFigures:
    return PageFigures(1.0, 20, 0, 0, 0, 0, 0, "", 0, None, 0, None, Curve([], []))


def _wait_for(condition: Callable[[], bool]) -> None:
    done = threading.Event()
    for _ in range(500):
        if condition():
            return
        done.wait(0.01)
    pytest.fail("the server took nothing within 5 s")
