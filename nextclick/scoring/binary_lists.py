"""Writes ranked lists as Avro and Protobuf have them, from the same texts of items as their JSON (`item_lists.py`)."""

from itertools import pairwise
from typing import Any

import numpy as np

from nextclick.scoring.compiled import jit, jit_inner
from nextclick.scoring.item_lists import (
    BEFORE_ID,
    BEHIND_ID,
    EXPLORED_TEXT,
    NO_LIVE_TEXTS,
    PINNED_TEXT,
    Bytes,
    ItemTexts,
    LiveTexts,
    text_bytes,
    text_of,
)
from nextclick.scoring.terms import Best

_ID_BEGIN, _ID_END = len(BEFORE_ID) + 1, len(BEHIND_ID) + 1  # of a text, before and behind the quotes of the id
SCORE_BYTES = 8
# All bytes of an item but its id: lengths, tags, score, unions, and why it has its place.
_MOST_AROUND = 2 * 2 + 3 + SCORE_BYTES + 2 + 9
_LIST_ENDS = 4  # a block's length and its end
_BACKSLASH = ord("\\")
_U = ord("u")
_ESCAPE_BYTES = 6  # of \u0000
# As in `nextclick.output`, and written here: the machine code that is kept is made anew when a file beside it changes.
ITEM, ITEM_ID, SCORE = 2 << 3 | 2, 1 << 3 | 2, 2 << 3 | 1  # Protobuf's tags
PLACED = 4 << 3 | 2
NULL, NOT_NULL, _END_OF_BLOCKS = 0, 2, 0  # Avro's


def _meanings() -> Bytes:
    """Give the byte that stands for each letter behind a backslash; itself where it has no other meaning."""
    meanings = np.arange(256, dtype=np.uint8)
    for letter, meaning in (("b", "\b"), ("f", "\f"), ("n", "\n"), ("r", "\r"), ("t", "\t")):
        meanings[ord(letter)] = ord(meaning)
    return meanings


_MEANINGS = _meanings()


def write_avro_lists(texts: ItemTexts, best: Best, live: LiveTexts = NO_LIVE_TEXTS) -> list[bytes]:
    """Give each user's list as Avro's array of `Recommendation`, the best first."""
    return _write(texts, live, best, True)


def write_protobuf_lists(texts: ItemTexts, best: Best, live: LiveTexts = NO_LIVE_TEXTS) -> list[bytes]:
    """Give each user's list as Protobuf's fields `items`, the best first."""
    return _write(texts, live, best, False)


def _write(texts: ItemTexts, live: LiveTexts, best: Best, is_avro: bool) -> list[bytes]:
    ends = np.empty(len(best.items) + 1, dtype=np.int64)
    scores = (
        np.ascontiguousarray(best.probabilities, dtype="<f8").view(np.uint8).reshape(*best.items.shape, SCORE_BYTES)
    )
    whole, places = _write_lists(texts, live, best.items, scores, best.placed, is_avro, ends).tobytes(), ends.tolist()
    return [whole[begin:end] for begin, end in pairwise(places)]


@jit
def _write_lists(  # noqa: PLR0913 - numba knows arrays
    texts: Any, live: Any, all_items: Any, all_scores: Any, all_placed: Any, is_avro: Any, ends: Any
) -> Any:
    """Give all lists, one behind the other; each begins and ends where `ends` says."""
    n_users, k = all_items.shape
    room = n_users * (k * _MOST_AROUND + _LIST_ENDS)
    for user in range(n_users):
        for item in all_items[user]:
            room += text_bytes(texts, live, item) if item >= 0 else 0
    written, at, ends[0] = np.empty(room, np.uint8), 0, 0
    for user in range(n_users):
        n_listed, placed = k, 0
        while n_listed and all_items[user, n_listed - 1] < 0:
            n_listed -= 1
        if is_avro and n_listed:
            at = write_number(written, at, 2 * n_listed)
        for place in range(n_listed):
            all_texts, begin, end = text_of(texts, live, all_items[user, place])
            begin, end = begin + _ID_BEGIN, end - _ID_END
            if len(all_placed):
                placed = all_placed[user, place]
            at = _write_item(all_texts, begin, end, all_scores[user, place], placed, is_avro, written, at)
        if is_avro:
            written[at] = _END_OF_BLOCKS
            at += 1
        ends[user + 1] = at
    return written[:at]


@jit_inner
def _write_item(  # noqa: PLR0913
    texts: Any, begin: Any, end: Any, score: Any, placed: Any, is_avro: Any, written: Any, at: Any
) -> Any:
    """Write an item, its score and why it has its place; gives where they end."""
    n_bytes = id_bytes(texts, begin, end)
    if is_avro:
        at = write_number(written, at, 2 * n_bytes)
    else:
        n_length = 1 if n_bytes < 0x80 else 2
        n_placed = 2 + len(placed_text(placed)) if placed else 0
        written[at] = ITEM
        at = write_number(written, at + 1, 1 + n_length + n_bytes + 1 + SCORE_BYTES + n_placed)
        written[at] = ITEM_ID
        at = write_number(written, at + 1, n_bytes)
    at = write_id(texts, begin, end, written, at)
    if not is_avro:
        written[at] = SCORE
        at += 1
    for number in range(SCORE_BYTES):
        written[at + number] = score[number]
    at += SCORE_BYTES
    if is_avro:
        written[at] = NULL
        at += 1
    return write_placed(written, at, placed, is_avro)


@jit_inner
def placed_text(placed: Any) -> Any:
    """Give why an item has its place, where that is not its probability."""
    return PINNED_TEXT if placed == 1 else EXPLORED_TEXT


@jit_inner
def write_placed(written: Any, at: Any, placed: Any, is_avro: Any) -> Any:
    """Write why an item has its place, as the last one of its fields; gives where that ends."""
    if not placed:
        if is_avro:
            written[at] = NULL
            at += 1
        return at
    text = placed_text(placed)
    written[at] = NOT_NULL if is_avro else PLACED
    at = write_number(written, at + 1, 2 * len(text) if is_avro else len(text))
    for number in range(len(text)):
        written[at + number] = text[number]
    return at + len(text)


@jit_inner
def write_number(written: Any, at: Any, number: Any) -> Any:
    """Write a number below 2**14; gives where it ends."""
    if number < 0x80:
        written[at] = number
        return at + 1
    written[at], written[at + 1] = number & 0x7F | 0x80, number >> 7
    return at + 2


@jit_inner
def id_bytes(texts: Any, begin: Any, end: Any) -> Any:
    """Give how many bytes an id has, of which a text is the JSON."""
    n_bytes, at = 0, begin
    while at < end:
        if texts[at] == _BACKSLASH:
            at += _ESCAPE_BYTES if texts[at + 1] == _U else 2
        else:
            at += 1
        n_bytes += 1
    return n_bytes


@jit_inner
def write_id(texts: Any, begin: Any, end: Any, written: Any, at: Any) -> Any:
    """Write an id, of which a text is the JSON: what JSON escapes is below 128 (see `item_texts`)."""
    source = begin
    while source < end:
        byte = texts[source]
        if byte != _BACKSLASH:
            source += 1
        elif texts[source + 1] == _U:
            byte = 16 * _digit(texts[source + 4]) + _digit(texts[source + 5])
            source += _ESCAPE_BYTES
        else:
            byte = _MEANINGS[texts[source + 1]]
            source += 2
        written[at] = byte
        at += 1
    return at


@jit_inner
def _digit(letter: Any) -> Any:
    """Give the meaning of a hexadecimal digit."""
    return letter - 48 if letter < 58 else (letter | 32) - 87
