"""Reading recorded clicks: formats, order, filters, and what is said of a file that is not as expected."""

import gzip
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import pytest

from demo.click_producer import ClickProducer
from demo.feeds import due, replay
from nextclick.errors import PermanentError
from tools.click_files import collect
from tools.click_files.account import Account
from tools.click_files.choices import Choices, ClickFile
from tools.click_files.delimited import read_delimited
from tools.click_files.judge import Rules, judge
from tools.click_files.read import read_clicks
from tools.click_files.recorded import RecordedClicks

USUAL = Choices()
REAL_DATA = Path(__file__).parents[2] / "../shared/data"


def test_csv_is_sorted_by_time_and_stable(tmp_path: Path) -> None:
    """Clicks come in the order of time; those of one moment stay in the order of the file."""
    path = _file(tmp_path, "user_id,item_id,timestamp\nu2,b,20\nu1,a,10\nu3,c,20\nu1,b,5.5\n")

    clicks = _read(path)

    assert _rows(clicks) == [("u1", "b", 5_500), ("u1", "a", 10_000), ("u2", "b", 20_000), ("u3", "c", 20_000)]
    assert _rows(clicks.first(2)) == [("u1", "b", 5_500), ("u1", "a", 10_000)]


def test_many_clicks_of_one_moment_keep_their_order(tmp_path: Path) -> None:
    """The sort is stable also where a file is large enough for another algorithm."""
    rows = [(f"u{n}", "a", (n * 7 % 3 + 1) * 1_000) for n in range(3_000)]
    path = _file(tmp_path, "user_id,item_id,timestamp\n" + "".join(f"{u},{i},{t // 1000}\n" for u, i, t in rows))

    clicks = _read(path)

    assert _rows(clicks) == sorted(rows, key=lambda row: row[2])


def test_clicks_are_sorted_in_parts_as_in_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of many clicks is never in memory as a whole; its order, its marks and its ids are the same."""
    rows = [(f"u{n % 300}", f"i{n * 31 % 70}", (n * 7_919 % 211 // 3 + 1) * 1_000) for n in range(2_000)]
    lines = "".join(f"{user},{item},{time_ms // 1_000},{time_ms // 1_000 % 2}\n" for user, item, time_ms in rows)
    file = ClickFile(path=_file(tmp_path, "user_id,item_id,timestamp,odd\n" + lines), file_format="csv")
    monkeypatch.setattr(collect, "_SORTED_AT_ONCE", 100)
    monkeypatch.setattr(collect, "_STEP_ROWS", 150)
    monkeypatch.setattr(collect, "_EVERY", 7)

    clicks = read_clicks(file, {"odd": "1"})

    assert _rows(clicks) == sorted(rows, key=lambda row: row[2])
    assert clicks.is_marked is not None
    assert clicks.timestamp_ms is not None
    assert (clicks.is_marked == clicks.timestamp_ms // 1_000 % 2).all()


@pytest.mark.parametrize(
    ("text", "expected_ms"),
    [
        ("1396314141.719", 1_396_314_141_719),
        ("1396314141", 1_396_314_141_000),
        ("1396314141719", 1_396_314_141_719),
        ("2014-04-07T10:51:09.277Z", 1_396_867_869_277),
        ("2014-04-07T12:51:09.277+02:00", 1_396_867_869_277),
        ("2014-04-07 10:51:09.277", 1_396_867_869_277),
    ],
)
def test_times_are_seconds_milliseconds_or_iso(tmp_path: Path, text: str, expected_ms: int) -> None:
    """Each value tells by itself, as in the stream; without a zone it is UTC."""
    path = _file(tmp_path, f"user_id,item_id,timestamp\nu,a,{text}\n")

    assert _rows(_read(path)) == [("u", "a", expected_ms)]


def test_gzip_is_recognised_by_content(tmp_path: Path) -> None:
    """The file's name does not matter."""
    path = tmp_path / "clicks.csv"
    path.write_bytes(gzip.compress(b"user_id,item_id,timestamp\nu,a,1\n"))

    assert _rows(_read(path)) == [("u", "a", 1_000)]


def test_a_byte_order_mark_and_quotes_are_understood(tmp_path: Path) -> None:
    """Spreadsheets write both."""
    path = _file(tmp_path, '\ufeffuser_id,item_id,timestamp\r\n"u,1","a ""b""",1\r\n\r\n')

    assert _rows(_read(path)) == [("u,1", 'a "b"', 1_000)]


def test_the_published_yoochoose_file_is_read_as_it_is(tmp_path: Path) -> None:
    """No header; session, time, item, category."""
    path = _file(
        tmp_path,
        "2,2014-04-07T13:56:37.614Z,214662742,0\n1,2014-04-07T10:51:09.277Z,214536502,0\n"
        "1,2014-04-07T10:54:09.868Z,214536500,S\n",
    )

    clicks = _read(path, file_format="yoochoose")

    assert _rows(clicks) == [
        ("1", "214536502", 1_396_867_869_277),
        ("1", "214536500", 1_396_868_049_868),
        ("2", "214662742", 1_396_878_997_614),
    ]
    assert len(_read(path, Choices(where={"category": "S"}), "yoochoose")) == 1


def test_columns_are_named_and_rows_are_chosen(tmp_path: Path) -> None:
    """--user, --item, --time name the columns; all of --where must hold."""
    path = _file(tmp_path, "who,what,when,split,shop\nu,a,1,train,x\nu,b,2,test,x\nu,c,3,test,y\n")
    where = {"split": "test", "shop": "x"}

    clicks = _read(path, Choices(user="who", item="what", time="when", where=where))

    assert _rows(clicks) == [("u", "b", 2_000)]


@pytest.mark.parametrize(("time", "header"), [(None, "user_id,item_id,pos"), ("", "user_id,item_id,timestamp")])
def test_without_times_the_order_of_the_file_holds(tmp_path: Path, time: str | None, header: str) -> None:
    """A file without the usual column of times, or one whose times are not wanted, is taken in its order."""
    path = _file(tmp_path, f"{header}\nu,b,9\nu,a,3\n")

    clicks = _read(path, Choices(time=time))

    assert _rows(clicks) == [("u", "b", None), ("u", "a", None)]


@pytest.mark.parametrize(
    ("content", "choices", "message"),
    [
        (
            "user,sku_no\nu,a\n",
            USUAL,
            "a column 'item_id' or 'product_id', or another usual name, found user, sku_no; name it with --item",
        ),
        (
            "user_id,item_id\nu,a\n",
            Choices(time="when"),
            "expected a column 'when', found user_id, item_id; name it with --time",
        ),
        ("user_id,item_id\nu,a\n", Choices(where={"split": "x"}), "expected a column 'split', .*; correct --where"),
        ("user_id,item_id\nu,a\n", Choices(where={"item_id": "b"}), "has no clicks that can be used: .* for --where"),
        ("user_id,item_id\n", USUAL, "has no clicks"),
        ("user_id,item_id,item_id\nu,a,b\n", USUAL, r"one column 'item_id', found 'item_id' \(2\) and 'item_id' \(3\)"),
        ("userId,item_id,USERID\nu,a,b\n", USUAL, r"one column 'user_id', found 'userId' \(1\) and 'USERID' \(3\)"),
        ("", USUAL, "is empty; correct the path"),
        ("user_id,item_id,timestamp\nu,a,1\nu,b\n", USUAL, "line 3: expected 3 values, found 2"),
        ("user_id,item_id,timestamp\nu,a,b,1\n", USUAL, "line 2: expected 3 values, found 4"),
        ("user_id,item_id,timestamp\nu,a,1\n,b,2\n", USUAL, "line 3: expected the user, found an empty value"),
        ("user_id,item_id,timestamp\nu,a,1\n\nu,,2\n", USUAL, "line 4: expected the item, found an empty value"),
        ("user_id,item_id,timestamp\nu,a,1\nu,b,soon\n", USUAL, "line 3: expected a time, .*, found 'soon'"),
        ("user_id,item_id,timestamp\nu,a,2014-04-07\nu,b,7.4.2014\n", USUAL, "line 3: expected a time"),
        ("user_id,item_id,timestamp\nu,a,-7\n", USUAL, "line 2: expected a time"),
        ("user_id,item_id,timestamp\nu,a,1\nu,b,nan\n", USUAL, "line 3: expected a time"),
        (
            "user_id,item_id,timestamp\nu,a,1\nu,b,\n",
            USUAL,
            "line 3: expected a time, found '', which means none; .* --time ''",
        ),
        ("user_id,item_id,timestamp\nu,a,0\n", USUAL, "line 2: expected a time, found '0', which means none"),
        ('user_id,item_id\nu,a\nu,"12 inch\nu,b\n', USUAL, "line 3: expected a quote to end its value, .* --no-quotes"),
        ('user_id,item_id\nu,"12" inch\nu,b\n', USUAL, "line 2: expected a quote to end its value"),
        ('user_id,item_id\nu,"a\nb"\n', USUAL, "line 2: expected a value that ends in its line"),
        ("user_id,item_id\nu,a\nu,b\rc\n", USUAL, "line 3: expected a value that ends in its line"),
        ("user_id,item_id\nu,a\n", Choices(events="cart"), "expected event types for --events, found no column"),
        ("user_id,item_id,event_type\nu,a,x\n", Choices(events="x:y"), "there is no type 'y'"),
    ],
)
def test_a_file_that_is_not_as_expected_is_refused(
    tmp_path: Path, content: str, choices: Choices, message: str
) -> None:
    """One line says what was expected, what was found, and where."""
    path = _file(tmp_path, content)

    with pytest.raises(PermanentError, match=message) as refused:
        _read(path, choices)
    assert "\n" not in str(refused.value)


BAD = "user_id,item_id,timestamp\nu,a,1\nu,b,soon\nu\n\nu,c,3\n,d,4\n"


def test_a_bad_line_ends_the_reading_and_names_the_way_on(tmp_path: Path) -> None:
    """Nothing is sent of such a file unless that is asked for."""
    with pytest.raises(PermanentError, match=r"line 3: .* correct or remove the line, or go on .* with --skip-bad"):
        _read(_file(tmp_path, BAD))


def test_bad_lines_can_be_skipped_and_are_counted(tmp_path: Path) -> None:
    """The first is named."""
    path = _file(tmp_path, BAD)

    assert _rows(_read(path, Choices(skip_bad=True))) == [("u", "a", 1_000), ("u", "c", 3_000)]
    (said,) = _said(path, Choices(skip_bad=True))
    assert "line 3: expected a time" in said
    assert said.endswith("skipped 3 bad lines, this is the first")


@pytest.mark.release
@pytest.mark.parametrize("n_before", [0, 300_000])
def test_no_line_vanishes_in_a_quote(tmp_path: Path, n_before: int) -> None:
    """Wherever it is in the file: the lines behind it are clicks, and it is named itself."""
    before = "".join(f"u{n},a,{n + 1}\n" for n in range(n_before))
    quotes = 'bob,"12 inch,7\ncem,bulb,8\neva,"7 inch,9\nfay,"chair",10\n'
    path = _file(tmp_path, "user_id,item_id,timestamp\n" + before + quotes)

    clicks = _read(path, Choices(skip_bad=True))
    as_letters = _read(path, Choices(has_quotes=False))

    assert len(clicks) == n_before + 2
    assert {"bulb", "chair"} <= set(clicks.items.to_pylist())
    assert len(as_letters) == n_before + 4
    assert {'"12 inch', "bulb", '"7 inch', '"chair"'} <= set(as_letters.items.to_pylist())
    (said,) = _said(path, Choices(skip_bad=True))
    assert f"line {n_before + 2}: expected a quote to end its value" in said
    assert "skipped 2 bad lines" in said


def test_a_quote_that_ends_in_another_line_makes_only_its_own_line_bad(tmp_path: Path) -> None:
    """The lines up to there are clicks of their own."""
    path = _file(tmp_path, 'user_id,item_id\nu,"a\nv,b\nw,c"\n')

    assert _rows(_read(path, Choices(skip_bad=True))) == [("v", "b", None), ("w", 'c"', None)]


@pytest.mark.parametrize("separator", [",", "::"])
def test_a_header_that_comes_again_is_no_click(tmp_path: Path, separator: str) -> None:
    """As where two files were put one behind the other."""
    part = "user_id,item_id\r\nu,a\r\n".replace(",", separator)
    path = _file(tmp_path, part + part)

    with pytest.raises(PermanentError, match="line 3: expected a click, found the names of the columns again"):
        _read(path)
    assert len(_read(path, Choices(skip_bad=True))) == 2


def test_a_carriage_return_within_a_line_makes_no_second_line(tmp_path: Path) -> None:
    """Also where an empty line makes up for it, so that there are as many rows as lines."""
    path = _file(tmp_path, "user_id,item_id\nu,a\ru,b\n\nu,c\n")

    assert _rows(_read(path, Choices(skip_bad=True))) == [("u", "c", None)]
    with pytest.raises(PermanentError, match="line 2: expected 2 values, found 3"):
        _read(path)


@pytest.mark.release
def test_a_quoted_comment_may_have_lines_of_its_own(tmp_path: Path) -> None:
    """In a column that is not needed; how many lines it takes is said, in case they are clicks."""
    rows = "".join(f'u{n},i{n},"fine,\nand ""cheap""",{n + 1}\n' for n in range(200_000))
    path = _file(tmp_path, "user_id,item_id,comment,timestamp\n" + rows)

    clicks = _read(path)

    assert len(clicks) == 200_000
    assert list(clicks.between(199_999, 200_000)) == [("u199999", "i199999", 200_000_000, "view")]
    (said,) = _said(path)
    assert "200,000 lines are inside quoted values" in said


def test_what_a_worker_would_reject_is_named_and_left_out(tmp_path: Path) -> None:
    """Before anything is sent: an id that is too long, NUL in one, a time in the future, a request to be forgotten."""
    rows = [
        ("u", "a", "1", "view"),
        ("u", "x" * 257, "2", "view"),
        ("u", "ä" * 128, "3", "view"),
        ("u\0", "a", "4", "view"),
        ("u", "a", "4070908800", "view"),
        ("u", "a", "6", "forget"),
        *(("u", "ä" * 129, "7", "view") for _ in range(4)),
    ]
    path = _file(tmp_path, "user_id,item_id,timestamp,event_type\n" + "".join(",".join(row) + "\n" for row in rows))

    clicks, said = _read(path), _said(path)

    assert _rows(clicks) == [("u", "a", 1_000), ("u", "ä" * 128, 3_000)]
    assert [line.partition(": ")[0].partition(", ")[2] for line in said] == [
        "line 7",
        "line 5",
        "line 3, line 8, line 9 and 2 more",
        "line 6",
    ]
    assert "item has more than 256 bytes" in said[2]
    assert "a day after this machine's clock" in said[3]


def test_rows_that_are_not_wanted_are_counted(tmp_path: Path) -> None:
    """By --where and by event type."""
    path = _file(tmp_path, "user_id,item_id,shop,event_type\nu,a,x,view\nu,b,y,view\nu,c,x,scroll\nu,d,x,add\n")
    choices = Choices(where={"shop": "x"}, events="view,add:cart,buy:purchase")

    clicks, said = _read(path, choices), _said(path, choices)

    assert _events(clicks) == ["view", "cart"]
    assert [line.partition(": ")[2] for line in said] == [
        "no column of times is known, so the order of the file is taken; name one with --time",
        "left out 1 line for --where",
        "left out 1 line for the event type 'scroll'",
        "no click has the event type 'purchase' of --events",
    ]


def test_views_can_be_listed_where_all_clicks_are_views(tmp_path: Path) -> None:
    """A file without event types; nothing is amiss then."""
    path = _file(tmp_path, "user_id,item_id,timestamp\nu,a,1\n")

    assert _said(path, Choices(events="view")) == []


def test_every_row_is_accounted_for(tmp_path: Path) -> None:
    """A row that is neither a click nor counted as anything else is a defect, and ends the reading."""
    account = Account("clicks.csv", "line", "line", skip_bad=False)
    file = ClickFile(path=_file(tmp_path, "user_id,item_id\nu,a\nu,b\n"), file_format="csv")
    (parse,) = read_delimited(file, {}).parses
    judged = judge(parse(), Rules(now_ms=0))
    account.add(judged)
    account.check()

    account.add(replace(judged, n_rows=3))
    with pytest.raises(AssertionError, match="5 rows were read, and 4 are accounted for"):
        account.check()


def test_whole_numbers_with_a_fraction_are_whole(tmp_path: Path) -> None:
    """As programs write a column of numbers that has nothing in one row; ids that only look like it stay."""
    path = _file(tmp_path, "user_id,item_id\n12.0,7.00\n12,v1.0\n-3.0,1.5\n0012.0,.0\n0.0,a\n")

    assert _rows(_read(path)) == [
        ("12", "7", None),
        ("12", "v1.0", None),
        ("-3", "1.5", None),
        ("0012.0", ".0", None),
        ("0", "a", None),
    ]


def test_the_first_of_several_columns_that_is_filled_counts(tmp_path: Path) -> None:
    """Row by row, with the same sign as in the stream."""
    path = _file(tmp_path, "login,cookie,item_id\nann,c1,a\n,c2,b\n,,c\n")

    assert _rows(_read(path, Choices(user="login|cookie", skip_bad=True))) == [("ann", "a", None), ("c2", "b", None)]
    with pytest.raises(PermanentError, match="line 4: expected the user, found an empty value"):
        _read(path, Choices(user="login|cookie"))


def test_bytes_that_are_not_utf8_are_named_by_their_line(tmp_path: Path) -> None:
    """The line is exact, however far ahead the file is decoded; other columns may hold what they like."""
    path = tmp_path / "clicks.csv"
    path.write_bytes(b"user_id,item_id,note\nu,a,\xff\nu,\xe4,x\n")

    with pytest.raises(PermanentError, match="line 3: expected UTF-8 text"):
        _read(path)


def test_event_types_are_read_where_there_are_some(tmp_path: Path) -> None:
    """From their usual column or the named one; a click of a file without them is a view."""
    path = _file(tmp_path, "user_id,item_id,event_type,kind\nu,a,cart,x\nu,b,view,y\nu,c,cart,x\n")

    assert _events(_read(path)) == ["cart", "view", "cart"]
    assert _events(_read(path, Choices(event="kind"))) == ["x", "y", "x"]
    assert _events(_read(path, Choices(event=""))) == ["view", "view", "view"]
    with pytest.raises(PermanentError, match=r"expected a column 'what', .*; name it with --event"):
        _read(path, Choices(event="what"))


def test_a_column_of_too_many_event_types_is_refused(tmp_path: Path) -> None:
    """It is a column of something else; as many as a byte tells apart are read."""
    header, lines = "user_id,item_id,event_type\n", [f"u,a,kind{n}\n" for n in range(257)]

    assert len(_read(_file(tmp_path, header + "".join(lines[:256]))).event_types) == 256
    with pytest.raises(PermanentError, match="expected at most 256 event types, found more; name their column"):
        _read(_file(tmp_path, header + "".join(lines)))


def test_rows_are_marked_and_the_marks_are_sorted_with_them(tmp_path: Path) -> None:
    """So that a column can say which clicks are for testing."""
    path = _file(tmp_path, "user_id,item_id,timestamp,split,shop\nu,a,9,test,x\nu,b,1,train,x\nu,c,5,test,y\n")
    file = ClickFile(path=path, file_format="csv")

    marked = read_clicks(file, {"split": "test"}).is_marked
    both = read_clicks(file, {"split": "test", "shop": "x"}).is_marked

    assert marked is not None
    assert both is not None
    assert (marked.tolist(), both.tolist()) == ([False, True, True], [False, False, True])
    assert read_clicks(file).is_marked is None
    with pytest.raises(PermanentError, match=r"expected a column 'part', .*; correct --test-where"):
        read_clicks(file, {"part": "test"})


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    """A download that broke off does not pass for a shorter file."""
    path = tmp_path / "clicks.csv.gz"
    whole = gzip.compress(b"user_id,item_id\n" + b"u,a\n" * 1_000)
    path.write_bytes(whole[: len(whole) // 2])

    with pytest.raises(PermanentError, match="the file is damaged"):
        _read(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """The path is part of the message."""
    with pytest.raises(PermanentError, match=r"none\.csv: expected a file that can be read, found: No such file"):
        _read(tmp_path / "none.csv")


def test_a_speed_keeps_the_gaps_divided() -> None:
    """At 60x a click of the first minute is due within the first second."""
    index = np.zeros(4, dtype=np.int32)
    clicks = RecordedClicks(
        users=pa.array(["u"]),
        items=pa.array(["a"]),
        event_types=[],
        user_index=index,
        item_index=index,
        timestamp_ms=np.array([1_000, 1_000, 31_000, 61_000]),
        event_index=None,
        is_marked=None,
    )

    assert [due(clicks, 60, elapsed_s) for elapsed_s in (0, 0.49, 0.5, 0.99, 1, 9)] == [2, 2, 3, 3, 4, 4]
    assert due(clicks, None, 0) == 4


class _RecordingProducer:
    def __init__(self) -> None:
        self.sent: list[tuple[str, str, int, str]] = []
        self.n_delivered = 0

    def send(self, user_id: str, item_id: str, timestamp_ms: int, event_type: str) -> None:
        self.sent.append((user_id, item_id, timestamp_ms, event_type))

    def wait(self, seconds: float) -> None:
        self.n_delivered = len(self.sent)

    def flush(self) -> None:
        self.wait(0)


def test_a_replay_sends_the_event_types_of_the_file(tmp_path: Path) -> None:
    """With each click's own time, in the order of time."""
    path = _file(tmp_path, "user_id,item_id,timestamp,event_type\nu,a,9,cart\nv,b,5,view\nu,c,7,wish\n")
    producer = _RecordingProducer()

    replay(_read(path), cast(ClickProducer, producer), None, lambda: False, lambda n_delivered: None)

    assert producer.sent == [("v", "b", 5_000, "view"), ("u", "c", 7_000, "wish"), ("u", "a", 9_000, "cart")]


@pytest.mark.parametrize(
    ("name", "n_clicks", "n_users"),
    [("yoochoose_100k.csv.gz", 83_846, 21_210), ("retailrocket_14d.csv.gz", 62_960, 17_444)],
)
def test_real_clicks_are_read_completely(name: str, n_clicks: int, n_users: int) -> None:
    """Counts and order agree with what is documented of the file."""
    clicks = _read(_real_file(name))

    assert (len(clicks), len(clicks.users)) == (n_clicks, n_users)
    assert clicks.timestamp_ms is not None
    assert (np.diff(clicks.timestamp_ms) >= 0).all()


def test_real_clicks_without_times_are_read_in_their_order() -> None:
    """The test part of a data set that has an order only."""
    clicks = _read(_real_file("diginetica_sequences.csv.gz"), Choices(where={"split": "test"}))

    assert clicks.timestamp_ms is None
    assert 76_821 <= len(clicks) < 90_000
    users = [int(user) for user, *_ in clicks.between(0, len(clicks))]
    assert users == sorted(users)


def _real_file(name: str) -> Path:
    path = REAL_DATA / name
    if not path.exists():
        pytest.skip(f"{path} is not there: it cannot be distributed")
    return path


def _file(folder: Path, content: str) -> Path:
    path = folder / "clicks.csv"
    path.write_text(content, encoding="utf-8", newline="")
    return path


def _read(path: Path, choices: Choices = USUAL, file_format: str = "csv") -> RecordedClicks:
    return read_clicks(ClickFile(path=path, file_format=file_format, choices=choices), say=lambda line: None)


def _said(path: Path, choices: Choices = USUAL) -> list[str]:
    said: list[str] = []
    read_clicks(ClickFile(path=path, file_format="csv", choices=choices), say=said.append)
    # The first says which columns are taken.
    return [line for line in said[1:] if ": times from" not in line]


def _rows(clicks: RecordedClicks) -> list[tuple[str, str, int | None]]:
    return [(user, item, timestamp_ms) for user, item, timestamp_ms, _ in clicks.between(0, len(clicks))]


def _events(clicks: RecordedClicks) -> list[str]:
    return [event_type for _, _, _, event_type in clicks.between(0, len(clicks))]
