"""Writes ranked lists as JSON, each item with what it is listed for: the parts of its probability, by their source.

A probability is the network's part and what counts say (see `nextclick.mixture`): of the neighbours of each clicked
item, and of the item itself if it was clicked. Parts are written in whole units of the last digit of the probability,
so that they add up to it digit by digit. The network's part is the rest: what is too small to be told apart counts as
the network's, and so does what finds no room. The ids that an item's parts name are bounded, so that even the longest
list with the longest ids is an update that a broker takes.
"""

from itertools import pairwise
from typing import Any

import numpy as np

from nextclick.scoring.compiled import jit, jit_inner
from nextclick.scoring.item_lists import (
    BEFORE_ID,
    BEHIND_ID,
    FULL,
    LEAST,
    NO_LIVE_TEXTS,
    PLACED_BYTES,
    SCORE_BYTES,
    ItemTexts,
    LiveTexts,
    digits_of,
    text_bytes,
    text_of,
    write_digits,
    write_placed,
    write_probability,
)
from nextclick.scoring.packed_items import Floats
from nextclick.scoring.terms import NO_PRIOR, Best, Counts, Terms

_SMALLEST = 1_000  # a part of less than one of so many is not told apart
# Of the ids that an item's parts name. The largest update has 4,096 bytes for each of 255 items, and as many around
# them: the longest id with its score takes 1,600, the names and numbers of ten parts 700.
MOST_ID_BYTES = 1_750
_PART_BYTES = 68  # more than a part takes, without an id
_COMMA, _OPEN, _CLOSE, _END = b",[]}"


def _text(text: bytes) -> Any:
    return np.frombuffer(text, np.uint8)


_BECAUSE, _SHARE = _text(b',"because":['), _text(b',"share":')
_NEIGHBOUR, _RECLICK, _NETWORK = (
    _text(b'{"kind":"neighbour","item_id":'),
    _text(b'{"kind":"reclick"'),
    _text(b'{"kind":"network"'),
)
_ID_BEGIN, _ID_END = len(BEFORE_ID), len(BEHIND_ID)


def write_explained_lists(
    texts: ItemTexts,
    best: Best,
    terms: Terms,
    counts: Counts,
    factors: Floats = NO_PRIOR.factors,
    live: LiveTexts = NO_LIVE_TEXTS,
) -> list[bytes]:
    """Give each user's list: a JSON array of objects with `item_id`, `score` and `because`, the best first.

    Args:
        texts: of the items.
        best: what is listed.
        terms: of the mixture, which `best` was found with.
        counts: likewise.
        factors: likewise; (0,) where all are 1.
        live: texts of live items.
    """
    ends = np.empty(len(best.items) + 1, dtype=np.int64)
    whole, places = _write_lists(texts, live, best, terms, counts, factors, ends).tobytes(), ends.tolist()
    return [whole[begin:end] for begin, end in pairwise(places)]


@jit
def _write_lists(  # noqa: PLR0913 - numba knows arrays
    texts: Any, live: Any, best: Any, terms: Any, counts: Any, factors: Any, ends: Any
) -> Any:
    """Give all lists, one behind the other; each begins and ends where `ends` says."""
    (all_items, all_probabilities, all_placed), all_clicked = best, terms.clicked
    (n_users, k), n_ages = all_items.shape, all_clicked.shape[1]
    written, at, ends[0] = np.empty(_room(texts, live, all_items, all_clicked), np.uint8), 0, 0
    places, parts = np.zeros(len(texts.starts) - 1 + len(live.starts), np.int32), np.empty((k, n_ages + 1))
    # Of one item: the columns of `parts` that are told apart, and behind these the network; and the parts in units.
    sources, units = np.empty(n_ages + 2, np.int64), np.empty(n_ages + 2, np.int64)
    for user in range(n_users):
        items, probabilities, clicked = all_items[user], all_probabilities[user], all_clicked[user]
        _add_up(items, user, terms, counts, places, parts)
        for place in range(k):
            if len(factors) and items[place] >= 0:
                parts[place] *= factors[items[place]]
        written[at] = _OPEN
        at += 1
        for place in range(k):
            if items[place] < 0:
                break
            if place:
                written[at] = _COMMA
                at += 1
            text, begin, end = text_of(texts, live, items[place])
            at = _copy(text, begin, end, written, at)
            at = write_probability(written, at, probabilities[place])
            at = _copy(_BECAUSE, 0, len(_BECAUSE), written, at)
            at = _write_parts(probabilities[place], parts[place], clicked, texts, live, sources, units, written, at)
            written[at] = _CLOSE
            at += 1
            if len(all_placed):
                at = write_placed(written, at, all_placed[user, place])
            written[at] = _END
            at += 1
        written[at] = _CLOSE
        at += 1
        ends[user + 1] = at
    return written[:at]


@jit_inner
def _room(texts: Any, live: Any, all_items: Any, all_clicked: Any) -> Any:
    """Give how many bytes lists can take at most."""
    (n_users, k), n_ages, room = all_items.shape, all_clicked.shape[1], 0
    for user in range(n_users):
        of_ids = 0
        for item in all_clicked[user]:
            if item >= 0:
                of_ids += text_bytes(texts, live, item)
        of_parts = min(of_ids, MOST_ID_BYTES) + (n_ages + 2) * _PART_BYTES
        room += k * (SCORE_BYTES + len(_BECAUSE) + of_parts + PLACED_BYTES) + 2
        for item in all_items[user]:
            room += text_bytes(texts, live, item) if item >= 0 else 0
    return room


@jit_inner
def _add_up(items: Any, user: Any, terms: Any, counts: Any, places: Any, parts: Any) -> None:
    """Add up what counts say of a user's listed items.

    Args:
        items: of the user, as in `Best`.
        user: the number of the user.
        terms: of all users.
        counts: of all items.
        places: int32 (n_items + n_live,), zeros, also afterwards.
        parts: float64 (k, ages + 1), overwritten: of the neighbours of each clicked item, in the column of its newest
            click, and in the last column of re-clicks.
    """
    clicked, weights, near = terms.clicked[user], terms.weights[user], terms.near
    n_ages = len(clicked)
    parts[:] = 0.0
    n_listed = len(items)
    while n_listed and items[n_listed - 1] < 0:
        n_listed -= 1
    for place in range(n_listed):
        places[items[place]] = place + 1
    for age in range(n_ages):
        item = clicked[age]
        if item < 0:
            continue
        if places[item]:
            parts[places[item] - 1, n_ages] += weights[1 + n_ages + age]
        of_neighbours, is_newest = 0.0, True
        for other in range(n_ages):
            if clicked[other] == item:
                is_newest &= other >= age
                of_neighbours += weights[1 + other]
        if is_newest and of_neighbours > 0.0:
            if item < len(counts.starts) - 1:
                begin, end = counts.starts[item], counts.starts[item + 1]
                _add_shares(parts[:, age], places, of_neighbours, counts.neighbours, counts.shares, begin, end)
            if len(near.starts) > 1:
                begin, end = near.starts[user * n_ages + age], near.starts[user * n_ages + age + 1]
                _add_shares(parts[:, age], places, of_neighbours, near.items, near.shares, begin, end)
    for place in range(n_listed):
        places[items[place]] = 0


@jit_inner
def _add_shares(  # noqa: PLR0913
    parts: Any, places: Any, weight: Any, neighbours: Any, shares: Any, begin: Any, end: Any
) -> None:
    for at in range(begin, end):
        place = places[neighbours[at]]
        if place:
            parts[place - 1] += weight * shares[at]


@jit_inner
def _write_parts(  # noqa: PLR0913 - numba knows arrays
    probability: Any, parts: Any, clicked: Any, texts: Any, live: Any, sources: Any, units: Any, written: Any, at: Any
) -> Any:
    """Write the parts of a probability, the largest first; gives where they end. One that is written as 0 has none."""
    if not probability > LEAST:
        return at
    of_reclicks = len(parts) - 1
    digits, exponent = digits_of(probability)
    n_parts = _told_apart(probability, digits, parts, clicked, texts, live, sources, units)
    for part in range(n_parts):
        if part:
            written[at] = _COMMA
            at += 1
        if sources[part] < of_reclicks:
            text, begin, end = text_of(texts, live, clicked[sources[part]])
            at = _copy(_NEIGHBOUR, 0, len(_NEIGHBOUR), written, at)
            at = _copy(text, begin + _ID_BEGIN, end - _ID_END, written, at)
        elif sources[part] == of_reclicks:
            at = _copy(_RECLICK, 0, len(_RECLICK), written, at)
        else:
            at = _copy(_NETWORK, 0, len(_NETWORK), written, at)
        at = _copy(_SHARE, 0, len(_SHARE), written, at)
        share, power = units[part], exponent
        while share < FULL // 10:
            share, power = share * 10, power - 1
        at = write_digits(written, at, share, power)
        written[at] = _END
        at += 1
    return at


@jit_inner
def _told_apart(  # noqa: PLR0913
    probability: Any, digits: Any, parts: Any, clicked: Any, texts: Any, live: Any, sources: Any, units: Any
) -> Any:
    """Find the parts that are written, in units that add up to `digits`, the largest first; gives how many they are."""
    least, of_reclicks, n_parts = digits // _SMALLEST, len(parts) - 1, 0
    for source in range(len(parts)):
        of_source = int(parts[source] * (digits / probability) + 0.5)
        if of_source > least:
            _insert(sources, units, n_parts, source, of_source)
            n_parts += 1
    n_kept, rest, room = 0, digits, MOST_ID_BYTES
    for part in range(n_parts):
        source, n_bytes = sources[part], 0
        if source < of_reclicks:
            n_bytes = text_bytes(texts, live, clicked[source])
        if n_bytes <= room:
            sources[n_kept], units[n_kept] = source, units[part]
            n_kept, rest, room = n_kept + 1, rest - units[part], room - n_bytes
    if rest > least:
        _insert(sources, units, n_kept, of_reclicks + 1, rest)
        return n_kept + 1
    # Roundings, which can be below 0: counts are added up in float32 where items are ranked.
    source, of_source = sources[0], units[0] + rest
    for part in range(1, n_kept):
        sources[part - 1], units[part - 1] = sources[part], units[part]
    _insert(sources, units, n_kept - 1, source, of_source)
    return n_kept


@jit_inner
def _insert(sources: Any, units: Any, n: Any, source: Any, of_source: Any) -> None:
    """Put a part into its place among n others, behind those that are as large."""
    place = n
    while place > 0 and units[place - 1] < of_source:
        sources[place], units[place] = sources[place - 1], units[place - 1]
        place -= 1
    sources[place], units[place] = source, of_source


@jit_inner
def _copy(texts: Any, begin: Any, end: Any, written: Any, at: Any) -> Any:
    """Write a part of `texts`; gives where it ends."""
    for number in range(begin, end):
        written[at + number - begin] = texts[number]
    return at + end - begin
