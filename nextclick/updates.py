"""The output message, `RecommendationUpdate`, and the ranked list inside it."""

import struct
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

RNN, POPULAR = "rnn", "popular"
MAX_UPDATE_BYTES = 1024**2  # a broker's default limit for a record; 255 items with the longest ids take 400 KB
Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]  # JSON knows no limit; a reader's arithmetic does


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
    """

    item_id: str
    score: float
    because: tuple[Part, ...] | UnsetType = UNSET


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
    """

    user_id: str
    items: list[Recommendation]
    strategy: str
    bundle_id: str
    sequence: Int64
    source: Source
    clicked_at_ms: Int64
    produced_at_ms: Int64


class AnsweredClick(NamedTuple):
    """The record of the click that an update answers, with its own timestamp (not the click's event time)."""

    partition: int
    offset: int
    record_timestamp_ms: int


class RankedList(NamedTuple):
    """A ranked list, ready to be sent: many users can share one.

    Attributes:
        strategy: which strategy made it.
        items_json: the JSON array of its recommendations.
        shown: u32 each, the low bits of the item hashes, best first, as the user's state keeps them.
    """

    strategy: str
    items_json: msgspec.Raw
    shown: bytes


class _WireUpdate(msgspec.Struct, frozen=True):
    user_id: str
    items: msgspec.Raw
    strategy: str
    bundle_id: str
    sequence: int
    source: Source
    clicked_at_ms: int
    produced_at_ms: int


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(RecommendationUpdate)
_items_decoder = msgspec.json.Decoder(list[Recommendation])


def ranked_list(strategy: str, items: Sequence[Recommendation], low_hashes: Sequence[int]) -> RankedList:
    """Make a list ready to be sent.

    Args:
        strategy: which strategy ranked the items.
        items: best first.
        low_hashes: the low 32 bits of the items' hashes, in the same order.
    """
    shown = struct.pack(f"<{len(low_hashes)}I", *low_hashes)
    return RankedList(strategy, msgspec.Raw(_encoder.encode(items)), shown)


def items_of(ranked: RankedList) -> list[Recommendation]:
    """Give the items of a list, best first."""
    return _items_decoder.decode(ranked.items_json)


def encode_update(
    user_id: str, ranked: RankedList, bundle_id: str, sequence: int, answered: AnsweredClick, produced_at_ms: int
) -> bytes:
    """Give the JSON of an update."""
    source = Source(answered.partition, answered.offset)
    return _encoder.encode(
        _WireUpdate(
            user_id,
            ranked.items_json,
            ranked.strategy,
            bundle_id,
            sequence,
            source,
            answered.record_timestamp_ms,
            produced_at_ms,
        )
    )


def decode_update(value: bytes) -> RecommendationUpdate:
    """Read an update.

    Raises:
        msgspec.DecodeError: the bytes are no update.
    """
    if len(value) > MAX_UPDATE_BYTES:
        raise msgspec.DecodeError(f"expected an update of at most {MAX_UPDATE_BYTES} bytes, found {len(value)}")
    try:
        return _decoder.decode(value)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"expected an update, found bytes that are not JSON: {error!s:.300}") from error
