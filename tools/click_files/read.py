"""Reads all clicks of a file, whatever its format."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import click

from nextclick.errors import PermanentError
from tools.click_files.account import Account
from tools.click_files.choices import ALL_EVENTS, ClickFile
from tools.click_files.collect import Collected
from tools.click_files.delimited import read_delimited
from tools.click_files.events import EventRule, listed_events
from tools.click_files.heads import first_lines
from tools.click_files.json_lines import read_json_lines
from tools.click_files.judge import Judged, Rules, judge
from tools.click_files.layouts import ADRESSA, JSONL, MIND, OTTO, PARQUET
from tools.click_files.mind import read_mind
from tools.click_files.otto import read_otto
from tools.click_files.recorded import RecordedClicks
from tools.click_files.rows import Parse, Reading
from tools.click_files.sources import table_kind
from tools.click_files.tables import read_table
from tools.click_files.threads import in_order

Say = Callable[[str], None]


def _say(line: str) -> None:
    click.echo(line, err=True)


def read_clicks(
    file: ClickFile, mark: Mapping[str, str] | None = None, say: Say = _say, earliest_ms: int = 0
) -> RecordedClicks:
    """Read all clicks of a file and sort them by time; the sort is stable.

    Args:
        file: what to read.
        mark: column to value; rows that have all of these values are marked, the others are not.
        say: told in a sentence which columns are taken, and what is left out; by default standard error.
        earliest_ms: clicks before it are left out; for those that are sent, what a worker takes. Where nothing is
            sent, times may count from the first click.

    Raises:
        PermanentError: a missing column, a line that cannot be read, a damaged file, or no click that is taken.
    """
    choices, mark = file.choices, mark or {}
    reading = _reader(file)(file, mark)
    say(f"{file.path.name}: {file.file_format}, {reading.found}")
    if not reading.has_times and choices.time != "":
        say(f"{file.path.name}: no column of times is known, so the order of the file is taken; name one with --time")
    rules = Rules(
        where=tuple(choices.where.values()),
        marks=tuple(mark.values()),
        header=reading.header,
        events=_event_rule(file, reading),
        now_ms=int(time.time() * 1000),
        earliest_ms=earliest_ms,
    )
    account = Account(file.path.name, reading.place, reading.counted, choices.skip_bad)
    with Collected(file.path.name) as collected:
        for judged in in_order(partial(_judged, parse, rules) for parse in reading.parses):
            account.add(judged)
            collected.add(judged)
        account.check()
        if not collected.n_clicks:
            raise account.nothing()
        for line in [*account.times(), *account.lines(), *_unknown_events(file, rules, collected)]:
            say(line)
        return collected.finish(reading.layout.always)


def _unknown_events(file: ClickFile, rules: Rules, collected: Collected) -> Iterator[str]:
    """Say which of the listed event types no click has: their names may be wrong."""
    listed = rules.events.listed
    seen = collected.event_types()  # none: the file has no event types
    missing = set(listed.values()) - seen if listed is not None and seen else set()
    if missing:
        yield f"{file.path.name}: no click has the event type {' or '.join(map(repr, sorted(missing)))} of --events"


def _reader(file: ClickFile) -> Callable[[ClickFile, Mapping[str, str]], Reading]:
    """Give what reads a format."""
    if table_kind(file.path) is not None:
        return read_table
    if file.file_format == PARQUET:
        raise PermanentError(f"{file.path.name} is no Parquet file; leave --format away")
    if file.file_format in (JSONL, ADRESSA):
        return read_json_lines
    if file.file_format == MIND:
        return read_mind
    if file.file_format == OTTO and first_lines(file.path)[0].lstrip().startswith("{"):
        return read_otto
    return read_delimited


def _event_rule(file: ClickFile, reading: Reading) -> EventRule:
    layout, choices = reading.layout, file.choices
    known = layout.event_types if choices.event is None else {}
    listed = None if choices.events in (None, ALL_EVENTS) else listed_events(choices.events, known)
    if listed is not None and not reading.has_events and layout.always not in listed:
        raise PermanentError(
            f"{file.path.name}: expected event types for --events, found no column of them; name it with --event, or "
            "leave --events away"
        )
    no_clicks = layout.no_clicks if choices.event is None else frozenset()
    return EventRule(known=known, no_clicks=no_clicks, listed=listed, always=layout.always)


def _judged(parse: Parse, rules: Rules) -> Judged:
    return judge(parse(), rules)
