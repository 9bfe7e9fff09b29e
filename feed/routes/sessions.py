"""Lists for visitors of whom nothing is stored."""

import time
from functools import partial

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from feed.bodies import body_of
from feed.parameters import choice_of
from feed.parts import feed_of
from feed.routes.items import no_model
from feed.sessions import Ranking, SessionRules, session_list
from nextclick.feed_types import SessionIn, encode

_decoder = msgspec.json.Decoder(SessionIn)


async def session_recommendations(request: Request) -> Response:
    """Answer `POST /v1/sessions/recommendations` with `SessionList`.

    Raises:
        ProblemError: there is nothing to make a list from, a click cannot be used, too many ask at once, or the request
            cannot be read.
        ClientDisconnect: the client went away.
    """
    feed, choice = feed_of(request), choice_of(request)
    session = await body_of(request, _decoder)
    bundle, popular = feed.model.current, feed.popular()
    if popular is None:  # a bundle has popular items
        raise no_model()
    ranking = Ranking(bundle.model if bundle is not None else None, popular)
    rules, now_ms = SessionRules.of(feed.settings), int(time.time() * 1000)
    work = partial(session_list, ranking, session.clicks, choice, rules, now_ms)
    answer = encode(await feed.model.compute(work))
    return Response(answer, headers={"Cache-Control": "no-store"}, media_type="application/json")
