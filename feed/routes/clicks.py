"""Clicks from clients: written to the topic, and answered with the new list if the client waits for it."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import nullcontext

import msgspec
from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response

from feed.bodies import body_of
from feed.hub import Watch
from feed.parameters import choice_of, key_of, wait_of
from feed.parts import FeedParts, feed_of
from feed.problems import ProblemError
from feed.routes.users import JSON, list_of
from nextclick.feed_types import ClickIn, ClicksIn, ClicksTaken, TakenClick, encode
from nextclick.newer import contains
from nextclick.schema.encoder import EncodedClick
from nextclick.trace_context import TRACEPARENT, trace_of

_decoder = msgspec.json.Decoder(ClicksIn)


async def take_clicks(request: Request) -> Response:
    """Take one click or a list of them, and answer when the broker has them all.

    With `wait`, which is for clicks of one user, the answer has the user's list that contains them.
    """
    feed, wait_s, choice = feed_of(request), wait_of(request), choice_of(request)
    body = await body_of(request, _decoder)
    clicks = body if isinstance(body, list) else [body]
    user_id = clicks[0].user_id
    if wait_s is not None and any(click.user_id != user_id for click in clicks):
        raise ProblemError("bad-request", "wait is for clicks of one user; send those of others without it")
    records = _traced(_records(feed, clicks, key_of(request)), request)
    began_s = asyncio.get_running_loop().time()
    # Watched from before the click is sent: its list may be there before the broker's answer is.
    with feed.hub.watch(user_id.encode()) if wait_s is not None else nullcontext() as watch:
        taken = await feed.clicks.send(records)
        answer = ClicksTaken(taken)
        if watch is not None and wait_s is not None:
            value = await _list_with(watch, taken[-1], began_s + wait_s)
            listed = list_of(feed, user_id, value, choice) if value is not None else None
            answer = ClicksTaken(taken, listed)
    return Response(encode(answer), headers={"Cache-Control": "no-store"}, media_type=JSON)


def _records(feed: FeedParts, clicks: Sequence[ClickIn], key: str | None) -> list[EncodedClick]:
    """Give the records of clicks, all of them or none.

    Raises:
        ProblemError: one cannot be used; says which.
    """
    now_ms, records = int(time.time() * 1000), []
    n_of_user = Counter(click.user_id for click in clicks)
    for place, click in enumerate(clicks):
        event_id = click.event_id if click.event_id is not UNSET else key
        if event_id is not None and event_id is key and len(clicks) > 1:
            event_id = f"{key}/{place}"
        try:
            if event_id is not None:
                _check_retry(n_of_user[click.user_id], feed.settings.recent_clicks)
            records.append(feed.clicks.record(click, event_id, now_ms))
        except ProblemError as problem:
            feed.metrics.clicks.labels("refused").inc(len(clicks))
            which = f"click {place + 1} of {len(clicks)}: " if len(clicks) > 1 else ""
            raise ProblemError(problem.kind, which + problem.detail, problem.headers) from None
    return records


def _traced(records: list[EncodedClick], request: Request) -> list[EncodedClick]:
    """Let the records of a request's clicks name the trace that it belongs to, if it does."""
    trace = trace_of((name, value.encode()) for name, value in request.headers.items())
    if trace is None:
        return records
    return [record._replace(headers=[*record.headers, (TRACEPARENT, trace)]) for record in records]


def _check_retry(n_clicks: int, recent_clicks: int) -> None:
    """Refuse what could not be sent again: workers know a click again while it is among its user's recent ones.

    Args:
        n_clicks: of the user in one request.
        recent_clicks: the setting.

    Raises:
        ProblemError: they are more.
    """
    if n_clicks > recent_clicks:
        raise ProblemError(
            "click-refused",
            f"the request has {n_clicks} clicks of its user, and a retry is known only among a user's last "
            f"{recent_clicks} (recent_clicks): sent again, some would be applied twice; send at most {recent_clicks} "
            "of a user at once, or send them without Idempotency-Key and event_id and never again",
        )


async def _list_with(watch: Watch, click: TakenClick, end_s: float) -> bytes | None:
    """Give a list that contains a click, waiting for it while there is time; None if it has not come."""
    clock_s = asyncio.get_running_loop().time
    new = watch.take()  # it may be there already, however long the broker took
    while new is None or not contains(new.head, click.partition, click.offset):
        left_s = end_s - clock_s()
        if watch.has_ended or left_s <= 0:
            return None
        new = await watch.wait(left_s)
    return new.value
