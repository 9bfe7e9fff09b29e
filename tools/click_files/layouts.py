"""Which formats there are: the columns of each, and what its first line and its files' names look like.

Sources: the README of the RecSys Challenge 2015 data (yoochoose), the description of the RetailRocket data set, the
header of the CIKM Cup 2016 item views (diginetica), the READMEs of MovieLens 100K, 1M and 32M, and the section "Data
Format" of the OTTO data set's README.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

_NUMERIC_CELL = r'"?-?[\d.]+"?'


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which columns of a format with one click a line hold what. Of several names the first that a file has counts."""

    first_line: re.Pattern[str]  # matches the start of it, and of no other format's
    separator: str = ","
    columns: tuple[str, ...] = ()  # of a file without a header; empty: its first line names them
    user: tuple[str, ...]
    item: tuple[str, ...]
    time: tuple[str, ...]  # empty: the file has an order but no times
    time_is_optional: bool = False  # a file without the column is then taken in its order
    offset_ms: tuple[str, ...] = ()  # to be added to the time
    event: tuple[str, ...] = ()  # empty: no event types
    event_is_optional: bool = False
    event_types: Mapping[str, str] = field(default_factory=dict)  # the file's word to ours; empty: taken as they are

    def with_columns(self, chosen: "ChosenColumns") -> "Layout":
        """Give the layout with the columns that the user chose instead."""
        layout = self
        if chosen.user:
            layout = replace(layout, user=(chosen.user,))
        if chosen.item:
            layout = replace(layout, item=(chosen.item,))
        if chosen.time is not None:
            layout = replace(layout, time=_one_or_none(chosen.time), time_is_optional=False, offset_ms=())
        if chosen.event is not None:
            layout = replace(layout, event=_one_or_none(chosen.event), event_is_optional=False)
        return layout


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenColumns:
    """The columns that a user names; None is the format's own, an empty time or event is none at all."""

    user: str | None = None
    item: str | None = None
    time: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickFile:
    """A file of clicks, and how it is to be read."""

    path: Path
    file_format: str  # one of FORMATS
    columns: ChosenColumns = field(default_factory=ChosenColumns)
    where: Mapping[str, str] = field(default_factory=dict)  # column to value; only rows with all of them are taken


def _one_or_none(name: str) -> tuple[str, ...]:
    return (name,) if name else ()


def _movielens(first_line: str, separator: str, columns: tuple[str, ...]) -> Layout:
    return Layout(
        first_line=re.compile(first_line),
        separator=separator,
        columns=columns,
        user=("userId", "user_id"),
        item=("movieId", "item_id"),
        time=("timestamp",),
    )


_RATING_COLUMNS = ("user_id", "item_id", "rating", "timestamp")

# The order is that of the guesses: a CSV file is what no other format claims.
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "yoochoose": (
        Layout(
            first_line=re.compile(r"\d+,\d{4}-\d\d-\d\dT[^,]*,\d+(,|$)"),
            columns=("session_id", "timestamp", "item_id", "category"),
            user=("session_id",),
            item=("item_id",),
            time=("timestamp",),
        ),
    ),
    "retailrocket": (
        Layout(
            first_line=re.compile(r"(?=.*\bvisitorid\b)(?=.*\bitemid\b)[^,;]+,"),
            user=("visitorid",),
            item=("itemid",),
            time=("timestamp",),
            event=("event",),
            event_types={"view": "view", "addtocart": "cart", "transaction": "purchase"},
        ),
    ),
    "diginetica": (
        Layout(
            first_line=re.compile(r"(?=.*\bsession(Id|_id)\b)(?=.*\btimeframe\b)[^,;]+;"),
            separator=";",
            user=("sessionId", "session_id"),
            item=("itemId", "item_id"),
            time=("eventdate",),
            offset_ms=("timeframe",),
        ),
    ),
    "movielens": (
        _movielens(r"(?=.*\buserId\b)(?=.*\bmovieId\b)[^;]+,", ",", ()),
        _movielens(r"\d+::\d+::[\d.]+::\d+\s*$", "::", _RATING_COLUMNS),
        _movielens(r"\d+\t\d+\t[\d.]+\t\d+\s*$", "\t", _RATING_COLUMNS),
    ),
    "csv": (
        Layout(
            first_line=re.compile(rf"(?!([^\r\n]*,)?{_NUMERIC_CELL}(,|\s*$))[^,;\t{{]+,"),
            user=("user_id", "session_id"),
            item=("item_id",),
            time=("timestamp",),
            time_is_optional=True,
            event=("event_type",),
            event_is_optional=True,
        ),
    ),
}

# One session a line, as JSON: no layout of columns.
OTTO = "otto"
OTTO_FIRST_LINE = re.compile(r"\s*\{")
OTTO_EVENT_TYPES = {"clicks": "view", "carts": "cart", "orders": "purchase"}

FORMATS = ("csv", "yoochoose", "retailrocket", "diginetica", "movielens", OTTO)

# As the files are called in the folders that users unpack; each may also end in .gz.
FILE_NAMES: Mapping[str, tuple[str, ...]] = {
    "yoochoose": ("yoochoose-clicks.dat",),
    "retailrocket": ("events.csv",),
    "diginetica": ("train-item-views.csv",),
    "movielens": ("ratings.csv", "ratings.dat", "u.data"),
    OTTO: ("otto-recsys-train.jsonl", "train.jsonl"),
}
