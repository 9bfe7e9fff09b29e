"""A file of the click log: damaged and foreign ones are refused by their name, those of earlier versions are read."""

import os
import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nextclick.errors import NextclickError, PermanentError
from training.service.log_files import SCHEMA, LogFile, encode_file, look_at, path_of, read_rows, write_file

WRITTEN_S = 1_700_000_000.25
MANY = 2_000


def table(count: int, event_hash: int = 0) -> pa.Table:
    """Some clicks of partition 0, the last of which has an event's id with this hash."""
    columns = {
        "user_id": [f"user-{n * 7919 % 211}" for n in range(count)],
        "item_id": [f"item-{n * 104729 % 307}" for n in range(count)],
        "timestamp_ms": [1_700_000_000_000 + n * 997 for n in range(count)],
        "event_type": [n % 2 for n in range(count)],
        "partition": [0] * count,
        "offset": range(count),
        "event_hash": [0] * (count - 1) + [event_hash] * min(count, 1),
    }
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in SCHEMA})


def write(folder: Path, count: int) -> LogFile:
    return write_file(path_of(folder, 0, 0, MANY - 1), encode_file(table(count), WRITTEN_S))


def write_as_before(path: Path, rows: pa.Table | None) -> None:
    """Write a file as earlier versions did: no bytes where there are no clicks, and nothing about its age."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        if rows is not None:
            pq.write_table(rows, file, compression="zstd")


def look_and_read(path: Path) -> tuple[LogFile, pa.Table]:
    """Do with a file what the log does with it."""
    file = look_at(path, may_be_empty=False)
    return file, read_rows(file)


@pytest.mark.parametrize("count", [0, 1, MANY])
def test_what_was_written_is_read(tmp_path: Path, count: int) -> None:
    """Rows, their number, the size and the age; other programs read them as well."""
    file = write(tmp_path, count)

    assert look_and_read(file.path) == (file, table(count))
    assert (file.n_clicks, file.n_bytes, file.written_s) == (count, file.path.stat().st_size, WRITTEN_S)
    other = pq.read_table(file.path, partitioning=None).replace_schema_metadata()
    assert other == table(count).drop_columns("event_hash")


def test_hashes_of_event_ids_are_read_as_they_were_written(tmp_path: Path) -> None:
    """One click that has one is enough for the column; without one it is not there, for earlier versions."""
    path = path_of(tmp_path, 0, 0, MANY - 1)
    file = write_file(path, encode_file(table(10, event_hash=2**32 - 1), WRITTEN_S))

    assert look_and_read(path) == (file, table(10, event_hash=2**32 - 1))
    assert "event_hash" in pq.read_schema(path).names
    assert "event_hash" not in pq.read_schema(write_file(path, encode_file(table(10), WRITTEN_S)).path).names


@pytest.mark.parametrize("count", [0, MANY])
def test_no_flipped_bit_is_read_as_other_rows(tmp_path: Path, count: int) -> None:
    """Whichever bit a disk changes, also of the footer, where page checksums do not look: it is noticed."""
    file = write(tmp_path, count)
    content = file.path.read_bytes()
    bits = random.Random(1).sample(range(len(content) * 8), 300)
    bits += range((len(content) - 40) * 8, len(content) * 8)  # the end of the footer, its length, and the mark

    for bit in bits:
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        file.path.write_bytes(changed)

        with pytest.raises(PermanentError, match=f"^{re.escape(str(file.path))} is damaged.*$"):
            look_and_read(file.path)


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    """Wherever, also to nothing: a range without clicks is a whole file, too."""
    file = write(tmp_path, 10)
    content = file.path.read_bytes()

    for length in (*range(0, len(content), 41), *range(len(content) - 40, len(content))):
        file.path.write_bytes(content[:length])
        with pytest.raises(PermanentError, match="is damaged"):
            look_at(file.path, may_be_empty=False)


def test_a_file_that_changes_after_the_log_was_opened_is_refused(tmp_path: Path) -> None:
    """It was looked at, then it was cut off: none of its rows are taken for all of them."""
    file = write(tmp_path, 10)
    file.path.write_bytes(b"")

    with pytest.raises(PermanentError, match=r"0 bytes, and had \d+"):
        read_rows(file)


def test_files_of_earlier_versions_are_read(tmp_path: Path) -> None:
    """They have no checksum, and are as old as the file system says; one of no bytes covers a range without clicks."""
    path, empty = path_of(tmp_path, 0, 0, 9), path_of(tmp_path, 0, 10, 19)
    write_as_before(path, table(5).drop_columns("event_hash"))
    write_as_before(empty, None)
    for file in (path, empty):
        os.utime(file, (WRITTEN_S, WRITTEN_S))

    assert look_and_read(path) == (LogFile(0, 0, 9, path, 5, path.stat().st_size, WRITTEN_S), table(5))
    assert look_at(empty, may_be_empty=True) == LogFile(0, 10, 19, empty, 0, 0, WRITTEN_S)
    assert read_rows(look_at(empty, may_be_empty=True)) == table(0)
    with pytest.raises(PermanentError, match="is damaged"):
        look_at(empty, may_be_empty=False)


@pytest.mark.parametrize("rows", [
    table(3).drop_columns("item_id"),
    table(3).drop_columns(["item_id", "event_hash"]),
    table(3).set_column(6, "event_hash", table(3)["event_hash"].cast(pa.int64())),
    table(3).set_column(1, "item", table(3)["item_id"]),
    table(3).set_column(2, "timestamp_ms", table(3)["timestamp_ms"].cast(pa.timestamp("ms"))),
    table(3).set_column(0, "user_id", pa.array(["a", None, "c"])),
    table(3).append_column("price", pa.array([1, 2, 3])),
])  # fmt: skip
def test_other_columns_and_gaps_are_refused(tmp_path: Path, rows: pa.Table) -> None:
    """In one line that names the file, before a training takes them for clicks."""
    path = path_of(tmp_path, 0, 0, 9)
    write_as_before(path, rows)

    with pytest.raises(PermanentError, match="columns of a click log") as error:
        look_and_read(path)

    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["notes.parquet", "1-2-3.parquet", "a-b.parquet", "0.parquet"])
def test_foreign_names_are_refused(tmp_path: Path, name: str) -> None:
    """The user learns which file, and what to do with it."""
    path = tmp_path / "partition=0" / name
    write_as_before(path, table(1))

    with pytest.raises(PermanentError, match=f"{name}; move it elsewhere"):
        look_at(path, may_be_empty=False)


def test_a_file_that_is_no_parquet_is_named(tmp_path: Path) -> None:
    """Not the folder, and no advice about permissions."""
    path = path_of(tmp_path, 0, 0, 9)
    path.parent.mkdir()
    path.write_bytes(b"not Parquet at all, whatever its name says")

    with pytest.raises(NextclickError, match="is damaged") as error:
        look_at(path, may_be_empty=True)

    assert str(path) in str(error.value)
