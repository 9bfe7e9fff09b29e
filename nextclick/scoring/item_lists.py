"""Writes ranked lists as JSON: the texts of the items are encoded once, when a bundle is loaded."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit, jit_inner, read_only
from nextclick.scoring.terms import Best

Bytes = npt.NDArray[np.uint8]

_DIGITS = 7  # of a probability, as many as a float32 has
FULL = 10**_DIGITS
_SMALL = -5  # powers of ten below this are written as such
SCORE_BYTES = 24  # more than any probability takes
_COMMA, _POINT, _ZERO, _MINUS, _E, _OPEN, _CLOSE, _END, _QUOTE = b',.0-e[]}"'
BEFORE_ID, BEHIND_ID = b'{"item_id":', b',"score":'
PLACED_BYTES = 20  # more than any of these takes
LEAST = 1e-290  # what is less probable is written as 0
_encoder = msgspec.json.Encoder()


# Why items have their places, as `nextclick.scoring.placing` numbers them, from 1 on.
PINNED_TEXT, EXPLORED_TEXT = np.frombuffer(b"pinned", np.uint8), np.frombuffer(b"explore", np.uint8)
_BEFORE_PLACED = np.frombuffer(b',"placed":"', np.uint8)


class ItemTexts(NamedTuple):
    """How each item begins in a list: `{"item_id":"lamp","score":`; all that is kept of its id.

    Attributes:
        texts: uint8, one behind the other.
        starts: int64 (n_items + 1,), where each begins.
    """

    texts: Bytes
    starts: npt.NDArray[np.int64]


class LiveTexts(NamedTuple):
    """The same of live items, which stand behind those of the bundle.

    Attributes:
        texts: uint8.
        starts, ends: int64 (n_live,), where each begins and ends.
    """

    texts: Bytes
    starts: npt.NDArray[np.int64]
    ends: npt.NDArray[np.int64]


NO_LIVE_TEXTS = LiveTexts(np.frombuffer(b"", np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64))


def item_texts(item_ids: Sequence[str]) -> ItemTexts:
    """Encode the items of a vocabulary, in its order."""
    parts = [item_text(item_id) for item_id in item_ids]
    starts = np.zeros(len(parts) + 1, dtype=np.int64)
    np.cumsum([len(part) for part in parts], out=starts[1:])
    return ItemTexts(np.frombuffer(b"".join(parts), dtype=np.uint8), read_only(starts))


def item_text(item_id: str) -> bytes:
    """Encode an item."""
    return BEFORE_ID + _encoder.encode(item_id) + BEHIND_ID


def id_in(texts: ItemTexts, item: int) -> str:
    """Give the id of an item."""
    begin, end = int(texts.starts[item]) + len(BEFORE_ID), int(texts.starts[item + 1]) - len(BEHIND_ID)
    return msgspec.json.decode(texts.texts[begin:end].tobytes(), type=str)


def write_lists(texts: ItemTexts, best: Best, live: LiveTexts = NO_LIVE_TEXTS) -> list[bytes]:
    """Give each user's list: a JSON array of objects with `item_id` and `score`, the best first."""
    ends = np.empty(len(best.items) + 1, dtype=np.int64)
    whole, places = _write_lists(texts, live, best, ends).tobytes(), ends.tolist()
    return [whole[begin:end] for begin, end in pairwise(places)]


@jit
def _write_lists(texts: Any, live: Any, best: Any, ends: Any) -> Any:
    """Give all lists, one behind the other; each begins and ends where `ends` says."""
    all_items, all_probabilities, all_placed = best
    n_users, k = all_items.shape
    room = n_users * (k * (SCORE_BYTES + PLACED_BYTES) + 2)
    for user in range(n_users):
        for item in all_items[user]:
            room += text_bytes(texts, live, item) if item >= 0 else 0
    written, at, ends[0] = np.empty(room, np.uint8), 0, 0
    for user in range(n_users):
        items, probabilities = all_items[user], all_probabilities[user]
        written[at] = _OPEN
        at += 1
        for place in range(k):
            item = items[place]
            if item < 0:
                break
            if place:
                written[at] = _COMMA
                at += 1
            all_texts, begin, end = text_of(texts, live, item)
            for number in range(begin, end):
                written[at + number - begin] = all_texts[number]
            at = write_probability(written, at + end - begin, probabilities[place])
            if len(all_placed):
                at = write_placed(written, at, all_placed[user, place])
            written[at] = _END
            at += 1
        written[at] = _CLOSE
        at += 1
        ends[user + 1] = at
    return written[:at]


@jit_inner
def text_of(texts: Any, live: Any, item: Any) -> Any:
    """Say where the text of an item is: in which array, from where to where."""
    place = item - (len(texts.starts) - 1)
    if place < 0:
        return texts.texts, texts.starts[item], texts.starts[item + 1]
    return live.texts, live.starts[place], live.ends[place]


@jit_inner
def text_bytes(texts: Any, live: Any, item: Any) -> Any:
    """Give how long the text of an item is."""
    _, begin, end = text_of(texts, live, item)
    return end - begin


@jit_inner
def write_placed(written: Any, at: Any, placed: Any) -> Any:
    """Write why an item has its place, where that is not its probability; gives where it ends."""
    if not placed:
        return at
    text = PINNED_TEXT if placed == 1 else EXPLORED_TEXT
    for number in range(len(_BEFORE_PLACED)):
        written[at + number] = _BEFORE_PLACED[number]
    at += len(_BEFORE_PLACED)
    for number in range(len(text)):
        written[at + number] = text[number]
    written[at + len(text)] = _QUOTE
    return at + len(text) + 1


@jit_inner
def write_probability(written: Any, at: Any, probability: Any) -> Any:
    """Write a number from 0 to 1 with seven digits: 0.01234567, or 1.234567e-06; gives where it ends."""
    if not probability > LEAST:
        written[at], written[at + 1], written[at + 2] = _ZERO, _POINT, _ZERO
        return at + 3
    digits, exponent = digits_of(probability)
    return write_digits(written, at, digits, exponent)


@jit_inner
def digits_of(probability: Any) -> Any:
    """Give a number from `LEAST` to 1 as seven digits, and the power of ten that the first of them counts."""
    exponent, scaled = 0, probability
    while scaled < 1.0:
        scaled, exponent = (scaled * 1e4, exponent - 4) if scaled < 1e-4 else (scaled * 10.0, exponent - 1)
    digits = int(scaled * (FULL // 10) + 0.5)
    if digits >= FULL:
        digits, exponent = digits // 10, exponent + 1
    return digits, exponent


@jit_inner
def write_digits(written: Any, at: Any, digits: Any, exponent: Any) -> Any:
    """Write what `digits_of` gives; gives where it ends."""
    is_small = exponent < _SMALL
    leading_zeros = 0 if is_small or exponent >= 0 else -exponent
    # As one number with a point behind its first digit.
    n_digits = leading_zeros + _DIGITS
    for place in range(n_digits - 1, -1, -1):
        written[at + place + (place > 0)] = _ZERO + digits % 10
        digits //= 10
    written[at + 1] = _POINT
    at += n_digits + 1
    while written[at - 1] == _ZERO and written[at - 2] != _POINT:
        at -= 1
    if not is_small:
        return at
    written[at], written[at + 1], exponent = _E, _MINUS, -exponent
    n_digits = 3 if exponent >= 100 else 2
    for place in range(n_digits - 1, -1, -1):
        written[at + 2 + place] = _ZERO + exponent % 10
        exponent //= 10
    return at + 2 + n_digits
