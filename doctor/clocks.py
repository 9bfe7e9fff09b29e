"""The clocks of those who send clicks, against this machine's: what their records and events say of time. Pure."""

import statistics
from collections.abc import Sequence

from doctor.findings import Finding, Level, plural
from doctor.search.sample import Sample
from nextclick.clicks import FUTURE_TOLERANCE_MS
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.schema.times import MILLISECONDS_BELOW, SECONDS_BELOW, record_time_ms
from nextclick.settings import Settings

_ABOUT = "clocks"
_MINUTE_MS = 60_000
_DAY_MS = 24 * 60 * _MINUTE_MS
_AHEAD_MS = 2 * _MINUTE_MS  # clocks that nobody sets are as wrong within weeks
_OFTEN = 0.01


def check_clocks(sample: Sample, settings: Settings) -> list[Finding]:
    """Say what is odd about the times of a sample, read with the settings under which it is used."""
    if not sample.records:
        return []
    return [*_record_times(sample, settings), *_event_times(sample, settings)] or [
        Finding(Level.OK, _ABOUT, "the times of records and events fit this machine's clock")
    ]


def _record_times(sample: Sample, settings: Settings) -> list[Finding]:
    findings, topic = [], settings.clicks_topic
    times = [record.timestamp_ms for record in sample.records]
    early = sum(0 < time < SECONDS_BELOW for time in times)
    late = sum(time >= MILLISECONDS_BELOW for time in times)
    ahead = [time - sample.now_ms for time in times if sample.now_ms + _AHEAD_MS < time < MILLISECONDS_BELOW]
    if early:
        findings.append(
            Finding(
                Level.WARNING,
                _ABOUT,
                f"{plural(early, 'record')} of {len(times):,} have a record time in seconds, which Kafka takes for "
                f"January 1970: retention removes them as soon as it looks at {topic}",
                "let the producer set the record's timestamp in milliseconds, or not at all; or set "
                "message.timestamp.type=LogAppendTime for the topic",
            )
        )
    if late:
        findings.append(
            Finding(
                Level.WARNING,
                _ABOUT,
                f"{plural(late, 'record')} of {len(times):,} have a record time in microseconds or nanoseconds: "
                f"retention never removes them from {topic}",
                "let the producer set the record's timestamp in milliseconds, or not at all",
            )
        )
    if len(ahead) >= _OFTEN * len(times):
        findings.append(
            Finding(
                Level.WARNING,
                _ABOUT,
                f"{plural(len(ahead), 'record')} of {len(times):,} have a record time ahead of this machine's clock, "
                f"by {_span(max(ahead))} at most",
                "compare the clocks of this machine and of the producers with a time server (chrony, ntpd)",
            )
        )
    return findings


def _event_times(sample: Sample, settings: Settings) -> list[Finding]:
    """Compare event times with the clock, and with the records' times where these can be right."""
    differences = _ahead_of_record(sample, settings)
    if not differences:
        return []
    ahead = sum(each > _AHEAD_MS for each in differences)
    findings = []
    if ahead >= _OFTEN * len(differences):
        findings.append(
            Finding(
                Level.WARNING,
                _ABOUT,
                f"{plural(ahead, 'event')} of {len(differences):,} say that they happened after their record was "
                f"written, by {_span(max(differences))} at most: clients' clocks are ahead",
                f"let the server that takes the events give the time; events more than {_span(FUTURE_TOLERANCE_MS)} "
                "ahead of this machine's clock are rejected",
            )
        )
    behind = -statistics.median(differences)
    if behind > _DAY_MS:
        findings.append(
            Finding(
                Level.NOTE,
                _ABOUT,
                f"half of the events happened {_span(behind)} or more before their record was written",
                "that is as it should be for a replay of the past; else correct the clients' clocks or time_field",
            )
        )
    return findings


def _ahead_of_record(sample: Sample, settings: Settings) -> Sequence[int]:
    """Give how far each event's time is ahead of its record's, in ms, where it has one of its own.

    What is too far ahead to be accepted counts, too: so the reader's clock is set to the end of time.
    """
    decode = click_decoder(ClickSchema.of(settings), sample.registry)
    differences: list[int] = []
    for record in sample.records:
        clicks = decode(record.key, record.value, record.headers, record.timestamp_ms, MILLISECONDS_BELOW)
        if isinstance(clicks, tuple) and record.timestamp_ms > 0:
            record_ms = record_time_ms(record.timestamp_ms, sample.now_ms)
            differences += [click.timestamp_ms - record_ms for click in clicks if click.timestamp_ms != record_ms]
    return differences


def _span(ms: float) -> str:
    """Give a time that passes, in the largest unit of which it has two."""
    for unit, size in (("days", _DAY_MS), ("hours", 60 * _MINUTE_MS), ("minutes", _MINUTE_MS)):
        if ms >= 2 * size:
            return f"{ms / size:,.0f} {unit}"
    return f"{ms / 1000:,.0f} s" if ms != _DAY_MS else "a day"
