"""Which formats there are: the columns of each, and what its first line and its files' names look like.

Sources: the README of the RecSys Challenge 2015 data (yoochoose), the descriptions of the RetailRocket, REES46 and
Taobao UserBehavior data sets, the header of the CIKM Cup 2016 item views (diginetica), the READMEs of MovieLens 100K,
1M and 32M, of Last.fm 1K and of MIND, SNAP's pages of Gowalla and Brightkite, Amazon's ratings of 2014, 2018 and 2023,
the data page of H&M's competition, RecBole's page on atomic files, session-rec's README, Adressa's description of its
events, and the section "Data Format" of the OTTO data set's README.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

USUAL_USER = "user_id|visitor_id|customer_id|member_id|user|visitor|customer|uid|session_id|session|anonymous_id"
USUAL_ITEM = (
    "item_id|product_id|article_id|sku|item|product|article|content_id|movie_id|news_id|artist_id|track_id|asin|iid"
)
USUAL_TIME = "timestamp|timestamp_ms|time|event_time|event_timestamp|ts|datetime|date|created_at|event_date"
USUAL_EVENT = "event_type|event|behavior|behavior_type|event_name|action|action_type"


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Which columns of a format with one click a row hold what.

    Names are compared without case, underscores and what stands behind a colon. Of `first|second` the first that the
    file has counts; with `falls_back`, in each row the first that is not empty.
    """

    header: frozenset[str] = frozenset()  # names that tell the format; empty: a file without a header
    absent: frozenset[str] = frozenset()  # names that tell that it is another's
    first_line: re.Pattern[str] | None = None  # of a file without a header: matches no other format's
    separator: str = ","  # of a file without a header
    columns: tuple[str, ...] = ()  # of a file without a header
    user: str
    falls_back: bool = False
    item: str
    time: str  # empty: the file has an order but no times
    time_is_optional: bool = False  # a file without the column is then taken in its order
    offset_ms: str = ""  # to be added to the time
    event: str = ""  # empty: no event types
    event_is_optional: bool = False
    event_types: Mapping[str, str] = field(default_factory=dict)  # the file's word to ours; empty: taken as they are
    no_clicks: frozenset[str] = frozenset()  # the file's words for events that are none
    always: str = "view"  # what a click is where there is no event type
    has_quotes: bool = True


def plain_name(name: str) -> str:
    """Give a column's name as names are compared: `userId`, `USER_ID` and `user_id:token` are the same."""
    return re.sub(r"[\s_-]", "", name.partition(":")[0]).lower()


def _names(*names: str) -> frozenset[str]:
    return frozenset(map(plain_name, names))


def _ratings(first_line: str, separator: str, columns: str) -> Layout:
    """Give the layout of a file of ratings without a header."""
    return Layout(
        first_line=re.compile(first_line),
        separator=separator,
        columns=tuple(columns.split()),
        user="user_id",
        item="item_id",
        time="timestamp",
    )


_EVENT_NAMES = _names(*USUAL_EVENT.split("|"))
_SHOP_EVENTS = {"view": "view", "addtocart": "cart", "transaction": "purchase"}
_REES46_EVENTS = {"view": "view", "cart": "cart", "purchase": "purchase"}
_TAOBAO_EVENTS = {"pv": "view", "cart": "cart", "fav": "like", "buy": "purchase"}
# JSON has the words, the Parquet files of its competition have the numbers.
OTTO_EVENTS = {"clicks": "view", "carts": "cart", "orders": "purchase", "0": "view", "1": "cart", "2": "purchase"}
_STARS = r"[0-5](\.\d)?"
_YOOCHOOSE = r"\d+,\d{4}-\d\d-\d\dT[^,]*,\d+"

# The order is that of the guesses: a CSV file is what no other format claims.
LAYOUTS: Mapping[str, tuple[Layout, ...]] = {
    "yoochoose": (
        Layout(
            first_line=re.compile(_YOOCHOOSE + r",[^,]*$"),
            columns=("session_id", "timestamp", "item_id", "category"),
            user="session_id",
            item="item_id",
            time="timestamp",
        ),
        Layout(
            first_line=re.compile(_YOOCHOOSE + r",\d+,\d+$"),
            columns=("session_id", "timestamp", "item_id", "price", "quantity"),
            user="session_id",
            item="item_id",
            time="timestamp",
            always="purchase",
        ),
    ),
    "retailrocket": (
        Layout(
            header=_names("visitorid", "itemid", "timestamp", "event"),
            user="visitorid",
            item="itemid",
            time="timestamp",
            event="event",
            event_types=_SHOP_EVENTS,
        ),
    ),
    "diginetica": (
        Layout(
            header=_names("session_id", "item_id", "timeframe", "eventdate"),
            user="session_id",
            item="item_id",
            time="eventdate",
            offset_ms="timeframe",
        ),
    ),
    "movielens": (
        Layout(header=_names("userId", "movieId", "timestamp"), user="userId", item="movieId", time="timestamp"),
        _ratings(rf"\d+::\d+::{_STARS}::\d{{9,10}}$", "::", "user_id item_id rating timestamp"),
        _ratings(rf"\d+\t\d+\t{_STARS}\t\d{{9,10}}$", "\t", "user_id item_id rating timestamp"),
    ),
    "rees46": (
        Layout(
            header=_names("event_time", "event_type", "product_id", "user_id"),
            user="user_session|user_id",
            falls_back=True,
            item="product_id",
            time="event_time",
            event="event_type",
            event_types=_REES46_EVENTS,
            no_clicks=frozenset({"remove_from_cart"}),
        ),
    ),
    "taobao": (
        Layout(
            first_line=re.compile(r"\d+,\d+,\d+,(pv|cart|fav|buy),\d+$"),
            columns=("user_id", "item_id", "category_id", "behavior", "timestamp"),
            user="user_id",
            item="item_id",
            time="timestamp",
            event="behavior",
            event_types=_TAOBAO_EVENTS,
        ),
    ),
    "recbole": (
        Layout(  # told by the types behind its names, see `layout_of_names`
            header=_names("timestamp"),
            user="user_id|session_id",
            item="item_id",
            time="timestamp",
            time_is_optional=True,
            event=USUAL_EVENT,
            event_is_optional=True,
        ),
    ),
    "session-rec": (
        Layout(
            header=_names("SessionId", "ItemId", "Time"),
            absent=_names(*USUAL_USER.split("|")) - _names("SessionId", "session"),
            user="SessionId",
            item="ItemId",
            time="Time",
        ),
    ),
    "amazon": (
        Layout(
            header=_names("user_id", "parent_asin", "timestamp"), user="user_id", item="parent_asin", time="timestamp"
        ),
        _ratings(r"A[A-Z0-9]{9,},[A-Z0-9]{10},\d\.\d,\d+$", ",", "user_id item_id rating timestamp"),
        _ratings(r"[A-Z0-9]{10},A[A-Z0-9]{9,},\d\.\d,\d+$", ",", "item_id user_id rating timestamp"),
    ),
    "hm": (
        Layout(
            header=_names("t_dat", "customer_id", "article_id"),
            user="customer_id",
            item="article_id",
            time="t_dat",
            always="purchase",
        ),
    ),
    "lastfm": (
        Layout(
            first_line=re.compile(r"user_\d+\t\d{4}-\d\d-\d\dT[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*\t[^\t]*$"),
            separator="\t",
            columns=("user_id", "timestamp", "artist_id", "artist", "track_id", "track"),
            user="user_id",
            falls_back=True,
            item="track_id|track",
            time="timestamp",
            always="play",
            has_quotes=False,
        ),
    ),
    "gowalla": (
        Layout(
            first_line=re.compile(r"\d+\t\d{4}-\d\d-\d\dT[^\t]*\t-?[\d.]+\t-?[\d.]+\t\w+$"),
            separator="\t",
            columns=("user_id", "timestamp", "latitude", "longitude", "item_id"),
            user="user_id",
            item="item_id",
            time="timestamp",
            has_quotes=False,
        ),
    ),
    "otto": (
        Layout(
            header=_names("session", "aid", "ts", "type"),
            user="session",
            item="aid",
            time="ts",
            event="type",
            event_types=OTTO_EVENTS,
        ),
    ),
    "csv": (
        Layout(
            user=USUAL_USER,
            item=USUAL_ITEM,
            time=USUAL_TIME,
            time_is_optional=True,
            event=USUAL_EVENT,
            event_is_optional=True,
        ),
    ),
}
CSV = "csv"
OTTO = "otto"
JSONL = "jsonl"
PARQUET = "parquet"
MIND = "mind"
ADRESSA = "adressa"
MIND_FIRST_LINE = re.compile(r"\d+\t\w+\t\d+/\d+/\d{4} [^\t]*\t[^\t]*\t")

FORMATS = (CSV, JSONL, PARQUET, *(name for name in LAYOUTS if name != CSV), MIND, ADRESSA)

# As the files are called in the folders that users unpack; each may be packed, too.
FILE_NAMES: Mapping[str, tuple[str, ...]] = {
    "yoochoose": ("yoochoose-clicks.dat",),
    "retailrocket": ("events.csv",),
    "diginetica": ("train-item-views.csv",),
    "movielens": ("ratings.csv", "ratings.dat", "u.data"),
    "taobao": ("UserBehavior.csv",),
    "hm": ("transactions_train.csv",),
    "lastfm": ("userid-timestamp-artid-artname-traid-traname.tsv",),
    "gowalla": ("loc-gowalla_totalCheckins.txt", "Gowalla_totalCheckins.txt"),
    MIND: ("behaviors.tsv",),
    OTTO: ("otto-recsys-train.jsonl", "train.jsonl", "train.parquet"),
}


def layout_of_names(names: Sequence[str]) -> str:
    """Tell the format of a file with a header, or of a table, from its columns; CSV if it is no other's."""
    if sum(bool(re.search(r":(token|float)(_seq)?$", name.strip())) for name in names) >= 2:
        return "recbole"
    plain = frozenset(map(plain_name, names))
    for file_format, layouts in LAYOUTS.items():
        if file_format != "recbole" and any(_is_like(layout, plain) for layout in layouts):
            return file_format
    return CSV


def _is_like(layout: Layout, names: frozenset[str]) -> bool:
    """Say whether a header is the format's: a shop's own file may have its names, and event types that it ignores."""
    ignored = frozenset() if layout.event else _EVENT_NAMES
    return bool(layout.header) and layout.header <= names and not names & (ignored | layout.absent)


def layout_of_line(line: str) -> tuple[str, Layout] | None:
    """Tell the format of a file without a header from its first line; None if it is none's."""
    for file_format, layouts in LAYOUTS.items():
        for layout in layouts:
            if layout.first_line is not None and layout.first_line.match(line):
                return file_format, layout
    return None
