"""Numbers of 16 bits, as hidden states are kept, read and written by compiled code; rounded to nearest, ties to even.

numba knows no float16. A float64 has the same parts in other places, so that most of it is moving bits.
"""

from typing import Any

from nextclick.scoring.compiled import jit_inner
from nextclick.scoring.kernel import bits_of, number_of

_MOVED = 52 - 10  # bits of a fraction that a float16 has not
_SIGN, _REST = 0x8000, 0x7FFF
_SIGN_64, _REST_64 = -(1 << 63), (1 << 63) - 1
_INFINITY = 0x7C00
_REBIAS = 2.0**1008  # between the exponents' zeros, 1023 and 15
_REBIAS_BITS = 1008 << 52
_HALF_UNIT = (1 << (_MOVED - 1)) - 1  # nearly
_FRACTION_BITS = (1 << _MOVED) - 1
_SMALLEST = 2.0**-14  # of the numbers with a full fraction; below, all have the distance of 2 ** -24
_TO_UNITS = 1.5 * 2.0 ** (52 - 24)  # a float64 plus this has no smaller part than 2 ** -24 left
_TO_UNITS_BITS = (1023 + 28) << 52 | 1 << 51


@jit_inner
def read_halves(packed: Any, numbers: Any) -> Any:
    """Read float16, given as uint16, into float64; tells whether all of them are numbers."""
    not_numbers = 0
    for place in range(len(packed)):
        bits = int(packed[place])
        size = number_of((bits & _REST) << _MOVED) * _REBIAS
        numbers[place] = number_of(bits_of(size) | (bits & _SIGN) << 48)
        not_numbers |= (bits & _REST) >= _INFINITY
    return not not_numbers


@jit_inner
def round_to_halves(numbers: Any, packed: Any) -> None:
    """Round float64 to float16 in place, and write their bits as uint16."""
    for place in range(len(packed)):
        bits = bits_of(numbers[place])
        size_bits = bits & _REST_64
        size = number_of(size_bits)
        in_units = size + _TO_UNITS
        units = bits_of(in_units) - _TO_UNITS_BITS
        rounded_bits = (size_bits + _HALF_UNIT + (size_bits >> _MOVED & 1)) & ~_FRACTION_BITS
        is_small = size < _SMALLEST
        half = units if is_small else min((rounded_bits - _REBIAS_BITS) >> _MOVED, _INFINITY)
        rounded = in_units - _TO_UNITS if is_small else number_of(rounded_bits)
        packed[place] = half | (bits >> 48 & _SIGN)
        numbers[place] = number_of(bits_of(rounded) | bits & _SIGN_64)
