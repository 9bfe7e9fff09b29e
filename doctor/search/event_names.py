"""What the names of events mean: which are clicks, and of which type. Names are those that trackers and shops use."""

import re
from enum import Enum
from typing import NamedTuple

from nextclick.clicks import EVENT_TYPES

_SPLIT = re.compile(r"[^a-z0-9]+")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_TAIL_VERSION = re.compile(r"^v\d+$")


class NoClick(Enum):
    """A name that does not stand for interest in an item."""

    NO_CLICK = "no click"


NO_CLICK = NoClick.NO_CLICK


class _Rule(NamedTuple):
    """Names of events with one of some words, and none of some others."""

    kind: str | NoClick
    any_of: frozenset[str]
    none_of: frozenset[str] = frozenset()


def _rule(kind: str | NoClick, any_of: str, none_of: str = "") -> _Rule:
    return _Rule(kind, frozenset(any_of.split()), frozenset(none_of.split()))


_RULES = (  # the first that fits counts
    _rule(NO_CLICK, "remove removed removefromcart delete deleted cancel cancelled canceled refund refunded return"),
    _rule(NO_CLICK, "returned unlike dislike downvote unfavorite unsubscribe impression impressions exposure exposed"),
    _rule(NO_CLICK, "viewability scroll scrolled dwell login logout signin signout signup register registered"),
    _rule(NO_CLICK, "heartbeat ping identify session error failed"),
    _rule("like", "like liked fav favorite favourite favorited favourited wishlist wishlisted heart love loved"),
    _rule("like", "save saved bookmark bookmarked star starred upvote rate rated rating"),
    _rule(
        "purchase",
        "purchase purchased order ordered buy bought transaction sale sold payment paid conversion",
        "view viewed start started",
    ),
    _rule("cart", "add added addtocart addtobasket addtobag atc cart basket bag trolley", "view viewed open opened"),
    _rule("search", "search searched query"),
    _rule("play", "play played listen listened watch watched stream streamed"),
    _rule(NO_CLICK, "list cart checkout category home"),
    _rule("view", "view viewed views click clicked clicks detail details detailview pv open opened visit visited read"),
    _rule("view", "select selected tap tapped quickview pageview productview viewitem"),
)


def event_type_of(name: str) -> str | NoClick | None:
    """Give the type that an event's name stands for; None: it is not known.

    A type of ours stands for itself.
    """
    if name in EVENT_TYPES:
        return name
    words = {word for word in _SPLIT.split(_CAMEL.sub(" ", name).lower()) if word and not _TAIL_VERSION.match(word)}
    words |= {word.removesuffix("s") for word in words}
    rule = next((rule for rule in _RULES if words & rule.any_of and not words & rule.none_of), None)
    return rule.kind if rule is not None else None
