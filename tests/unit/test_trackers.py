"""The settings in docs/integrate/trackers read what Segment, RudderStack and Snowplow write to Kafka."""

import json
from pathlib import Path
from typing import Any

import pytest

from nextclick.clicks import EVENT_TYPES, Click, Ignored, IgnoreReason
from nextclick.hashing import event_hash
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.times import read_time_ms
from nextclick.setting_sources import given_settings
from nextclick.settings import Settings

TRACKERS = Path(__file__).parents[2] / "docs" / "integrate" / "trackers"
CLICKED_MS = 1_764_000_000_123
VIEW, CART = EVENT_TYPES.index("view"), EVENT_TYPES.index("cart")

# As Segment's and RudderStack's specification of a track call has it, a little shortened.
TRACK: dict[str, Any] = {
    "anonymousId": "507f191e-810c-4977-9c5c-3c2f0a4f7d10",
    "channel": "web",
    "context": {"library": {"name": "analytics.js", "version": "2.11.1"}, "page": {"path": "/p/4711"}, "traits": {}},
    "event": "Product Viewed",
    "integrations": {"All": True},
    "messageId": "ajs-f8ca1e4de5024d9430b3928bd8ac6b96",
    "originalTimestamp": "2025-11-24T16:00:00.120Z",
    "properties": {"product_id": "4711", "sku": "G-32", "category": "Games", "name": "Monopoly", "price": 18.99},
    "receivedAt": "2025-11-24T16:00:01.300Z",
    "sentAt": "2025-11-24T16:00:01.200Z",
    "timestamp": "2025-11-24T16:00:00.123Z",
    "type": "track",
    "userId": "u-17",
}
ACTION = "unstruct_event_com_snowplowanalytics_snowplow_ecommerce_snowplow_ecommerce_action_1"
PRODUCT = "contexts_com_snowplowanalytics_snowplow_ecommerce_product_1"
# An enriched event as Snowbridge's transformation spEnrichedToJson writes it, a little shortened.
ENRICHED: dict[str, Any] = {
    "app_id": "shop",
    "platform": "web",
    "collector_tstamp": "2025-11-24T16:00:00.900Z",
    "derived_tstamp": "2025-11-24T16:00:00.123Z",
    "event": "unstruct",
    "event_id": "c6ef3124-b53a-4b13-a233-0088f79dcbcb",
    "event_name": "snowplow_ecommerce_action",
    "event_vendor": "com.snowplowanalytics.snowplow.ecommerce",
    "domain_userid": "bc2e92ec6c204a14",
    "domain_sessionidx": 3,
    "page_url": "https://shop.example/p/4711",
    PRODUCT: [{"id": "4711", "name": "Monopoly", "category": "Games", "price": 18.99, "currency": "EUR"}],
    ACTION: {"type": "product_view"},
}


def settings_of(tracker: str) -> Settings:
    """Read a tracker's file, as `--config` does."""
    return Settings.of(given_settings({}, {}, TRACKERS / f"{tracker}.toml"))


def decode(tracker: str, key: str, event: dict[str, Any]) -> Any:
    """Read an event as a worker does; one click at most."""
    decoder = click_decoder(ClickSchema.of(settings_of(tracker)))
    decoded = decoder(key.encode(), json.dumps(event).encode(), None, CLICKED_MS, CLICKED_MS)
    return decoded[0] if isinstance(decoded, tuple) else decoded


@pytest.mark.parametrize("tracker", ["segment", "rudderstack"])
def test_a_track_call(tracker: str) -> None:
    """Of a known user, and of one who is not, with another event and an id of another kind."""
    known = decode(tracker, "u-17", TRACK)
    anonymous = TRACK | {"userId": None, "event": "Product Added", "properties": {"sku": "G-32"}}
    stranger = decode(tracker, TRACK["anonymousId"], anonymous)

    assert known == Click("u-17", "4711", CLICKED_MS, VIEW, event_hash(TRACK["messageId"]))
    assert stranger[:4] == (TRACK["anonymousId"], "G-32", CLICKED_MS, CART)


@pytest.mark.parametrize("tracker", ["segment", "rudderstack"])
@pytest.mark.parametrize(
    "other",
    [
        {"event": "Order Completed", "properties": {"order_id": "o-1", "products": [{"product_id": "4711"}]}},
        {"event": "Product List Viewed", "properties": {"list_id": "hot"}},
        {"type": "page", "event": None, "name": "Home", "properties": {"path": "/"}},
        {"type": "identify", "event": None, "traits": {"email": "x@example.org"}},
    ],
    ids=["order", "list", "page", "identify"],
)
def test_a_call_that_is_no_click(tracker: str, other: dict[str, Any]) -> None:
    """A topic has all kinds of calls: they are passed over, and not rejected."""
    event = {name: value for name, value in (TRACK | other).items() if value is not None}

    assert decode(tracker, "u-17", event) == Ignored(IgnoreReason.EVENT_TYPE)


def test_an_enriched_event() -> None:
    """Of Snowplow's e-commerce tracking; with the collector's time where the device's is not known."""
    viewed = decode("snowplow", ENRICHED["domain_userid"], ENRICHED)
    added = decode("snowplow", ENRICHED["domain_userid"], ENRICHED | {ACTION: {"type": "add_to_cart"}})
    undated = {name: value for name, value in ENRICHED.items() if name != "derived_tstamp"}

    assert viewed == Click("bc2e92ec6c204a14", "4711", CLICKED_MS, VIEW, event_hash(ENRICHED["event_id"]))
    assert added.event_type == CART
    time_ms = decode("snowplow", ENRICHED["domain_userid"], undated).timestamp_ms
    assert time_ms == read_time_ms(ENRICHED["collector_tstamp"])


@pytest.mark.parametrize("kind", ["page_view", "page_ping", "remove_from_cart"])
def test_an_enriched_event_that_is_no_click(kind: str) -> None:
    """Page views have no action at all."""
    event = {name: value for name, value in ENRICHED.items() if name not in (ACTION, PRODUCT)}
    if kind == "remove_from_cart":
        event = ENRICHED | {ACTION: {"type": kind}}

    assert decode("snowplow", ENRICHED["domain_userid"], event | {"event_name": kind}) == Ignored(
        IgnoreReason.EVENT_TYPE
    )
