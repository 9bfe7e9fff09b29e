"""Doctor's search, on topics that are drawn: of any names, nesting, times, envelopes, keys and partitioners."""

import hashlib
import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from doctor.clocks import check_clocks
from doctor.search.propose import changed, propose
from doctor.search.sample import Sample, SampledRecord
from nextclick.clicks import EVENT_TYPES
from nextclick.hashing import PARTITIONERS, partition_of
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.envelopes import wrap
from nextclick.schema.keys import write_key
from nextclick.schema.paths import write_at
from nextclick.settings import Settings

NOW_MS = 1_764_000_000_000
N_RECORDS = 200
N_PARTITIONS = 4

USER_PATHS = (
    *("user_id", "userId", "uid", "userID", "UserId", "visitorid", "visitor.id", "visitorId", "customer_id", "user"),
    *("customer.id", "user.id", "client_id", "account_id", "member_no", "context.user.id", "payload.user.uid"),
    *("actor.id", "distinct_id", "user_pseudo_id", "shopper_id", "subscriberId", "data.customerId", "user.uuid"),
    *("session.user_id", "profile_id"),
)
ITEM_PATHS = (
    *("item_id", "itemId", "itemid", "item.id", "product_id", "productId", "product.id", "sku", "event.product.id"),
    *("properties.product_id", "items.0.item_id", "item", "article_id", "content_id", "movieId", "track_id"),
    *("video.id", "data.item.sku", "payload.product.code", "asin", "properties.sku", "listing_id", "book_id"),
    *("products.0.product_id", "content.uuid", "productSku"),
)
TIME_PATHS = (
    *("timestamp_ms", "timestamp", "ts", "time", "at", "event_time", "eventTime", "occurred_at", "created_at"),
    *("event.at", "payload.time", "datetime", "event_timestamp", "clicked_at", "meta.timestamp", "when", "date"),
    "timestampMs",
)
KIND_PATHS = (
    *("event_type", "eventType", "event", "type", "action", "event.kind", "event.name", "event_name", "behavior"),
    "data.action",
)
NAMES = (  # each name of an event with its type; None: it is no click
    {"view": "view", "cart": "cart", "purchase": "purchase"},
    {"view": "view", "add_to_cart": "cart", "impression": None},
    {"pv": "view", "fav": "like", "cart": "cart", "buy": "purchase"},
    {"Product Viewed": "view", "Product Added": "cart", "Product Removed": None},
    {"addtocart": "cart", "view": "view", "transaction": "purchase"},
    {"view_item": "view", "add_to_cart": "cart", "remove_from_cart": None, "purchase": "purchase"},
    {"com.shop.product.viewed.v1": "view", "com.shop.order.placed.v1": "purchase"},
    {"ITEM_CLICKED": "view", "ITEM_IMPRESSION": None},
)
TIMES: tuple[Callable[[int], Any], ...] = (
    lambda ms: ms,
    lambda ms: ms // 1000,
    lambda ms: ms / 1000,
    lambda ms: ms * 1000,
    lambda ms: ms * 1_000_000,
    str,
    lambda ms: datetime.fromtimestamp(ms / 1000, UTC).isoformat(),
    lambda ms: datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    lambda ms: datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
)
# What stands in events beside the four fields, by path: of (the record's number, the user's number, random).
BESIDE: dict[str, Callable[[int, int, random.Random], Any]] = {
    "event_id": lambda n, user, chance: f"e-{n:08x}",
    "messageId": lambda n, user, chance: f"m{n * 7919}",
    "ip": lambda n, user, chance: f"10.0.{user % 250}.{n % 250}",
    "price": lambda n, user, chance: round(chance.random() * 100, 2),
    "category_id": lambda n, user, chance: chance.randrange(10),
    "geo.country": lambda n, user, chance: ["DE", "FR", "IT", "ES"][user % 4],
    "page.url": lambda n, user, chance: f"https://shop.example/p/{chance.randrange(90)}",
    "user_agent": lambda n, user, chance: "Mozilla/5.0 (X11; Linux)",
    "device.type": lambda n, user, chance: chance.choice(("mobile", "desktop")),
    "session_id": lambda n, user, chance: f"s{n // 3}",
    "receivedAt": lambda n, user, chance: "2025-11-24T16:00:05.000Z",
    "customer_since": lambda n, user, chance: "2019-05-01T00:00:00Z",
    "consent": lambda n, user, chance: True,
    "quantity": lambda n, user, chance: 1 + n % 3,
    "schema_version": lambda n, user, chance: 3,
    "experiment": lambda n, user, chance: None,
    "tags": lambda n, user, chance: [],
    "position": lambda n, user, chance: n % 20,
}


@dataclass(frozen=True)
class Shape:
    """What a topic is like."""

    user: str
    item: str
    time: str
    kind: str
    names: dict[str, str | None]
    write_time: Callable[[int], Any]
    has_numbers: bool
    key_format: str
    partitioner: str
    envelope: str
    beside: tuple[str, ...]
    is_key_hashed: bool
    has_pages: bool
    seed: int


def can_stand_together(paths: tuple[str, ...]) -> bool:
    """No path leads through the value of another."""
    return not any(f"{a}.".startswith(f"{b}.") for a, b in itertools.permutations(paths, 2))


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Draw a topic."""
    beside = tuple(draw(st.lists(st.sampled_from(sorted(BESIDE)), max_size=8, unique=True)))
    has_numbers = draw(st.booleans())
    shape = Shape(
        draw(st.sampled_from(USER_PATHS)),
        draw(st.sampled_from(ITEM_PATHS)),
        draw(st.sampled_from(TIME_PATHS)),
        draw(st.sampled_from(KIND_PATHS)),
        draw(st.sampled_from(NAMES)),
        draw(st.sampled_from(TIMES)),
        has_numbers,
        draw(st.sampled_from(("text", "json", "connect", *(("int", "long") if has_numbers else ())))),
        draw(st.sampled_from(PARTITIONERS)),
        draw(st.sampled_from(("none", "cloudevents", "debezium", "connect"))),
        beside,
        draw(st.sampled_from((False, False, True))),
        draw(st.booleans()),
        draw(st.integers(0, 2**20)),
    )
    paths = (shape.user, shape.item, shape.time, shape.kind, *beside)
    return shape if can_stand_together(paths) else draw(st.nothing())


def records_of(shape: Shape) -> tuple[Sample, list[tuple[str, str, int, int] | None]]:
    """Give the records, and what each of them is: user, item, time and type, or None for what is no click."""
    chance = random.Random(shape.seed)
    records, truth = [], []
    for number in range(N_RECORDS):
        user_number, item_number = chance.randrange(60), chance.randrange(90)
        user: Any = 1_000 + user_number if shape.has_numbers else f"u-{user_number}"
        item: Any = 70_000 + item_number if shape.has_numbers else f"sku-{item_number}"
        name = chance.choice(list(shape.names))
        time_ms = NOW_MS - 1000 * chance.randrange(100_000)
        event: dict[str, Any] = {}
        for path in shape.beside:
            write_at(event, path.split("."), BESIDE[path](number, user_number, chance))
        is_page = shape.has_pages and number % 5 == 0
        write_at(event, shape.kind.split("."), "page_view" if is_page else name)
        write_at(event, shape.user.split("."), user)
        if not is_page:
            write_at(event, shape.item.split("."), item)
        write_at(event, shape.time.split("."), shape.write_time(time_ms))
        key = write_key(shape.key_format, str(user))
        key = hashlib.sha1(key).digest() if shape.is_key_hashed else key
        partition = partition_of(key, N_PARTITIONS, shape.partitioner)
        value = json.dumps(wrap(shape.envelope, event, f"ce{number}", time_ms)).encode()
        records.append(SampledRecord(partition, number, time_ms + 300, key, value))
        kind = None if is_page else shape.names[name]
        truth.append(None if kind is None else (str(user), str(item), time_ms, EVENT_TYPES.index(kind)))
    return Sample(records, N_PARTITIONS, NOW_MS + 1000), truth


@given(shapes())
@settings(max_examples=80, deadline=None)
def test_every_click_of_any_topic_is_read_as_it_is_meant_under_what_is_proposed(shape: Shape) -> None:
    """User, item, time and type of each click; what is no click is passed over, and nothing is rejected."""
    sample, truth = records_of(shape)
    found = propose(sample, Settings())
    decode = click_decoder(ClickSchema.of(changed(Settings(), found.changes)))

    assert found.after.rejected == 0, (found.changes, found.after.details)
    assert not found.needs_rekey
    for record, meant in zip(sample.records, truth, strict=True):
        clicks = decode(record.key, record.value, record.headers, record.timestamp_ms, sample.now_ms)
        if meant is None:
            assert not isinstance(clicks, tuple), found.changes
        else:
            assert isinstance(clicks, tuple), (found.changes, clicks)
            [click] = clicks
            assert click[:2] == meant[:2], found.changes
            assert abs(click.timestamp_ms - meant[2]) < 1000, found.changes
            assert click.event_type == meant[3], found.changes


ODD_NAMES = ("", " ", ".", "a.b", "a|b", "header:x", "header:", "0", "-1", "\ud800", "\0")
USUAL_NAMES = [
    "user_id",
    "item",
    "ts",
    "type",
    "after",
    "op",
    "schema",
    "payload",
    "specversion",
    "data",
    "data_base64",
]
NAMES_OF_FIELDS = st.sampled_from((*ODD_NAMES, *USUAL_NAMES)) | st.text(max_size=5)
DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.just("add_to_cart"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES_OF_FIELDS, inner, max_size=5),
    max_leaves=12,
)
VALUES = DOCUMENTS.map(lambda document: json.dumps(document).encode()) | st.binary(max_size=12) | st.none()
HEADERS = st.lists(st.tuples(NAMES_OF_FIELDS, st.none() | st.binary(max_size=6)), max_size=2)


@given(st.lists(st.tuples(st.none() | st.binary(max_size=9), VALUES, HEADERS, st.integers(-1, 2**62)), max_size=30))
@settings(max_examples=150, deadline=None)
def test_no_record_makes_the_search_fail(drawn: list[Any]) -> None:
    """Whatever it holds; and what is proposed are settings that a worker takes."""
    records = [
        SampledRecord(number % 3, number, timestamp_ms, key, value, headers)
        for number, (key, value, headers, timestamp_ms) in enumerate(drawn)
    ]
    found = propose(Sample(records, 3, NOW_MS), Settings())

    assert found.after.used >= found.before.used or found.changes
    check_clocks(Sample(records, 3, NOW_MS), changed(Settings(), found.changes))
