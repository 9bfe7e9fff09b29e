"""A user's lists as server-sent events: each as soon as it is stored, and never an older one after a newer one."""

import asyncio
import contextlib
import random
from collections.abc import Callable

from starlette.types import Receive, Scope, Send

from feed.hub import Watch
from feed.metrics import FeedMetrics
from nextclick.feed_types import UserList, encode
from nextclick.newer import UpdateHead, event_id_of, head_in, head_of, is_newer

HEARTBEAT_S = 15.0  # at most: a connection that carries nothing is cut off by many a proxy after 30 s
_SOONEST = 0.6  # of that: streams that were opened together must not beat together, or all others wait for them
RETRY_MS = 1_000  # a browser waits for so long before it connects again
_SEND_S = 90.0  # a client that takes nothing for so long is cut off, where the system has not done it before
STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    "x-accel-buffering": "no",  # nginx would keep events back
}
_RAW_HEADERS = [(name.encode(), value.encode()) for name, value in STREAM_HEADERS.items()]
_HEARTBEAT = b": heartbeat\n\n"


class EventStream:
    """The response that stays open."""

    def __init__(
        self,
        watch: Watch,
        stored: bytes | None,
        last_event_id: str | None,
        listed: Callable[[bytes | None], UserList],
        metrics: FeedMetrics,
        may_read: Callable[[], bool],
    ) -> None:
        """Prepare.

        Args:
            watch: of the user, which began before the store was looked at: no list falls in between.
            stored: the list to begin with, if there is one.
            last_event_id: the last event that the client had, if it says so.
            listed: makes the list of a stored update, or the popular one of None.
            metrics: of the feed.
            may_read: whether the client's token still holds; asked before whatever is sent.
        """
        self._watch, self._stored = watch, stored
        self._listed, self._metrics, self._may_read = listed, metrics, may_read
        self._shown = head_in(last_event_id or "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events until the client goes away, it may not read any longer, or the feed ends.

        Raises:
            DamagedLists: the files cannot be trusted; the response has not begun.
            TemporaryError: the disk cannot be read; the response has not begun.
        """
        first = self._first()
        await send({"type": "http.response.start", "status": 200, "headers": _RAW_HEADERS})
        leaving = asyncio.create_task(self._end_with(receive))
        try:
            with contextlib.suppress(TimeoutError, OSError):
                await self._send(send, b"retry: %d\n\n%b" % (RETRY_MS, first))
                while not self._watch.has_ended:
                    new = await self._watch.wait(HEARTBEAT_S * random.uniform(_SOONEST, 1.0))
                    if not self._may_read():
                        break
                    if new is not None:
                        await self._send(send, self._event(new.head, new.value))
                    elif not self._watch.has_ended:
                        await self._send(send, _HEARTBEAT)
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            leaving.cancel()

    async def _end_with(self, receive: Receive) -> None:
        """End when the client goes away."""
        while (await receive())["type"] != "http.disconnect":
            pass
        self._watch.end()

    def _first(self) -> bytes:
        """Give the event to begin with: what is stored, unless the client has it, or the popular list."""
        if self._stored is not None:
            return self._event(head_of(self._stored), self._stored)
        return b"" if self._shown is not None else _event(self._listed(None), None)

    def _event(self, head: UpdateHead, value: bytes) -> bytes:
        """Give an event; nothing if the client has had a list that is as new."""
        if self._shown is not None and not is_newer(head, self._shown):
            return b""
        self._shown = head
        self._metrics.events.inc()
        return _event(self._listed(value), head)

    async def _send(self, send: Send, body: bytes) -> None:
        """Send something.

        Raises:
            TimeoutError: the client does not take it.
        """
        if body:
            async with asyncio.timeout(_SEND_S):
                await send({"type": "http.response.body", "body": body, "more_body": True})


def _event(listed: UserList, head: UpdateHead | None) -> bytes:
    place = b"" if head is None else b"id: %b\n" % event_id_of(head).encode()
    return b"%bevent: recommendations\ndata: %b\n\n" % (place, encode(listed))
