"""Updates in Protobuf, in Confluent's wire format: six bytes name the schema and its first message, which follows."""

import struct
from collections.abc import Sequence
from functools import lru_cache

from msgspec import UnsetType

from nextclick.output.varints import varint
from nextclick.updates import AnsweredClick, Part, RankedList, Recommendation, ServedBy, UpdateFormat

VERSION = "1.0"
SCHEMA = f"""\
// The list of a user after a click. Version {VERSION}.
syntax = "proto3";

package nextclick;

option java_multiple_files = true;

message RecommendationUpdate {{
  string user_id = 1;  // whose list it is
  repeated Recommendation items = 2;  // best first
  string strategy = 3;  // rnn or popular
  string bundle_id = 4;  // the bundle that was served, empty when there was none
  int64 sequence = 5;  // clicks of this user that are in the list; a repeated update repeats it
  Source source = 6;  // the record of the click that the update answers
  int64 clicked_at_ms = 7;  // the click record's own timestamp
  int64 produced_at_ms = 8;  // when the worker made the update
  string variant = 9;  // champion or canary; only while a bundle is tried on some users, else empty
}}

// An item and the probability that it is clicked next.
message Recommendation {{
  string item_id = 1;
  double score = 2;
  repeated Part because = 3;  // what it is listed for, the largest part first; with the setting explain alone
  optional string placed = 4;  // pinned or explore: why it stands where it does, if that is not its score
}}

// A part of an item's score, and the term of the mixture that it comes from.
message Part {{
  string kind = 1;  // neighbour, reclick or network
  double share = 2;  // of the score; the shares of an item add up to its score
  optional string item_id = 3;  // the clicked item, with neighbour alone
}}

message Source {{
  int32 partition = 1;
  int64 offset = 2;
}}
"""
_FIRST_MESSAGE = b"\0"
# Each field's number and how it is written: a number, eight bytes, or bytes behind their length.
_NUMBER, _DOUBLE, _BYTES = 0, 1, 2
_USER, _ITEM, _STRATEGY, _BUNDLE, _SOURCE, _VARIANT = (bytes([number << 3 | _BYTES]) for number in (1, 2, 3, 4, 6, 9))
_SEQUENCE, _CLICKED_AT, _PRODUCED_AT = (bytes([number << 3 | _NUMBER]) for number in (5, 7, 8))
_PARTITION, _OFFSET = (bytes([number << 3 | _NUMBER]) for number in (1, 2))
_ITEM_ID, _SCORE = bytes([1 << 3 | _BYTES]), bytes([2 << 3 | _DOUBLE])
_PART, _PLACED = bytes([3 << 3 | _BYTES]), bytes([4 << 3 | _BYTES])
_KIND, _SHARE, _CLICKED = bytes([1 << 3 | _BYTES]), bytes([2 << 3 | _DOUBLE]), bytes([3 << 3 | _BYTES])
_double = struct.Struct("<d").pack


def protobuf_format(schema_id: int) -> UpdateFormat:
    """Give the format of updates whose schema has this id in the registry."""
    prefix = b"\0" + schema_id.to_bytes(4) + _FIRST_MESSAGE + _USER

    def encode_update(
        user_id: str, ranked: RankedList, served: ServedBy, sequence: int, answered: AnsweredClick, produced_at_ms: int
    ) -> bytes:
        user, (partition, offset, clicked_at_ms) = user_id.encode(), answered
        source = _PARTITION + varint(partition) + _OFFSET + varint(offset)
        return b"".join(
            (
                prefix,
                varint(len(user)),
                user,
                ranked.items,
                _texts(ranked.strategy, served.bundle_id),
                varint(sequence),
                _SOURCE,
                varint(len(source)),
                source,
                _CLICKED_AT,
                varint(clicked_at_ms),
                _time(produced_at_ms),
                _field(_VARIANT, served.variant.encode()) if served.variant else b"",
            )
        )

    return UpdateFormat("protobuf", [], encode_items, encode_update)


def encode_items(items: Sequence[Recommendation]) -> bytes:
    """Write a list: each item is a field of the update."""
    return b"".join(_field(_ITEM, _item(item)) for item in items)


def _item(item: Recommendation) -> bytes:
    parts = () if isinstance(item.because, UnsetType) else item.because
    because = b"".join(_field(_PART, _part(part)) for part in parts)
    placed = b"" if isinstance(item.placed, UnsetType) else _field(_PLACED, item.placed.encode())
    return _field(_ITEM_ID, item.item_id.encode()) + _SCORE + _double(item.score) + because + placed


def _part(part: Part) -> bytes:
    clicked = b"" if isinstance(part.item_id, UnsetType) else _field(_CLICKED, part.item_id.encode())
    return _field(_KIND, part.kind.encode()) + _SHARE + _double(part.share) + clicked


def _field(tag: bytes, data: bytes) -> bytes:
    return tag + varint(len(data)) + data


@lru_cache(maxsize=64)  # there are as many as strategies and bundles of late
def _texts(strategy: str, bundle_id: str) -> bytes:
    """Write two texts, and begin the number behind them."""
    return _field(_STRATEGY, strategy.encode()) + _field(_BUNDLE, bundle_id.encode()) + _SEQUENCE


@lru_cache(maxsize=8)  # the same for all updates of a chunk
def _time(produced_at_ms: int) -> bytes:
    return _PRODUCED_AT + varint(produced_at_ms)
