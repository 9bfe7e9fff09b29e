"""Files in which clicks could be lost, invented or altered without a word: each is read as meant, or refused."""

import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from nextclick.clicks import MIN_TIMESTAMP_MS
from nextclick.errors import PermanentError
from tools.click_files.choices import AUTO, Choices
from tools.click_files.read import read_clicks
from tools.click_files.recognise import recognise
from tools.click_files.recorded import RecordedClicks

USUAL = Choices()
T1, T2 = 1_764_000_000_000, 1_764_000_060_000


@pytest.mark.parametrize(
    "content",
    [
        "user_id,item_id,timestamp\rann,lamp,1764000000\rbob,desk,1764000060\n",
        "user_id,item_id,timestamp\rann,lamp,1764000000\nbob,desk,1764000060\n",
        "user_id,item_id,timestamp\rann,lamp,1764000000\r\nbob,desk,1764000060\r\n",
        "\n\nuser_id,item_id,timestamp\rann,lamp,1764000000\rbob,desk,1764000060\r\n",
    ],
)
def test_ends_of_lines_may_be_mixed(tmp_path: Path, content: str) -> None:
    """A carriage return that ends the header ends the lines after it, whatever else ends lines."""
    clicks, _ = _read(_file(tmp_path, content))

    assert _rows(clicks) == [("ann", "lamp", T1), ("bob", "desk", T2)]


@pytest.mark.parametrize(
    ("header", "line"),
    [
        ("user_id,session_id,item_id,time,event_type", "ann,s1,lamp,1764000000,cart"),
        ("user_id,movie_id,timestamp,event_type", "ann,lamp,1764000000,cart"),
        ("user_id,parent_asin,timestamp,asin,action", "ann,x,1764000000,lamp,cart"),
        ("customer_id,article_id,t_dat,timestamp,event", "ann,lamp,2025-11-24,1764000000,cart"),
        ("user_id:token\titem_id:token\ttimestamp:float\tbehavior:token", "ann\tlamp\t1764000000\tcart"),
    ],
)
def test_a_shops_own_file_keeps_its_users_and_event_types(tmp_path: Path, header: str, line: str) -> None:
    """It is not taken for a data set that has the same names and ignores the others."""
    clicks, _ = _read(_file(tmp_path, f"{header}\n{line}\n"))

    assert (_rows(clicks), _events(clicks)) == ([("ann", "lamp", T1)], ["cart"])


def test_a_session_rec_file_with_users_is_read_by_user(tmp_path: Path) -> None:
    """Who has users does not mean sessions."""
    clicks, _ = _read(_file(tmp_path, "UserId\tSessionId\tItemId\tTime\nann\ts1\tlamp\t1764000000\n"))

    assert _rows(clicks) == [("ann", "lamp", T1)]


@pytest.mark.parametrize("header", ["SessionId\tItemId\tTime", "session_id:token\titem_id:token\ttimestamp:float"])
def test_quotes_of_data_sets_are_no_part_of_ids(tmp_path: Path, header: str) -> None:
    """Programs that write all text in quotes write these, too."""
    clicks, _ = _read(_file(tmp_path, f'{header}\n"s1"\t"lamp"\t1764000000\n'))

    assert _rows(clicks) == [("s1", "lamp", T1)]


@pytest.mark.parametrize(
    ("content", "choices", "users"),
    [
        ('user_id::item_id::timestamp\n"a::b"::lamp::1764000000\nbob::desk::1764000060\n', USUAL, ["a::b", "bob"]),
        ('user_id, item_id, timestamp\n"a, b", "lamp", 1764000000\nbob, desk, 1764000060\n', USUAL, ["a, b", "bob"]),
        ('"user_id", "item_id", "timestamp"\nann, lamp, 1764000000\nbob,desk,1764000060\n', USUAL, ["ann", "bob"]),
        (
            "ann, lamp, 1764000000\nbob, desk, 1764000060\n",
            Choices(has_header=False, user="1", item="2", time="3"),
            ["ann", "bob"],
        ),
    ],
)
def test_separators_inside_quotes_stay_and_spaces_behind_others_go(
    tmp_path: Path, content: str, choices: Choices, users: list[str]
) -> None:
    """A separator of several letters is one only outside quotes; a space behind each is no part of an id."""
    clicks, _ = _read(_file(tmp_path, content), choices)

    assert _rows(clicks) == [(users[0], "lamp", T1), (users[1], "desk", T2)]


def test_a_space_in_quotes_is_part_of_an_id(tmp_path: Path) -> None:
    """Only what stands between a separator and a value goes."""
    clicks, _ = _read(_file(tmp_path, 'user_id, item_id\nann, " lamp"\n'))

    assert _rows(clicks) == [("ann", " lamp", None)]


@pytest.mark.parametrize(
    "again",
    [
        "user_id,item_id\n",
        "\ufeffuser_id,item_id\r\n",
        '"user_id","item_id"\n',
        "item_id,user_id\n",
        "user_id,item_id,\n",
    ],
)
def test_a_header_that_comes_again_is_no_click_however_it_is_written(tmp_path: Path, again: str) -> None:
    """Two exports of one shop need not have the same ends of lines, marks, quotes or order."""
    path = _file(tmp_path, f"user_id,item_id\nann,lamp\n{again}user_id,desk\n")

    with pytest.raises(PermanentError, match="line 3: expected a click, found the names of the columns again"):
        _read(path)
    clicks, _ = _read(path, Choices(skip_bad=True))
    assert _rows(clicks) == [("ann", "lamp", None), ("user_id", "desk", None)]


@pytest.mark.parametrize(
    ("events", "expected"), [("purchase", ["purchase"]), ("view : view , purchase", ["view", "purchase"])]
)
def test_a_click_without_an_event_type_is_a_view_also_for_a_list(
    tmp_path: Path, events: str, expected: list[str]
) -> None:
    """As in the stream: what does not list views passes it over. Spaces in the list mean nothing."""
    path = _file(tmp_path, "user_id,item_id,event_type\nann,lamp,\nbob,desk,purchase\n")

    clicks, _ = _read(path, Choices(events=events))

    assert _events(clicks) == expected


@pytest.mark.parametrize("line", ["1\t2\t30\t881250949", "1\t2\t3\t4", "1::2::3.55::881250949"])
def test_four_numbers_are_not_always_ratings(tmp_path: Path, line: str) -> None:
    """Stars are 0 to 5, and the time is in seconds."""
    with pytest.raises(PermanentError, match="--no-header"):
        _read(_file(tmp_path, f"{line}\n"))


@pytest.mark.parametrize(
    ("line", "numbers"),
    [
        ("ann\tlamp, small, red, new\t1764000000", "1 2 3"),
        ("ann;lamp;1764000000;a b c d e", "1 2 3"),
        ("ann,lamp 1 2,1764000000", "1 2 3"),
        ("1,5|ann|lamp|1764000000", "2 3 4"),
    ],
)
def test_the_separator_is_the_first_that_gives_the_columns_asked_for(tmp_path: Path, line: str, numbers: str) -> None:
    """Not the one that cuts a text into the most pieces."""
    user, item, time = numbers.split()
    other = line.replace("1764000000", "1764000060").replace(" ", "  ", 1)

    clicks, _ = _read(_file(tmp_path, f"{line}\n{other}\n"), Choices(has_header=False, user=user, item=item, time=time))

    assert [(user, time_ms) for user, _, time_ms in _rows(clicks)] == [("ann", T1), ("ann", T2)]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        ([{"user_id": "ann", "item_id": "bed"}, {"user_id": "ann"}], "line 2: event 2 of 2: expected the item"),
        ([{"user_id": "ann", "item_id": "bed"}, 7], "line 2: event 2 of 2: expected a JSON object"),
        (
            [{"user_id": "ann", "item_id": "bed"}, {"user_id": "bob", "item_id": "bed"}],
            "line 2: .* found several users",
        ),
        ([], "line 2: expected events, found an empty array"),
    ],
)
def test_of_an_array_all_clicks_are_taken_or_none(tmp_path: Path, array: list[object], message: str) -> None:
    """As the stream takes a record."""
    good = '{"user_id": "ann", "item_id": "lamp"}\n'
    path = _file(tmp_path, f"{good}{json.dumps(array)}\n{good}")

    with pytest.raises(PermanentError, match=message):
        _read(path)
    clicks, _ = _read(path, Choices(skip_bad=True))
    assert _rows(clicks) == [("ann", "lamp", None)] * 2


def test_an_array_with_a_click_that_a_worker_rejects_is_left_out_whole(tmp_path: Path) -> None:
    """And that is said; what is passed over by its event type is no reason."""
    arrays = [
        [{"user_id": "ann", "item_id": "bed"}, {"user_id": "ann", "item_id": "x" * 257}],
        [{"user_id": "ann", "item_id": "lamp"}, {"user_id": "ann", "item_id": "bed", "event": "scroll"}],
    ]

    clicks, said = _read(_file(tmp_path, "".join(json.dumps(array) + "\n" for array in arrays)), Choices(events="view"))

    assert _rows(clicks) == [("ann", "lamp", None)]
    assert any("line 1: left out, as a worker would reject this: another click of its array" in line for line in said)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            ['{"user_id": "ann", "item_id": "lamp"}', '{"user_id": "ann", "item_id": "bed", "ts": 1764000000}'],
            "line 1: ",
        ),
        (
            ['{"user_id": "ann", "item_id": "lamp"}'] * 100
            + ['{"user_id": "ann", "item_id": "bed", "ts": 1764000000}'],
            "line 101: expected no time, as at the beginning of the file, found one; name it with --time",
        ),
        (
            [
                '{"user_id": null, "session_id": "s1", "item_id": "lamp"}',
                '{"user_id": "ann", "session_id": "s1", "item_id": "bed"}',
            ],
            "line 1: expected the user at 'user_id', found nothing there",
        ),
    ],
)
def test_documents_of_two_kinds_are_not_read_in_silence(tmp_path: Path, lines: list[str], message: str) -> None:
    """A first document without a time takes no times of others away; a session is not taken for a user."""
    path = _file(tmp_path, "\n".join(lines) + "\n")

    with pytest.raises(PermanentError, match=message):
        _read(path)


def test_an_object_that_has_a_usual_name_is_no_field(tmp_path: Path) -> None:
    """Only where nobody named it."""
    document = '{"event": {"user": "ann", "item": "lamp"}, "item": {"id": "bed"}, "time": 1764000000}\n'

    clicks, _ = _read(_file(tmp_path, document), Choices(user="event.user", item="event.item"))

    assert (_rows(clicks), _events(clicks)) == ([("ann", "lamp", T1)], ["view"])


def test_json_has_the_usual_names_of_columns(tmp_path: Path) -> None:
    """In the three ways in which documents write them."""
    for user, item, time in (
        ('"movieId": "lamp"', '"customer": {"id": "ann"}', '"createdAt": 1764000000'),
        ('"content_id": "lamp"', '"visitorid": "ann"', '"event_timestamp": 1764000000'),
    ):
        clicks, _ = _read(_file(tmp_path, f"{{{user}, {item}, {time}}}\n"))

        assert _rows(clicks) == [("ann", "lamp", T1)]


def test_a_first_line_may_be_long(tmp_path: Path) -> None:
    """A header of 30,000 columns, a document with a page in it."""
    names = ",".join(f"column_{number}" for number in range(10_000))
    path = _file(tmp_path, f"{names},user_id,item_id\n{',' * 10_000}ann,lamp\n")

    assert _rows(_read(path)[0]) == [("ann", "lamp", None)]


def test_json_that_is_nested_too_deep_is_a_bad_line(tmp_path: Path) -> None:
    """Also in the first line."""
    path = _file(tmp_path, '{"a":' * 5_000 + "1" + "}" * 5_000 + "\n")

    with pytest.raises(PermanentError, match="line 1: expected a JSON object, found what is none"):
        _read(path)


@pytest.mark.parametrize("word", ["NULL", r"\N", "NaN", "None", "<NA>", "#N/A", "  "])
def test_a_word_for_nothing_is_no_user(tmp_path: Path, word: str) -> None:
    """Databases and programs write it where nothing is; all of these would be one user. Others than whole words may."""
    text = f"user_id,item_id\n{word},lamp\nNULLA,desk\n"
    table = tmp_path / "clicks.parquet"
    parquet.write_table(pa.table({"user_id": [word, "NULLA"], "item_id": ["lamp", "desk"]}), table)

    for path in (_file(tmp_path, text), table):
        with pytest.raises(PermanentError, match="expected the user, found an empty value or a word for none"):
            _read(path)
        assert _rows(_read(path, Choices(skip_bad=True))[0]) == [("NULLA", "desk", None)]


@pytest.mark.parametrize("word", ["NULL", r"\N", "nan", "  "])
def test_a_word_for_nothing_is_no_event_type(tmp_path: Path, word: str) -> None:
    """Such a click is a view; of two columns the other counts."""
    text = _file(tmp_path, f"user_id,item_id,event_type,action\nann,lamp,{word},buy\nbob,desk,view,\n")
    quoted = _file(tmp_path, f'user_id,item_id,event_type,action\nann,"la""mp","{word}",buy\nbob,desk,view,\n', "q.csv")
    coded = pa.array([word, "view"]).dictionary_encode()
    table = tmp_path / "clicks.parquet"
    columns = {"user_id": ["ann", "bob"], "item_id": ["lamp", "desk"], "event_type": coded, "action": ["buy", ""]}
    parquet.write_table(pa.table(columns), table)

    for path in (text, quoted, table):
        assert _events(_read(path)[0]) == ["view", "view"]
        assert _events(_read(path, Choices(events="view"))[0]) == ["view", "view"]
        assert _events(_read(path, Choices(event="event_type|action"))[0]) == ["buy", "view"]


def test_a_word_for_nothing_is_passed_over_for_the_next_column(tmp_path: Path) -> None:
    """As what is empty."""
    header = "event_time,event_type,product_id,category_id,user_id,user_session\n"
    line = "2019-10-01 00:00:00 UTC,view,lamp,7,ann,NULL\n"

    assert _rows(_read(_file(tmp_path, header + line))[0]) == [("ann", "lamp", 1_569_888_000_000)]


@pytest.mark.parametrize("time", ["17640", "2025", "45985.5", "638990000000000000", "1994-12-31"])
def test_a_time_before_there_were_clicks_is_said_or_left_out(tmp_path: Path, time: str) -> None:
    """A line that was cut, a year, the day of a spreadsheet, .NET's ticks: a worker would reject what is sent."""
    path = _file(tmp_path, f"user_id,item_id,timestamp\nann,lamp,1764000000\nbob,desk,{time}\n")

    kept, said = _read(path)
    sent, left = _read(path, earliest_ms=MIN_TIMESTAMP_MS)

    assert len(kept) == 2
    assert " to 2025-11-24T16:00:00Z; a time before 1995 is hardly meant, and a worker rejects it" in said[1]
    assert _rows(sent) == [("ann", "lamp", T1)]
    assert left[1] == "clicks.csv: times from 2025-11-24T16:00:00Z to 2025-11-24T16:00:00Z"
    assert left[2].startswith(
        "clicks.csv, line 3: left out, as a worker would reject this: the time is before 1995; correct it, or name"
    )


def test_an_array_with_a_time_before_there_were_clicks_is_left_out_whole(tmp_path: Path) -> None:
    """As a worker rejects its record."""
    array = [{"user_id": "ann", "item_id": "bed", "ts": time} for time in (1_764_000_000, 7_000)]
    lines = [json.dumps(each) + "\n" for each in (array, array[:1])]

    clicks, _ = _read(_file(tmp_path, "".join(lines)), earliest_ms=MIN_TIMESTAMP_MS)

    assert _rows(clicks) == [("ann", "bed", T1)]


def test_a_time_that_was_named_is_known(tmp_path: Path) -> None:
    """Also where the first document does not have it."""
    lines = ['{"user_id": "ann", "item_id": "lamp"}', '{"user_id": "ann", "item_id": "bed", "at": 1764000000}']

    clicks, said = _read(_file(tmp_path, "\n".join(lines) + "\n"), Choices(time="at", skip_bad=True))

    assert _rows(clicks) == [("ann", "bed", T1)]
    assert not any("no column of times is known" in line for line in said)


@pytest.mark.parametrize("times", [pa.array([[1], [2]]), pa.array([b"\xff", b"1"]), pa.array([True, False])])
def test_a_column_of_a_table_that_holds_no_times_is_refused(tmp_path: Path, times: pa.Array) -> None:
    """In one sentence that names it."""
    path = tmp_path / "clicks"
    parquet.write_table(pa.table({"user_id": ["a", "b"], "item_id": ["x", "y"], "timestamp": times}), path)

    with pytest.raises(
        PermanentError, match="expected texts or whole numbers in the column 'timestamp', found"
    ) as error:
        _read(path)
    assert "\n" not in str(error.value)


def test_an_archive_that_is_packed_in_another_way_is_refused(tmp_path: Path) -> None:
    """Deflate64 is what Windows makes of large files."""
    path = tmp_path / "clicks.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("clicks.csv", "user_id,item_id\nann,lamp\n")
    content = bytearray(path.read_bytes())
    for signature, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        content[content.index(signature) + place] = 9
    path.write_bytes(content)

    with pytest.raises(PermanentError, match=r"expected an archive in the usual way of zip, found .*; unpack it"):
        _read(path)


def test_a_path_that_cannot_be_looked_at_is_refused(tmp_path: Path) -> None:
    """As a name that is too long, or a folder that may not be entered."""
    with pytest.raises(PermanentError, match="expected a file that can be read, found: File name too long"):
        _read(tmp_path / ("x" * 300))


def test_a_session_of_otto_is_no_record(tmp_path: Path) -> None:
    """One of its events may be left out alone."""
    events = [{"aid": 1, "ts": T1, "type": "clicks"}, {"aid": 2, "ts": 4_000_000_000_000, "type": "clicks"}]

    clicks, said = _read(_file(tmp_path, json.dumps({"session": 7, "events": events}) + "\n"))

    assert _rows(clicks) == [("7", "1", T1)]
    assert any("the time is more than a day after" in line for line in said)


def test_an_event_of_a_shops_own_file_names_the_format_to_give(tmp_path: Path) -> None:
    """A shop may have the columns of a data set, and more events; then it is no such file."""
    path = _file(tmp_path, "timestamp,visitorid,event,itemid\n1764000000,ann,purchase,lamp\n")

    with pytest.raises(PermanentError, match=r"line 2: expected one of the events view, .*; give --format csv"):
        _read(path)


@pytest.mark.parametrize("end", ['bob,desk,1764000060,fine"', 'bob,desk,1764000060,fine\nend"'])
def test_a_quote_too_many_takes_no_click_along(tmp_path: Path, end: str) -> None:
    """Also in a column that is not read: a line inside that is like a click is an error, and no note."""
    path = _file(tmp_path, f'user_id,item_id,timestamp,note\nann,lamp,1764000000,"nice\n{end}\n')

    with pytest.raises(
        PermanentError, match="line 2: expected a quote to end in its line, found line 3 before its end"
    ):
        _read(path)


def test_a_long_text_in_quotes_is_no_wrong_quote(tmp_path: Path) -> None:
    """As a whole page."""
    page = "word \n" * 50 + "x" * 200_000
    path = _file(tmp_path, f'user_id,item_id,page\nann,lamp,"{page}"\n')

    assert _rows(_read(path)[0]) == [("ann", "lamp", None)]


@pytest.mark.parametrize("line", ["ann,la\rmp,1", 'ann,"la\rmp",1', '"ann",la\rmp,1', "ann,lamp\r,1"])
def test_a_carriage_return_inside_a_value_is_said_as_what_it_is(tmp_path: Path, line: str) -> None:
    """It is no wrong quote, and quotes as letters are no remedy."""
    path = _file(tmp_path, f"user_id,item_id,n\nbob,desk,2\n{line}\nbob,bed,3\n")

    with pytest.raises(
        PermanentError,
        match=r"line 3: expected .*, found a carriage return inside a value; write the ends of lines as \\n or \\r\\n",
    ):
        _read(path)
    assert _rows(_read(path, Choices(skip_bad=True))[0]) == [("bob", "desk", None), ("bob", "bed", None)]


def test_quotes_may_be_letters_in_a_data_set_without_a_header(tmp_path: Path) -> None:
    """As the message about a wrong quote says."""
    line = '2,2014-04-07T13:56:37.614Z,214662742,"S\n'
    path = _file(tmp_path, line)

    with pytest.raises(
        PermanentError, match=r"line 1: expected a quote to end .*; correct the line, or give --no-quotes"
    ):
        _read(path)
    assert len(_read(path, Choices(has_quotes=False))[0]) == 1


def _file(folder: Path, content: str, name: str = "clicks.csv") -> Path:
    path = folder / name
    path.write_text(content, encoding="utf-8", newline="")
    return path


def _read(path: Path, choices: Choices = USUAL, earliest_ms: int = 0) -> tuple[RecordedClicks, list[str]]:
    """Read a file whose format is told by its beginning; gives also what is said."""
    said: list[str] = []
    return read_clicks(recognise(path, AUTO, choices), say=said.append, earliest_ms=earliest_ms), said


def _rows(clicks: RecordedClicks) -> list[tuple[str, str, int | None]]:
    return [(user, item, timestamp_ms) for user, item, timestamp_ms, _ in clicks.between(0, len(clicks))]


def _events(clicks: RecordedClicks) -> list[str]:
    return [event_type for _, _, _, event_type in clicks.between(0, len(clicks))]
