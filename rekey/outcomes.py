"""What becomes of a record of the source: copies with the user as key, dead letters, or nothing. Asks no broker."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, NamedTuple, TypeVar

import msgspec

from nextclick.clicks import FORWARDED_HEADER, Ignored, Rejected, RejectReason
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.paths import Headers
from nextclick.schema.registry import Registry

# What cannot be an array of events that could be divided.
_NO_ARRAY = frozenset({RejectReason.TOO_LARGE, RejectReason.BAD_JSON, RejectReason.NEEDS_REGISTRY})
_ALONE = "event 1 of 1: "  # how the decoder names an event that is given to it alone
_Record = TypeVar("_Record")


@dataclass(slots=True)
class Outcome:
    """What becomes of a record.

    Attributes:
        copies: key and value of each record that is written for it.
        rejected: what of it cannot be used, and why.
        ignored: what of it is no click and not meant to be one.
    """

    copies: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    rejected: list[tuple[Rejected, bytes | None]] = field(default_factory=list)
    ignored: list[Ignored] = field(default_factory=list)

    @property
    def n_written(self) -> int:
        """How many records are written for it."""
        return len(self.copies) + len(self.rejected)


class Judge:
    """Decides by a schema; the record's own key is never looked at."""

    def __init__(self, schema: ClickSchema, registry: Registry | None = None) -> None:
        self._decode = click_decoder(replace(schema, check_key=False, needs_key=False), registry)

    def outcome(self, value: bytes | None, headers: Headers, timestamp_ms: int, now_ms: int) -> Outcome:
        """Tell what becomes of a record.

        Args:
            value: the record's.
            headers: the record's.
            timestamp_ms: the record's own.
            now_ms: this machine's clock.
        """
        if any(name == FORWARDED_HEADER for name, _ in headers or ()):
            return Outcome()  # a copy of a click that stands in the source, too
        decoded = self._decode(None, value, headers, timestamp_ms, now_ms)
        if isinstance(decoded, tuple):
            return Outcome(copies=[(decoded[0].user_id.encode(), value)])
        if isinstance(decoded, Ignored):
            return Outcome(ignored=[decoded])
        divided = None
        if value is not None and decoded.reason not in _NO_ARRAY:
            divided = self._divided(value, headers, timestamp_ms, now_ms)
        return divided or Outcome(rejected=[(decoded, value)])

    def _divided(self, value: bytes, headers: Headers, timestamp_ms: int, now_ms: int) -> Outcome | None:
        """Give each user's events of an array, as an array; None if it is none, or has not several users.

        An envelope stands around each event, and headers hold for all: the parts are read as the whole is.
        """
        try:
            events = msgspec.json.decode(value, type=list[msgspec.Raw])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        outcome, of_users = Outcome(), defaultdict[str, list[bytes]](list)
        for place, event in enumerate(map(bytes, events), start=1):
            decoded = self._decode(None, b"[%b]" % event, headers, timestamp_ms, now_ms)
            if isinstance(decoded, tuple):
                of_users[decoded[0].user_id].append(event)
            elif isinstance(decoded, Ignored):
                outcome.ignored.append(decoded)
            else:
                found = f"event {place} of {len(events)}: {decoded.detail.removeprefix(_ALONE)}"
                outcome.rejected.append((Rejected(decoded.reason, found), b"[%b]" % event))
        if len(of_users) < 2:
            return None
        outcome.copies = [(user.encode(), b"[%b]" % b",".join(own)) for user, own in of_users.items()]
        return outcome


class Part(NamedTuple, Generic[_Record]):
    """What one transaction does.

    Attributes:
        records: of the source, with what becomes of them.
        ends: by partition of the source, the offset that is read next when it is done.
    """

    records: list[tuple[_Record, Outcome]]
    ends: Mapping[int, int]


def in_parts(
    judged: Iterable[tuple[int, int, _Record, Outcome]], ends: Mapping[int, int], most_written: int
) -> Iterator[Part[_Record]]:
    """Cut records where a transaction would write too much: one record can be divided into thousands.

    Args:
        judged: partition and offset of each record, the record, and what becomes of it; read as it is needed.
        ends: by partition, the offset that is read next after all of them.
        most_written: by one transaction, but for what a single record adds.
    """
    records: list[tuple[_Record, Outcome]] = []
    so_far: dict[int, int] = {}
    n_written = 0
    for partition, offset, record, outcome in judged:
        records.append((record, outcome))
        so_far[partition] = offset + 1
        n_written += outcome.n_written
        if n_written >= most_written:
            yield Part(records, dict(so_far))
            records, n_written = [], 0
    yield Part(records, ends)
