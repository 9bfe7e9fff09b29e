"""What item vectors are multiplied with, of each user: what the cell says, and the newest click."""

from typing import Any, NamedTuple

import numpy as np

from nextclick.scoring.compiled import jit, jit_inner
from nextclick.scoring.halves import read_halves
from nextclick.scoring.inputs import InputVectors, input_vector
from nextclick.scoring.packed_items import Floats

_SHORTEST = np.float32(1e-12)  # a vector that is brought to length 1 is divided by this at least, as torch does
_SIDE_BY_SIDE = 4  # numbers of a sum


class QueryWeights(NamedTuple):
    """What queries are made with.

    Attributes:
        inputs: the input vectors of clicks.
        skip: float32 (size,), what those of the newest click are multiplied with; empty if they are not added.
        scale: float32, the length of all queries; (1,), or (0,) where they stay as long as they are.
    """

    inputs: InputVectors
    skip: Floats
    scale: Floats


@jit
def make_queries(weights: Any, states: Any, newest: Any, queries: Any) -> Any:
    """Make users' queries.

    Args:
        weights: `QueryWeights`.
        states: the bits of float16 (users, state_size).
        newest: int64 (users, 3), of `Histories`.
        queries: float32 (users, size): overwritten.

    Returns:
        Whether all states hold numbers.
    """
    inputs, skip, scale = weights
    size, is_sound = queries.shape[1], True
    state, vector = np.zeros(states.shape[1]), np.zeros(size, np.float32)
    for user in range(len(queries)):
        query, click = queries[user], newest[user]
        is_sound &= read_halves(states[user], state)
        for place in range(size):
            query[place] = state[place]
        if len(skip) and click[0] >= 0:
            input_vector(inputs, click[0], click[1], click[2], vector)
            for place in range(size):
                query[place] += vector[place] * skip[place]
        if len(scale):
            factor = scale[0] / max(_length(query), _SHORTEST)
            for place in range(size):
                query[place] *= factor
    return is_sound


@jit_inner
def _length(vector: Any) -> Any:
    """Give a vector's length in float32. The order of the sum is numpy's, which lists came from before this one."""
    sums, size, block = np.zeros(_SIDE_BY_SIDE, np.float32), len(vector), 4 * _SIDE_BY_SIDE
    for first in range(0, size - size % block, block):
        for begin in range(first + block - _SIDE_BY_SIDE, first - 1, -_SIDE_BY_SIDE):
            for lane in range(_SIDE_BY_SIDE):
                sums[lane] += vector[begin + lane] * vector[begin + lane]
    for place in range(size - size % block, size):
        sums[place % _SIDE_BY_SIDE] += vector[place] * vector[place]
    return np.sqrt((sums[0] + sums[1]) + (sums[2] + sums[3]))
