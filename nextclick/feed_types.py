"""What goes in and out of the feed over HTTP. The feed, its clients, OpenAPI and the contracts share these types."""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from nextclick.clicks import MAX_EVENTS, MAX_ID_BYTES, MAX_TIMESTAMP_MS, MIN_TIMESTAMP_MS

MAX_LIMIT = 255
MAX_EXCLUDED = 1_000
MAX_WANTED_CATEGORIES = 64
MAX_SESSION_CLICKS = 255

Id = Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)]
TimeMs = Annotated[int, Meta(ge=MIN_TIMESTAMP_MS, le=MAX_TIMESTAMP_MS)]


class Reason(Struct, frozen=True, omit_defaults=True):
    """A part of an item's score, and where it comes from.

    Attributes:
        kind: `neighbour`: often clicked after `item_id`; `reclick`: the user clicked it before; `network`: it fits what
            the user did.
        share: of the score; the shares of an item add up to its score.
        text: the same for a person.
        item_id: the clicked item that speaks for it, with `neighbour`.
    """

    kind: Literal["network", "neighbour", "reclick"]
    share: float
    text: str
    item_id: str | UnsetType = UNSET


class ListedItem(Struct, frozen=True, omit_defaults=True):
    """An item of a list.

    Attributes:
        item_id: of the item.
        score: the probability that it is clicked next; in a list of neighbours, how often it is clicked near the item.
        because: what it is there for, the largest share first; with `explain=true`, and only where the list has it.
        placed: why it stands where it does, if that is not its score: `pinned` by the shop, or `explore`, to learn of
            an item that was shown little.
        title: what the shop says of the item, as do the fields that follow (the topic `items`).
        url: of its page.
        image: its address.
        price: a number, or a text with a currency.
    """

    item_id: str
    score: float
    because: list[Reason] | UnsetType = UNSET
    placed: Literal["pinned", "explore"] | UnsetType = UNSET
    title: str | UnsetType = UNSET
    url: str | UnsetType = UNSET
    image: str | UnsetType = UNSET
    price: float | str | UnsetType = UNSET


class UserList(Struct, frozen=True):
    """The list of a user.

    Attributes:
        user_id: whose list it is.
        items: best first.
        strategy: `rnn`, or `popular` where nothing is known of the user.
        bundle_id: the bundle that made the list; empty if none did.
        sequence: clicks of the user that are in the list; 0: none.
        clicked_at_ms: when the last of these was taken by the broker; 0: there is none.
        produced_at_ms: when the list was made.
        age_ms: how long ago that was.
        variant: which bundle the user is served with, `champion` or `canary`; only while a bundle is tried on some
            users.
    """

    user_id: str
    items: list[ListedItem]
    strategy: str
    bundle_id: str
    sequence: int
    clicked_at_ms: int
    produced_at_ms: int
    age_ms: int
    variant: str | UnsetType = UNSET


class PopularList(Struct, frozen=True):
    """The popular items, best first. `produced_at_ms` and `age_ms` as in `UserList`."""

    items: list[ListedItem]
    bundle_id: str
    produced_at_ms: int
    age_ms: int


class Neighbours(Struct, frozen=True):
    """What is clicked near an item, most often first, as the bundle counted it."""

    item_id: str
    items: list[ListedItem]
    bundle_id: str


class ClickIn(Struct, frozen=True, forbid_unknown_fields=True):
    """A click that a client sends.

    Attributes:
        user_id: who clicked.
        item_id: what was clicked.
        timestamp_ms: event time; now, where it is not given.
        event_type: as in the clicks topic.
        event_id: the event's own id: a click that is sent again under it is applied once, while fewer than
            `recent_clicks` (20) other clicks of its user came in between.
    """

    user_id: Id
    item_id: Id
    timestamp_ms: TimeMs | UnsetType = UNSET
    event_type: Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)] = "view"
    event_id: Id | UnsetType = UNSET


ClicksIn = ClickIn | Annotated[list[ClickIn], Meta(min_length=1, max_length=MAX_EVENTS)]


class TakenClick(Struct, frozen=True):
    """Where a click stands in the clicks topic: the broker has it."""

    partition: int
    offset: int


class ClicksTaken(Struct, frozen=True, omit_defaults=True):
    """The broker has all clicks.

    Attributes:
        clicks: in the order of the request.
        recommendations: with `wait`, the user's list that contains the clicks; null if it was not there in time.
            Without `wait`, absent.
    """

    clicks: list[TakenClick]
    recommendations: UserList | UnsetType | None = UNSET


class SessionClick(Struct, frozen=True, forbid_unknown_fields=True):
    """A click of a session that is stored nowhere; the oldest comes first. Fields as in `ClickIn`."""

    item_id: Id
    timestamp_ms: TimeMs | UnsetType = UNSET
    event_type: Annotated[str, Meta(min_length=1, max_length=MAX_ID_BYTES)] = "view"


class SessionIn(Struct, frozen=True, forbid_unknown_fields=True):
    """What an anonymous visitor did."""

    clicks: Annotated[list[SessionClick], Meta(max_length=MAX_SESSION_CLICKS)]


class SessionList(Struct, frozen=True):
    """A list for a session. Fields as in `UserList`; `sequence` is the number of clicks that were used."""

    items: list[ListedItem]
    strategy: str
    bundle_id: str
    sequence: int


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error, as RFC 9457 has it.

    Attributes:
        type: names the kind of problem; stable.
        title: the kind in words.
        status: of HTTP.
        detail: what is wrong here, and what to do.
    """

    type: str
    title: str
    status: int
    detail: str = ""


encode = msgspec.json.Encoder().encode
