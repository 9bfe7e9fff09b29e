"""The trace that a click belongs to, as W3C's Trace Context writes it: carried from the click's record to its update's.

Nothing here takes part in a trace: who does not, passes `traceparent` on as it was. Whoever reads the update, and
records spans, sees the shop's request before it.
"""

import re
from collections.abc import Iterable

TRACEPARENT = "traceparent"
# Of any version but the forbidden one, as long as it looks like the first; ids of zeros are none.
_VALID = re.compile(rb"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


_SAMPLED = 1  # of the last byte: whoever began the trace keeps it


def sampled_trace_id(traceparent: bytes) -> str | None:
    """Give the id of a trace, 32 hexadecimal digits, if it is one that is kept."""
    _, trace_id, _, flags = traceparent.split(b"-")
    return trace_id.decode() if int(flags, 16) & _SAMPLED else None


def trace_of(headers: Iterable[tuple[str, bytes | None]]) -> bytes | None:
    """Give the trace that a record's headers name; None if there is none, or what is there is no trace's name."""
    for name, value in headers:
        if name == TRACEPARENT and value is not None and _VALID.fullmatch(value):
            return value
    return None
