"""Which of two updates of a user is the newer one: said here alone. Pure.

Known bound: where sequences and offsets both begin again (a new application over a clicks topic that was created anew,
or has lost clicks), the old list is taken for the newer one until it is overtaken. Such an application needs a topic of
updates of its own, and whoever tells people to begin anew says so (`BEGIN_ANEW`).
"""

import re

import msgspec

from nextclick.updates import Source


class UpdateHead(msgspec.Struct, frozen=True):
    """What of an update decides; its items are passed over. Attributes as in `RecommendationUpdate`."""

    strategy: str
    sequence: int
    source: Source
    clicked_at_ms: int
    produced_at_ms: int


# What to do where states have to begin anew, as the second half of an error's line.
BEGIN_ANEW = (
    "start a new application with --set app=NAME --set recommendations_topic=TOPIC, and let feeds and consumers follow "
    "that topic (in the old one they would keep the old lists)"
)
_EVENT_ID = re.compile(r"(\d{1,10})-(\d{1,10})-(\d{1,19})", re.ASCII)
_decode_head = msgspec.json.Decoder(UpdateHead).decode


def head_of(value: bytes) -> UpdateHead:
    """Read an update's head.

    Raises:
        msgspec.DecodeError: the bytes are no update.
    """
    try:
        return _decode_head(value)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(f"expected an update, found bytes that are not JSON: {error!s:.300}") from error


def is_newer(update: UpdateHead, than: UpdateHead) -> bool:
    """Tell whether an update replaces another one of the same user.

    The sequence counts a user's clicks, so the higher one is newer, and a repeated update is not. A later click of the
    same partition is newer whatever its sequence: where a user's state was lost, the sequence begins again, and a
    retry, which changes nothing, is answered with the sequence of before.
    """
    if update.source.partition == than.source.partition:
        return update.source.offset > than.source.offset or (
            update.source.offset == than.source.offset and update.sequence > than.sequence
        )
    return update.sequence > than.sequence


def contains(update: UpdateHead, partition: int, offset: int) -> bool:
    """Tell whether a list was made after a click was applied."""
    return update.source.partition == partition and update.source.offset >= offset


def event_id_of(head: UpdateHead) -> str:
    """Name an update in a stream of events."""
    return f"{head.sequence}-{head.source.partition}-{head.source.offset}"


def head_in(event_id: str) -> UpdateHead | None:
    """Give what an event's id says of its update; None if it is none of ours."""
    found = _EVENT_ID.fullmatch(event_id)
    if found is None:
        return None
    sequence, partition, offset = map(int, found.groups())
    return UpdateHead("", sequence, Source(partition, offset), 0, 0)
