"""What doctor says: a list of findings, each with how bad it is, what is, and what to do."""

import re
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

_SENTENCE = re.compile(r"\. (?=[A-Z])")


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


# The exit status of the command, by its worst finding. 2 stays that of a command line that cannot be read.
STATUS = {Level.OK: 0, Level.NOTE: 0, Level.ERROR: 1, Level.WARNING: 3}


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        level: an error keeps a program from starting, or clicks from being answered; a warning loses some of them,
            or will; a note is good to know.
        about: the part of the world.
        found: what is, in one sentence.
        advice: what to do; empty where nothing is to be done.
    """

    level: Level
    about: str
    found: str
    advice: str = ""


def refusal(about: str, line: str, level: Level = Level.ERROR) -> Finding:
    """Give the finding for a line of a program's, which says what is and then what to do."""
    parts = _SENTENCE.split(line, maxsplit=1)
    if len(parts) == 1:
        found, _, advice = line.rpartition("; ")
        parts = [found, advice] if found else [line]
    return Finding(level, about, parts[0], parts[1] if len(parts) > 1 else "")


def worst(findings: Iterable[Finding]) -> Level:
    """Give the worst level of some findings; ok if there are none."""
    levels = [finding.level for finding in findings]
    return next((level for level in (Level.ERROR, Level.WARNING, Level.NOTE) if level in levels), Level.OK)


def plural(number: int, what: str) -> str:
    """Give a number with what it counts: `1 record`, `2 records`."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
