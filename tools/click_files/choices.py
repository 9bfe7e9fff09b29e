"""What a user says of a file of clicks, and the file with it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from nextclick.errors import PermanentError

AUTO = "auto"  # in place of a format: told from the file's beginning
ALL_EVENTS = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """What a user chose instead of what is usual for the format."""

    user: str | None = None  # a column's name, `first|second` for the first that is not empty; None: the format's own
    item: str | None = None
    time: str | None = None  # empty: there are no times, the order of the file holds
    event: str | None = None  # empty: there are no event types
    events: str | None = None  # as the setting `events`: `view,add_to_cart:cart`; None, ALL_EVENTS: all that are clicks
    where: Mapping[str, str] = field(default_factory=dict)  # column to value; only rows with all of them are taken
    separator: str | None = None  # None: told from the first lines
    has_header: bool = True  # if not, columns are numbers, from 1 on
    has_quotes: bool = True  # if not, a double quote is a letter like others
    skip_bad: bool = False  # go on past lines that cannot be read


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickFile:
    """A file of clicks, and how it is to be read."""

    path: Path
    file_format: str  # one of FORMATS
    choices: Choices = field(default_factory=Choices)


def refuse_chosen_columns(file: ClickFile, mark: Mapping[str, str], what: str) -> None:
    """Refuse columns or rows that are chosen in a file of a format without columns.

    Args:
        file: and what was chosen.
        mark: rows that are to be marked.
        what: begins the sentence: whose file it is, with "has" or "have".

    Raises:
        PermanentError: something was chosen.
    """
    choices = file.choices
    if mark or choices.where or any((choices.user, choices.item, choices.time, choices.event)):
        raise PermanentError(
            f"{file.path.name}: {what} no columns to choose or to test; leave --user, --item, --time, --event, --where "
            "and --test-where away"
        )
