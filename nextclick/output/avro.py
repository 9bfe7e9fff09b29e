"""Updates in Avro, in Confluent's wire format: five bytes name the schema, and the record follows."""

import struct
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from msgspec import UnsetType

from nextclick.output.varints import zigzag
from nextclick.updates import AnsweredClick, Part, RankedList, Recommendation, ServedBy, UpdateFormat

VERSION = "1.0"
_PART = {
    "type": "record",
    "name": "Part",
    "doc": "A part of an item's score, and the term of the mixture that it comes from.",
    "fields": [
        {"name": "kind", "type": "string", "doc": "neighbour, reclick or network."},
        {"name": "share", "type": "double", "doc": "Of the score; the shares of an item add up to its score."},
        {
            "name": "item_id",
            "type": ["null", "string"],
            "default": None,
            "doc": "The clicked item, with neighbour alone.",
        },
    ],
}
_RECOMMENDATION = {
    "type": "record",
    "name": "Recommendation",
    "doc": "An item and the probability that it is clicked next.",
    "fields": [
        {"name": "item_id", "type": "string"},
        {"name": "score", "type": "double"},
        {
            "name": "because",
            "type": ["null", {"type": "array", "items": _PART}],
            "default": None,
            "doc": "What the item is listed for, the largest part first; with the setting explain alone.",
        },
        {
            "name": "placed",
            "type": ["null", "string"],
            "default": None,
            "doc": "pinned or explore: why the item stands where it does, if that is not its score.",
        },
    ],
}
SCHEMA: Mapping[str, Any] = {
    "type": "record",
    "name": "RecommendationUpdate",
    "namespace": "nextclick",
    "doc": "The list of a user after a click.",
    "x-version": VERSION,
    "fields": [
        {"name": "user_id", "type": "string", "doc": "Whose list it is."},
        {"name": "items", "type": {"type": "array", "items": _RECOMMENDATION}, "doc": "Best first."},
        {"name": "strategy", "type": "string", "doc": "rnn or popular."},
        {"name": "bundle_id", "type": "string", "doc": "The bundle that was served, empty when there was none."},
        {
            "name": "sequence",
            "type": "long",
            "doc": "Clicks of this user that are in the list; a repeated update repeats it.",
        },
        {
            "name": "source",
            "type": {
                "type": "record",
                "name": "Source",
                "fields": [{"name": "partition", "type": "int"}, {"name": "offset", "type": "long"}],
            },
            "doc": "The record of the click that the update answers.",
        },
        {"name": "clicked_at_ms", "type": "long", "doc": "The click record's own timestamp."},
        {"name": "produced_at_ms", "type": "long", "doc": "When the worker made the update."},
        {
            "name": "variant",
            "type": ["null", "string"],
            "default": None,
            "doc": "champion or canary; only while a bundle is tried on some users.",
        },
    ],
}
_END_OF_BLOCKS = b"\0"
_NULL, _NOT_NULL = b"\0", b"\2"  # which branch of a union follows
_double = struct.Struct("<d").pack


def avro_format(schema_id: int) -> UpdateFormat:
    """Give the format of updates whose schema has this id in the registry."""
    prefix = b"\0" + schema_id.to_bytes(4)

    def encode_update(
        user_id: str, ranked: RankedList, served: ServedBy, sequence: int, answered: AnsweredClick, produced_at_ms: int
    ) -> bytes:
        user, (partition, offset, clicked_at_ms) = user_id.encode(), answered
        return b"".join(
            (
                prefix,
                zigzag(len(user)),
                user,
                ranked.items,
                _texts(ranked.strategy, served.bundle_id),
                zigzag(sequence),
                zigzag(partition),
                zigzag(offset),
                zigzag(clicked_at_ms),
                _time(produced_at_ms),
                _NOT_NULL + _text(served.variant) if served.variant else _NULL,
            )
        )

    return UpdateFormat("avro", [], encode_items, encode_update)


def encode_items(items: Sequence[Recommendation]) -> bytes:
    """Write a list: one block of items, if there are any."""
    return _array(map(_item, items), len(items))


def _item(item: Recommendation) -> bytes:
    parts = item.because
    because = _NULL if isinstance(parts, UnsetType) else _NOT_NULL + _array(map(_part, parts), len(parts))
    placed = _NULL if isinstance(item.placed, UnsetType) else _NOT_NULL + _text(item.placed)
    return _text(item.item_id) + _double(item.score) + because + placed


def _part(part: Part) -> bytes:
    clicked = _NULL if isinstance(part.item_id, UnsetType) else _NOT_NULL + _text(part.item_id)
    return _text(part.kind) + _double(part.share) + clicked


def _array(items: Iterable[bytes], n_items: int) -> bytes:
    return zigzag(n_items) + b"".join(items) + _END_OF_BLOCKS if n_items else _END_OF_BLOCKS


@lru_cache(maxsize=64)  # there are as many as strategies and bundles of late
def _texts(*texts: str) -> bytes:
    return b"".join(map(_text, texts))


def _text(text: str) -> bytes:
    data = text.encode()
    return zigzag(len(data)) + data


_time = lru_cache(maxsize=8)(zigzag)  # the same for all updates of a chunk
