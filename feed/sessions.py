"""Lists for clicks that come with the request and are stored nowhere: what a worker answers a new user with. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

import msgspec

from feed.popular import PopularItems
from feed.problems import ProblemError
from feed.shelf import NO_SHELF, Shelf
from feed.user_lists import Choice, chosen
from nextclick.advance import Limits, LoggedClick, advance
from nextclick.clicks import FORGET, FUTURE_TOLERANCE_MS, Click
from nextclick.feed_types import SessionClick, SessionList
from nextclick.hashing import item_hash
from nextclick.rules import NO_RULES, Rules, rules_of
from nextclick.schema.event_types import EventMap
from nextclick.settings import Settings
from nextclick.updates import POPULAR, RankedList, decode_items

if TYPE_CHECKING:  # numba takes a second to load: the feed answers before
    from nextclick.model import ServedModel

_NOBODY = (0, b"")  # the one user of a session: it is forgotten with the answer
_NOTHING_KNOWN = RankedList(POPULAR, b"[]", b"")


class SessionRules(NamedTuple):
    """What a worker does alike with the clicks of a user.

    Attributes:
        events: which events are clicks, and of which type.
        recent_clicks: how many are remembered.
        of_lists: the rules of lists; nothing is explored, because nobody counts here what was shown.
    """

    events: EventMap
    recent_clicks: int
    of_lists: Rules = NO_RULES

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Give the rules that the settings describe.

        Raises:
            PermanentError: the setting `events` cannot be read.
        """
        return cls(EventMap.parse(settings.events), settings.recent_clicks, rules_of(settings)._replace(explore=0.0))


class Ranking(NamedTuple):
    """What lists are made from.

    Attributes:
        model: of the bundle; None: there is none.
        popular: where the model knows nothing of the session.
        shelf: where it is looked up what is said of items.
    """

    model: "ServedModel | None"
    popular: PopularItems
    shelf: Shelf = NO_SHELF


def session_list(
    ranking: Ranking, clicks: Sequence[SessionClick], choice: Choice, rules: SessionRules, now_ms: int
) -> SessionList:
    """Give the list for a session.

    Args:
        ranking: what it is made from.
        clicks: of the session, the oldest first.
        choice: what of the list is wanted.
        rules: for the clicks.
        now_ms: this machine's clock, and the time of a click that says none.

    Raises:
        ProblemError: a click's time is in the future.
    """
    logged = _logged(clicks, rules.events, now_ms)
    # What is left out afterwards is ranked, too: the list is as long as was asked for.
    limits = Limits(rules.recent_clicks, choice.limit + len(choice.excluded), choice.explain, rules.of_lists)
    outcomes = advance(ranking.model, _NOTHING_KNOWN, {}, logged, limits)
    ranked, sequence = (outcomes[-1].ranked, outcomes[-1].sequence) if outcomes else (_NOTHING_KNOWN, 0)
    items = ranking.popular.items if ranked.strategy == POPULAR else decode_items(ranked.items)
    bundle_id = ranking.model.bundle_id if ranking.model is not None else ""
    return SessionList(chosen(items, choice, ranking.shelf), ranked.strategy, bundle_id, sequence)


def _logged(clicks: Sequence[SessionClick], events: EventMap, now_ms: int) -> list[LoggedClick]:
    """Give the clicks as if they stood in a log, without those that are of no type that counts.

    Raises:
        ProblemError: a click's time is in the future.
    """
    logged = []
    for place, click in enumerate(clicks):
        event_type = events.code(click.event_type) if click.event_type != FORGET else None
        if event_type is None:
            continue
        time_ms = click.timestamp_ms if click.timestamp_ms is not msgspec.UNSET else now_ms
        if time_ms > now_ms + FUTURE_TOLERANCE_MS:
            raise ProblemError(
                "click-refused",
                f"clicks[{place}].timestamp_ms is {time_ms}, more than a day after this machine's clock, {now_ms}; "
                "send milliseconds since 1970, or leave it out",
            )
        made = Click("", click.item_id, time_ms, event_type)
        logged.append(LoggedClick(_NOBODY, place, now_ms, made, item_hash(click.item_id)))
    return logged
