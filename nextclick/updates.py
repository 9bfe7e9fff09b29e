"""The output message, `RecommendationUpdate`, and the ranked list inside it, in JSON.

`nextclick.output` writes them in other formats.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Annotated, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

RNN, POPULAR = "rnn", "popular"
MAX_UPDATE_BYTES = 1024**2  # a broker's default limit for a record; 255 items with the longest ids take 400 KB
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # JSON knows no limit; a reader's arithmetic does


Placed = Literal["pinned", "explore"]
T = TypeVar("T")


class Part(msgspec.Struct, frozen=True):
    """A part of an item's score, and the term of the mixture that it comes from (see `nextclick.mixture`).

    Attributes:
        kind: `neighbour`: often clicked near `item_id`; `reclick`: the user clicked the item before; `network`: what
            the network says.
        share: of the score, in the same unit.
        item_id: the clicked item, with `neighbour` alone.
    """

    kind: Literal["neighbour", "reclick", "network"]
    share: float
    item_id: str | UnsetType = UNSET


class Recommendation(msgspec.Struct, frozen=True):
    """An item and the probability that it is clicked next, as the strategy sees it.

    Attributes:
        item_id: of the item.
        score: the probability.
        because: the parts of the score, the largest first; they add up to it. Only with the setting `explain`, and
            only in lists of the strategy `rnn`.
        placed: why the item stands where it does, if that is not its score: `pinned` by the shop, or `explore`, to
            learn of an item that was shown little.
    """

    item_id: str
    score: float
    because: tuple[Part, ...] | UnsetType = UNSET
    placed: Placed | UnsetType = UNSET


class Source(msgspec.Struct, frozen=True):
    """The record of the click that an update answers."""

    partition: Int64
    offset: Int64


class RecommendationUpdate(msgspec.Struct, frozen=True):
    """What a consumer of `recommendations` reads.

    Attributes:
        user_id: whose list it is.
        items: best first.
        strategy: `rnn` or `popular`.
        bundle_id: the bundle that was served, empty when there was none.
        sequence: clicks of this user that are in the list; a repeated update repeats it.
        source: the click that caused the update.
        clicked_at_ms: the click record's own timestamp (not its event time): latency runs from here.
        produced_at_ms: when the worker made the update.
        variant: which bundle the user is served with, `champion` or `canary`; only while a bundle is tried on some
            users.
    """

    user_id: str
    items: list[Recommendation]
    strategy: str
    bundle_id: str
    sequence: Int64
    source: Source
    clicked_at_ms: Int64
    produced_at_ms: Int64
    variant: str | UnsetType = UNSET


class AnsweredClick(NamedTuple):
    """The record of the click that an update answers, with its own timestamp (not the click's event time)."""

    partition: int
    offset: int
    record_timestamp_ms: int


class ServedBy(NamedTuple):
    """What a user is served with.

    Attributes:
        bundle_id: the bundle, empty when there is none.
        variant: `champion` or `canary` while a bundle is tried on some users, else empty.
    """

    bundle_id: str
    variant: str = ""


class RankedList(NamedTuple):
    """A ranked list, ready to be sent: many users can share one.

    Attributes:
        strategy: which strategy made it.
        items: its recommendations, as the format of the updates has them (see `UpdateFormat`).
        shown: u32 each, the low bits of the item hashes, best first, as the user's state keeps them.
        promised: the sum of its scores, of a list of the network: how likely the next click is on it.
    """

    strategy: str
    items: bytes
    shown: bytes
    promised: float = 0.0


ListFormat = Literal["json", "avro", "protobuf"]

EncodeUpdate = Callable[[str, RankedList, ServedBy, int, AnsweredClick, int], bytes]


class UpdateFormat(NamedTuple):
    """How updates are written.

    Attributes:
        list_format: how the list in an update is, which is written where items are ranked.
        headers: of every record.
        encode_items: gives a list that was made in another way.
        encode_update: gives an update, see `encode_update`.
    """

    list_format: ListFormat
    headers: Sequence[tuple[str, bytes]]
    encode_items: Callable[[Sequence[Recommendation]], bytes]
    encode_update: EncodeUpdate


class WireUpdate(msgspec.Struct, frozen=True):
    """An update whose list is JSON already."""

    user_id: str
    items: msgspec.Raw
    strategy: str
    bundle_id: str
    sequence: int
    source: Source
    clicked_at_ms: int
    produced_at_ms: int
    variant: str | UnsetType = UNSET


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RecommendationUpdate)
_items_decoder = msgspec.json.Decoder(list[Recommendation])


def encode_items(items: Sequence[Recommendation]) -> bytes:
    """Give the JSON of a list."""
    return _encoder.encode(items)


def ranked_list(
    strategy: str,
    items: Sequence[Recommendation],
    low_hashes: Sequence[int],
    encode: Callable[[Sequence[Recommendation]], bytes] = encode_items,
) -> RankedList:
    """Make a list ready to be sent.

    Args:
        strategy: which strategy ranked the items.
        items: best first.
        low_hashes: the low 32 bits of the items' hashes, in the same order.
        encode: writes the items.
    """
    return RankedList(strategy, encode(items), struct.pack(f"<{len(low_hashes)}I", *low_hashes))


def decode_items(items: bytes) -> list[Recommendation]:
    """Read the JSON of a list."""
    return _items_decoder.decode(items)


def encode_update(
    user_id: str, ranked: RankedList, served: ServedBy, sequence: int, answered: AnsweredClick, produced_at_ms: int
) -> bytes:
    """Give the JSON of an update."""
    return _encoder.encode(wire_update(user_id, ranked, served, sequence, answered, produced_at_ms))


def wire_update(
    user_id: str, ranked: RankedList, served: ServedBy, sequence: int, answered: AnsweredClick, produced_at_ms: int
) -> WireUpdate:
    """Give what msgspec writes as the JSON of an update."""
    source = Source(answered.partition, answered.offset)
    return WireUpdate(
        user_id,
        msgspec.Raw(ranked.items),
        ranked.strategy,
        served.bundle_id,
        sequence,
        source,
        answered.record_timestamp_ms,
        produced_at_ms,
        served.variant or UNSET,
    )


JSON_FORMAT = UpdateFormat("json", [], encode_items, encode_update)


def decode_update(value: bytes) -> RecommendationUpdate:
    """Read an update.

    Raises:
        msgspec.DecodeError: the bytes are no update.
    """
    return decode_json(_decoder, value)


def decode_json(decoder: msgspec.json.Decoder[T], value: bytes) -> T:
    """Read an update, or what one is in.

    Raises:
        msgspec.DecodeError: the bytes are not what the decoder reads.
    """
    if len(value) > MAX_UPDATE_BYTES:
        raise msgspec.DecodeError(f"expected an update of at most {MAX_UPDATE_BYTES} bytes, found {len(value)}")
    try:
        return decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"expected an update, found bytes that are not JSON: {error!s:.300}") from error
