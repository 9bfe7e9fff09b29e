"""A record of the clicks topic as the search sees it, and what becomes of a sample under given settings."""

import dataclasses
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from nextclick.clicks import Ignored, IgnoreReason, Rejected, RejectReason
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.paths import Headers
from nextclick.schema.placement import is_home, misplaced
from nextclick.schema.registry import Registry
from nextclick.schema.usage import Usage
from nextclick.settings import Settings
from rekey.outcomes import Judge

_Reason = RejectReason | IgnoreReason


class SampledRecord(NamedTuple):
    """A record of the clicks topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = None


class Sample(NamedTuple):
    """Records of a topic, and when they were looked at.

    Attributes:
        records: of all partitions, those of a partition in its order.
        n_partitions: of the topic.
        now_ms: the reader's clock.
        grown_from: how many partitions the topic had when some of the records were written; 0: as many as now.
        registry: of the records' schemas, all of which are loaded; None: there is none.
    """

    records: Sequence[SampledRecord]
    n_partitions: int
    now_ms: int
    grown_from: int = 0
    registry: Registry | None = None

    @property
    def counts(self) -> tuple[int, ...]:
        """How many partitions the topic has, and had."""
        return (self.n_partitions, self.grown_from) if self.grown_from else (self.n_partitions,)

    def thinned(self, n_records: int, n_bytes: int) -> "Sample":
        """Give at most so many of the records, evenly spread and of about so many bytes.

        Of each few one is drawn, by the same chance each time: events that take turns must not be all of one kind.
        """
        step, chance = max(1, -(-len(self.records) // n_records)), random.Random(0)
        places = range(0, len(self.records), step)
        drawn = [self.records[chance.randrange(at, min(at + step, len(self.records)))] for at in places]
        size = sum(len(record.value or b"") for record in drawn)
        if size > n_bytes and len(drawn) > 1:
            return self.thinned(max(1, len(drawn) * n_bytes // size), n_bytes)
        return self._replace(records=drawn)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a sample.

    Attributes:
        usage: counts, by reason.
        details: of the last record of each reason for rejection; never with what the record holds.
        n_clicks: in the records that are used: some hold several.
        n_empty: records without a value that are rejected for that.
    """

    usage: Usage
    details: dict[_Reason, str] = field(default_factory=dict)
    n_clicks: int = 0
    n_empty: int = 0

    @property
    def used(self) -> int:
        """How many records hold clicks that are applied."""
        return self.usage.used

    @property
    def rejected(self) -> int:
        """How many records are rejected."""
        return sum(n for reason, n in self.usage.by_reason.items() if isinstance(reason, RejectReason))


def judge(sample: Sample, settings: Settings) -> Verdict:
    """Say what a worker and a trainer with these settings make of a sample."""
    decode = click_decoder(ClickSchema.of(settings), sample.registry)
    usage, details, n_clicks = Usage(settings.clicks_topic, sample.n_partitions), {}, 0
    n_empty = 0
    for partition, offset, timestamp_ms, key, value, headers in sample.records:
        verdict = decode(key, value, headers, timestamp_ms, sample.now_ms)
        is_placed = is_home(key, partition, settings.partitioner, sample.counts)
        if isinstance(verdict, tuple) and not is_placed:
            verdict = misplaced(settings.partitioner, partition)
        if isinstance(verdict, Rejected | Ignored):
            usage.note_dropped(verdict, key, partition, offset)
            details[verdict.reason] = verdict.detail if isinstance(verdict, Rejected) else ""
            n_empty += value is None and verdict.reason is RejectReason.BAD_JSON
        else:
            usage.note_used()
            n_clicks += len(verdict)
    return Verdict(usage, details, n_clicks, n_empty)


def judge_copies(sample: Sample, settings: Settings) -> Verdict:
    """Say what becomes of a sample in a copy with the user as key: of each record that is written for one of these."""
    schema = dataclasses.replace(ClickSchema.of(settings), check_key=False, needs_key=False)
    copier, decode = Judge(schema, sample.registry), click_decoder(schema, sample.registry)
    usage, details, n_clicks = Usage(settings.clicks_topic, sample.n_partitions), dict[_Reason, str](), 0
    for partition, offset, timestamp_ms, key, value, headers in sample.records:
        outcome = copier.outcome(value, headers, timestamp_ms, sample.now_ms)
        usage.note_used(len(outcome.copies))
        for _, copy in outcome.copies:
            clicks = decode(None, copy, headers, timestamp_ms, sample.now_ms)
            n_clicks += len(clicks) if isinstance(clicks, tuple) else 0
        for why, _ in outcome.rejected:
            usage.note_dropped(why, key, partition, offset)
            details[why.reason] = why.detail
        if outcome.ignored and not outcome.n_written:
            usage.note_dropped(outcome.ignored[0], key, partition, offset)
    return Verdict(usage, details, n_clicks)
