"""Which columns of a file hold what: from the names it has, its format's layout, and what the user chose."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nextclick.errors import PermanentError
from tools.click_files.choices import Choices
from tools.click_files.layouts import Layout, plain_name

_SHOWN_NAMES = 12

Places = tuple[int, ...]  # columns from 0 on; where there are several, the first that is not empty counts, row by row


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The places of what a click is made of; an empty one: the file has no such column."""

    user: Places
    item: Places
    time: Places
    offset_ms: Places
    event: Places
    conditions: tuple[Places, ...]  # of --where
    marks: tuple[Places, ...]  # of --test-where

    def described(self, names: Sequence[str]) -> str:
        """Say which columns are taken."""
        kinds = {"user": self.user, "item": self.item, "time": self.time, "event type": self.event}
        return ", ".join(
            f"{kind} from {' or '.join(names[place] for place in places)}" for kind, places in kinds.items() if places
        )

    def all(self) -> list[int]:
        """Give every place that is needed, each once, in order."""
        single = (self.user, self.item, self.time, self.offset_ms, self.event, *self.conditions, *self.marks)
        return sorted({place for places in single for place in places})


def find_columns(
    file_name: str, names: Sequence[str], layout: Layout, choices: Choices, mark: Mapping[str, str]
) -> Columns:
    """Find the columns.

    Args:
        file_name: for messages.
        names: of the file's columns, in order; numbers from 1 on where it has no header.
        layout: of the format.
        choices: of the user.
        mark: the columns and values of --test-where.

    Raises:
        PermanentError: a column is not there, or it cannot be told which is meant.
    """
    search = _Search(file_name, names)
    return Columns(
        user=search.chosen("user", choices.user) or search.usual("user", layout.user, layout.falls_back),
        item=search.chosen("item", choices.item) or search.usual("item", layout.item, layout.falls_back),
        time=_optional(search, "time", choices.time, layout.time, layout.time_is_optional),
        offset_ms=search.usual("time", layout.offset_ms) if layout.offset_ms and choices.time is None else (),
        event=_optional(search, "event", choices.event, layout.event, layout.event_is_optional),
        conditions=tuple(search.named(name, "correct --where") for name in choices.where),
        marks=tuple(search.named(name, "correct --test-where") for name in mark),
    )


def _optional(search: "_Search", what: str, chosen: str | None, usual: str, may_be_missing: bool) -> Places:
    if chosen == "" or (chosen is None and not usual):
        return ()
    if chosen is not None:
        return search.chosen(what, chosen)
    return search.usual(what, usual, may_be_missing=may_be_missing)


class _Search:
    def __init__(self, file_name: str, names: Sequence[str]) -> None:
        self._file_name = file_name
        self._names = [name.strip() for name in names]
        self._plain = [plain_name(name) for name in self._names]

    def chosen(self, what: str, names: str | None) -> Places:
        """Find what the user named, `first|second` for several; nothing for None."""
        if names is None:
            return ()
        if names in self._names:  # a name may hold the sign itself
            return self.named(names, "")
        found = tuple(self._one(name) for name in names.split("|"))
        there = tuple(place for place in found if place is not None)
        return there or self._missing([names], f"name it with --{what}")

    def usual(self, what: str, names: str, falls_back: bool = False, may_be_missing: bool = False) -> Places:
        """Find the column of a layout: the first of several that is there, or all with `falls_back`."""
        found = tuple(place for name in names.split("|") if (place := self._one(name)) is not None)
        if found or may_be_missing:
            return found if falls_back else found[:1]
        return self._missing(names.split("|"), f"name it with --{what}")

    def named(self, name: str, remedy: str) -> Places:
        """Find one column."""
        place = self._one(name)
        return (place,) if place is not None else self._missing([name], remedy)

    def _one(self, name: str) -> int | None:
        """Give a column's place: by its name as it stands, or else without case and underscores."""
        plain = plain_name(name)
        places = [place for place, each in enumerate(self._names) if each == name]
        places = places or [place for place, each in enumerate(self._plain) if each == plain and plain]
        if len(places) > 1:
            found = " and ".join(f"{self._names[place]!r} ({place + 1})" for place in places)
            raise PermanentError(
                f"{self._file_name}: expected one column {name!r}, found {found}; rename the one that is not meant"
            )
        return places[0] if places else None

    def _missing(self, names: list[str], remedy: str) -> Places:
        more = ", or another usual name" if len(names) > 2 else ""
        expected = " or ".join(repr(name) for name in names[:2]) + more
        found = ", ".join(list(filter(None, self._names))[:_SHOWN_NAMES])
        raise PermanentError(f"{self._file_name}: expected a column {expected}, found {found}; {remedy}")
