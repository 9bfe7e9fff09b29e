"""Whether a click fits into a topic: the newest records there are looked at with the decoder of the worker."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import KafkaException

from nextclick.clicks import Rejected, RejectReason
from nextclick.errors import PermanentError, TemporaryError
from nextclick.schema.paths import Headers
from nextclick.schema.placement import is_home, misplaced
from nextclick.schema.plain import Decode
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from tools.records import headers_of
from tools.topic_sample import newest_records

_RECORDS = 200  # to be looked at, over all partitions: enough keys to tell which partitioner put them there
_MIN_PER_PARTITION = 5  # transactions leave marks between the records
_PATIENCE_S = 3.0
_MAX_PATHS = 12
_MAX_PATH_DEPTH = 4
_OWN_PRODUCER = "the click would be JSON, which others who read this topic cannot read: use a producer of your own"
_MAX_PATH = 60  # characters; a longer name is none that a person gave


class SampledRecord(NamedTuple):
    """What a decoder sees of a record, and where it is."""

    key: bytes | None
    value: bytes | None
    headers: Headers
    timestamp_ms: int
    partition: int
    offset: int


def check_topic_fits(settings: Settings, n_partitions: int, decode: Decode, now_ms: int) -> None:
    """See that a click is not the first of its kind in the clicks topic; an empty topic takes any.

    Args:
        settings: name the topic.
        n_partitions: that it has.
        decode: the decoder of a worker with these settings, but without a schema registry: clicks are sent as JSON.
        now_ms: the time of day.

    Raises:
        PermanentError: there are records, and a worker with these settings could use none, or finds most of them in
            partitions of others.
        TemporaryError: the broker does not answer.
    """
    n_records = max(_RECORDS, _MIN_PER_PARTITION * n_partitions)
    try:
        newest = newest_records(settings, settings.clicks_topic, n_partitions, n_records, _PATIENCE_S)
    except KafkaException as error:
        raise TemporaryError(
            f"the newest records of {settings.clicks_topic!r} cannot be looked at: {error.args[0].str()}; try again"
        ) from error
    records = [
        SampledRecord(m.key(), m.value(), headers_of(m), m.timestamp()[1], m.partition(), m.offset())
        for m in newest.records
    ]
    topic, partitioner = settings.clicks_topic, settings.partitioner
    misfit = why_none_fits(records, decode, topic, n_partitions, now_ms) or why_most_are_misplaced(
        records, topic, n_partitions, partitioner
    )
    if misfit is not None:
        raise PermanentError(misfit)


def why_none_fits(
    records: Sequence[SampledRecord], decode: Decode, topic: str, n_partitions: int, now_ms: int
) -> str | None:
    """Say what records look like, without their contents, and what to set; None if a single one can be used.

    A record that is ignored fits, too: it has been understood.
    """
    usage = Usage(topic, n_partitions)
    for record in records:
        judged = decode(record.key, record.value, record.headers, record.timestamp_ms, now_ms)
        if not isinstance(judged, Rejected):
            return None
        usage.note_dropped(judged, record.key, record.partition, record.offset)
        detail = judged.detail
    if not records:
        return None
    reason, number = usage.by_reason.most_common(1)[0]
    remedy = _OWN_PRODUCER if reason is RejectReason.NEEDS_REGISTRY else usage.remedy(reason)
    return (
        f"the click was not sent, because none of the {len(records)} newest records of {topic!r} is one with these "
        f"settings ({number} are {reason.value}; the last one: {detail}): they are {_described(records)}; "
        f"{remedy}, or choose another clicks_topic"
    )


def why_most_are_misplaced(
    records: Sequence[SampledRecord], topic: str, n_partitions: int, partitioner: str
) -> str | None:
    """Say which partitioner the keys of records seem to be placed by; None if most are where a worker expects them."""
    usage, n_misplaced = Usage(topic, n_partitions), 0
    for record in records:
        if not is_home(record.key, record.partition, partitioner, (n_partitions,)):
            usage.note_dropped(misplaced(partitioner, record.partition), record.key, record.partition, record.offset)
            n_misplaced += 1
    if 2 * n_misplaced <= len(records):
        return None
    return (
        f"the click was not sent, because {n_misplaced} of the {len(records)} newest records of {topic!r} are not in "
        f"the partition that {partitioner} gives, so a worker with these settings rejects them: "
        f"{usage.remedy(RejectReason.WRONG_PARTITION)}, or choose another clicks_topic"
    )


def _described(records: Sequence[SampledRecord]) -> str:
    """Say what most of the records look like: by names of fields that most of them have, never by a value."""
    documents = [document for record in records if isinstance(document := _parsed(record.value), dict)]
    if 2 * len(documents) < len(records):
        return "not JSON objects"
    counts = Counter(path for document in documents for path in _paths(document, _MAX_PATH_DEPTH))
    common = [path for path, count in counts.items() if 2 * count >= len(documents) and len(path) <= _MAX_PATH]
    more = ", ..." if len(common) > _MAX_PATHS else ""
    return f"JSON objects with {', '.join(map(repr, common[:_MAX_PATHS])) or 'no field that most of them have'}{more}"


def _parsed(value: bytes | None) -> Any:
    """Give a record's JSON, and of several events the first."""
    try:
        document = msgspec.json.decode(value or b"null")
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return document[0] if isinstance(document, list) and document else document


def _paths(value: Any, depth: int) -> Iterator[str]:
    """Give the paths of all fields that hold no others, as the settings take them."""
    if not depth or not isinstance(value, dict | list) or not value:
        return
    inner = value.items() if isinstance(value, dict) else [("0", value[0])]
    for name, field in inner:
        below = list(_paths(field, depth - 1))
        yield from (f"{name}.{path}" for path in below) if below else (name,)
