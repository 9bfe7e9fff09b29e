"""Reads columns of times as `nextclick.schema.times` reads one value, at the speed of columns.

The shapes that nearly all files have are computed here: whole numbers, numbers with a fraction, and ISO 8601 with a
`T` or a space, to seconds or fractions of one, with no zone or UTC. All else is asked of `read_time_ms`, once for each
value that differs.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from nextclick.schema.times import MICROSECONDS_BELOW, MILLISECONDS_BELOW, SECONDS_BELOW, read_time_ms

Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

NO_TIME = -1  # in place of a time: there is none
BAD_TIME = -2  # in place of a time: what is there is none
_DATES = (19700101, 20991231)  # 8 digits that may be a date
_MOMENTS = (19700101_000000, 20991231_235959)
_ISO_DIGITS = np.array([0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18])  # places in 2025-11-24T16:00:00
_ISO_LENGTH = 19
_MAX_FRACTION = 6  # digits
_ZONES = (b"", b"Z", b" UTC", b"+00:00")


def times_ms(column: pa.Array) -> Ints:
    """Give times in milliseconds since 1970.

    Args:
        column: (n,) of texts, numbers, dates or moments.

    Returns:
        (n,), with NO_TIME where nothing is and BAD_TIME where something else is.
    """
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _of_moments(column)
    if pa.types.is_integer(kind):
        return _with_nulls(_of_ints, column, 0)
    if pa.types.is_floating(kind):
        return _with_nulls(_of_floats, column.cast(pa.float64()), 0.0)
    if pa.types.is_decimal(kind) or pa.types.is_dictionary(kind) or not pa.types.is_string(kind):
        column = column.cast(pa.string())
    return _of_texts(column.fill_null(""))


def _with_nulls(read: Callable[[Any], Ints], column: pa.Array, nothing: float) -> Ints:
    values = column.fill_null(nothing).to_numpy(zero_copy_only=False)
    return read(values)


def _of_moments(column: pa.Array) -> Ints:
    # Rounded down, as `read_time_ms` does with what is finer than a millisecond.
    unit = "s" if pa.types.is_date(column.type) else column.type.unit
    finest = column.cast(pa.timestamp(unit)).cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
    per_unit = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}[unit]
    times: Ints = finest * per_unit[0] // per_unit[1]
    times[times < 0] = BAD_TIME
    times[column.is_null().to_numpy(zero_copy_only=False)] = NO_TIME
    return times


def _of_ints(numbers: npt.NDArray[np.integer]) -> Ints:
    numbers = numbers.astype(np.int64, copy=False)
    times = np.where(numbers < MICROSECONDS_BELOW, numbers // 1000, numbers // 1_000_000)
    times = np.where(numbers < MILLISECONDS_BELOW, numbers, times)
    times = np.where(numbers < SECONDS_BELOW, numbers * 1000, times)
    times[numbers == 0] = NO_TIME
    times[numbers < 0] = BAD_TIME
    odd = np.zeros(len(numbers), dtype=np.bool_)
    for first, last in (_DATES, _MOMENTS):
        odd |= (numbers >= first) & (numbers <= last)
    if odd.any():
        distinct, place = np.unique(numbers[odd], return_inverse=True)
        times[odd] = np.array([_one(number) for number in distinct.tolist()])[place]
    return times


def _of_floats(numbers: npt.NDArray[np.float64]) -> Ints:
    times = np.full(len(numbers), BAD_TIME, dtype=np.int64)
    is_usable = (numbers >= 0) & (numbers < 2.0**63)
    whole = is_usable & ((numbers == np.floor(numbers)) | (numbers >= SECONDS_BELOW))
    times[whole] = _of_ints(numbers[whole].astype(np.int64))
    broken = is_usable & ~whole
    times[broken] = np.rint(numbers[broken] * 1000).astype(np.int64)
    times[np.isnan(numbers)] = NO_TIME
    for place in np.flatnonzero(numbers >= 2.0**63).tolist():
        times[place] = _one(float(numbers[place]))
    return times


def _of_texts(texts: pa.Array) -> Ints:
    lengths = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    is_int = pc.ascii_is_decimal(texts).to_numpy(zero_copy_only=False)
    if is_int.all():
        return _of_digits(texts)
    times = np.full(len(texts), BAD_TIME, dtype=np.int64)
    times[is_int] = _of_digits(texts.filter(pa.array(is_int)))
    left = _read_iso(texts, lengths, ~is_int, times)
    if left.any():
        times[left] = _of_floating_texts(texts.filter(pa.array(left)))
    return times


def _of_digits(texts: pa.Array) -> Ints:
    try:
        return _of_ints(texts.cast(pa.int64()).to_numpy(zero_copy_only=False))
    except pa.ArrowInvalid:  # more than 64 bits
        return _of_each(texts)


def _read_iso(texts: pa.Array, lengths: Ints, left: Flags, times: Ints) -> Flags:
    """Fill in the times of the ISO shapes, length by length; gives what is still left."""
    left = left.copy()
    for length in np.unique(lengths[left]).tolist():
        if not _ISO_LENGTH <= length <= _ISO_LENGTH + 1 + _MAX_FRACTION + max(map(len, _ZONES)):
            continue
        of_length = np.flatnonzero(left & (lengths == length))
        chosen = texts.take(pa.array(of_length))
        letters = _letters(chosen, length)
        for zone in _ZONES:
            end = length - len(zone)
            places = np.flatnonzero(_is_iso(letters, end, zone))
            if len(places) and (read := _iso_ms(letters[places], end)) is not None:
                times[of_length[places]] = read
                left[of_length[places]] = False
    return left


def _letters(texts: pa.Array, length: int) -> npt.NDArray[np.uint8]:
    """Give texts of one length as a matrix of bytes."""
    offsets = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2], dtype=np.uint8)[offsets[0] : offsets[-1]]
    return data.reshape(len(texts), length)


def _is_iso(letters: npt.NDArray[np.uint8], end: int, zone: bytes) -> Flags:
    """Say which rows are a moment up to `end`, and then the zone."""
    if end < _ISO_LENGTH or end == _ISO_LENGTH + 1 or end > _ISO_LENGTH + 1 + _MAX_FRACTION:
        return np.zeros(len(letters), dtype=np.bool_)
    digits = letters[:, _ISO_DIGITS]
    matches: Flags = np.all((digits >= ord("0")) & (digits <= ord("9")), axis=1)
    for place, sign in ((4, "-"), (7, "-"), (13, ":"), (16, ":")):
        matches &= letters[:, place] == ord(sign)
    matches &= (letters[:, 10] == ord("T")) | (letters[:, 10] == ord(" "))
    if end > _ISO_LENGTH:
        fraction = letters[:, _ISO_LENGTH + 1 : end]
        matches &= letters[:, _ISO_LENGTH] == ord(".")
        matches &= np.all((fraction >= ord("0")) & (fraction <= ord("9")), axis=1)
    for place, sign_code in enumerate(zone, start=end):
        matches &= letters[:, place] == sign_code
    return matches


def _iso_ms(letters: npt.NDArray[np.uint8], end: int) -> Ints | None:
    """Give the milliseconds of rows of the right shape; None when one of them is no date or before 1970."""
    n_fraction = min(max(end - _ISO_LENGTH - 1, 0), 3)
    seconds = np.ascontiguousarray(letters[:, :_ISO_LENGTH])
    texts = pa.Array.from_buffers(pa.binary(_ISO_LENGTH), len(seconds), [None, pa.py_buffer(seconds)])
    try:
        moments = texts.cast(pa.binary()).cast(pa.string()).cast(pa.timestamp("s"))
    except pa.ArrowInvalid:
        return None
    times: Ints = moments.cast(pa.int64()).to_numpy(zero_copy_only=False) * 1000
    for place in range(n_fraction):
        digit = letters[:, _ISO_LENGTH + 1 + place].astype(np.int64) - ord("0")
        times = times + digit * 10 ** (2 - place)
    return None if (times < 0).any() else times


def _of_floating_texts(texts: pa.Array) -> Ints:
    try:
        numbers = texts.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        numbers = np.array([-1.0])
    if np.isfinite(numbers).all() and (numbers > 0).all():
        return _of_floats(numbers)
    return _of_each(texts)


def _of_each(texts: pa.Array) -> Ints:
    """Ask for every value that differs."""
    distinct = texts.dictionary_encode()
    of_values: Ints = np.array([_one(text) for text in distinct.dictionary.to_pylist()], dtype=np.int64)
    times: Ints = of_values[distinct.indices.to_numpy()]
    return times


def _one(value: object) -> int:
    try:
        time_ms = read_time_ms(value)
    except (ValueError, OverflowError):
        return BAD_TIME
    return NO_TIME if time_ms is None else min(time_ms, np.iinfo(np.int64).max)
