"""Files of every kind: packed, in other encodings, with other separators, without a header, or not of clicks at all."""

import bz2
import codecs
import gzip
import io
import json
import lzma
import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as parquet
import pytest
from click.testing import CliRunner

from nextclick.errors import PermanentError
from tools.click_files import tables
from tools.click_files.choices import AUTO, Choices
from tools.click_files.read import read_clicks
from tools.click_files.recognise import recognise
from training.evaluation.evaluate_cli import evaluate

TEXT = "user_id,item_id,timestamp\nann,lamp,1764000000\nbob,desk,1764000060\n"
CLICKS = [("ann", "lamp", 1_764_000_000_000), ("bob", "desk", 1_764_000_060_000)]
CASES = Path(__file__).parents[2] / "../shared/cases/files"


def _packed(codec: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, codec) as stream:
            stream.write(content)
        packed: bytes = sink.getvalue().to_pybytes()
        return packed

    return pack


def _zipped(*names: str) -> Callable[[bytes], bytes]:
    def pack(content: bytes) -> bytes:
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w") as archive:
            for name in names:
                archive.writestr(name, content)
        return file.getvalue()

    return pack


def _tar(content: bytes) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        member = tarfile.TarInfo("clicks.csv")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return file.getvalue()


PACKED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "gzip in two parts": lambda content: gzip.compress(content[:30]) + gzip.compress(content[30:]),
    "bzip2": bz2.compress,
    "bzip2 in two parts": lambda content: bz2.compress(content[:30]) + bz2.compress(content[30:]),
    "xz": lzma.compress,
    "xz in two parts": lambda content: lzma.compress(content[:30]) + bytes(8) + lzma.compress(content[30:]) + bytes(4),
    "zstd": _packed("zstd"),
    "zstd in parts, as pzstd writes it": lambda content: b"".join(
        b"\x50\x2a\x4d\x18" + bytes((4, 0, 0, 0)) + bytes(4) + _packed("zstd")(part)
        for part in (content[:30], content[30:])
    ),
    "zstd behind another frame": lambda content: b"\x5f\x2a\x4d\x18\x01\0\0\0x" + _packed("zstd")(content),
    "lz4": _packed("lz4"),
    "zip": _zipped("clicks.csv"),
    "zip of a Mac": _zipped("clicks.csv", "__MACOSX/._clicks.csv"),
}


@pytest.mark.parametrize("how", PACKED)
def test_packed_files_are_read(tmp_path: Path, how: str) -> None:
    """Told by their bytes, whatever they are called."""
    path = _file(tmp_path, PACKED[how](TEXT.encode()))

    assert _rows(path) == CLICKS


@pytest.mark.parametrize("how", ["gzip", "bzip2", "xz", "zstd", "lz4", "zip"])
def test_a_packed_file_that_is_cut_is_refused(tmp_path: Path, how: str) -> None:
    """A download that broke off does not pass for a shorter file."""
    rows = "".join(f"u{n * 7919 % 10_007},i{n * 104_729 % 1_009},{1_764_000_000 + n}\n" for n in range(20_000))
    whole = PACKED[how]((TEXT + rows).encode())

    with pytest.raises(PermanentError, match=r"the file is damaged .*; get it again"):
        _rows(_file(tmp_path, whole[: len(whole) * 2 // 3]))


@pytest.mark.parametrize("how", ["gzip", "bzip2", "xz", "zstd", "lz4"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda part: b"u1,i1,1764000000\n" * 500,
        lambda part: b"\x07" + part[1:],
        lambda part: part[: len(part) // 2],
        lambda part: part + b"\x07",
        lambda part: part[:2],
    ],
)
def test_what_stands_behind_a_packed_part_is_not_passed_over(
    tmp_path: Path, how: str, damage: Callable[[bytes], bytes]
) -> None:
    """Text that was put behind the file, and a second part with wrong bytes or without its end."""
    part = PACKED[how](TEXT.encode())

    with pytest.raises(PermanentError, match=r"the file is damaged .*; get it again"):
        _rows(_file(tmp_path, part + damage(part)))


@pytest.mark.parametrize(("how", "n_zeros"), [("bzip2", 4), ("xz", 3)])
def test_zeros_behind_a_packed_part_are_damage_where_its_format_has_none(
    tmp_path: Path, how: str, n_zeros: int
) -> None:
    """A download that broke off can leave them where clicks should be."""
    with pytest.raises(PermanentError, match=r"the file is damaged .*; get it again"):
        _rows(_file(tmp_path, PACKED[how](TEXT.encode()) + bytes(n_zeros)))


ENCODINGS: dict[str, bytes] = {
    "UTF-8 with a mark": codecs.BOM_UTF8 + TEXT.encode(),
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16, the other end first": codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"),
    "UTF-16 without a mark": TEXT.encode("utf-16-le"),
    "UTF-32": TEXT.encode("utf-32"),
    "lines of Windows": TEXT.replace("\n", "\r\n").encode(),
    "lines of an old Mac": TEXT.replace("\n", "\r").encode(),
    "no end of the last line": TEXT.removesuffix("\n").encode(),
    "empty lines around": f"\n \r\n{TEXT}\n\n".encode(),
    "a separator at the end": TEXT.replace("\n", ",\n").encode(),
    "UTF-16, packed": gzip.compress(TEXT.encode("utf-16")),
}


@pytest.mark.parametrize("how", ENCODINGS)
def test_encodings_and_ends_of_lines_are_told(tmp_path: Path, how: str) -> None:
    """As programs and systems write them."""
    assert _rows(_file(tmp_path, ENCODINGS[how])) == CLICKS


def test_a_wide_text_that_is_damaged_is_refused(tmp_path: Path) -> None:
    """Where its first two bytes are those of UTF-16, and others are not."""
    content = TEXT.encode("utf-16") + b"\x00\xdc\x00\xdc"

    with pytest.raises(PermanentError, match=r"expected text in utf-16.*, found other bytes"):
        _rows(_file(tmp_path, content))


SEPARATORS = [",", "\t", ";", "|", "::", "\x01", "^", " "]


@pytest.mark.parametrize(
    ("separator", "quoted"),
    [*((each, False) for each in SEPARATORS), *((each, True) for each in SEPARATORS), (", ", False)],
)
def test_separators_are_told(tmp_path: Path, separator: str, quoted: bool) -> None:
    """From the header; values may be quoted."""
    text = TEXT.replace(",", f'"{separator}"' if quoted else separator)
    text = "".join(f'"{line}"\n' for line in text.splitlines()) if quoted else text

    assert _rows(_file(tmp_path, text.encode())) == CLICKS


@pytest.mark.parametrize("separator", ["\x01", "^"])
def test_a_first_column_of_one_letter_is_not_taken_for_zlib(tmp_path: Path, separator: str) -> None:
    """An x and one of these separators are what files of zlib begin with."""
    rows = TEXT.replace("user_id", "x").replace(",", separator)

    assert _rows(_file(tmp_path, rows.encode()), Choices(user="x")) == CLICKS


@pytest.mark.parametrize("separator", ["~~", "~", "\u00a7"])
def test_any_other_separator_is_named(tmp_path: Path, separator: str) -> None:
    """And a file of one column says so."""
    path = _file(tmp_path, TEXT.replace(",", separator).encode())

    assert _rows(path, Choices(separator=separator)) == CLICKS
    with pytest.raises(PermanentError, match=r"found 'user_id.*timestamp'; give the separator with --separator"):
        _rows(path)


@pytest.mark.parametrize(
    "header",
    [
        ",user_id,item_id,timestamp",
        "rank,userId,ITEM ID,Timestamp",
        "price,Visitor-Id,product_id,Event_Time",
        "item,user_id,item_id,time",
        "a,SessionID,sku,DateTime",
    ],
)
def test_usual_names_are_found_in_any_case(tmp_path: Path, header: str) -> None:
    """A time column in another case is no reason to take the order instead; other columns do not matter."""
    rows = "".join(f"{number},{line}\n" for number, line in enumerate(TEXT.splitlines()[1:]))

    assert _rows(_file(tmp_path, f"{header}\n{rows}".encode())) == CLICKS


def test_what_is_taken_is_said(tmp_path: Path) -> None:
    """So that a column that was meant and not found is seen."""
    said: list[str] = []
    path = _file(tmp_path, b"userId,item_id,when\nu,a,1\n")

    read_clicks(recognise(path, AUTO, Choices()), say=said.append)

    assert said == [
        "clicks: csv, user from userId, item from item_id",
        "clicks: no column of times is known, so the order of the file is taken; name one with --time",
    ]


def test_columns_are_numbers_without_a_header(tmp_path: Path) -> None:
    """From 1 on; the first line is a click."""
    path = _file(tmp_path, b"1764000000;x;ann;lamp\n1764000060;x;bob;desk\n")
    numbers = {"user": "3", "item": "4", "time": "1"}

    assert _rows(path, Choices(has_header=False, **numbers)) == CLICKS  # type: ignore[arg-type]
    for choices, message in (
        (Choices(has_header=False), "has numbers for names, from 1 to 4; give --user, --item"),
        (Choices(has_header=False, user="0", item="4"), "expected a column '0', found 1, 2, 3, 4; name it with --user"),
        (Choices(has_header=False, user="3", item="5"), "expected a column '5'"),
        (Choices(**numbers), "found what looks like a click, .*; give --no-header"),  # type: ignore[arg-type]
    ):
        with pytest.raises(PermanentError, match=message):
            _rows(path, choices)


REFUSED: dict[str, tuple[bytes, str]] = {
    "xlsx": (_zipped("[Content_Types].xml", "xl/workbook.xml")(b"<x/>"), "is a spreadsheet .*; save it as CSV"),
    "ods": (_zipped("mimetype", "content.xml")(b"<x/>"), "is a spreadsheet .*; save it as CSV"),
    "xls": (b"\xd0\xcf\x11\xe0" + bytes(600), "is an Excel workbook; save it as CSV"),
    "two in a zip": (
        _zipped("a.csv", "b.csv")(b"x"),
        r"expected one file in the archive, found a\.csv, b\.csv; unpack it",
    ),
    "empty zip": (_zipped()(b""), "expected one file in the archive, found nothing"),
    **{
        f"zip with {what}": (content, "expected an archive and nothing else, found more bytes; unpack it")
        for what, content in {
            "text behind it": _zipped("clicks.csv")(TEXT.encode()) + b"u1,i1,1764000000\n" * 500,
            "another behind it": _zipped("clicks.csv")(TEXT.encode()) * 2,
        }.items()
    },
    "gzip in zip": (
        _zipped("clicks.csv.gz")(gzip.compress(b"x")),
        "inside a file that is packed with zip; unpack it once",
    ),
    "gzip twice": (
        gzip.compress(gzip.compress(TEXT.encode())),
        "inside a file that is packed with gzip; unpack it once",
    ),
    "tar": (_tar(TEXT.encode()), "is a tar archive; unpack it"),
    "tar.gz": (gzip.compress(_tar(TEXT.encode())), "is a tar archive; unpack it"),
    "lz4 of old": (b"\x02\x21\x4c\x18" + b"\x10\0\0\0" + TEXT.encode(), "is packed with lz4 .*; unpack it"),
    "lzma": (lzma.compress(TEXT.encode(), lzma.FORMAT_ALONE), "is packed with lzma .*; unpack it"),
    "lzip": (b"LZIP\x01" + b"\x8c" * 100, "is packed with lzip; unpack it"),
    "lzop": (b"\x89LZO\x00\r\n\x1a\n" + b"\x8c" * 100, "is packed with lzop; unpack it"),
    **{
        f"zlib, level {level}": (zlib.compress(TEXT.encode(), level), "is packed with zlib; unpack it")
        for level in (0, 1, 3, 6, 9)
    },
    "zlib in gzip": (gzip.compress(zlib.compress(TEXT.encode())), "is packed with zlib; unpack it"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(100), "is a 7z archive; unpack it"),
    "SQLite": (b"SQLite format 3\0" + bytes(600), "is an SQLite database; export the table"),
    "Avro": (b"Obj\x01" + bytes(100), "is an Avro file; write it as"),
    "ORC": (b"ORC" + bytes(100), "is an ORC file; write it as"),
    "pickle": (b"\x80\x04\x95" + bytes(100), "is a pickle of Python"),
    "HTML": (b"<!DOCTYPE html><html>", "is a web page"),
    "LFS": (b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    "bytes": (b"\x07\x08\x00\x00" * 100, "is a file of bytes that are no text"),
    "Parquet": (b"PAR1" + bytes(100) + b"PAR1", "damaged .*; get it again"),
    "JSON array": (b'[{"user_id": "u",\n"item_id": "a"}]\n', "found one document over several lines; .* jq -c"),
    "JSON object": (b'{\n  "user_id": "u"\n}\n', "found one document over several lines"),
    "empty lines": (b" \n\n", "is empty; correct the path"),
    "empty gzip": (gzip.compress(b""), "is empty; correct the path"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_file_of_clicks_is_refused_by_its_name(tmp_path: Path, what: str) -> None:
    """In a sentence that says what it is and what to do."""
    content, message = REFUSED[what]

    with pytest.raises(PermanentError, match=message) as refused:
        _rows(_file(tmp_path, content))
    assert "\n" not in str(refused.value)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """Rather than waited for, or read half."""
    os.mkfifo(tmp_path / "clicks")

    with pytest.raises(PermanentError, match=r"is a pipe or a device, .*; write the clicks to a file"):
        recognise(tmp_path / "clicks", AUTO, Choices())


def test_json_lines_are_read_by_the_paths_of_the_stream(tmp_path: Path) -> None:
    """Nested, in lists, the first that is there; an array is several clicks; times and ids as in the stream."""
    documents: list[Any] = [
        {"visitor": {"id": "ann"}, "items": [{"sku": 7}], "at": "2025-11-24T16:00:00Z", "kind": "pv"},
        {"anonymous": "c1", "items": [{"sku": 8.0}], "at": 1_764_000_060, "kind": "scroll"},
        [
            {"visitor": {"id": "bob"}, "items": [{"sku": "x"}], "at": "1764000060000", "kind": "buy"},
            {"visitor": {"id": "bob"}, "items": [{"sku": "y"}], "at": 1_764_000_061.5, "kind": "pv"},
        ],
    ]
    path = _file(tmp_path, "".join(json.dumps(each) + "\n\n" for each in documents).encode())
    choices = Choices(
        user="visitor.id|anonymous", item="items.0.sku", time="at", event="kind", events="pv:view,buy:purchase"
    )

    clicks = read_clicks(recognise(path, AUTO, choices))

    assert list(clicks.between(0, 9)) == [
        ("ann", "7", 1_764_000_000_000, "view"),
        ("bob", "x", 1_764_000_060_000, "purchase"),
        ("bob", "y", 1_764_000_061_500, "view"),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"user_id": "u"}', "line 3: expected the item at 'item_id.*, found nothing there"),
        (
            '{"user_id": true, "item_id": 1}',
            "line 3: expected a text or a whole number as user .*, found true or false",
        ),
        ('{"user_id": "u", "item_id": 1.5}', "line 3: .* as item .*, found a number that is not whole"),
        ('{"user_id": "u", "item_id": "\\ud800"}', "line 3: "),
        ('{"user_id": "u", "item_id": "a", "timestamp_ms": "soon"}', "line 3: expected a time at .*, found 'soon'"),
        ('{"user_id": "u", "item_id": "a"}', "line 3: expected a time, found nothing, which means none"),
        ('{"user_id": "u", "item_', "line 3: expected a JSON object, found what is none"),
        ("17", "line 3: expected a JSON object, found another value"),
    ],
)
def test_a_bad_line_of_json_is_named(tmp_path: Path, line: str, message: str) -> None:
    """Or skipped and counted."""
    good = '{"user_id": "u", "item_id": "a", "timestamp_ms": 1764000000000}\n'
    path = _file(tmp_path, f"{good}\n{line}\n{good}".encode())

    with pytest.raises(PermanentError, match=message) as refused:
        _rows(path)
    assert "\n" not in str(refused.value)
    assert len(_rows(path, Choices(skip_bad=True))) == 2


@pytest.mark.parametrize("write", [lambda each: [json.dumps(each)], lambda each: json.dumps([each])])
def test_json_that_is_written_as_text_is_looked_into(tmp_path: Path, write: Callable[[Any], Any]) -> None:
    """As in the stream: a line, and what is in its array."""
    documents = [{"user_id": "ann", "item_id": "lamp", "timestamp": 1_764_000_000}] * 2
    path = _file(tmp_path, "".join(json.dumps(write(each)) + "\n" for each in documents).encode())

    said: list[str] = []
    clicks = read_clicks(recognise(path, "jsonl", Choices()), say=said.append)

    assert list(clicks.between(0, 2)) == [("ann", "lamp", 1_764_000_000_000, "view")] * 2
    assert said[0] == "clicks: jsonl, user from user_id, item from item_id, time from timestamp"


def test_json_rows_are_chosen_by_paths(tmp_path: Path) -> None:
    """As --where compares columns."""
    documents = [{"user_id": "u", "item_id": item, "shop": {"open": item == "a", "n": 3}} for item in "ab"]
    lines = [json.dumps(each) + "\n" for each in documents]
    path = _file(tmp_path, "".join(lines).encode())

    assert _rows(path, Choices(where={"shop.open": "true", "shop.n": "3"})) == [("u", "a", None)]


WRITTEN = pytest.mark.parametrize(
    "write", [parquet.write_table, lambda table, path: feather.write_feather(table, str(path))]
)


@WRITTEN
def test_tables_of_columns_are_read(
    tmp_path: Path, write: Callable[[pa.Table, Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers, fractions that are whole, dates and structures, some rows at once; rows are chosen as in text."""
    monkeypatch.setattr(tables, "_ROWS_AT_ONCE", 2)
    table = pa.table(
        {
            "visitor": pa.array([{"id": 1.0}, {"id": 2.0}, {"id": None}, {"id": 3.0}]),
            "sku": pa.array([7, 8, 9, 10], pa.int32()),
            "at": pa.array([1_764_000_000_000_000, 1_764_000_060_000_000, 0, 0], pa.timestamp("us", tz="UTC")),
            "shop": pa.array(["x", "x", "x", "y"]).dictionary_encode(),
        }
    )
    path = tmp_path / "clicks"
    write(table, path)
    columns = {"user": "visitor.id", "item": "sku", "time": "at"}

    rows = _rows(path, Choices(**columns, where={"shop": "x"}, skip_bad=True))  # type: ignore[arg-type]

    assert rows == [("1", "7", 1_764_000_000_000), ("2", "8", 1_764_000_060_000)]
    with pytest.raises(PermanentError, match="row 3: expected the user, found an empty value"):
        _rows(path, Choices(**columns))  # type: ignore[arg-type]


@WRITTEN
@pytest.mark.parametrize(
    ("columns", "user"),
    [
        ({"user": [{"x.y": "ann"}]}, "user.x.y"),
        ({"user.x": [{"y": "ann"}]}, "user.x.y"),
        ({"user": ["bob"], "user.x": [{"y": "ann"}]}, "user.x.y"),
        ({"user": [{"y": "bob"}], "user.x": [{"y": "ann"}]}, "user.x.y"),
        ({"user": [{"x": {"y.z": {"id": "ann"}, "y": "bob"}}]}, "user.x.y.z.id"),
        ({"user": [{"x": "bob"}], "user.x.y": ["ann"]}, "user.x.y"),
    ],
)
def test_names_in_structures_may_have_dots(
    tmp_path: Path, write: Callable[[pa.Table, Path], None], columns: dict[str, list[Any]], user: str
) -> None:
    """As paths of the stream; a column beside the structure may be called like its beginning."""
    write(pa.table({**columns, "item_id": ["lamp"]}), tmp_path / "clicks")

    assert _rows(tmp_path / "clicks", Choices(user=user)) == [("ann", "lamp", None)]


@WRITTEN
def test_two_columns_of_one_name_are_not_told_apart(tmp_path: Path, write: Callable[[pa.Table, Path], None]) -> None:
    """One of a name with a dot, and one inside a structure."""
    write(pa.table({"user": [{"id": "ann"}], "user.id": ["bob"], "item_id": ["lamp"]}), tmp_path / "clicks")

    with pytest.raises(
        PermanentError, match=r"expected one column 'user.id', found 'user.id' \(1\) and 'user.id' \(2\)"
    ):
        _rows(tmp_path / "clicks", Choices(user="user.id"))


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1.0, 2.5]), "row 2: expected a whole number as item, found 2.5"),
        (pa.array([True, False]), "expected texts or whole numbers in the column 'item_id', found bool"),
        (pa.array([[1], [2]]), r"expected texts or whole numbers in the column 'item_id', found list"),
        (pa.array([b"a", b"\xff"]), "expected texts or whole numbers in the column 'item_id', found binary"),
    ],
)
def test_a_column_of_a_table_that_holds_no_ids_is_refused(tmp_path: Path, column: pa.Array, message: str) -> None:
    """With its type, or the row."""
    path = tmp_path / "clicks"
    parquet.write_table(pa.table({"user_id": ["u", "u"], "item_id": column}), path)

    with pytest.raises(PermanentError, match=message):
        _rows(path)


def test_replay_and_evaluate_teach_the_kinds_of_files() -> None:
    """With an example for each."""
    from demo.cli import replay

    for command in (replay, evaluate):
        text = CliRunner().invoke(command, ["--help"]).output
        assert "--no-header --user 1 --item 2 --time 5" in text
        assert "topic.jsonl --user visitor.id --item product.sku" in text
        assert "--skip-bad" in text


@pytest.mark.skipif(not CASES.exists(), reason=f"{CASES} is not there")
def test_shops_files_are_read() -> None:
    """Files of many kinds, with what is to become of them: how many clicks, or the line that is named."""
    by_number = {"has_header": False, "user": "1", "item": "2", "event": "4", "time": "5"}
    wanted: list[tuple[str, dict[str, Any], int | str]] = [
        ("quotes.csv", {}, "line 3"),
        ("quotes.csv", {"has_quotes": False}, 6),
        ("tab.csv", {}, 2),
        ("semicolon.csv", {}, 2),
        ("index-column.csv", {}, 2),
        ("floats.csv", {}, "line 3"),
        ("floats.csv", {"skip_bad": True}, 1),
        ("utc-suffix.csv", {}, 3),
        ("no-header.csv", by_number, "line 3"),
        ("no-header.csv", by_number | {"skip_bad": True}, 2),
        ("atomic.inter", {}, 2),
        ("sessions.tsv", {}, 3),
        ("topic-dump.jsonl", {}, 4),
        ("purchases.dat", {}, 2),
        ("two-bad-lines.csv", {}, "line 3"),
        ("two-bad-lines.csv", {"skip_bad": True}, 2),
        ("worker-rejects.csv", {}, 1),
        ("coded.parquet", {}, 3),
        ("clicks.zip", {}, 1),
        ("clicks.csv.bz2", {}, 1),
    ]
    assert {name for name, _, _ in wanted} == {path.name for path in CASES.iterdir()}
    for name, choices, outcome in wanted:
        if isinstance(outcome, int):
            assert len(_rows(CASES / name, Choices(**choices))) == outcome, name
        else:
            with pytest.raises(PermanentError, match=f"{name}, {outcome}: expected"):
                _rows(CASES / name, Choices(**choices))


def _file(folder: Path, content: bytes) -> Path:
    path = folder / "clicks"
    path.write_bytes(content)
    return path


def _rows(path: Path, choices: Choices | None = None) -> list[tuple[str, str, int | None]]:
    clicks = read_clicks(recognise(path, AUTO, choices or Choices()))
    return [row[:3] for row in clicks.between(0, len(clicks))]
