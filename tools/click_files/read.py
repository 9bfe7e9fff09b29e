"""Reads all clicks of a file, whatever its format."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import click

from nextclick.errors import PermanentError
from tools.click_files.account import Account
from tools.click_files.choices import ALL_EVENTS, ClickFile
from tools.click_files.collect import Collected
from tools.click_files.delimited import read_delimited
from tools.click_files.heads import first_lines
from tools.click_files.json_lines import read_json_lines, read_otto
from tools.click_files.judge import EventRule, Judged, Rules, judge, listed_events
from tools.click_files.layouts import ADRESSA, JSONL, MIND, OTTO, PARQUET
from tools.click_files.mind import read_mind
from tools.click_files.recorded import RecordedClicks
from tools.click_files.rows import Parse, Reading
from tools.click_files.sources import table_kind
from tools.click_files.tables import read_table

_MAX_THREADS = 4  # the blocks are put together by one thread, which is the limit before this

Say = Callable[[str], None]


def _say(line: str) -> None:
    click.echo(line, err=True)


def read_clicks(file: ClickFile, mark: Mapping[str, str] | None = None, say: Say = _say) -> RecordedClicks:
    """Read all clicks of a file and sort them by time; the sort is stable.

    Args:
        file: what to read.
        mark: column to value; rows that have all of these values are marked, the others are not.
        say: told in a sentence which columns are taken, and what is left out; by default standard error.

    Raises:
        PermanentError: a missing column, a line that cannot be read, a damaged file, or no click that is taken.
    """
    choices, mark = file.choices, mark or {}
    reading = _reader(file)(file, mark)
    say(f"{file.path.name}: {file.file_format}, {reading.found}")
    if not reading.found.count("time from") and choices.time != "":
        say(f"{file.path.name}: no column of times is known, so the order of the file is taken; name one with --time")
    rules = Rules(
        where=tuple(choices.where.values()),
        marks=tuple(mark.values()),
        events=_event_rule(file, reading),
        now_ms=int(time.time() * 1000),
    )
    collected, account = Collected(file.path.name), Account(file.path.name, reading.place, choices.skip_bad)
    for judged in _judged(reading.parses, rules):
        account.add(judged)
        collected.add(judged)
    account.check()
    if not collected.n_clicks:
        raise account.nothing()
    for line in account.lines():
        say(line)
    if rules.events.listed is not None and (missing := set(rules.events.listed.values()) - collected.event_types()):
        say(f"{file.path.name}: no click has the event type {' or '.join(map(repr, sorted(missing)))} of --events")
    return collected.finish(reading.layout.always)


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


def _parsed_and_judged(parse: Parse, rules: Rules) -> Judged:
    return judge(parse(), rules)


def _judged(parses: Iterator[Parse], rules: Rules) -> Iterator[Judged]:
    """Parse and judge some blocks at once, and give them in the order of the file."""
    n_threads = max(1, min(os.cpu_count() or 1, _MAX_THREADS))
    waiting: deque[Future[Judged]] = deque()
    with ThreadPoolExecutor(n_threads) as threads:
        for parse in parses:
            waiting.append(threads.submit(_parsed_and_judged, parse, rules))
            if len(waiting) > n_threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
