"""Writes explained lists as Avro and Protobuf have them, from the JSON that `reasons.py` writes.

Their JSON has one shape, without a space and with its fields in one order, so that it is read by counting: this reads
nothing else. What comes out is shorter than what went in.
"""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from nextclick.scoring.binary_lists import (
    ITEM,
    ITEM_ID,
    NOT_NULL,
    NULL,
    SCORE,
    SCORE_BYTES,
    id_bytes,
    write_id,
    write_number,
    write_placed,
)
from nextclick.scoring.compiled import jit, jit_inner

_PART, _KIND, _SHARE, _CLICKED = 3 << 3 | 2, 1 << 3 | 2, 2 << 3 | 1, 3 << 3 | 2  # Protobuf's tags
_QUOTE, _BACKSLASH, _COMMA, _CLOSE, _POINT, _E, _ZERO = b'"\\,].e0'
_BEFORE_ID, _BEFORE_SCORE, _BEFORE_PARTS = len('[{"item_id":"'), len('","score":'), len(',"because":[')
_BEFORE_KIND, _BEFORE_CLICKED, _BEFORE_SHARE = len('{"kind":"'), len('","item_id":"'), len('","share":')
_BEHIND_PARTS, _BEHIND_ITEM, _BEHIND_PART = len("]"), len("}"), len("}")
_BEFORE_PLACED, _P = len(',"placed":"'), ord("p")  # what pins begin with
_NEXT_NAME, _I = len('","'), ord("i")  # behind a kind comes `item_id`, or `share`
_LENGTH_BYTES = 2  # of what is shorter than 2**14, at most
_EXACT_POWER = 22  # of ten, the largest that is exact


def avro_of_explained(lists: Sequence[bytes]) -> list[bytes]:
    """Give explained lists as Avro's array of `Recommendation`."""
    return _written(lists, True)


def protobuf_of_explained(lists: Sequence[bytes]) -> list[bytes]:
    """Give explained lists as Protobuf's fields `items`."""
    return _written(lists, False)


def _written(lists: Sequence[bytes], is_avro: bool) -> list[bytes]:
    texts = np.frombuffer(b"".join(lists), np.uint8)
    starts = np.array([0, *accumulate(map(len, lists))], np.int64)
    number, ends = np.empty(1, "<f8"), np.empty(len(lists) + 1, np.int64)
    whole = _write_lists(texts, starts, is_avro, number, number.view(np.uint8), ends).tobytes()
    return [whole[begin:end] for begin, end in pairwise(ends.tolist())]


@jit
def _write_lists(texts: Any, starts: Any, is_avro: Any, number: Any, number_bytes: Any, ends: Any) -> Any:
    """Give all lists, one behind the other; each begins and ends where `ends` says."""
    written, at, ends[0] = np.empty(len(texts) + 8 * len(starts), np.uint8), 0, 0
    for user in range(len(starts) - 1):
        source, end, first, n_items = starts[user], starts[user + 1] - 1, at, 0
        at += _LENGTH_BYTES if is_avro else 0  # how many there are is known behind them
        while source < end and texts[source + 1] != _CLOSE:
            source, at = _write_item(texts, source, is_avro, number, number_bytes, written, at)
            n_items += 1
        if is_avro:
            at = _closed(written, first, at, 2 * n_items)
        ends[user + 1] = at
    return written[:at]


@jit_inner
def _closed(written: Any, first: Any, at: Any, n_twice: Any) -> Any:
    """Write how many there are into the two bytes in front of a block, and end it; gives where it ends."""
    if n_twice == 0:
        written[first] = 0
        return first + 1
    behind = write_number(written, first, n_twice)
    at = _moved(written, first + _LENGTH_BYTES, at, behind)
    written[at] = 0
    return at + 1


@jit_inner
def _moved(written: Any, begin: Any, end: Any, to: Any) -> Any:
    """Move what is written to where it belongs, which is in front of it or the same; gives where it ends."""
    if begin != to:
        for place in range(begin, end):
            written[place - begin + to] = written[place]
    return to + end - begin


@jit_inner
def _write_item(texts: Any, source: Any, is_avro: Any, number: Any, number_bytes: Any, written: Any, at: Any) -> Any:  # noqa: PLR0913
    """Write an item, which begins with its comma or bracket; gives where it ends, there and here."""
    body = at if is_avro else at + 1 + _LENGTH_BYTES
    written[at] = ITEM
    source, after = _write_text(texts, source + _BEFORE_ID, is_avro, ITEM_ID, written, body)
    source, after = _write_double(texts, source + _BEFORE_SCORE, is_avro, SCORE, number, number_bytes, written, after)
    source, n_parts, first = source + _BEFORE_PARTS, 0, after
    if is_avro:
        written[after] = NOT_NULL
        first, after = after + 1, after + 1 + _LENGTH_BYTES
    while texts[source] != _CLOSE:
        source += texts[source] == _COMMA
        source, after = _write_part(texts, source, is_avro, number, number_bytes, written, after)
        n_parts += 1
    source, placed = source + _BEHIND_PARTS, 0
    if is_avro:
        after = _closed(written, first, after, 2 * n_parts)
    if texts[source] == _COMMA:
        source += _BEFORE_PLACED
        placed = 1 if texts[source] == _P else 2
        source = _end_of_text(texts, source) + 1
    source, after = source + _BEHIND_ITEM, write_placed(written, after, placed, is_avro)
    if is_avro:
        return source, after
    return source, _moved(written, body, after, write_number(written, at + 1, after - body))


@jit_inner
def _write_part(texts: Any, source: Any, is_avro: Any, number: Any, number_bytes: Any, written: Any, at: Any) -> Any:  # noqa: PLR0913
    """Write a part of a score; gives where it ends, there and here."""
    body = at if is_avro else at + 1 + _LENGTH_BYTES
    written[at] = _PART
    source, after = _write_text(texts, source + _BEFORE_KIND, is_avro, _KIND, written, body)
    has_clicked, clicked = texts[source + _NEXT_NAME] == _I, source + _BEFORE_CLICKED
    if has_clicked:
        source = _end_of_text(texts, clicked)
    share, after = _write_double(texts, source + _BEFORE_SHARE, is_avro, _SHARE, number, number_bytes, written, after)
    if is_avro:
        written[after] = NOT_NULL if has_clicked else NULL
        after += 1
    if has_clicked:
        _, after = _write_text(texts, clicked, is_avro, _CLICKED, written, after)
    if not is_avro:
        after = _moved(written, body, after, write_number(written, at + 1, after - body))
    return share + _BEHIND_PART, after


@jit_inner
def _end_of_text(texts: Any, source: Any) -> Any:
    """Give where the quote is that ends a text."""
    while texts[source] != _QUOTE:
        source += 2 if texts[source] == _BACKSLASH else 1
    return source


@jit_inner
def _write_text(texts: Any, source: Any, is_avro: Any, tag: Any, written: Any, at: Any) -> Any:
    """Write a text; gives where it ends, there and here."""
    end = _end_of_text(texts, source)
    n_bytes = id_bytes(texts, source, end)
    if is_avro:
        at = write_number(written, at, 2 * n_bytes)
    else:
        written[at] = tag
        at = write_number(written, at + 1, n_bytes)
    return end, write_id(texts, source, end, written, at)


@jit_inner
def _write_double(  # noqa: PLR0913
    texts: Any, source: Any, is_avro: Any, tag: Any, number: Any, number_bytes: Any, written: Any, at: Any
) -> Any:
    """Write a number, as `item_lists` writes them; gives where it ends, there and here."""
    if not is_avro:
        written[at] = tag
        at += 1
    digits, decimals, is_behind_point = 0, 0, False
    while texts[source] == _POINT or _ZERO <= texts[source] <= _ZERO + 9:
        if texts[source] == _POINT:
            is_behind_point = True
        else:
            digits = 10 * digits + (texts[source] - _ZERO)
            decimals += is_behind_point
        source += 1
    if texts[source] == _E:
        source, power = source + 2, 0  # behind e-
        while _ZERO <= texts[source] <= _ZERO + 9:
            power = 10 * power + (texts[source] - _ZERO)
            source += 1
        decimals += power
    value = float(digits)
    if decimals <= _EXACT_POWER:
        value /= 10.0**decimals
    else:
        value = value / 10.0**_EXACT_POWER / 10.0 ** (decimals - _EXACT_POWER)
    number[0] = value
    for place in range(SCORE_BYTES):
        written[at + place] = number_bytes[place]
    return source, at + SCORE_BYTES
