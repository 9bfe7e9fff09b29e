"""Published data sets: each format is told by its first line and read as its description says.

The samples are written by hand from the descriptions.
"""

import gzip
import json
from pathlib import Path

import pytest
from click import Choice

from demo.cli import replay
from nextclick.clicks import EVENT_TYPES
from nextclick.errors import PermanentError
from tools.click_files.layouts import FORMATS, ChosenColumns, ClickFile
from tools.click_files.read import read_clicks
from tools.click_files.recognise import AUTO, recognise
from tools.click_files.recorded import RecordedClicks

MIDNIGHT_MS = 1_463_356_800_000  # 2016-05-16, UTC

RETAILROCKET = (
    "timestamp,visitorid,event,itemid,transactionid\n"
    "1433221332117,257597,view,355908,\n"
    "1433221332000,992329,addtocart,248676,\n"
    "1433221999827,111016,transaction,318965,7\n"
)
DIGINETICA = (
    "sessionId;userId;itemId;timeframe;eventdate\n"
    "1;NA;81766;526309;2016-05-16\n"
    "1;NA;31331;1031018;2016-05-16\n"
    "2;77;32118;5;2016-05-15\n"
)
RATINGS_CSV = "userId,movieId,rating,timestamp\n1,17,4.0,944249077\n1,25,1.5,944250228\n2,17,5.0,943228858\n"
RATINGS_DAT = "1::17::4::944249077\n1::25::1.5::944250228\n2::17::5::943228858\n"
U_DATA = RATINGS_DAT.replace("::", "\t")
YOOCHOOSE = "1,2014-04-07T10:51:09.277Z,214536502,0\n1,2014-04-07T10:54:09.868Z,214536500,S\n"
OTTO = "".join(
    json.dumps(session) + "\n"
    for session in (
        {
            "session": 42,
            "events": [
                {"aid": 0, "ts": 1661200010000, "type": "clicks"},
                {"aid": 7, "ts": 1661200060000, "type": "carts"},
            ],
        },
        {"session": 12, "events": [{"aid": 7, "ts": 1661200020000, "type": "orders"}]},
    )
)
CSV = "user_id,item_id\nu,a\n"
RATED = [
    ("2", "17", 943_228_858_000, "view"),
    ("1", "17", 944_249_077_000, "view"),
    ("1", "25", 944_250_228_000, "view"),
]


def test_retailrocket_has_event_types(tmp_path: Path) -> None:
    """Its words become ours; a visitor is a user, and the time is in ms."""
    assert _read(tmp_path, RETAILROCKET, "retailrocket") == [
        ("992329", "248676", 1_433_221_332_000, "cart"),
        ("257597", "355908", 1_433_221_332_117, "view"),
        ("111016", "318965", 1_433_221_999_827, "purchase"),
    ]


@pytest.mark.parametrize("header", ["sessionId;userId;itemId;", "session_id;user_id;item_id;"])
def test_diginetica_counts_its_time_from_the_day(tmp_path: Path, header: str) -> None:
    """A click's time is its day and the ms since the session began; the users, mostly NA, are not needed."""
    content = DIGINETICA.replace("sessionId;userId;itemId;", header)

    assert _read(tmp_path, content, "diginetica") == [
        ("2", "32118", MIDNIGHT_MS - 24 * 3_600_000 + 5, "view"),
        ("1", "81766", MIDNIGHT_MS + 526_309, "view"),
        ("1", "31331", MIDNIGHT_MS + 1_031_018, "view"),
    ]


def test_a_named_time_is_the_whole_time(tmp_path: Path) -> None:
    """Diginetica's ms since the session began belong to its own column of days only."""
    path = _file(tmp_path, "session_id;item_id;timeframe;eventdate;when\n1;7;500;2016-05-16;1463356800\n")

    clicks = read_clicks(recognise(path, AUTO, ChosenColumns(time="when"), {}))

    assert list(clicks.between(0, 1)) == [("1", "7", MIDNIGHT_MS, "view")]


@pytest.mark.parametrize("content", [RATINGS_CSV, RATINGS_DAT, U_DATA])
def test_movielens_has_three_forms(tmp_path: Path, content: str) -> None:
    """The CSV of the large sets, the double colons of 1M and 10M, the tabs of 100K."""
    assert _read(tmp_path, content, "movielens") == RATED


def test_otto_has_a_session_a_line(tmp_path: Path) -> None:
    """Its sessions are users; an empty line is none; a session that comes again goes on."""
    again = '{"session": 42, "events": [{"aid": 3, "ts": 1661200070000, "type": "clicks"}]}\n'

    assert _read(tmp_path, OTTO + "\n" + again, "otto") == [
        ("42", "0", 1_661_200_010_000, "view"),
        ("12", "7", 1_661_200_020_000, "purchase"),
        ("42", "7", 1_661_200_060_000, "cart"),
        ("42", "3", 1_661_200_070_000, "view"),
    ]


@pytest.mark.parametrize("content", [RETAILROCKET, OTTO])
def test_event_types_are_those_of_the_stream(tmp_path: Path, content: str) -> None:
    """A replayed click has an event type that the model knows."""
    _, clicks = _recognised(tmp_path, content)

    assert set(clicks.event_types) <= set(EVENT_TYPES)


@pytest.mark.parametrize(
    ("content", "file_format"),
    [
        (RETAILROCKET, "retailrocket"),
        (DIGINETICA, "diginetica"),
        (RATINGS_CSV, "movielens"),
        (RATINGS_DAT, "movielens"),
        (U_DATA, "movielens"),
        (YOOCHOOSE, "yoochoose"),
        ("\n" + OTTO, "otto"),
        (CSV, "csv"),
        ("\ufeff" + CSV, "csv"),
        ('"user_id","item_id","timestamp"\nu,a,1\n', "csv"),
        ("who,what,2nd\nu,a,1\n", "csv"),
    ],
)
def test_the_first_line_tells_the_format(tmp_path: Path, content: str, file_format: str) -> None:
    """Also where the file is gzipped and whatever it is called."""
    plain, packed = tmp_path / "plain", tmp_path / "packed"
    plain.write_text(content, encoding="utf-8")
    packed.write_bytes(gzip.compress(content.encode()))

    assert _recognise(plain).file_format == _recognise(packed).file_format == file_format
    assert file_format in FORMATS


def test_the_format_that_is_named_wins(tmp_path: Path) -> None:
    """A file that looks like another is read as it was asked."""
    path = _file(tmp_path, RATINGS_CSV)
    columns = ChosenColumns(user="userId", item="rating", time="")

    clicks = read_clicks(recognise(path, "csv", columns, {}))

    assert [row[:3] for row in clicks.between(0, 9)] == [("1", "4.0", None), ("1", "1.5", None), ("2", "5.0", None)]


@pytest.mark.parametrize(
    ("content", "found"),
    [("1,2,3\n", "'1,2,3'"), ("user;item\nu;a\n", "'user;item'"), ("one\n", "'one'"), ("a,5\n", "'a,5'")],
)
def test_a_format_that_cannot_be_told_must_be_named(tmp_path: Path, content: str, found: str) -> None:
    """Nothing is guessed from numbers alone."""
    path = _file(tmp_path, content)

    with pytest.raises(PermanentError, match=rf"line 1: expected .* found {found}; name the format with --format"):
        _recognise(path)


def test_an_empty_file_has_no_format(tmp_path: Path) -> None:
    """It is not taken for any."""
    with pytest.raises(PermanentError, match="is empty; correct the path"):
        _recognise(_file(tmp_path, "\n"))


@pytest.mark.parametrize(
    ("name", "content", "file_format"),
    [
        ("events.csv", RETAILROCKET, "retailrocket"),
        ("train-item-views.csv", DIGINETICA, "diginetica"),
        ("ratings.csv", RATINGS_CSV, "movielens"),
        ("ratings.dat", RATINGS_DAT, "movielens"),
        ("u.data", U_DATA, "movielens"),
        ("yoochoose-clicks.dat", YOOCHOOSE, "yoochoose"),
        ("otto-recsys-train.jsonl", OTTO, "otto"),
        ("train.jsonl", OTTO, "otto"),
    ],
)
@pytest.mark.parametrize("how", [AUTO, "named"])
def test_a_folder_gives_the_file_of_its_data_set(
    tmp_path: Path, name: str, content: str, file_format: str, how: str
) -> None:
    """As it lies after unpacking, among the others."""
    (tmp_path / "README.txt").write_text("user_id,item_id\n")
    (tmp_path / (name + ".gz")).write_bytes(gzip.compress(content.encode()))

    file = recognise(tmp_path, AUTO if how == AUTO else file_format, ChosenColumns(), {})

    assert (file.path.name, file.file_format) == (name + ".gz", file_format)


@pytest.mark.parametrize(
    ("names", "file_format", "message"),
    [
        ((), AUTO, "expected one of yoochoose-clicks.dat, .*, found none in this folder; give the path of the file"),
        (("u.data",), "otto", "expected one of otto-recsys-train.jsonl, train.jsonl, found none"),
        (("clicks.csv",), "csv", "expected a file, found none"),
        (("ratings.csv", "u.data"), AUTO, "expected one file of clicks, found ratings.csv, u.data; give the path"),
    ],
)
def test_a_folder_without_one_such_file_is_refused(
    tmp_path: Path, names: tuple[str, ...], file_format: str, message: str
) -> None:
    """Which file is meant is never guessed."""
    for name in names:
        (tmp_path / name).write_text(RATINGS_CSV)

    with pytest.raises(PermanentError, match=message):
        recognise(tmp_path, file_format, ChosenColumns(), {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RETAILROCKET + "1433221332117,1,wish,2,\n", "line 5: expected one of the events view, addtocart, .* 'wish'"),
        (RETAILROCKET + "1433221332117,1\n", "line 5: expected at least 4 values, found 2"),
        (DIGINETICA + "3;NA;5;x;2016-05-15\n", "line 5: expected milliseconds as a whole number, found 'x'"),
        (DIGINETICA + "3;NA;5;7;15.5.2016\n", r"line 5: expected a time, .*, found '15\.5\.2016'"),
        (DIGINETICA.replace("timeframe", "frame", 1).replace("1;NA", "timeframe;NA"), "expected a column 'timeframe'"),
        (RATINGS_DAT + "2::17\n", "line 4: expected at least 4 values, found 2"),
        (U_DATA + "2\t\t5\t943228858\n", "line 4: expected a user and an item"),
        (OTTO + '{"session": 1}\n', "line 3: expected a session of OTTO's JSON"),
        (OTTO + '{"session": 1, "events": [{"aid": 1, "ts": 16612000', "line 3: expected a session of OTTO's JSON"),
        (OTTO.replace("orders", "likes"), "line 2: expected one of the types clicks, carts, orders, found 'likes'"),
        (OTTO.replace("1661200020000", "1661200020"), "line 2: expected `ts` in milliseconds .*, found 1661200020"),
        ('{"session": 1, "events": []}\n', "has no clicks"),
    ],
)
def test_a_line_that_is_not_as_described_is_named(tmp_path: Path, content: str, message: str) -> None:
    """With its number, in one line."""
    path = _file(tmp_path, content)
    first = content[: content.index("\n")]
    file_format = "diginetica" if ";" in first else _recognise(path).file_format

    with pytest.raises(PermanentError, match=message) as refused:
        read_clicks(ClickFile(path=path, file_format=file_format))
    assert "\n" not in str(refused.value)


def test_otto_takes_neither_columns_nor_conditions(tmp_path: Path) -> None:
    """Rather than leaving them out in silence."""
    path = _file(tmp_path, OTTO)

    for file, mark in (
        (ClickFile(path=path, file_format="otto", where={"type": "clicks"}), None),
        (ClickFile(path=path, file_format="otto", columns=ChosenColumns(user="session")), None),
        (ClickFile(path=path, file_format="otto"), {"type": "clicks"}),
    ):
        with pytest.raises(PermanentError, match=r"OTTO's JSON has no columns to .*; leave --.* away"):
            read_clicks(file, mark)


def test_replay_offers_every_format() -> None:
    """And tells them apart by itself unless one is named."""
    (option,) = [parameter for parameter in replay.params if parameter.name == "file_format"]

    assert isinstance(option.type, Choice)
    assert list(option.type.choices) == [AUTO, *FORMATS]
    assert option.default == AUTO


def _file(folder: Path, content: str) -> Path:
    path = folder / "clicks"
    path.write_text(content, encoding="utf-8", newline="")
    return path


def _recognise(path: Path) -> ClickFile:
    return recognise(path, AUTO, ChosenColumns(), {})


def _recognised(folder: Path, content: str) -> tuple[ClickFile, RecordedClicks]:
    file = _recognise(_file(folder, content))
    return file, read_clicks(file)


def _read(folder: Path, content: str, file_format: str) -> list[tuple[str, str, int | None, str]]:
    file, clicks = _recognised(folder, content)
    assert file.file_format == file_format
    return list(clicks.between(0, len(clicks)))
