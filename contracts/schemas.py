"""The messages that are published as JSON Schemas, each with its version and examples."""

from typing import Annotated, Any, NamedTuple

import msgspec

from contracts import examples
from nextclick import feed_types
from nextclick.catalogue import ShopItem
from nextclick.clicks import MAX_ID_BYTES
from nextclick.manifest import Manifest
from nextclick.output.cloud_events import RecommendationEvent
from nextclick.updates import RecommendationUpdate
from tools.dead_letters import DeadLetterHeaders
from tools.json_schemas import Schema, schemas_of

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_ID_BYTES, pattern=r"^[^\u0000]*$")]


class ClickRecord(msgspec.Struct):
    """The value of a record of `clicks`, as the settings read it by default. Its key is the user's id.

    Other fields are passed over. Where a topic has other names, times or envelopes, settings say so.

    Attributes:
        user_id: who clicked: a text of up to 256 bytes in UTF-8, or a whole number.
        item_id: what was clicked, likewise.
        timestamp_ms: event time, best in ms since 1970. Seconds, microseconds and nanoseconds are told apart by their
            size, and a text is ISO 8601. Nothing, null or 0: the record's own timestamp.
        event_type: what kind of click it is: `view`, `cart`, `purchase`, `like`, `search`, `play`; others count as one
            kind.
    """

    user_id: Id | int
    item_id: Id | int
    timestamp_ms: Annotated[int, msgspec.Meta(ge=0)] | str | None = None
    event_type: str | None = "view"


class Message(NamedTuple):
    """What is published of a type.

    Attributes:
        name: of the file, and in the schema's URN.
        type: of the message.
        version: raised with every change of what can be in it: the first number where readers must change.
        examples: as they stand in a topic, or in a body of HTTP.
    """

    name: str
    type: Any
    version: str
    examples: list[Any]


MESSAGES = (
    Message("click", ClickRecord, "1.0", examples.CLICKS),
    Message("recommendation-update", RecommendationUpdate, "1.0", examples.UPDATES),
    Message("recommendation-event", RecommendationEvent, "1.0", examples.EVENTS),
    Message("rejected-click-headers", DeadLetterHeaders, "1.0", examples.DEAD_LETTER_HEADERS),
    Message("item", ShopItem, "1.0", examples.ITEMS),
    Message("bundle-manifest", Manifest, "1.0", examples.MANIFESTS),
    Message("user-list", feed_types.UserList, "1.0", examples.USER_LISTS),
    Message("popular-list", feed_types.PopularList, "1.0", examples.POPULAR_LISTS),
    Message("neighbours", feed_types.Neighbours, "1.0", examples.NEIGHBOURS),
    Message("clicks-in", feed_types.ClicksIn, "1.0", examples.CLICKS_IN),
    Message("clicks-taken", feed_types.ClicksTaken, "1.0", examples.CLICKS_TAKEN),
    Message("session-in", feed_types.SessionIn, "1.0", examples.SESSIONS_IN),
    Message("session-list", feed_types.SessionList, "1.0", examples.SESSION_LISTS),
    Message("problem", feed_types.Problem, "1.0", examples.PROBLEMS),
)


def schema_of(message: Message) -> Schema:
    """Give the schema of a message, whole in itself."""
    (of_type,), found = schemas_of([message.type], "#/$defs/{name}")
    components = dict(found)
    head = {"$schema": DIALECT, "$id": f"urn:nextclick:schema:{message.name}:{message.version}"}
    versioned = {"x-version": message.version, "examples": message.examples}
    own = components.pop(message.type.__name__) if "$ref" in of_type else {"title": message.name, **of_type}
    return head | own | versioned | ({"$defs": components} if components else {})
