"""Users' states that something damaged: a clear error, or a state that a worker could have written and can serve."""

import json
import math
import struct
from functools import cache

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nextclick.advance import Advanced, Limits, LoggedClick, UserKey, advance
from nextclick.clicks import MAX_TIMESTAMP_MS, Click
from nextclick.errors import CorruptStateError
from nextclick.hashing import item_hash
from nextclick.model import ServedModel
from nextclick.network_config import NetworkConfig
from nextclick.updates import POPULAR, Recommendation, ranked_list
from nextclick.user_state import (
    MAX_SEQUENCE,
    RECENT_BYTES,
    SHOWN_BY_NETWORK,
    UserState,
    decode_state,
    encode_state,
    recent_clicks,
    was_shown,
)
from nextclick.vocabulary import Vocabulary
from tests.networks import random_network, served_model

ITEMS = ("a", "b", "c", "d", "e")
LIMITS = Limits(recent_clicks=5, list_length=3)
POPULAR_LIST = ranked_list(POPULAR, [Recommendation("a", 0.5)], [1])
HEADER_BYTES = 38
LENGTHS = range(34, 38)  # bytes of hidden, recent clicks, shown items: where they stand in the header
USER: UserKey = (3, b"u")


def _model(cell: str) -> ServedModel:
    fields = {"n_items": len(ITEMS), "hidden_size": 4, "cell": cell, "skip": True, "n_neighbours": 3}
    network = random_network(msgspec.convert(fields, NetworkConfig), seed=4)
    return served_model("00000000000000ff", network, Vocabulary(ITEMS, np.ones(len(ITEMS))))


MODELS = {cell: _model(cell) for cell in ("gru", "lstm", "rnn")}


@cache
def _lived(cell: str, item_ids: tuple[str, ...], *, has_ids: bool) -> bytes:
    """The bytes of a user who clicked these items, in events with ids or without."""
    states: dict[UserKey, UserState] = {}
    for offset, item_id in enumerate(item_ids):
        click = Click("u", item_id, 1000 * offset, offset % 3, 0xABCDEF * offset if has_ids else 0)
        logged = LoggedClick(USER, offset, 1000 * offset, click, item_hash(item_id))
        (outcome,) = advance(MODELS[cell], POPULAR_LIST, states, [logged], LIMITS)
        states[USER] = outcome.state
    return encode_state(states[USER])


cells = st.sampled_from(sorted(MODELS))
items = st.lists(st.sampled_from([*ITEMS, "unknown"]), min_size=1, max_size=7).map(tuple)
lived = st.builds(_lived, cells, items, has_ids=st.booleans())


def judge(data: bytes, cell: str) -> None:
    """Read a state and serve the next click from it; only the one documented error may come of it."""
    try:
        state = decode_state(data)
    except CorruptStateError:
        return

    assert encode_state(state) == data
    assert state.flags in (0, SHOWN_BY_NETWORK)
    assert state.partition >= -1
    assert state.offset >= -1
    assert 0 <= state.last_click_ms <= MAX_TIMESTAMP_MS
    assert len(recent_clicks(state)) <= min(state.sequence, 255)
    assert not was_shown(b"", 0)
    logged = LoggedClick(USER, 2**63 - 1, 0, Click("u", "a", 0, 255), item_hash("a"))
    try:
        (outcome,) = advance(MODELS[cell], POPULAR_LIST, {USER: state}, [logged], LIMITS)
    except CorruptStateError:
        return

    assert decode_state(encode_state(outcome.state)) == outcome.state
    assert all(math.isfinite(item["score"]) for item in json.loads(bytes(outcome.ranked.items)))
    if isinstance(outcome, Advanced):
        assert np.isfinite(np.frombuffer(outcome.state.hidden, "<f2")).all()
        assert outcome.state.sequence == min(state.sequence + 1, MAX_SEQUENCE)


@given(st.binary(max_size=400), cells)
def test_any_bytes_are_a_state_or_a_clear_error(data: bytes, cell: str) -> None:
    """What stands in a store need not come from this program."""
    judge(data, cell)
    judge(b"\x01" + data, cell)


HEADER = (1, SHOWN_BY_NETWORK, 0xFF, 255, USER[0], 0, 1_000)  # layout, flags, bundle, sequence, partition, offset, time
HOSTILE = (
    (0, 2, 255),
    (2, 3, 128, 255),
    (0, 5, 2**64 - 1),
    (0, 1, MAX_SEQUENCE),
    (-(2**31), -2, -1, 2**31 - 1),
    (-(2**63), -2, -1, 2**63 - 2, 2**63 - 1),
    (-(2**63), -1, 0, MAX_TIMESTAMP_MS, MAX_TIMESTAMP_MS + 1, 2**63 - 1),
)
hostile_fields = st.integers(0, len(HEADER) - 1).flatmap(
    lambda place: st.tuples(st.just(place), st.sampled_from(HOSTILE[place]))
)
SIZES = (0, 2, 4, 6, 7, 8, 10, 16, 60_000)  # of hidden; 8 and 16 are right, for two of the cells and for the third
hidden_parts = st.builds(
    lambda number, size: np.resize(np.array([number], "<f2").view("u1"), size).tobytes(),
    st.sampled_from([0.0, 1.0, 65_504.0, math.nan, math.inf]),
    st.sampled_from(SIZES) | st.just(8),
)


@given(st.lists(hostile_fields, max_size=2), hidden_parts, st.integers(0, 255), st.integers(0, 255), cells)
def test_a_well_formed_state_of_impossible_values_is_a_clear_error(
    changes: list[tuple[int, int]], hidden: bytes, n_recent: int, n_shown: int, cell: str
) -> None:
    """The lengths agree, the values need not: also a hidden state of another width, or one that holds NaN."""
    header = list(HEADER)
    for place, value in changes:
        header[place] = value
    lengths = (len(hidden), n_recent, n_shown)
    data = struct.pack("<BBQIiqqHBB", *header, *lengths) + hidden + bytes(RECENT_BYTES * n_recent + 4 * n_shown)

    judge(data, cell)


@given(lived, st.data(), cells)
def test_one_wrong_byte_is_a_clear_error_or_another_users_possible_state(
    data: bytes, draw: st.DataObject, cell: str
) -> None:
    """Flipped, inserted or removed. (Inside a value that can be anyone's, those who store and carry bytes notice.)"""
    position = draw.draw(st.integers(0, len(data)))
    replaced, junk = draw.draw(st.sampled_from([(1, 1), (0, 1), (1, 0), (4, 4)]))
    damaged = data[:position] + draw.draw(st.binary(min_size=junk, max_size=junk)) + data[position + replaced :]

    judge(damaged, cell)


@given(lived, st.data())
def test_a_cut_or_a_changed_length_is_always_noticed(data: bytes, draw: st.DataObject) -> None:
    """Never a state that is made of another's parts."""
    length = draw.draw(st.integers(0, len(data) - 1))
    position = draw.draw(st.sampled_from(LENGTHS))
    byte = draw.draw(st.integers(0, 255))
    assume(byte != data[position])

    with pytest.raises(CorruptStateError):
        decode_state(data[:length])
    with pytest.raises(CorruptStateError):
        decode_state(data[:position] + bytes([byte]) + data[position + 1 :])
    with pytest.raises(CorruptStateError):
        decode_state(data + bytes([byte]))
