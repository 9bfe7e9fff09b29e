"""A record of the clicks topic as the search sees it, and what becomes of a sample under given settings."""

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

    def thinned(self, n_records: int) -> "Sample":
        """Give at most so many of the records, evenly spread."""
        step = max(1, -(-len(self.records) // n_records))
        return self._replace(records=self.records[::step])


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a sample.

    Attributes:
        usage: counts, by reason.
        details: of the last record of each reason for rejection; never with what the record holds.
        n_clicks: in the records that are used: some hold several.
    """

    usage: Usage
    details: dict[RejectReason | IgnoreReason, str] = field(default_factory=dict)
    n_clicks: int = 0

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
    for partition, offset, timestamp_ms, key, value, headers in sample.records:
        verdict = decode(key, value, headers, timestamp_ms, sample.now_ms)
        is_placed = key is None or is_home(key, partition, settings.partitioner, sample.counts)
        if isinstance(verdict, tuple) and not is_placed:
            verdict = misplaced(settings.partitioner, partition)
        if isinstance(verdict, Rejected | Ignored):
            usage.note_dropped(verdict, key, partition, offset)
            details[verdict.reason] = verdict.detail if isinstance(verdict, Rejected) else ""
        else:
            usage.note_used()
            n_clicks += len(verdict)
    return Verdict(usage, details, n_clicks)


def judge_copies(sample: Sample, settings: Settings) -> Verdict:
    """Say what becomes of a sample in a copy with the user as key: of each record that is written for one of these."""
    copier = Judge(ClickSchema.of(settings), sample.registry)
    verdict = Verdict(Usage(settings.clicks_topic, sample.n_partitions))
    usage = verdict.usage
    for partition, offset, timestamp_ms, key, value, headers in sample.records:
        outcome = copier.outcome(value, headers, timestamp_ms, sample.now_ms)
        usage.note_used(len(outcome.copies))
        for why, _ in outcome.rejected:
            usage.note_dropped(why, key, partition, offset)
            verdict.details[why.reason] = why.detail
        if outcome.ignored and not outcome.n_written:
            usage.note_dropped(outcome.ignored[0], key, partition, offset)
    return verdict
