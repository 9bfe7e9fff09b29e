"""Published data sets: each format is told by its first line and read as its description says.

The samples are written by hand from the descriptions.
"""

import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from click import Choice

from demo.cli import replay
from nextclick.clicks import EVENT_TYPES
from nextclick.errors import PermanentError
from tools.click_files.choices import AUTO, Choices, ClickFile
from tools.click_files.layouts import FORMATS
from tools.click_files.read import read_clicks
from tools.click_files.recognise import recognise
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
PURCHASES = "420374,2014-04-06T18:44:58.314Z,214537888,12462,1\n420374,2014-04-06T18:44:58.325Z,214537850,10471,2\n"
REES46 = (
    "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
    "2019-10-01 00:00:01 UTC,cart,5,2053,,aqua,33.20,541,\n"
    "2019-10-01 00:00:00 UTC,view,44,2103,furniture,shiseido,35.79,541,72d7\n"
    "2019-10-01 00:00:02 UTC,remove_from_cart,5,2053,,aqua,33.20,541,72d7\n"
    "2019-10-01 00:00:03 UTC,purchase,5,2053,,aqua,33.20,541,72d7\n"
)
TAOBAO = "1,2268318,2520377,pv,1511544070\n1,2333346,2520771,fav,1511561733\n1,2576651,149192,buy,1511572885\n"
RECBOLE = (
    'user_id:token\titem_id:token\trating:float\ttimestamp:float\n196\t"242"\t3\t881250949\n186\t302\t3\t891717742\n'
)
SESSION_REC = "SessionId\tTime\tItemId\n1\t1462752000.5\t7\n1\t1462752060.25\t8\n"
AMAZON_2014 = "A2SUAM1J3GNN3B,0000013714,5.0,1378425600\nAMMNGUJK4HQJ5,0000013715,4.0,1378425601\n"
AMAZON_2018 = "0000013714,A2SUAM1J3GNN3B,5.0,1378425600\nB00AMMNGUJ,AMMNGUJK4HQJ5,4.0,1378425601\n"
AMAZON_2023 = "user_id,parent_asin,rating,timestamp\nAGKH,B07,5.0,1378425600000\nAHUT,B08,4.0,1378425601000\n"
HM = (
    "t_dat,customer_id,article_id,price,sales_channel_id\n"
    "2018-09-20,000058a1,0663713001,0.0508,2\n2018-09-21,000058a1,0541518023,0.0304,2\n"
)
MIND = (
    "1\tU13740\t11/11/2019 9:05:58 AM\tN55189 N42782\tN55689-1 N35729-0\n"
    "2\tU91836\t11/12/2019 6:11:30 PM\t\tN20678-0 N39317-1 N58114-1\n"
)
LASTFM = (
    'user_000001\t2009-05-04T23:08:57Z\tf1b1\tDeep Dish\t\tFuck "Me\n'
    "user_000001\t2009-05-04T13:54:10Z\ta7f7\tUnderworld\t4c2c\tBoy\n"
)
GOWALLA = (
    "0\t2010-10-19T23:55:27Z\t30.2359091167\t-97.7951395833\t22847\n0\t2010-10-18T22:17:43Z\t30.26\t-97.7\t420315\n"
)
ADRESSA = "".join(
    json.dumps({"eventId": 1, "sessionStart": True, "time": 1483225201, "userId": user} | more) + "\n"
    for user, more in (("cx:1", {"id": "a1"}), ("cx:1", {}), ("cx:2", {"id": "b2"}))
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

    clicks = read_clicks(recognise(path, AUTO, Choices(time="when")))

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


S = 1000
DATA_SETS = {
    "purchases": (
        "yoochoose",
        PURCHASES,
        [
            ("420374", "214537888", 1_396_809_898_314, "purchase"),
            ("420374", "214537850", 1_396_809_898_325, "purchase"),
        ],
    ),
    "rees46": (
        "rees46",
        REES46,
        [
            ("72d7", "44", 1_569_888_000_000, "view"),
            ("541", "5", 1_569_888_001_000, "cart"),
            ("72d7", "5", 1_569_888_003_000, "purchase"),
        ],
    ),
    "taobao": (
        "taobao",
        TAOBAO,
        [
            ("1", "2268318", 1_511_544_070_000, "view"),
            ("1", "2333346", 1_511_561_733_000, "like"),
            ("1", "2576651", 1_511_572_885_000, "purchase"),
        ],
    ),
    "recbole": (
        "recbole",
        RECBOLE,
        [("196", "242", 881_250_949_000, "view"), ("186", "302", 891_717_742_000, "view")],
    ),
    "session-rec": (
        "session-rec",
        SESSION_REC,
        [("1", "7", 1_462_752_000_500, "view"), ("1", "8", 1_462_752_060_250, "view")],
    ),
    "amazon of 2014": (
        "amazon",
        AMAZON_2014,
        [
            ("A2SUAM1J3GNN3B", "0000013714", 1_378_425_600_000, "view"),
            ("AMMNGUJK4HQJ5", "0000013715", 1_378_425_601_000, "view"),
        ],
    ),
    "amazon of 2018": (
        "amazon",
        AMAZON_2018,
        [
            ("A2SUAM1J3GNN3B", "0000013714", 1_378_425_600_000, "view"),
            ("AMMNGUJK4HQJ5", "B00AMMNGUJ", 1_378_425_601_000, "view"),
        ],
    ),
    "amazon of 2023": (
        "amazon",
        AMAZON_2023,
        [("AGKH", "B07", 1_378_425_600_000, "view"), ("AHUT", "B08", 1_378_425_601_000, "view")],
    ),
    "hm": (
        "hm",
        HM,
        [
            ("000058a1", "0663713001", 1_537_401_600_000, "purchase"),
            ("000058a1", "0541518023", 1_537_488_000_000, "purchase"),
        ],
    ),
    "mind": (
        "mind",
        MIND,
        [
            ("U13740", "N55689", 1_573_463_158_000, "view"),
            ("U91836", "N39317", 1_573_582_290_000, "view"),
            ("U91836", "N58114", 1_573_582_290_000, "view"),
        ],
    ),
    "lastfm": (
        "lastfm",
        LASTFM,
        [
            ("user_000001", "4c2c", 1_241_445_250_000, "play"),
            ("user_000001", 'Fuck "Me', 1_241_478_537_000, "play"),
        ],
    ),
    "gowalla": (
        "gowalla",
        GOWALLA,
        [("0", "420315", 1_287_440_263_000, "view"), ("0", "22847", 1_287_532_527_000, "view")],
    ),
    "adressa": (
        "adressa",
        ADRESSA,
        [("cx:1", "a1", 1_483_225_201_000, "view"), ("cx:2", "b2", 1_483_225_201_000, "view")],
    ),
}


@pytest.mark.parametrize("name", DATA_SETS)
def test_a_published_data_set_is_told_and_read(tmp_path: Path, name: str) -> None:
    """By its beginning alone; what it calls an event has our name, what is no click is left out."""
    file_format, content, clicks = DATA_SETS[name]

    assert _read(tmp_path, content, file_format) == clicks
    assert {kind for *_, kind in clicks} <= set(EVENT_TYPES)


def test_what_a_data_set_has_beside_clicks_is_counted(tmp_path: Path) -> None:
    """News that were shown, pages that are no articles, things that were taken out of a cart."""
    said = []
    for content in (MIND, ADRESSA, REES46):
        read_clicks(recognise(_file(tmp_path, content), AUTO, Choices()), say=said.append)

    left = [line.partition(": ")[2] for line in said if "left out" in line]
    assert left == [
        "left out 2 events for no click by the format",
        "left out 1 event for no click by the format",
        "left out 1 line for the event type 'remove_from_cart'",
    ]


def test_what_is_left_out_of_a_line_with_several_clicks_is_no_line(tmp_path: Path) -> None:
    """A session of OTTO, and an array of JSON: what is counted is in them."""
    event = '{"aid": 2, "ts": 1661200010000, "type": "carts"}'
    otto = '{"session": 1, "events": [' + f"{event}, {event}]}}"
    array = '[{"user_id": "u", "item_id": "a"}, {"user_id": "u", "item_id": "b", "event": "cart"}]'
    click = '{"session": 3, "events": [{"aid": 2, "ts": 1661200010000, "type": "clicks"}]}'
    said: list[str] = []
    for content in (f"{otto}\n{click}\n", f"{array}\n"):
        read_clicks(recognise(_file(tmp_path, content), AUTO, Choices(events="view")), say=said.append)

    assert [line.partition(": ")[2] for line in said if "left out" in line] == [
        "left out 2 events for the event type 'carts'",
        "left out 1 event for the event type 'cart'",
    ]


@pytest.mark.parametrize("name", ["otto", AUTO])
def test_otto_is_read_from_its_parquet_files_too(tmp_path: Path, name: str) -> None:
    """Its competition's: seconds, and numbers for event types."""
    path = tmp_path / "train.parquet"
    columns = {"session": [42, 42, 12], "aid": [0, 7, 7], "ts": [1661200010, 1661200060, 1661200020], "type": [0, 1, 2]}
    parquet.write_table(pa.table(columns), path)

    file = recognise(tmp_path, name, Choices())
    clicks = read_clicks(file)

    assert file.file_format == "otto"
    assert list(clicks.between(0, 9)) == [
        ("42", "0", 1_661_200_010_000, "view"),
        ("12", "7", 1_661_200_020_000, "purchase"),
        ("42", "7", 1_661_200_060_000, "cart"),
    ]


@pytest.mark.parametrize(
    ("events", "types"),
    [
        ("view,cart", ["cart", "view"]),
        ("addtocart", ["cart"]),
        ("transaction:like,view", ["view", "like"]),
        (None, ["cart", "view", "purchase"]),
        ("all", ["cart", "view", "purchase"]),
    ],
)
def test_events_are_listed_by_the_words_of_the_file_or_by_ours(
    tmp_path: Path, events: str | None, types: list[str]
) -> None:
    """And those that are not listed are no clicks, whatever they are."""
    path = _file(tmp_path, RETAILROCKET + ("1433221332117,1,wish,2,\n" if events not in (None, "all") else ""))

    clicks = read_clicks(recognise(path, AUTO, Choices(events=events)))

    assert [kind for *_, kind in clicks.between(0, 9)] == types


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
        ('{"user_id": "u", "item_id": "a"}\n', "jsonl"),
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
    choices = Choices(user="userId", item="rating", time="")

    clicks = read_clicks(recognise(path, "csv", choices))

    assert [row[:3] for row in clicks.between(0, 9)] == [("1", "4", None), ("1", "1.5", None), ("2", "5", None)]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("1,2,3\n", "'1,2,3'"),
        ("one\n", "'one'"),
        ("a,5\n", "'a,5'"),
        ("ann,lamp,2025-11-24\n", "'ann,lamp,2025-11-24'"),
    ],
)
def test_a_format_that_cannot_be_told_must_be_named(tmp_path: Path, content: str, found: str) -> None:
    """Nothing is guessed from numbers alone, and the first click is never taken for a header."""
    path = _file(tmp_path, content)

    for file_format, choices in ((AUTO, Choices()), ("csv", Choices()), ("csv", Choices(user="1", item="2"))):
        with pytest.raises(PermanentError, match=rf"line 1: expected names of columns.* found .*{found}.*; give"):
            read_clicks(recognise(path, file_format, choices))


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

    file = recognise(tmp_path, AUTO if how == AUTO else file_format, Choices())

    assert (file.path.name, file.file_format) == (name + ".gz", file_format)


@pytest.mark.parametrize(
    ("names", "file_format", "message"),
    [
        ((), AUTO, "expected one of yoochoose-clicks.dat, .*, found none in this folder; give the path of the file"),
        (("u.data",), "otto", "expected one of otto-recsys-train.jsonl, train.jsonl, train.parquet, found none"),
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
        recognise(tmp_path, file_format, Choices())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (RETAILROCKET + "1433221332117,1,wish,2,\n", "line 5: expected one of the events view, addtocart, .* 'wish'"),
        (RETAILROCKET + "1433221332117,1\n", "line 5: expected 5 values, found 2"),
        (DIGINETICA + "3;NA;5;x;2016-05-15\n", "line 5: expected milliseconds as a whole number, found 'x'"),
        (DIGINETICA + "3;NA;5;7;15.5.2016\n", r"line 5: expected a time, .*, found '15\.5\.2016'"),
        (DIGINETICA.replace("timeframe", "frame", 1).replace("1;NA", "timeframe;NA"), "expected a column 'timeframe'"),
        (RATINGS_DAT + "2::17\n", "line 4: expected 4 values, found 2"),
        (U_DATA + "2\t\t5\t943228858\n", "line 4: expected the item, found an empty value"),
        (
            MIND + "3\tU1\t2019-11-11\t\tN1-1\n",
            "line 3: expected a time like 11/11/2019 9:05:58 AM, found '2019-11-11'",
        ),
        (MIND + "3\tU1\n", "line 3: expected 5 values, found 2"),
        (TAOBAO + "1,2,3,look,1511572885\n", "line 4: expected one of the events pv, cart, fav, buy, found 'look'"),
        (OTTO + '{"session": 1}\n', "line 3: expected a session of OTTO's JSON"),
        (OTTO + '{"session": 1, "events": [{"aid": 1, "ts": 16612000', "line 3: expected a session of OTTO's JSON"),
        (OTTO.replace("orders", "likes"), "line 2: expected one of the events clicks, carts, orders, found 'likes'"),
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
        (ClickFile(path=path, file_format="otto", choices=Choices(where={"type": "clicks"})), None),
        (ClickFile(path=path, file_format="otto", choices=Choices(user="session")), None),
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
    return recognise(path, AUTO, Choices())


def _recognised(folder: Path, content: str) -> tuple[ClickFile, RecordedClicks]:
    file = _recognise(_file(folder, content))
    return file, read_clicks(file)


def _read(folder: Path, content: str, file_format: str) -> list[tuple[str, str, int | None, str]]:
    file, clicks = _recognised(folder, content)
    assert file.file_format == file_format
    return list(clicks.between(0, len(clicks)))
