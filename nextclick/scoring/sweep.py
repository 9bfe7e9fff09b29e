"""The one pass over all item vectors: of each user the blocks that hold the best scores, and the sum of all powers.

Every further pass over users x items would cost as much as a product of matrices. So scores are thrown away when their
block is done, and what is kept of a block is its largest score. The k best items lie in the blocks whose largest score
is among the k largest, or within twice the error of one; these few are scored again, block by block for all users whose
best they are: in the order of users each of them would have to come from memory again.
"""

from typing import Any, NamedTuple

import numpy as np

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
from nextclick.scoring.packed_items import Doubles, Floats, Ints, ItemVectors, quantise

SPARE_BLOCKS = 4  # kept beyond the k best: their largest scores may be too close to tell
_FLUSH_BLOCKS = 64  # sums of float32 are short: they go on as float64 after so many blocks
_FIRST_BLOCKS = 4  # scored beforehand, to know about how large scores are
_ABOVE_FIRST = 10.0  # powers are taken of scores below the largest of those by this; up to 100 above it they are safe
_HUGE = 1e30


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
        scores: float32 (users, kept, BLOCK), of the blocks that can hold the best items.
    """

    queries: Ints
    of_users: Floats
    errors: Floats
    shifts: Floats
    totals: Doubles
    largest: Floats
    blocks: Ints
    scores: Floats


def sweep(items: ItemVectors, queries: Floats, k: int) -> Swept:
    """Go over all items once.

    Args:
        items: all of them.
        queries: float32 (users, size).
        k: how many items are wanted.
    """
    n_users, n_pairs, kept = len(queries), items.packed.shape[1], k + SPARE_BLOCKS
    swept = Swept(
        np.empty((n_users, n_pairs), np.int32),
        np.empty(n_users, np.float32),
        np.empty(n_users, np.float32),
        np.empty(n_users, np.float32),
        np.empty(n_users),
        np.empty((n_users, kept), np.float32),
        np.empty((n_users, kept), np.int32),
        np.empty((n_users, kept, BLOCK), np.float32),
    )
    _sweep(items.packed, items.scales, items.biases, items.longest, items.largest_bias, queries, k, swept)
    return swept


@jit
def _sweep(  # noqa: PLR0913 - numba knows arrays
    packed: Any, scales: Any, biases: Any, longest: Any, largest_bias: Any, queries: Any, k: Any, swept: Any
) -> None:
    n_blocks, n_pairs, block = packed.shape
    pairs, of_users, errors, shifts, totals, largest, blocks, _ = swept
    n_users, kept = largest.shape
    quantise(queries, longest, largest_bias, pairs, of_users, errors)
    shifts[:], totals[:], largest[:], blocks[:] = _HUGE, 0.0, -np.inf, -1
    flat_items = packed.reshape(-1)
    sums, most = np.zeros(n_users * LANES, np.float32), np.zeros(n_users, np.float32)
    highest = np.full(n_users, np.float32(-np.inf))
    for number in range(-min(_FIRST_BLOCKS, n_blocks), n_blocks):
        place = number + min(_FIRST_BLOCKS, n_blocks) if number < 0 else number
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
                _insert(largest[user], blocks[user], most[user], number)
        if number % _FLUSH_BLOCKS == _FLUSH_BLOCKS - 1 or number == n_blocks - 1:
            for lane in range(len(sums)):
                totals[lane // LANES] += sums[lane]
            sums[:] = 0.0
    _score_leading(packed, scales, biases, swept, k)


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
def _insert(largest: Any, blocks: Any, score: Any, number: Any) -> None:
    """Put a block into its place among those of the largest scores; the last one drops out."""
    place = len(largest) - 1
    while place > 0 and largest[place - 1] < score:
        largest[place], blocks[place] = largest[place - 1], blocks[place - 1]
        place -= 1
    largest[place], blocks[place] = score, number


@jit_inner
def _score_leading(packed: Any, scales: Any, biases: Any, swept: Any, k: Any) -> None:
    """Score the blocks again that can hold one of a user's k best items."""
    n_blocks, n_pairs, block = packed.shape
    queries, of_users, errors, _, _, largest, blocks, scores = swept
    (n_users, kept), least = largest.shape, np.empty(len(largest), np.float32)
    for user in range(n_users):
        least[user] = largest[user, k - 1] - np.float32(2.0) * errors[user]
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
