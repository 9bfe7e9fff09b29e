"""Lists for visitors of whom nothing is stored."""

import time

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from feed.bodies import body_of
from feed.parameters import choice_of, excluded_clicks_of
from feed.parts import feed_of
from feed.popular import of_categories
from feed.routes.items import no_model
from feed.sessions import Ranking, SessionRules, session_list
from nextclick.feed_types import SessionIn, SessionList, encode

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
    rules, now_ms = SessionRules.of(feed.settings), int(time.time() * 1000)
    clicked = excluded_clicks_of(request)
    if clicked is not None:
        rules = rules._replace(of_lists=rules.of_lists._replace(exclude=clicked))

    def work() -> SessionList:
        ranking = Ranking(bundle.model if bundle is not None else None, popular, feed.shop)
        if bundle is not None and choice.categories:  # the best of these, not what is left of the best
            model = feed.shop.restricted(bundle.model, choice.categories)
            ranking = Ranking(model, of_categories(popular, model), feed.shop)
        return session_list(ranking, session.clicks, choice, rules, now_ms)

    answer = encode(await feed.model.compute(work))
    return Response(answer, headers={"Cache-Control": "no-store"}, media_type="application/json")
