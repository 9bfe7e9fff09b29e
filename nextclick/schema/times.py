"""What a time in a click, in a record or in a file means, in any of the forms that producers write."""

import math
import re
from datetime import UTC, datetime, timedelta

# Seconds up to the year 5138; above, what can only be milliseconds (from 1973 on), and so on. Numbers in a topic are
# times of our days: none of them is near a limit.
SECONDS_BELOW = 10**11
MILLISECONDS_BELOW = 10**14
MICROSECONDS_BELOW = 10**17
DATES_FROM, DATES_TO = 19700101_000000, 20991231_235959  # as milliseconds in the years 2594 and 2635: nobody's clicks

_NUMBER = re.compile(r"\+?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
_ZONE_NAME = re.compile(r"\s*\[[^]]*\]$")  # Java writes 2025-11-24T16:00Z[UTC]
_SPACE_BEFORE_ZONE = re.compile(r"\s+(?=[+-]\d\d:?(\d\d)?$)")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MAX_TEXT = 64  # characters; a time has 35 at most


def read_time_ms(value: object) -> int | None:
    """Give a time in milliseconds since 1970.

    Args:
        value: a number, or its text: seconds, milliseconds, microseconds or nanoseconds, told apart by their size;
            whole or with a fraction. 8 digits that are a date of 1970 to 2099 (20251124), and 14 that are a date and a
            time (20251124160000), are that. Any other text is ISO 8601, without a zone in UTC.

    Returns:
        None for nothing: null, an empty text, or 0.

    Raises:
        ValueError: it is no time, or one before 1970.
    """
    if type(value) is int:  # nearly always
        return _of_int(value) if value else None
    if value is None:
        return None
    if isinstance(value, str):
        return _of_text(value.strip())
    if isinstance(value, float):
        return _of_float(value)
    if isinstance(value, datetime):
        return _of_datetime(value)
    raise ValueError("neither a number nor a text")


def _of_int(number: int) -> int:
    if number >= SECONDS_BELOW:
        if number < MILLISECONDS_BELOW:
            return number if not DATES_FROM <= number <= DATES_TO else _of_digits(number, number)
        return number // 1000 if number < MICROSECONDS_BELOW else number // 1_000_000
    if number < 0:
        raise ValueError("a time before 1970")
    if 19700101 <= number <= 20991231:
        return _of_digits(number, number * 1000)
    return number * 1000


def _of_digits(number: int, otherwise_ms: int) -> int:
    """Give the date, or date and time, that a number's digits say, if they do."""
    text = str(number)
    form = "%Y%m%d" if len(text) == 8 else "%Y%m%d%H%M%S"
    try:
        return _of_datetime(datetime.strptime(text, form))
    except ValueError:
        return otherwise_ms


def _of_float(number: float) -> int | None:
    if not math.isfinite(number):
        raise ValueError("no finite number")
    if number == 0:
        return None
    if number < 0:
        raise ValueError("a time before 1970")
    if number.is_integer():
        return _of_int(int(number))
    return round(number * 1000) if number < SECONDS_BELOW else _of_int(int(number))


def _of_text(text: str) -> int | None:
    if not text:
        return None
    if len(text) > _MAX_TEXT:
        raise ValueError("a text that is too long for a time")
    if text.isascii() and text.isdigit():
        return _of_int(int(text)) if int(text) else None
    if _NUMBER.fullmatch(text):
        return _of_float(float(text))
    text = _ZONE_NAME.sub("", text)
    for name in (" UTC", " GMT", " Z", "z"):
        text = text.removesuffix(name) + "Z" if text.endswith(name) else text
    return _of_datetime(datetime.fromisoformat(_SPACE_BEFORE_ZONE.sub("", text)))


def _of_datetime(moment: datetime) -> int:
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
    timestamp_ms = (moment - _EPOCH) // _MILLISECOND
    if timestamp_ms < 0:
        raise ValueError("a time before 1970")
    return timestamp_ms


def record_time_ms(timestamp_ms: int, now_ms: int) -> int:
    """Give a record's own time: some producers set it in seconds, and some records have none and get `now_ms`."""
    if SECONDS_BELOW <= timestamp_ms < MILLISECONDS_BELOW:
        return timestamp_ms
    return (read_time_ms(timestamp_ms) or now_ms) if timestamp_ms > 0 else now_ms
