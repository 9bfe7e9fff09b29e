"""Examples of all messages, written by the programs' own encoders."""

import json
from typing import Any

import msgspec

from nextclick.catalogue import ShopItem, encode_item
from nextclick.clicks import Rejected, RejectReason
from nextclick.feed_types import (
    ClickIn,
    ClicksTaken,
    ListedItem,
    Neighbours,
    PopularList,
    Problem,
    Reason,
    SessionClick,
    SessionIn,
    SessionList,
    TakenClick,
    UserList,
    encode,
)
from nextclick.manifest import BundleFile, Manifest, bundle_id_of, encode_manifest
from nextclick.network_config import NetworkConfig
from nextclick.output.cloud_events import cloud_events_format
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.encoder import encode_click
from nextclick.settings import Settings
from nextclick.updates import (
    JSON_FORMAT,
    POPULAR,
    RNN,
    AnsweredClick,
    Part,
    Recommendation,
    ServedBy,
    UpdateFormat,
    ranked_list,
)
from tools.dead_letters import DeadLetter, Origin, dead_letter

_CLICKED_MS, _PRODUCED_MS = 1_764_000_000_123, 1_764_000_000_131
_BUNDLE = "1f0c9d2e5a7b3c48"
_ANSWERED = AnsweredClick(3, 99_120, _CLICKED_MS)
_LISTED = [Recommendation("sku-4712", 0.11), Recommendation("sku-0815", 0.07)]
_BECAUSE = [Reason("neighbour", 0.08, "often clicked after sku-4711", "sku-4711"), Reason("network", 0.03, "fits")]
_ITEMS = [ListedItem("sku-4712", 0.11, title="Trail shoe", price=89.9), ListedItem("sku-0815", 0.07)]
_USER_LIST = UserList("u-17", _ITEMS, RNN, _BUNDLE, 12, _CLICKED_MS, _PRODUCED_MS, 4_210)


def update_record(output: UpdateFormat) -> bytes:
    """Give the update of a click as a worker writes it."""
    ranked = ranked_list(RNN, _LISTED, [0] * len(_LISTED), output.encode_items)
    return output.encode_update("u-17", ranked, ServedBy(_BUNDLE), 12, _ANSWERED, _PRODUCED_MS)


def _explained_update() -> bytes:
    because = (Part("neighbour", 0.08, "sku-4711"), Part("network", 0.03))
    items = [Recommendation("sku-1", 0.002, placed="pinned"), Recommendation("sku-4712", 0.11, because)]
    ranked = ranked_list(RNN, items, [0, 0])
    return JSON_FORMAT.encode_update("u-17", ranked, ServedBy(_BUNDLE), 12, _ANSWERED, _PRODUCED_MS)


def _update_of_canary() -> bytes:
    ranked = ranked_list(RNN, _LISTED, [0] * len(_LISTED))
    return JSON_FORMAT.encode_update("u-19", ranked, ServedBy("7be1d20c94f35a68", "canary"), 3, _ANSWERED, _PRODUCED_MS)


def _popular_update() -> bytes:
    ranked = ranked_list(POPULAR, _LISTED[:1], [0])
    return JSON_FORMAT.encode_update("u-18", ranked, ServedBy(""), 1, AnsweredClick(0, 7, _CLICKED_MS), _PRODUCED_MS)


def _dead_letter() -> DeadLetter:
    missing = Rejected(RejectReason.MISSING_FIELD, "expected the item at 'item_id', found nothing there")
    return dead_letter(missing, b"u-17", REJECTED_VALUE, Origin("clicks", 3, 99_121, _CLICKED_MS))


def _manifest() -> bytes:
    files = (
        BundleFile("model.safetensors", "0ec5a881eca2cbcf5c30eee544c316c346994c97076a15b56019425973fe2632", 5_131_928),
        BundleFile("vocabulary.parquet", "722bf2a47ac8b110c19914583cdb2f8073011e5b48fc7a78fec99b5cf81a9c5a", 171_002),
    )
    network = msgspec.to_builtins(NetworkConfig(n_items=10_000, skip=True, normalised=True, n_neighbours=100))
    return encode_manifest(
        Manifest(
            bundle_id=bundle_id_of(files, network, _PRODUCED_MS),
            created_ms=_PRODUCED_MS,
            network=network,
            files=files,
            metrics={"recall@20": 0.273, "popularity_recall@20": 0.101},
            log_range={"0": (0, 49_999), "1": (0, 50_412)},
            judgement="better than popularity; recall@20 new 0.2730, champion none, popularity 0.1010",
            settings={"cell": "gru", "epochs": "2", "hidden_size": "128"},
            versions={"nextclick": "0.1.0", "numpy": "2.3.5", "torch": "2.9.1"},
        )
    )


def _bodies(*bodies: Any) -> list[Any]:
    return [json.loads(encode(body)) for body in bodies]


REJECTED_VALUE = b'{"user_id":"u-17","timestamp_ms":1764000000000}'
CLICKS: list[Any] = [
    json.loads(encode_click(ClickSchema(), "u-17", "sku-4711", 1_764_000_000_000).value),
    {"user_id": 17, "item_id": 4711, "timestamp_ms": "2025-11-24T16:00:00Z", "event_type": "cart"},
    {"user_id": "u-17", "item_id": "sku-4711"},
]
UPDATES = [
    json.loads(each)
    for each in (update_record(JSON_FORMAT), _explained_update(), _popular_update(), _update_of_canary())
]
EVENTS = [json.loads(update_record(cloud_events_format(Settings().app, Settings().clicks_topic)))]
DEAD_LETTER_HEADERS = [{name: text.decode() for name, text in _dead_letter().headers}]
MANIFESTS = [json.loads(_manifest())]
USER_LISTS = _bodies(
    _USER_LIST,
    UserList("u-17", [ListedItem("sku-4712", 0.11, _BECAUSE)], RNN, _BUNDLE, 12, _CLICKED_MS, _PRODUCED_MS, 4_210),
    UserList("nobody", _ITEMS, POPULAR, _BUNDLE, 0, 0, _PRODUCED_MS, 4_210),
    UserList("u-19", _ITEMS, RNN, "7be1d20c94f35a68", 3, _CLICKED_MS, _PRODUCED_MS, 4_210, "canary"),
)
ITEMS = [
    json.loads(encode_item(item))
    for item in (
        ShopItem(
            categories=("shoes", "outdoor"),
            published_at_ms=1_764_000_000_000,
            boost=1.5,
            title="Trail shoe",
            url="https://shop.example/p/sku-4711",
            image="https://shop.example/i/sku-4711.webp",
            price=89.9,
        ),
        ShopItem(available=False, title="Sold out"),
        ShopItem(expires_at_ms=1_764_086_400_000, price="12.50 EUR"),
    )
]
POPULAR_LISTS = _bodies(PopularList(_ITEMS, _BUNDLE, _PRODUCED_MS, 4_210))
NEIGHBOURS = _bodies(Neighbours("sku-4711", _ITEMS, _BUNDLE))
CLICKS_IN = _bodies(
    ClickIn("u-17", "sku-4711"), [ClickIn("u-17", "sku-4711", 1_764_000_000_000, "cart", event_id="e-1")]
)
CLICKS_TAKEN = _bodies(
    ClicksTaken([TakenClick(3, 99_120)]),
    ClicksTaken([TakenClick(3, 99_120)], _USER_LIST),
    ClicksTaken([TakenClick(3, 99_120)], None),
)
SESSIONS_IN = _bodies(SessionIn([SessionClick("sku-4711"), SessionClick("sku-4712", 1_764_000_000_000, "cart")]))
SESSION_LISTS = _bodies(SessionList(_ITEMS, RNN, _BUNDLE, 2))
PROBLEMS = _bodies(
    Problem("urn:nextclick:problem:no-model", "No bundle is served yet", 503, "wait for the first training")
)
