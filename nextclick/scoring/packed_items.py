"""Item vectors as the kernel reads them: numbers of 16 bits, block by block, and the float32 vectors beside them.

A vector's largest number becomes 32,767, or its length 46,000, whichever comes first: then the sum of a product of two
of them, and every part of it, stays below 2 to the power of 31 (Cauchy-Schwarz), and nothing overflows. A score is thus
wrong by at most `ItemVectors.error` times the user's vector; what that could change is computed again in float32.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from nextclick.scoring.compiled import jit_inner, read_only
from nextclick.scoring.kernel import BLOCK

Doubles = npt.NDArray[np.float64]
Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

LOG2_E = 1.4426950408889634
_MOST, _LENGTH = 32_767.0, 46_000.0
_NOTHING = -1e30  # the bias of the places behind the last item, and of items that may not be listed
LEAST_SCORE = -1e29  # no item that may be listed scores less
_ROWS_AT_ONCE = 65_536  # packed together: bounds the memory beside the result


class ItemVectors(NamedTuple):
    """The vectors of all items.

    Attributes:
        packed: int32 (n_blocks, n_pairs, BLOCK), pairs of int16.
        scales: float32 (n_blocks * BLOCK,), what a product is multiplied with, the sharpness of scores included.
        biases: float32 (n_blocks * BLOCK,), what is added then; both in units of log 2.
        exact: float32 (n_items, size), the vectors as they are.
        exact_biases: float64 (n_items,), in units of log 2.
        exact_scale: what an exact product is multiplied with.
        longest: the length of the longest vector, times `exact_scale`.
        largest_bias: of all biases.
    """

    packed: Ints
    scales: Floats
    biases: Floats
    exact: Floats
    exact_biases: npt.NDArray[np.float64]
    exact_scale: float
    longest: float
    largest_bias: float


def pack_items(vectors: Floats, biases: Floats, sharpness: float) -> ItemVectors:
    """Pack item vectors.

    Args:
        vectors: float32 (n_items, size).
        biases: float32 (n_items,).
        sharpness: scores are multiplied with it.
    """
    vectors = np.ascontiguousarray(vectors, np.float32)  # the kernel takes addresses
    n_items, size = vectors.shape
    n_pairs, n_blocks = (size + 1) // 2, -(-n_items // BLOCK)
    unit = sharpness * LOG2_E
    packed = np.zeros((n_blocks, n_pairs, BLOCK), dtype=np.int32)
    scales = np.zeros(n_blocks * BLOCK, dtype=np.float32)
    all_biases = np.full(n_blocks * BLOCK, _NOTHING, dtype=np.float32)
    exact_biases = biases.astype(np.float64) * unit
    all_biases[:n_items] = exact_biases
    longest = 0.0
    for first in range(0, n_items, _ROWS_AT_ONCE // BLOCK * BLOCK):
        rows = vectors[first : first + _ROWS_AT_ONCE // BLOCK * BLOCK]
        pairs, of_rows = quantised(rows)
        blocks = -(-len(rows) // BLOCK)
        padded = np.zeros((blocks * BLOCK, n_pairs), dtype=np.int32)
        padded[: len(rows)] = pairs
        packed[first // BLOCK :][:blocks] = padded.reshape(blocks, BLOCK, n_pairs).transpose(0, 2, 1)
        scales[first : first + len(rows)] = of_rows * unit
        longest = max(longest, float(np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64).max())))
    largest_bias = float(np.abs(all_biases[:n_items]).max())
    return ItemVectors(
        read_only(packed),
        read_only(scales),
        read_only(all_biases),
        read_only(vectors),
        read_only(exact_biases),
        unit,
        longest * abs(unit),
        largest_bias,
    )


def with_factors(items: ItemVectors, factors: Floats) -> ItemVectors:
    """Multiply the powers of items' scores: all but the biases is shared, so a pass over the items takes no longer.

    Args:
        items: as they are in a bundle.
        factors: float32 (n_items,), not negative; the power of a score of 0 is 0, exactly.
    """
    is_out = factors <= 0.0
    exact_biases = items.exact_biases + np.log2(factors, where=~is_out, out=np.zeros(len(factors)))
    exact_biases[is_out] = _NOTHING
    biases = items.biases.copy()
    biases[: len(factors)] = exact_biases
    largest_bias = float(np.abs(exact_biases[~is_out]).max(initial=0.0))
    return items._replace(biases=read_only(biases), exact_biases=read_only(exact_biases), largest_bias=largest_bias)


def quantised(vectors: Floats) -> tuple[Ints, Floats]:
    """Make pairs of int16 of vectors.

    Args:
        vectors: float32 (n, size).

    Returns:
        int32 (n, n_pairs), each two numbers in one, and float32 (n,), with which their numbers are to be multiplied.
    """
    n, size = vectors.shape
    wide = vectors.astype(np.float64)
    largest, length = np.abs(wide).max(axis=1), np.sqrt((wide * wide).sum(axis=1))
    with np.errstate(divide="ignore"):
        factor = np.minimum(_MOST / largest, _LENGTH / length)
    factor[~np.isfinite(factor)] = 1.0  # of a vector of zeros
    numbers = np.zeros((n, size + size % 2), dtype=np.int16)
    numbers[:, :size] = np.rint(wide * factor[:, None])
    return numbers.view(np.int32), (1.0 / factor).astype(np.float32)


@jit_inner
def quantise(vectors: Any, longest: Any, largest_bias: Any, pairs: Any, scales: Any, errors: Any) -> None:
    """Do what `quantised` does for users' vectors, bit by bit, and bound by how much their scores are wrong.

    Each number is rounded by a half at most: a product of two vectors is wrong by at most half of the sum of all their
    numbers, which is at most the length times the root of how many there are; and float32 rounds scores.

    Args:
        vectors: float32 (n, size).
        longest, largest_bias: of `ItemVectors`.
        pairs: int32 (n, n_pairs): overwritten, as all that follows.
        scales: float32 (n,).
        errors: float32 (n,).
    """
    size = vectors.shape[1]
    relative = np.sqrt(float(size)) * (0.5 + 0.5) / min(_LENGTH, _MOST) + size * 0.25 / min(_LENGTH, _MOST) ** 2
    of_length, always = np.float32(longest * (relative + 2**-20)), np.float32(largest_bias * 2**-22)
    squares, numbers = np.zeros(size), np.zeros(size + size % 2, np.int32)
    for row in range(len(vectors)):
        vector, of_row, largest = vectors[row], pairs[row], 0.0
        for place in range(size):
            number = np.float64(vector[place])
            squares[place], largest = number * number, max(largest, abs(number))
        length = np.sqrt(sum_in_eights(squares))
        factor = min(_MOST / largest, _LENGTH / length)
        if not np.isfinite(factor):
            factor = 1.0  # of a vector of zeros
        for place in range(size):
            numbers[place] = np.int32(np.rint(np.float64(vector[place]) * factor))
        for place in range(len(of_row)):
            of_row[place] = (numbers[2 * place] & 0xFFFF) | (numbers[2 * place + 1] << 16)
        scales[row], errors[row] = 1.0 / factor, np.float32(length) * of_length + always


@jit_inner
def sum_in_eights(numbers: Any) -> Any:
    """Add numbers up, eight at a time: up to 128 numbers in the order of numpy's `sum`."""
    size, eights, sums = len(numbers), len(numbers) // 8 * 8, np.zeros(8)
    for first in range(0, eights, 8):
        for lane in range(8):
            sums[lane] += numbers[first + lane]
    total = ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]))
    for place in range(eights, size):
        total += numbers[place]
    return total
