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
from nextclick.scoring.kernel import BLOCK, LANES, ROWS, address, fold_tile, score_block
from nextclick.scoring.packed_items import Floats, Ints, ItemVectors

SPARE_BLOCKS = 4  # kept beyond the k best: their largest scores may be too close to tell
_FLUSH_BLOCKS = 64  # sums of float32 are short: they go on as float64 after so many blocks
_FIRST_BLOCKS = 4  # scored beforehand, to know about how large scores are
_ABOVE_FIRST = 10.0  # powers are taken of scores below the largest of those by this; up to 100 above it they are safe
_HUGE = 1e30


class Swept(NamedTuple):
    """What the pass leaves of each user; padded users behind the last one are to be ignored.

    Attributes:
        queries: int32 (users, n_pairs), pairs of int16.
        of_users: float32 (users,), the users' scales.
        shifts: float32 (users,), what was taken from scores before their powers were added up.
        totals: float64 (users,), the sums of the powers.
        largest: float32 (users, kept), the largest scores of blocks, falling.
        blocks: int32 (users, kept), which blocks these are; -1 where there are fewer.
        scores: float32 (users, kept, BLOCK), of the blocks that can hold the best items.
    """

    queries: Ints
    of_users: Floats
    shifts: Floats
    totals: npt.NDArray[np.float64]
    largest: Floats
    blocks: Ints
    scores: Floats


def sweep(items: ItemVectors, queries: Ints, of_users: Floats, errors: Floats, k: int) -> Swept:
    """Go over all items once.

    Args:
        items: all of them.
        queries, of_users: of the users, from `quantised`.
        errors: float32 (users,), by how much scores are wrong at most.
        k: how many items are wanted.
    """
    n_users = len(queries)
    padded = -(-n_users // ROWS) * ROWS
    rows, scales = np.zeros((padded, queries.shape[1]), np.int32), np.zeros(padded, np.float32)
    rows[:n_users], scales[:n_users] = queries, of_users
    kept = k + SPARE_BLOCKS
    swept = Swept(
        rows,
        scales,
        np.full(padded, _HUGE, np.float32),
        np.zeros(padded),
        np.full((padded, kept), -np.inf, np.float32),
        np.full((padded, kept), -1, np.int32),
        np.empty((padded, kept, BLOCK), np.float32),
    )
    _sweep(items.packed, items.scales, items.biases, *swept[:-1])
    least = swept.largest[:n_users, k - 1] - 2 * errors
    _score_leading(items.packed, items.scales, items.biases, swept, least)
    return swept


@jit
def _sweep(  # noqa: PLR0913 - numba knows arrays
    packed: Any,
    scales: Any,
    biases: Any,
    queries: Any,
    of_users: Any,
    shifts: Any,
    totals: Any,
    largest: Any,
    blocks: Any,
) -> None:
    n_blocks, n_pairs, block = packed.shape
    n_users, kept = largest.shape
    flat_items, flat_queries = packed.reshape(-1), queries.reshape(-1)
    sums, most = np.zeros(n_users * LANES, np.float32), np.zeros(n_users, np.float32)
    highest = np.full(n_users, -np.inf, np.float32)
    for number in range(-min(_FIRST_BLOCKS, n_blocks), n_blocks):
        place = number + min(_FIRST_BLOCKS, n_blocks) if number < 0 else number
        if number == 0:
            for user in range(n_users):
                shifts[user] = highest[user] + np.float32(_ABOVE_FIRST)
            sums[:] = 0.0
        for user in range(0, n_users, ROWS):
            fold_tile(
                address(flat_queries, user * n_pairs),
                address(flat_items, place * n_pairs * block),
                n_pairs,
                address(scales, place * block),
                address(biases, place * block),
                address(of_users, user),
                address(shifts, user),
                address(sums, user * LANES),
                address(most, user),
            )
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


@jit_inner
def _insert(largest: Any, blocks: Any, score: Any, number: Any) -> None:
    """Put a block into its place among those of the largest scores; the last one drops out."""
    place = len(largest) - 1
    while place > 0 and largest[place - 1] < score:
        largest[place], blocks[place] = largest[place - 1], blocks[place - 1]
        place -= 1
    largest[place], blocks[place] = score, number


@jit
def _score_leading(packed: Any, scales: Any, biases: Any, swept: Any, least: Any) -> None:
    """Score the blocks again whose largest scores are not below what is given for each user."""
    n_blocks, n_pairs, block = packed.shape
    queries, of_users, _, _, largest, blocks, scores = swept
    kept = largest.shape[1]
    flat_items, flat_queries, flat_scores = packed.reshape(-1), queries.reshape(-1), scores.reshape(-1)
    # Sorted by block: how many pairs of a user and a place come before each block, and then the pairs themselves.
    first, pairs = np.zeros(n_blocks + 2, np.int64), np.zeros(len(least) * kept, np.int64)
    for is_counting in (True, False):
        for user in range(len(least)):
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
