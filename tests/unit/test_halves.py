"""Compiled code reads and writes the float16 that numpy does."""

import numpy as np

from nextclick.scoring.compiled import jit
from nextclick.scoring.halves import read_halves, round_to_halves

ALL_BITS = np.arange(2**16, dtype=np.uint16)
ALL = ALL_BITS.view(np.float16)
IS_NUMBER = np.isfinite(ALL)
read = jit(lambda packed, numbers: read_halves(packed, numbers))
write = jit(lambda numbers, packed: round_to_halves(numbers, packed))


def test_every_float16_is_read_as_it_is() -> None:
    """Signs of zeros and the smallest numbers, too."""
    numbers = np.empty(IS_NUMBER.sum())

    assert read(ALL_BITS[IS_NUMBER], numbers)
    assert numbers.tobytes() == ALL[IS_NUMBER].astype("f8").tobytes()


def test_what_is_no_number_is_noticed() -> None:
    """Wherever it stands among numbers."""
    for bits in ALL_BITS[~IS_NUMBER][::97]:
        packed = np.zeros(9, np.uint16)
        packed[bits % 9] = bits
        assert not read(packed, np.empty(9))


def test_numbers_are_rounded_as_numpy_rounds_them() -> None:
    """Every float16, the places halfway between two, the next numbers to these, and small and large ones."""
    halves = np.sort(ALL[IS_NUMBER].astype("f8"))
    middles = (halves[1:] + halves[:-1]) / 2
    rng = np.random.default_rng(3)
    some = np.exp(rng.uniform(-30, 11, 50_000)) * rng.choice([-1, 1], 50_000)
    beside = [np.nextafter(middles, to) for to in (-np.inf, np.inf)]
    numbers = np.concatenate([halves, middles, *beside, some, [5e-324, -0.0, 65_519.99]])
    numbers = numbers[np.abs(numbers) < 65_520]
    expected, packed = numbers.astype(np.float16), np.empty(len(numbers), np.uint16)

    write(numbers, packed)

    assert packed.tobytes() == expected.tobytes()
    assert numbers.tobytes() == expected.astype("f8").tobytes()
