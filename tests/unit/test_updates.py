"""The output message: what a consumer reads, and the list inside it that many users can share."""

import json
import struct

import msgspec
import pytest

from nextclick.updates import (
    MAX_UPDATE_BYTES,
    POPULAR,
    RNN,
    AnsweredClick,
    Part,
    Recommendation,
    RecommendationUpdate,
    ServedBy,
    Source,
    decode_items,
    decode_update,
    encode_update,
    ranked_list,
)

ITEMS = [Recommendation("b", 0.75), Recommendation('"é"', 0.25)]


def test_an_update_is_read_back() -> None:
    """Encoding takes a list that is JSON already; decoding gives plain values."""
    value = encode_update(
        "u1", ranked_list(RNN, ITEMS, [1, 2]), ServedBy("00ff00ff00ff00ff"), 3, AnsweredClick(2, 70, 1_000), 1_005
    )

    assert decode_update(value) == RecommendationUpdate(
        "u1", ITEMS, RNN, "00ff00ff00ff00ff", 3, Source(2, 70), 1_000, 1_005
    )


def test_an_update_is_plain_json() -> None:
    """The names are a contract with every consumer."""
    value = encode_update("u1", ranked_list(POPULAR, ITEMS, [1, 2]), ServedBy(""), 1, AnsweredClick(0, 0, 1_000), 1_005)

    assert json.loads(value) == {
        "user_id": "u1",
        "items": [{"item_id": "b", "score": 0.75}, {"item_id": '"é"', "score": 0.25}],
        "strategy": "popular",
        "bundle_id": "",
        "sequence": 1,
        "source": {"partition": 0, "offset": 0},
        "clicked_at_ms": 1_000,
        "produced_at_ms": 1_005,
    }


def test_what_an_item_is_listed_for_is_read_back() -> None:
    """Where it is there; a list can be read alone, too."""
    because = (Part("neighbour", 0.5, "a"), Part("reclick", 0.125), Part("network", 0.125))
    items = [Recommendation("b", 0.75, because), Recommendation("c", 0.25)]
    ranked = ranked_list(RNN, items, [1, 2])

    value = encode_update("u1", ranked, ServedBy(""), 3, AnsweredClick(2, 70, 1_000), 1_005)

    assert decode_update(value).items == decode_items(ranked.items) == items
    assert json.loads(value)["items"] == [
        {
            "item_id": "b",
            "score": 0.75,
            "because": [
                {"kind": "neighbour", "share": 0.5, "item_id": "a"},
                {"kind": "reclick", "share": 0.125},
                {"kind": "network", "share": 0.125},
            ],
        },
        {"item_id": "c", "score": 0.25},
    ]


def test_a_list_carries_what_the_state_keeps() -> None:
    """The low bits of the hashes, packed as a state holds them."""
    ranked = ranked_list(POPULAR, ITEMS, [7, 0xFFFFFFFF])

    assert ranked.shown == struct.pack("<2I", 7, 0xFFFFFFFF)
    assert ranked.strategy == POPULAR


def test_an_empty_list_is_a_list() -> None:
    """The very first click of a new installation may find nothing to recommend."""
    value = encode_update("u1", ranked_list(POPULAR, [], []), ServedBy(""), 1, AnsweredClick(0, 0, 0), 0)

    assert decode_update(value).items == []


@pytest.mark.parametrize("value", [b"", b"null", b"{}", b'{"user_id":1}', b"\xff"])
def test_what_is_no_update_is_refused(value: bytes) -> None:
    """A consumer gets one kind of error for all of them."""
    with pytest.raises((msgspec.DecodeError, UnicodeDecodeError)):
        decode_update(value)


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b'{"user_id":"\xff"}',
        b'{"user_id":"\\ud800"}',
        b'{"x":' + b"[" * 100_000,
        b" " * MAX_UPDATE_BYTES + b"{}",
        b'{"user_id":"u","items":[],"strategy":"rnn","bundle_id":"","sequence":1,"source":{"partition":0,"offset":0},'
        b'"clicked_at_ms":1,"produced_at_ms":' + b"9" * 400 + b"}",
    ],
    ids=["empty", "not UTF-8", "half a character", "deeply nested", "too large", "a time beyond 64 bits"],
)
def test_what_is_no_update_is_the_one_documented_error(value: bytes) -> None:
    """A feed reads a topic that others can write to."""
    with pytest.raises(msgspec.DecodeError):
        decode_update(value)
