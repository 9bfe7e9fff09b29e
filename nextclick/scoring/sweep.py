"""The one pass over all item vectors: of each user the blocks that hold the best scores, and the sum of all powers.

Every further pass over users x items would cost as much as a product of matrices. So scores are thrown away when their
block is done, and what is kept of a block is its largest score. The k best items lie in the blocks whose largest score
is among the k largest, or within twice the error of one; these few are scored again, block by block for all users whose
best they are: in the order of users each of them would have to come from memory again.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit, jit_inner
from nextclick.scoring.kernel import (
    BLOCK,
    HALF,
    LANES,
    ROWS,
    address,
    fold_half,
    fold_one,
    fold_tile,
    score_block,
)
from nextclick.scoring.packed_items import LEAST_SCORE, Doubles, Floats, Ints, ItemVectors, quantise

SPARE_BLOCKS = 4  # kept beyond the k best at least: their largest scores may be too close to tell
_FLUSH_BLOCKS = 64  # sums of float32 are short: they go on as float64 after so many blocks
_FIRST_BLOCKS = 4  # scored beforehand, to know about how large scores are
_ABOVE_FIRST = 10.0  # powers are taken of scores below the largest of those by this; up to 100 above it they are safe
_HUGE = 1e30
NO_BLOCKS = np.zeros(0, np.int32)


Longs = npt.NDArray[np.int64]


class Swept(NamedTuple):
    """What the pass leaves of each user.

    Attributes:
        queries: int32 (users, n_pairs), pairs of int16.
        of_users: float32 (users,), the users' scales.
        errors: float32 (users,), by how much scores are wrong at most.
        shifts: float32 (users,), what was taken from scores before their powers were added up.
        totals: float64 (users,), the sums of the powers.
        largest: float32 (users, kept), the largest scores of blocks, falling.
        blocks: int32 (users, kept), which blocks these are; -1 where there are fewer.
        needed: int64 (users,), how many of these blocks surely hold as many of the best items as are wanted.
        scores: float32 (users, kept, BLOCK), of the blocks that can hold the best items.
    """

    queries: Ints
    of_users: Floats
    errors: Floats
    shifts: Floats
    totals: Doubles
    largest: Floats
    blocks: Ints
    needed: Longs
    scores: Floats


def first_blocks(factors: Floats) -> Ints:
    """Give a few blocks with items that may be listed: what others score says nothing.

    Args:
        factors: float32 (n_items,); 0 for items that may not be listed.
    """
    rows = np.flatnonzero(factors > 0.0)
    return np.unique(rows // BLOCK)[:_FIRST_BLOCKS].astype(np.int32)


class Wanted(NamedTuple):
    """What is asked for.

    Attributes:
        depths: int64 (users,), how many of each user's best items, from 1 to the number of items.
        spare: int64 (users,), blocks that are kept beyond those that these can be in; too few cost time.
        starts: int64 (users + 1,), where each user's items begin in `out`.
        out: int32, items that are not to be among the best, each once for a user. Nobody's probabilities change by it.
    """

    depths: Longs
    spare: Longs
    starts: Longs
    out: Ints


def wanted_of(depths: Longs, starts: Longs, out: Ints) -> Wanted:
    """Ask for each user's best items: the deeper, the less far apart are scores, and the more blocks are kept."""
    return Wanted(depths, SPARE_BLOCKS + (depths + np.diff(starts)) // 4, starts, out)


def all_want(n_users: int, k: int) -> Wanted:
    """Ask for each user's k best items."""
    return wanted_of(np.full(n_users, k, np.int64), np.zeros(n_users + 1, np.int64), np.zeros(0, np.int32))


def sweep(items: ItemVectors, queries: Floats, wanted: Wanted, first: Ints = NO_BLOCKS) -> Swept:
    """Go over all items once.

    Args:
        items: all of them.
        queries: float32 (users, size).
        wanted: which items of each user.
        first: blocks that say about how large scores are; without them the first ones.
    """
    n_blocks, n_pairs, _ = items.packed.shape
    most = wanted.depths + np.diff(wanted.starts)  # the best item of a block can be one that is left out
    n_users, kept = len(queries), min(int(most.max(initial=1)), n_blocks) + int(wanted.spare.max(initial=0))
    swept = Swept(
        np.empty((n_users, n_pairs), np.int32),
        np.empty(n_users, np.float32),
        np.empty(n_users, np.float32),
        np.empty(n_users, np.float32),
        np.empty(n_users),
        np.empty((n_users, kept), np.float32),
        np.empty((n_users, kept), np.int32),
        np.empty(n_users, np.int64),
        np.empty((n_users, kept, BLOCK), np.float32),
    )
    _sweep(items.packed, items.scales, items.biases, items.longest, items.largest_bias, queries, wanted, first, swept)
    return swept


@jit
def _sweep(  # noqa: PLR0913 - numba knows arrays
    packed: Any,
    scales: Any,
    biases: Any,
    longest: Any,
    largest_bias: Any,
    queries: Any,
    wanted: Any,
    first: Any,
    swept: Any,
) -> None:
    n_blocks, n_pairs, block = packed.shape
    pairs, of_users, errors, shifts, totals, largest, blocks, needed, _ = swept
    n_users, kept = largest.shape
    quantise(queries, longest, largest_bias, pairs, of_users, errors)
    shifts[:], totals[:], largest[:], blocks[:] = _HUGE, 0.0, LEAST_SCORE, -1
    flat_items = packed.reshape(-1)
    sums, most = np.zeros(n_users * LANES, np.float32), np.zeros(n_users, np.float32)
    highest = np.full(n_users, np.float32(-np.inf))
    n_first = len(first) if len(first) else min(_FIRST_BLOCKS, n_blocks)
    for number in range(-n_first, n_blocks):
        place = number
        if number < 0:
            place = first[number + n_first] if len(first) else number + n_first
        if number == 0:
            for user in range(n_users):
                shifts[user] = highest[user] + np.float32(_ABOVE_FIRST)
            sums[:] = 0.0
        of_items = address(flat_items, place * n_pairs * block)
        _fold(of_items, n_pairs, address(scales, place * block), address(biases, place * block), swept, sums, most)
        if number < 0:
            for user in range(n_users):
                highest[user] = max(highest[user], most[user])
            continue
        for user in range(n_users):
            if most[user] > largest[user, kept - 1]:
                _insert(largest, blocks, user, most[user], number)
        if number % _FLUSH_BLOCKS == _FLUSH_BLOCKS - 1 or number == n_blocks - 1:
            for lane in range(len(sums)):
                totals[lane // LANES] += sums[lane]
            sums[:] = 0.0
    for user in range(n_users):
        begin, end = wanted.starts[user], wanted.starts[user + 1]
        needed[user] = _needed(blocks[user], wanted.depths[user], wanted.out, begin, end)
    _score_leading(packed, scales, biases, swept)


@jit_inner
def _fold(  # noqa: PLR0913 - numba knows arrays
    of_items: Any, n_pairs: Any, scales: Any, biases: Any, swept: Any, sums: Any, most: Any
) -> None:
    """Score a block of items for all users: in full tiles, and then in smaller ones."""
    flat_queries, of_users, shifts = swept.queries.reshape(-1), swept.of_users, swept.shifts
    user = 0
    while user < len(of_users):
        n_left = len(of_users) - user
        queries, of_tile = address(flat_queries, user * n_pairs), address(of_users, user)
        shift, total, highest = address(shifts, user), address(sums, user * LANES), address(most, user)
        if n_left >= ROWS:
            fold_tile(queries, of_items, n_pairs, scales, biases, of_tile, shift, total, highest)
            user += ROWS
        elif n_left >= HALF:
            fold_half(queries, of_items, n_pairs, scales, biases, of_tile, shift, total, highest)
            user += HALF
        else:
            fold_one(queries, of_items, n_pairs, scales, biases, of_tile, shift, total, highest)
            user += 1


@jit_inner
def _insert(largest: Any, blocks: Any, user: Any, score: Any, number: Any) -> None:
    """Put a block into its place among those of the largest scores; the last one drops out."""
    place = largest.shape[1] - 1
    while place > 0 and largest[user, place - 1] < score:
        largest[user, place], blocks[user, place] = largest[user, place - 1], blocks[user, place - 1]
        place -= 1
    largest[user, place], blocks[user, place] = score, number


@jit_inner
def _needed(blocks: Any, k: Any, out: Any, begin: Any, end: Any) -> Any:
    """Give how many of the leading blocks have k among them without an item that is left out; one more is none."""
    n_needed, place = k, 0
    while place < min(n_needed, len(blocks)):
        has_out = False
        for at in range(begin, end):
            has_out |= out[at] // BLOCK == blocks[place]
        n_needed += has_out
        place += 1
    return min(n_needed, len(blocks))


@jit_inner
def _score_leading(packed: Any, scales: Any, biases: Any, swept: Any) -> None:
    """Score the blocks again that can hold one of a user's best items."""
    n_blocks, n_pairs, block = packed.shape
    queries, of_users, errors, _, _, largest, blocks, needed, scores = swept
    (n_users, kept), least = largest.shape, np.empty(len(largest), np.float32)
    for user in range(n_users):
        least[user] = largest[user, needed[user] - 1] - np.float32(2.0) * errors[user]
    flat_items, flat_queries, flat_scores = packed.reshape(-1), queries.reshape(-1), scores.reshape(-1)
    # Sorted by block: how many pairs of a user and a place come before each block, and then the pairs themselves.
    first, pairs = np.zeros(n_blocks + 2, np.int64), np.zeros(n_users * kept, np.int64)
    for is_counting in (True, False):
        for user in range(n_users):
            for place in range(kept):
                number = blocks[user, place]
                if number < 0 or largest[user, place] < least[user]:
                    break
                if is_counting:
                    first[number + 2] += 1
                else:
                    pairs[first[number + 1]] = user * kept + place
                    first[number + 1] += 1
        if is_counting:
            for number in range(2, n_blocks + 2):
                first[number] += first[number - 1]
    for number in range(n_blocks):
        for at in range(first[number], first[number + 1]):
            score_block(
                address(flat_queries, pairs[at] // kept * n_pairs),
                address(flat_items, number * n_pairs * block),
                n_pairs,
                address(scales, number * block),
                address(biases, number * block),
                address(of_users, pairs[at] // kept),
                address(flat_scores, pairs[at] * block),
            )
