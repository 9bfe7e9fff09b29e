"""The Python client, against a feed in this process, and against servers that fail as a test wants."""

import asyncio
import inspect
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, closing
from pathlib import Path

import pytest

import feed.event_stream
from nextclick.client import AsyncFeed, Feed, FeedError
from nextclick.feed_types import ClickIn, SessionClick, UserList
from tests.served_feed import ITEMS, ServedFeed, update

LIST = b'{"user_id":"a","items":[],"strategy":"rnn","bundle_id":"","sequence":%d,"clicked_at_ms":0,"produced_at_ms":0'
LIST += b',"age_ms":0}'
TAKEN = b'{"clicks":[{"partition":1,"offset":7}]}'


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedFeed]:
    """A feed that knows ann, and what is popular."""
    with ServedFeed(tmp_path_factory.mktemp("feed")) as served:
        served.store(update("ann", 3), update("ben", 1, ["top"], "popular"))
        yield served


class Scripted:
    """A server that answers each connection as it is told, or closes it, and keeps what was asked."""

    def __init__(self, *answers: bytes) -> None:
        self._answers = answers
        self.asked: list[bytes] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        with self._listening:
            for answer in self._answers:
                connection, _ = self._listening.accept()
                with connection:
                    self.asked.append(read_request(connection))
                    connection.sendall(answer)


def read_request(connection: socket.socket) -> bytes:
    """Read a request to its end."""
    asked = b""
    while b"\r\n\r\n" not in asked:
        asked += connection.recv(65_536)
    head, _, body = asked.partition(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head.lower())
    while length is not None and len(body) < int(length[1]):
        body += connection.recv(65_536)
    return head + b"\r\n\r\n" + body


def ok(body: bytes, media_type: bytes = b"application/json") -> bytes:
    """A whole answer, after which the connection ends."""
    return b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\nconnection: close\r\n\r\n%b" % (media_type, body)


def event(sequence: int) -> bytes:
    """As a feed sends it."""
    return b"id: %d-2-%d0\nevent: recommendations\ndata: %b\n\n" % (sequence, sequence, LIST % sequence)


def test_every_route_of_reading(served: ServedFeed) -> None:
    """As types; ids may hold anything."""
    with Feed(served.url) as client:
        listed = client.recommendations("ann", limit=2, exclude=[ITEMS[0], f"none,{ITEMS[1]}"])
        names = ["..", ".", "a/b", "a?b#c%2F", "line\nbreak", "\U0001f600", "x" * 256]
        echoed = [client.recommendations(name).user_id for name in names]
        popular = client.popular(limit=1)
        anonymous = client.session([SessionClick("a"), SessionClick("b")])

    assert (listed.sequence, listed.strategy) == (3, "rnn")
    assert [item.item_id for item in listed.items] == ITEMS[1:3]
    assert echoed == names
    assert [item.item_id for item in popular.items] == ["top"]
    assert (anonymous.strategy, anonymous.sequence) == ("popular", 2)


def test_the_same_from_an_event_loop(served: ServedFeed) -> None:
    """All at once, if one likes."""

    async def ask() -> list[UserList]:
        async with AsyncFeed(served.url) as client:
            assert (await client.popular()).items
            assert (await client.session([SessionClick("a")])).items
            with pytest.raises(FeedError):
                await client.neighbours("a" * 300)
            return await asyncio.gather(*(client.recommendations("ann", limit=n) for n in (1, 2)))

    assert [len(listed.items) for listed in asyncio.run(ask())] == [1, 2]


def test_a_refusal_says_what_the_feed_says(served: ServedFeed) -> None:
    """At once: what will stay is not tried again."""
    with Feed(served.url) as client, pytest.raises(FeedError, match="limit must be a number") as raised:
        client.recommendations("ann", limit=0)

    assert (raised.value.problem.status, raised.value.problem.type) == (400, "urn:nextclick:problem:bad-request")


def test_what_passes_is_waited_for(tmp_path: Path) -> None:
    """A feed that has nothing yet to answer from has something a moment later."""
    with ServedFeed(tmp_path) as served, Feed(served.url, retries=5) as client:
        threading.Timer(0.3, served.store, [update("ben", 1, ["top"], "popular")]).start()

        assert client.popular().items[0].item_id == "top"


def test_a_click_is_sent_again_under_the_same_key() -> None:
    """So that workers apply it once; each click has a key of its own."""
    server = Scripted(b"", ok(TAKEN), ok(TAKEN))
    with Feed(server.url) as client:
        taken = [client.click("ann", "lamp") for _ in range(2)]
    keys = [
        next(line for line in asked.split(b"\r\n") if line.lower().startswith(b"idempotency-key"))
        for asked in server.asked
    ]

    assert [click.offset for each in taken for click in each.clicks] == [7, 7]
    assert keys[0] == keys[1] != keys[2]
    assert b'[{"user_id":"ann","item_id":"lamp","event_type":"view"}]' in server.asked[0]


def test_where_no_ids_are_known_a_click_is_sent_once_and_without() -> None:
    """And the error says that it is not known whether it has arrived."""
    server = Scripted(b"", ok(TAKEN))
    with Feed(server.url, retries=0) as client:
        with pytest.raises(FeedError, match="does not answer") as raised:
            client.clicks([ClickIn("ann", "lamp", event_id="e-1")], wait_s=0.25)
        client.click("ann", "lamp", event_id="e-2")

    assert raised.value.problem.status == 0
    assert [b"dempotency" in asked for asked in server.asked] == [False, False]
    assert b"wait=250ms" in server.asked[0]
    assert b'"event_id":"e-2"' in server.asked[1]


def test_who_does_not_want_to_wait_can_say_so_as_a_number() -> None:
    """And the shortest time is still one."""
    server = Scripted(*[ok(TAKEN)] * 3)
    with Feed(server.url) as client:
        for wait_s in (0.0, None, 0.0001):
            client.click("ann", "lamp", wait_s=wait_s)

    assert [b"wait=" in asked for asked in server.asked] == [False, False, True]
    assert b"wait=1ms" in server.asked[2]


def test_what_is_no_answer_of_a_feed_is_said() -> None:
    """A proxy's page, say."""
    with Feed(Scripted(ok(b"<html>hello")).url) as client, pytest.raises(FeedError, match="<html>hello"):
        client.popular()


def test_an_answer_that_does_not_come_is_not_waited_for_longer_than_said() -> None:
    """The timeout is of each try."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        began_s = time.monotonic()
        with Feed(url, timeout_s=0.1, retries=1) as client, pytest.raises(FeedError, match="Timeout"):
            client.popular()

    assert time.monotonic() - began_s < 2.0


def test_events_go_on_at_another_instance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what is newer, after the pause that the feed asked for."""
    monkeypatch.setattr(feed.event_stream, "RETRY_MS", 20)
    one = ServedFeed(tmp_path / "one").__enter__()
    with Feed(one.url) as client, closing(client.events("ann", limit=1)) as lists:
        one.store(update("ann", 3))
        first = [next(lists)]
        one.store(update("ann", 4))
        first.append(next(lists))
        one.__exit__()
        with ServedFeed(tmp_path / "two", feed_port=one.port) as two:
            two.store(update("ann", 4))
            threading.Timer(0.3, two.store, [update("ann", 5)]).start()
            second = next(lists)

    assert [listed.sequence for listed in first] == [3, 4]
    assert second.sequence == 5
    assert len(second.items) == 1


def test_an_older_list_is_never_given_after_a_newer_one() -> None:
    """Whoever sends it: another instance that is behind, and asks nobody for the last event."""
    begin = b"retry: 1\n\n"
    popular = b"event: recommendations\ndata: %b\n\n" % (LIST % 0)
    streams = (popular + event(3) + event(2), popular + event(2) + event(3), b": heartbeat\n\n" + event(4))
    server = Scripted(*(ok(begin + stream, b"text/event-stream") for stream in streams))
    with Feed(server.url) as client, closing(client.events("a")) as lists:
        found = [next(lists).sequence for _ in range(3)]

    assert found == [0, 3, 4]
    assert [b"last-event-id: 3-2-30" in asked.lower() for asked in server.asked] == [False, True, True]


def test_events_on_an_event_loop(served: ServedFeed) -> None:
    """And what will not pass ends them."""

    async def follow() -> list[int]:
        async with AsyncFeed(served.url) as client:
            async with aclosing(client.events("eve")) as lists:
                found = [(await anext(lists)).sequence]
                served.store(update("eve", 1))
                found.append((await anext(lists)).sequence)
            async with aclosing(client.events("x" * 300)) as lists:
                with pytest.raises(FeedError, match="300 characters"):
                    await anext(lists)
            return found

    assert asyncio.run(follow()) == [0, 1]


def test_many_streams_are_open_at_once(served: ServedFeed) -> None:
    """None waits for another one's connection."""

    async def first(client: AsyncFeed, others: asyncio.Barrier) -> int:
        async with aclosing(client.events("ann")) as lists:
            listed = await anext(lists)
            await others.wait()
            return listed.sequence

    async def follow() -> list[int]:
        async with asyncio.timeout(30), AsyncFeed(served.url) as client:
            others = asyncio.Barrier(110)
            return await asyncio.gather(*(first(client, others) for _ in range(110)))

    assert asyncio.run(follow()) == [3] * 110


def test_help_shows_what_a_method_takes_and_gives() -> None:
    """As if it were written there."""
    assert "(self, /, user_id: str, *, limit: int = 20" in str(inspect.signature(Feed.recommendations))
    assert Feed.click.__doc__ is not None
