"""Lists of users: one answer, or a stream of events."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from feed.access import holds_still
from feed.event_stream import STREAM_HEADERS, EventStream
from feed.parameters import choice_of, id_in_path, tags_of
from feed.parts import FeedParts, feed_of
from feed.user_lists import Choice, entity_tag, popular_for, user_list
from nextclick.feed_types import UserList, encode

JSON = "application/json"


async def recommendations(request: Request) -> Response:
    """Give the list of a user: the newest there is, or the popular one for a user nobody knows."""
    feed, choice, user_id = feed_of(request), choice_of(request), id_in_path(request, "user_id")
    value = feed.lists.list_of(user_id)
    listed = list_of(feed, user_id, value, choice)
    headers = {
        "ETag": entity_tag((value or b"") + encode(listed.items), choice),
        "Cache-Control": "private, no-cache",
    }
    tags = tags_of(request)
    if headers["ETag"].removeprefix("W/") in tags or tags == ["*"]:
        return Response(status_code=304, headers=headers)
    return Response(encode(listed), headers=headers, media_type=JSON)


async def events(request: Request) -> Response:
    """Give the list of a user as server-sent events: now, and whenever there is a newer one."""
    feed, choice, user_id = feed_of(request), choice_of(request), id_in_path(request, "user_id")
    if request.method == "HEAD":  # has no end to wait for
        return Response(headers=STREAM_HEADERS)
    return _Events(feed, user_id, choice, request.headers.get("last-event-id"))


class _Events(Response):
    """Opens the stream when the response begins: until then nothing is watched."""

    def __init__(self, feed: FeedParts, user_id: str, choice: Choice, last_event_id: str | None) -> None:
        super().__init__()
        self._feed, self._user_id, self._choice, self._last_event_id = feed, user_id, choice, last_event_id

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send events for as long as the client stays.

        Raises:
            ProblemError: there are too many streams, or the feed is ending.
            DamagedLists, TemporaryError: the list cannot be read; the response has not begun.
        """
        feed, user_id = self._feed, self._user_id

        def listed(value: bytes | None) -> UserList:
            return list_of(feed, user_id, value, self._choice)

        with feed.hub.watch(user_id.encode(errors="replace")) as watch:
            stored, may_read = feed.lists.list_of(user_id), holds_still(scope)
            stream = EventStream(watch, stored, self._last_event_id, listed, feed.metrics, may_read)
            await stream(scope, receive, send)


def list_of(feed: FeedParts, user_id: str, value: bytes | None, choice: Choice) -> UserList:
    """Give a stored update as the user's list; of None, the popular one."""
    if value is not None:
        return user_list(value, choice, feed.shop)
    return popular_for(user_id, feed.popular(), choice, feed.shop)
