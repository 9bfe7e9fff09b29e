"""The newest records of the clicks topic, and what keeps them from being read."""

from confluent_kafka import KafkaException, Message

from doctor.findings import Finding, Level, plural, refusal
from doctor.search.sample import Sample, SampledRecord
from nextclick.errors import PermanentError, TemporaryError
from nextclick.settings import Settings
from tools.kafka import Failure, failure_of
from tools.records import headers_of, refuse_unreadable
from tools.topic_sample import MAX_BYTES, NewestRecords, newest_records

MAX_READ_S = 20.0
_ABOUT = "clicks"


def read_sample(settings: Settings, partitions: int, n_records: int, now_ms: int) -> tuple[Sample, list[Finding]]:
    """Give the newest records of the clicks topic, and what could not be read.

    Args:
        settings: where the topic is.
        partitions: that it has.
        n_records: at most so many, and at most what `MAX_READ_S` is enough for.
        now_ms: this machine's clock.

    Raises:
        TemporaryError: the broker does not answer.
    """
    try:
        newest = newest_records(settings, settings.clicks_topic, partitions, n_records, MAX_READ_S)
    except KafkaException as error:
        raise TemporaryError(
            f"the topic {settings.clicks_topic} cannot be read: {error.args[0].str()}; look at the brokers, or correct "
            "the rights of this user"
        ) from error
    left_out = [_left_out(newest, settings.clicks_topic)] if newest.n_left_out else []
    findings = dict.fromkeys(finding for message in newest.failures if (finding := _unread(message)) is not None)
    records = [
        SampledRecord(m.partition() or 0, m.offset() or 0, m.timestamp()[1], m.key(), m.value(), headers_of(m))
        for m in newest.records
    ]
    records.sort(key=lambda record: (record.partition, record.offset))
    return Sample(records, partitions, now_ms), [*findings, *left_out]


def _left_out(newest: NewestRecords, topic: str) -> Finding:
    found = (
        f"only the newest {plural(len(newest.records), 'record')} of {topic} are looked at: with "
        f"{newest.n_left_out:,} older ones they are more than {MAX_BYTES // 1024**2} MB"
    )
    return Finding(Level.NOTE, _ABOUT, found, "nothing, or ask for fewer with --records")


def _unread(message: Message) -> Finding | None:
    """Say why a partition cannot be read to its end; None for what passes by itself."""
    error, topic = message.error(), message.topic()
    assert error is not None
    try:
        refuse_unreadable(message)
    except PermanentError as line:
        return refusal(_ABOUT, str(line))
    if failure_of(error) is not Failure.REFUSED:
        return None
    found = f"the topic {topic} cannot be read: {error.str()}"
    return Finding(Level.ERROR, _ABOUT, found, "correct the rights of this user")
