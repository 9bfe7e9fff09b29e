"""How files write times: seconds or milliseconds since 1970, or ISO 8601."""

import re
from collections.abc import Callable
from datetime import UTC, datetime

_MS_FROM = 1e11  # as seconds the year 5138, as milliseconds 1973: smaller numbers are seconds
_MS_TO = 1e14  # larger numbers are micro- or nanoseconds, which we do not guess
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][+-]?\d+)?")

Parse = Callable[[str], int]


def time_parser(example: str) -> Parse:
    """Find out from one value how a file writes its times.

    Returns:
        A function from text to milliseconds since 1970. It raises ValueError for text of another kind. A time
        without a zone is taken as UTC.
    """
    if not _NUMBER.fullmatch(example):
        return _parse_iso
    return _parse_ms if float(example) >= _MS_FROM else _parse_s


def is_ms(number: int) -> bool:
    """Say whether a number is taken as milliseconds since 1970."""
    return _MS_FROM <= number < _MS_TO


def _parse_iso(text: str) -> int:
    moment = datetime.fromisoformat(text)
    return _checked(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() * 1000)


def _parse_s(text: str) -> int:
    return _checked(float(text) * 1000)


def _parse_ms(text: str) -> int:
    return _checked(float(text))


def _checked(timestamp_ms: float) -> int:
    if not 0 <= timestamp_ms < _MS_TO:
        raise ValueError
    return round(timestamp_ms)
