"""Asks a feed for lists and sends it clicks: `Feed` for threads, `AsyncFeed` for event loops.

Each route is said once, as a function that gives a `_Call`; both classes have it as a method. What fails in passing is
tried again, clicks under a key by which workers know them: while fewer than `recent_clicks` (20) other clicks of the
user came in between, they are applied once.
"""

import asyncio
import inspect
import itertools
import random
import ssl
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from functools import update_wrapper
from typing import Any, Concatenate, Generic, NamedTuple, ParamSpec, Self, TypeVar, get_args
from urllib.parse import quote

import msgspec
from msgspec import UNSET

from nextclick import feed_types as types
from nextclick.errors import NextclickError
from nextclick.newer import UpdateHead, head_in, is_newer
from nextclick.rules import Exclude

try:
    import httpx2
except ImportError as error:
    raise ImportError("the client needs httpx2: pip install 'nextclick[client]'") from error

__all__ = ["AsyncFeed", "Feed", "FeedError"]
_P = ParamSpec("_P")
_T = TypeVar("_T")
_Http = TypeVar("_Http", httpx2.Client, httpx2.AsyncClient)
_PASSING = (0, 429, 502, 503, 504)  # what may be otherwise in a moment; 0: no answer
_AGAIN_S = 0.2  # before the second try; twice as long before each further one
_SILENCE_S = 45.0  # of a stream, which has a comment every 15 s


class FeedError(NextclickError):
    """The feed has refused (`problem` says why and what to do), or does not answer (`problem.status` is 0)."""

    def __init__(self, problem: types.Problem) -> None:
        super().__init__(f"{problem.title} ({problem.status}): {problem.detail}")
        self.problem = problem


class _Call(NamedTuple, Generic[_T]):
    gives: type[_T]
    path: str
    params: Mapping[str, Any]
    body: Any = None
    waits_s: float = 0.0


def recommendations(
    user_id: str,
    *,
    limit: int = 20,
    exclude: Sequence[str] = (),
    category: Sequence[str] = (),
    explain: bool = False,
) -> _Call[types.UserList]:
    """Give a user's newest list: at most `limit` items, none of `exclude`, each in one of `category` if that is given;
    with `explain` also why each is there.
    """
    choice = _choice(limit, exclude, category, explain)
    return _Call(types.UserList, f"users/{_quoted(user_id)}/recommendations", choice)


def neighbours(
    item_id: str, *, limit: int = 20, exclude: Sequence[str] = (), category: Sequence[str] = ()
) -> _Call[types.Neighbours]:
    """Give what is clicked near an item. See `recommendations`."""
    return _Call(types.Neighbours, f"items/{_quoted(item_id)}/neighbours", _choice(limit, exclude, category))


def popular(*, limit: int = 20, exclude: Sequence[str] = (), category: Sequence[str] = ()) -> _Call[types.PopularList]:
    """Give the popular items. See `recommendations`."""
    return _Call(types.PopularList, "popular", _choice(limit, exclude, category))


def session(
    done: Sequence[types.SessionClick],
    *,
    limit: int = 20,
    exclude: Sequence[str] = (),
    category: Sequence[str] = (),
    exclude_clicked: Exclude | None = None,
    explain: bool = False,
) -> _Call[types.SessionList]:
    """Give a list for what an anonymous visitor has done, the oldest click first; it is stored nowhere.

    `exclude_clicked` says which of the clicked items are left out; None: as the feed's setting `exclude` does.
    """
    choice = _choice(limit, exclude, category, explain)
    choice |= {"exclude_clicked": exclude_clicked} if exclude_clicked is not None else {}
    return _Call(types.SessionList, "sessions/recommendations", choice, types.SessionIn(list(done)))


def clicks(sent: Sequence[types.ClickIn], *, wait_s: float | None = None, limit: int = 20) -> _Call[types.ClicksTaken]:
    """Send up to 1,000 clicks, and of each user at most the feed's `recent_clicks` (20): more could not be tried again.

    For those of one user, `wait_s` says how long to wait for the list that contains them; 0 or None: not at all.
    """
    params = {"limit": limit} | ({"wait": f"{round(wait_s * 1000) or 1}ms"} if wait_s else {})
    return _Call(types.ClicksTaken, "clicks", params, list(sent), wait_s or 0.0)


def click(
    user_id: str,
    item_id: str,
    *,
    event_type: str = "view",
    timestamp_ms: int | None = None,
    event_id: str | None = None,
    wait_s: float | None = None,
) -> _Call[types.ClicksTaken]:
    """Send a click: of now, unless `timestamp_ms` is given; `event_id` lets you send it again. See `clicks`."""
    time_ms = UNSET if timestamp_ms is None else timestamp_ms
    sent = types.ClickIn(user_id, item_id, time_ms, event_type, UNSET if event_id is None else event_id)
    return clicks([sent], wait_s=wait_s)


def _choice(limit: int, exclude: Sequence[str], category: Sequence[str], explain: bool | None = None) -> dict[str, Any]:
    listed = {"exclude": list(exclude)} | ({"category": list(category)} if category else {})
    return {"limit": limit} | listed | ({} if explain is None else {"explain": "true" if explain else "false"})


def _quoted(an_id: str) -> str:
    return quote(an_id, safe="").replace(".", "%2E")  # `..` would be taken for the folder above


class _Place:
    """Where one who follows a user's events stands."""

    def __init__(self) -> None:
        self.pause_s = 1.0  # before the next connection; the feed says another
        self.headers: dict[str, str] = {}
        self._shown: UpdateHead | None = None

    def take(self, event: httpx2.ServerSentEvent) -> Iterator[types.UserList]:
        """Give the event's list, if it is newer than the one of before."""
        if event.retry is not None:
            self.pause_s = event.retry / 1000
        head = head_in(event.id)
        is_new = self._shown is None or (head is not None and is_newer(head, self._shown))
        if event.event == "recommendations" and is_new:
            self._shown, self.headers = head, {"Last-Event-ID": event.id} if head is not None else {}
            yield msgspec.json.decode(event.data, type=types.UserList)

    def pause_after(self, failed: Exception | None) -> float:
        """Give how long to wait, longer by chance, so that not everyone comes back at once; raises what will stay."""
        if failed is not None and _as_feed_error(failed).problem.status not in _PASSING:
            raise failed
        return self.pause_s * random.uniform(1.0, 2.0)


class _Requests(Generic[_Http]):
    """What both clients do alike."""

    _kind: type[_Http]

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        timeout_s: float = 10.0,
        retries: int = 2,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Prepare; connects with the first request.

        Args:
            url: of the feed, such as http://127.0.0.1:9470.
            token: one of the feed's, if it asks for them.
            timeout_s: for each try; `wait_s` comes on top.
            retries: how often to try again. 0 where workers know no ids of events (`id_field` is empty), or for more
                clicks of a user at once than they know again; clicks then have no key.
            verify: whether to check the feed's certificate, or with what.
        """
        self._timeout_s, self._retries = timeout_s, retries
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        base = url.rstrip("/") + "/v1/"
        limits = httpx2.Limits(max_connections=None)  # each stream has one, and may stay open for days
        self._http: _Http = self._kind(base_url=base, headers=headers, timeout=timeout_s, verify=verify, limits=limits)

    def _request(self, call: _Call[Any]) -> dict[str, Any]:
        request = {"url": call.path, "params": call.params, "timeout": self._timeout_s + call.waits_s}
        if call.body is None:
            return request | {"method": "GET"}
        key = {"Idempotency-Key": uuid.uuid4().hex} if call.gives is types.ClicksTaken and self._retries else {}
        headers = {"Content-Type": "application/json"} | key
        return request | {"method": "POST", "content": types.encode(call.body), "headers": headers}

    def _stream(self, user_id: str, choice: Mapping[str, Any], place: _Place) -> dict[str, Any]:
        timeout = httpx2.Timeout(self._timeout_s, read=_SILENCE_S)
        path = f"users/{_quoted(user_id)}/events"
        return {"url": path, "params": choice, "timeout": timeout, "headers": place.headers}

    def _pause_after(self, failed: Exception, n_tries: int) -> float:
        """Give how long to wait before the next try; raises FeedError if there is none."""
        error = _as_feed_error(failed)
        if error.problem.status in _PASSING and n_tries <= self._retries:
            return _AGAIN_S * 2.0 ** (n_tries - 1) * random.uniform(0.5, 1.0)
        raise error from (failed if error is not failed else None)


def _as_feed_error(failed: Exception) -> FeedError:
    no_answer = types.Problem("about:blank", "The feed does not answer", 0, repr(failed))
    return failed if isinstance(failed, FeedError) else FeedError(no_answer)


def _given(response: httpx2.Response, kind: type[_T]) -> _T:
    """Read an answer; raises FeedError if it is a problem, or none of a feed's."""
    try:
        if response.status_code == 200:
            return msgspec.json.decode(response.content, type=kind)
        raise FeedError(msgspec.json.decode(response.content, type=types.Problem))
    except msgspec.DecodeError:
        problem = types.Problem("about:blank", "This is no answer of a feed", response.status_code, response.text[:200])
        raise FeedError(problem) from None


def _blocking(route: Callable[_P, _Call[_T]]) -> "Callable[Concatenate[Feed, _P], _T]":
    def method(self: "Feed", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return self._answer(route(*args, **kwargs))

    _name(method, route)
    return method


def _awaited(route: Callable[_P, _Call[_T]]) -> "Callable[Concatenate[AsyncFeed, _P], Coroutine[Any, Any, _T]]":
    async def method(self: "AsyncFeed", /, *args: _P.args, **kwargs: _P.kwargs) -> _T:
        return await self._answer(route(*args, **kwargs))

    _name(method, route)
    return method


def _name(method: Callable[..., Any], route: Callable[..., Any]) -> None:
    """Let `help` say of a method what the route says."""
    update_wrapper(method, route)
    own, this = inspect.signature(route), inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    method.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[this, *own.parameters.values()], return_annotation=get_args(own.return_annotation)[0]
    )


class Feed(_Requests[httpx2.Client]):
    """A feed, asked by threads that wait for the answer. Every method raises `FeedError`."""

    _kind = httpx2.Client

    recommendations = _blocking(recommendations)
    neighbours = _blocking(neighbours)
    popular = _blocking(popular)
    session = _blocking(session)
    clicks = _blocking(clicks)
    click = _blocking(click)

    def events(
        self,
        user_id: str,
        *,
        limit: int = 20,
        exclude: Sequence[str] = (),
        category: Sequence[str] = (),
        explain: bool = False,
    ) -> Iterator[types.UserList]:
        """Give the user's lists as they are made, for ever: it connects again, and never gives an older one."""
        place = _Place()
        while True:
            failed: Exception | None = None
            try:
                with self._http.sse(
                    **self._stream(user_id, _choice(limit, exclude, category, explain), place)
                ) as source:
                    if source.response.status_code != 200:
                        source.response.read()
                        _given(source.response, types.UserList)
                    for event in source:
                        yield from place.take(event)
            except (FeedError, httpx2.TransportError) as error:
                failed = error
            time.sleep(place.pause_after(failed))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _answer(self, call: _Call[_T]) -> _T:
        request = self._request(call)
        for n_tries in itertools.count(1):
            try:
                return _given(self._http.request(**request), call.gives)
            except (FeedError, httpx2.TransportError) as error:
                pause_s: float = self._pause_after(error, n_tries)
            time.sleep(pause_s)
        raise AssertionError


class AsyncFeed(_Requests[httpx2.AsyncClient]):
    """A feed, asked from an event loop. Every method raises `FeedError`."""

    _kind = httpx2.AsyncClient

    recommendations = _awaited(recommendations)
    neighbours = _awaited(neighbours)
    popular = _awaited(popular)
    session = _awaited(session)
    clicks = _awaited(clicks)
    click = _awaited(click)

    async def events(
        self,
        user_id: str,
        *,
        limit: int = 20,
        exclude: Sequence[str] = (),
        category: Sequence[str] = (),
        explain: bool = False,
    ) -> AsyncIterator[types.UserList]:
        """As `Feed.events`."""
        place = _Place()
        while True:
            failed: Exception | None = None
            try:
                async with self._http.sse(
                    **self._stream(user_id, _choice(limit, exclude, category, explain), place)
                ) as source:
                    if source.response.status_code != 200:
                        await source.response.aread()
                        _given(source.response, types.UserList)
                    async for event in source:
                        for found in place.take(event):
                            yield found
            except (FeedError, httpx2.TransportError) as error:
                failed = error
            await asyncio.sleep(place.pause_after(failed))

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def _answer(self, call: _Call[_T]) -> _T:
        request = self._request(call)
        for n_tries in itertools.count(1):
            try:
                return _given(await self._http.request(**request), call.gives)
            except (FeedError, httpx2.TransportError) as error:
                pause_s: float = self._pause_after(error, n_tries)
            await asyncio.sleep(pause_s)
        raise AssertionError
