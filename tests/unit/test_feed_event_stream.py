"""The stream of a user's lists, as bytes on the wire."""

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from prometheus_client import CollectorRegistry

import feed.event_stream
from feed.event_stream import EventStream
from feed.hub import Hub, NewList
from feed.metrics import FeedMetrics
from feed.user_lists import Choice, popular_for, user_list
from nextclick.feed_types import UserList
from nextclick.newer import head_of
from nextclick.updates import AnsweredClick, Recommendation, ServedBy, encode_update, ranked_list

CHOICE = Choice(20, frozenset(), False)


def update(sequence: int, item_id: str = "lamp") -> bytes:
    """An update of ann's; her clicks stand at every tenth offset."""
    items = ranked_list("rnn", [Recommendation(item_id, 0.5)], [1])
    return encode_update("ann", items, ServedBy("b1"), sequence, AnsweredClick(2, 10 * sequence, 1_000), 2_000)


def new(value: bytes) -> NewList:
    """An update that was stored."""
    return NewList(b"ann", head_of(value), value)


def listed(value: bytes | None) -> UserList:
    """What the route makes of it."""
    return user_list(value, CHOICE) if value is not None else popular_for("ann", None, CHOICE)


class Client:
    """Reads a stream, and can go away."""

    def __init__(self) -> None:
        self.read = b""
        self.left = asyncio.Event()
        self.is_stuck = False

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.is_stuck:
            await asyncio.sleep(3600)
        self.read += message.get("body", b"")

    @property
    def events(self) -> list[tuple[str, int]]:
        """The ids and the sequences of the events."""
        found = []
        for event in self.read.split(b"\n\n"):
            fields = dict(line.split(b": ", 1) for line in event.split(b"\n") if b": " in line)
            if b"data" in fields:
                assert fields[b"event"] == b"recommendations"
                found.append((fields.get(b"id", b"").decode(), msgspec.json.decode(fields[b"data"])["sequence"]))
        return found


def follow(
    stored: bytes | None,
    last_event_id: str | None,
    script: Callable[[Hub, Client], None],
    *,
    leaves: bool = True,
    may_read: Callable[[], bool] = lambda: True,
) -> Client:
    """Open a stream, let something happen, and give what the client has read in the end."""

    async def run() -> Client:
        hub, client = Hub(10), Client()
        with hub.watch(b"ann") as watch:
            metrics = FeedMetrics(CollectorRegistry())
            stream = EventStream(watch, stored, last_event_id, listed, metrics, may_read)
            loop = asyncio.get_running_loop()
            loop.call_later(0.05, script, hub, client)
            if leaves:
                loop.call_later(0.2, client.left.set)
            async with asyncio.timeout(10.0):
                await stream({"type": "http"}, client.receive, client.send)
        return client

    return asyncio.run(run())


def nothing(hub: Hub, client: Client) -> None:
    """Nothing happens."""


def test_the_stored_list_comes_first_then_each_newer_one() -> None:
    """Each with an id that says where it stands."""

    def script(hub: Hub, client: Client) -> None:
        hub.tell([new(update(4))])

    assert follow(update(3), None, script).events == [("3-2-30", 3), ("4-2-40", 4)]


def test_an_older_list_never_comes_after_a_newer_one() -> None:
    """Nor the same one again, as after a worker's crash."""

    def script(hub: Hub, client: Client) -> None:
        for sequence in (2, 3, 1):
            hub.tell([new(update(sequence))])

    assert follow(update(3), None, script).events == [("3-2-30", 3)]


@pytest.mark.parametrize(
    ("last_event_id", "expected"),
    [
        ("2-2-20", [("3-2-30", 3)]),
        ("3-2-30", []),
        ("4-2-40", []),  # it has been at an instance that is ahead of this one
        ("nonsense", [("3-2-30", 3)]),
        ("9" * 400, [("3-2-30", 3)]),
    ],
)
def test_a_client_that_comes_back_gets_what_is_newer(last_event_id: str, expected: list[tuple[str, int]]) -> None:
    """By the id of its last event."""
    assert follow(update(3), last_event_id, nothing).events == expected


def test_a_user_nobody_knows_begins_with_the_popular_list() -> None:
    """Which has no id, for whatever comes is newer."""

    def script(hub: Hub, client: Client) -> None:
        hub.tell([new(update(1))])

    assert follow(None, None, script).events == [("", 0), ("1-2-10", 1)]


def test_a_connection_that_carries_nothing_is_kept_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """By comments, which browsers pass over."""
    monkeypatch.setattr(feed.event_stream, "HEARTBEAT_S", 0.02)

    assert follow(update(3), None, nothing).read.count(b": heartbeat\n\n") > 2


def test_the_end_of_the_feed_ends_the_stream() -> None:
    """Before the client goes away."""

    def script(hub: Hub, client: Client) -> None:
        hub.end()

    assert follow(update(3), None, script, leaves=False).events == [("3-2-30", 3)]


def test_a_client_that_takes_nothing_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would keep its place for ever."""
    monkeypatch.setattr(feed.event_stream, "_SEND_S", 0.05)

    def script(hub: Hub, client: Client) -> None:
        client.is_stuck = True
        hub.tell([new(update(4))])

    assert follow(update(3), None, script, leaves=False).events == [("3-2-30", 3)]


@pytest.mark.parametrize("is_told", [True, False])
def test_a_token_that_is_taken_back_ends_the_stream(monkeypatch: pytest.MonkeyPatch, is_told: bool) -> None:
    """With the next heartbeat, or instead of the next list."""
    monkeypatch.setattr(feed.event_stream, "HEARTBEAT_S", 3600.0 if is_told else 0.1)

    def script(hub: Hub, client: Client) -> None:
        if is_told:
            hub.tell([new(update(4))])

    client = follow(update(3), None, script, leaves=False, may_read=lambda: False)

    assert client.events == [("3-2-30", 3)]
    assert b"heartbeat" not in client.read
