"""The click log: what is written is read back, once, whatever happens in between."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nextclick.clicks import Click, Rejected, RejectReason
from nextclick.errors import PermanentError
from tools.kafka import TopicIdentity
from training.service import click_log
from training.service.click_log import ClickBuffer, ClickLog, LogRow, ReadRecord
from training.service.log_files import path_of
from training.service.log_owner import LogOwner

DEADLINE_S = 60
CLICK_COLUMNS = ("user_id", "item_id", "timestamp_ms", "event_type", "event_hash")
OWNER = LogOwner("shop", TopicIdentity("clicks", "id", 2))


def rows(first: int, count: int) -> list[LogRow]:
    """Some clicks at consecutive offsets."""
    return [
        LogRow(offset, Click(f"user-{offset % 3}", f"item-{offset % 5}", 1_000 + offset, offset % 2, offset % 4))
        for offset in range(first, first + count)
    ]


def read_rows(log: ClickLog, partition: int = 0) -> list[LogRow]:
    """All rows of a partition."""
    table = log.read([file for file in sorted(log.files) if file.partition == partition])
    return [LogRow(row["offset"], Click(*(row[name] for name in CLICK_COLUMNS))) for row in table.to_pylist()]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Every column survives, also in a new process, and the log ends one past the last record."""
    ClickLog(tmp_path).append(0, 10, 19, rows(10, 10))

    log = ClickLog(tmp_path)

    assert read_rows(log) == rows(10, 10)
    assert (log.ends, log.n_clicks) == ({0: 20}, 10)


def test_files_are_named_after_partition_and_offsets(tmp_path: Path) -> None:
    """The name alone says what a file covers."""
    ClickLog(tmp_path).append(3, 0, 412, rows(0, 2))

    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.parquet")] == [
        "partition=3/00000000000000000000-00000000000000000412.parquet"
    ]


def test_a_range_without_clicks_moves_the_end_on(tmp_path: Path) -> None:
    """Where only rejected records were read, the next start does not read them again."""
    log = ClickLog(tmp_path)
    log.append(0, 0, 4, [])
    log.append(0, 5, 6, rows(5, 2))

    again = ClickLog(tmp_path)

    assert again.ends == {0: 7}
    assert read_rows(again) == rows(5, 2)


def test_a_gap_or_an_overlap_is_refused(tmp_path: Path) -> None:
    """A partition is written from where it ends."""
    log = ClickLog(tmp_path)
    log.append(0, 0, 4, rows(0, 5))

    for first in (3, 6):
        with pytest.raises(ValueError, match="ends at 5"):
            log.append(0, first, 9, [])


def test_what_a_crash_left_half_written_is_removed_and_not_read(tmp_path: Path) -> None:
    """Before the rename a file does not exist for anyone."""
    log = ClickLog(tmp_path)
    log.append(0, 0, 4, rows(0, 5))
    leftover = path_of(tmp_path, 0, 5, 9).with_name(".writing-" + path_of(tmp_path, 0, 5, 9).name)
    leftover.write_bytes(log.files[0].path.read_bytes()[:50])

    again = ClickLog(tmp_path)
    assert leftover.exists()  # it may be another process's: only the writer removes
    again.claim(OWNER)

    assert not leftover.exists()
    assert again.ends == {0: 5}
    assert read_rows(again) == rows(0, 5)


def test_merging_keeps_every_row_once(tmp_path: Path) -> None:
    """Many small files become one that covers the same offsets, ranges without clicks among them."""
    log = ClickLog(tmp_path)
    for number in range(40):
        log.append(0, number * 10, number * 10 + 9, rows(number * 10, 10) if number % 4 else [])
    before = read_rows(log)

    log.merge_small_files()

    assert [path.name for path in tmp_path.rglob("*.parquet")] == [path_of(tmp_path, 0, 0, 399).name]
    assert read_rows(log) == read_rows(ClickLog(tmp_path)) == before
    assert ClickLog(tmp_path).n_clicks == log.n_clicks == 300


def test_files_are_joined_up_to_a_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request writes a joined file to an object store, and the trainer waits for it."""
    log = ClickLog(tmp_path)
    for number in range(10):
        log.append(0, number * 10, number * 10 + 9, rows(number * 10, 10))
    sizes = [file.n_bytes for file in sorted(log.files)]
    monkeypatch.setattr(click_log, "_MERGED_BYTES", sum(sizes[:4]))

    log.merge_small_files()

    assert [(file.first, file.last) for file in sorted(log.files)[:2]] == [(0, 39), (40, 79)]
    assert read_rows(log) == rows(0, 100)


def test_few_files_are_left_alone(tmp_path: Path) -> None:
    """A merge rewrites rows: it waits until many files have gathered."""
    log = ClickLog(tmp_path)
    for number in range(10):
        log.append(0, number, number, rows(number, 1))

    log.merge_small_files()

    assert len(log.files) == 10


def test_a_crash_in_a_merge_doubles_nothing(tmp_path: Path) -> None:
    """The merged file beside its parts: the parts go."""
    log = ClickLog(tmp_path)
    for number in range(40):
        log.append(0, number, number, rows(number, 1))
    parts = {file.path: file.path.read_bytes() for file in log.files}
    log.merge_small_files()
    for path, data in list(parts.items())[7:]:
        path.write_bytes(data)

    again = ClickLog(tmp_path)
    again.claim(OWNER)

    assert read_rows(again) == rows(0, 40)
    assert again.n_clicks == 40
    assert len(list(tmp_path.rglob("*.parquet"))) == 1


DAY_S = 24 * 3600.0
NOON_S = 1_700_000_000 // DAY_S * DAY_S + DAY_S / 2


class Clock:
    """Says how late it is.

    Attributes:
        days_ago: before a certain noon.
    """

    days_ago = 0.0

    def __call__(self) -> float:
        return NOON_S - self.days_ago * DAY_S


def write_aged(folder: Path, files: list[tuple[int, int, float]]) -> ClickLog:
    """Write files (partition, number of clicks, how many days ago)."""
    clock = Clock()
    log = ClickLog(folder, clock)
    for partition, count, clock.days_ago in files:
        first = log.ends.get(partition, 0)
        log.append(partition, first, first + count - 1, rows(first, count))
    return log


def test_old_files_go_and_the_position_stays(tmp_path: Path) -> None:
    """Whole files by the time of writing; the last file of a partition is emptied, for its name is the position."""
    log = write_aged(tmp_path, [(0, 10, 9), (1, 5, 9), (0, 10, 5), (0, 10, 1)])

    removed = log.remove_old(NOON_S - 4 * DAY_S, max_bytes=10**9)

    assert removed == 25
    for seen in (log, ClickLog(tmp_path)):
        assert read_rows(seen) == rows(20, 10)
        assert read_rows(seen, 1) == []
        assert (seen.ends, seen.n_clicks) == ({0: 30, 1: 5}, 10)
    log.append(1, 5, 9, rows(5, 5))
    assert read_rows(ClickLog(tmp_path), 1) == rows(5, 5)


def test_the_oldest_files_go_until_the_rest_is_small_enough(tmp_path: Path) -> None:
    """Of all partitions the ones that were written first."""
    log = write_aged(tmp_path, [(0, 10, 9), (1, 10, 8), (1, 10, 7), (0, 10, 3), (1, 10, 2), (0, 10, 1)])
    sizes = [file.n_bytes for file in sorted(log.files)]

    assert log.remove_old(0, max_bytes=sum(sizes)) == 0
    assert log.remove_old(0, max_bytes=sizes[1] + sizes[2] + sizes[5]) == 30
    assert log.remove_old(0, max_bytes=0) == 30
    assert log.remove_old(0, max_bytes=0) == 0

    assert ClickLog(tmp_path).ends == log.ends == {0: 30, 1: 30}
    assert ClickLog(tmp_path).n_clicks == log.n_clicks == 0


def test_files_of_different_days_are_not_merged(tmp_path: Path) -> None:
    """What is joined keeps the time of its newest part, so that clicks go when their days are over."""
    log = write_aged(tmp_path, [(0, 1, 3)] * 9 + [(0, 1, 2.9), (0, 1, 2)] + [(0, 1, 0)] * 39)

    log.merge_small_files()

    files = sorted(ClickLog(tmp_path).files)
    assert [(file.first, file.last) for file in files] == [(0, 9), (10, 10), (11, 49)]
    assert [file.written_s for file in files] == [NOON_S - days * DAY_S for days in (2.9, 2, 0)]
    assert log.remove_old(NOON_S - 2.5 * DAY_S, max_bytes=10**9) == 10
    assert read_rows(log) == rows(10, 40)


def test_a_copy_of_a_log_is_as_old_as_the_log(tmp_path: Path) -> None:
    """A copied or restored file is new to the file system; its clicks go when their days are over all the same."""
    write_aged(tmp_path / "log", [(0, 10, 9), (0, 10, 5), (0, 10, 1)])
    shutil.copytree(tmp_path / "log", tmp_path / "copy", copy_function=shutil.copyfile)
    copy = ClickLog(tmp_path / "copy")

    assert copy.remove_old(NOON_S - 4 * DAY_S, max_bytes=10**9) == 20
    assert read_rows(copy) == rows(20, 10)


_WRITER = """
import os, sys
from pathlib import Path
from nextclick.clicks import Click
from tools.kafka import TopicIdentity
from training.service.click_log import ClickLog, LogRow
from training.service.log_owner import LogOwner

def write():
    log = ClickLog(Path(sys.argv[1]))
    log.claim(LogOwner("shop", TopicIdentity("clicks", "id", 2)))
    begin = log.ends.get(0, 0)
    for first in range(begin, begin + 100_000, 10):
        log.append(0, first, first + 9, [LogRow(o, Click(f"user-{o % 3}", f"item-{o % 5}", 1000 + o, o % 2, o % 4))
                                         for o in range(first, first + 10)])
        log.merge_small_files()

for _ in sys.stdin:  # a life for every line; the process that is killed is a child, so that all is imported once only
    child = os.fork()
    if not child:
        write()
        os._exit(0)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""


def test_a_writer_killed_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """SIGKILL while files are written and merged: the rows are those up to the log's end, each once."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", _WRITER, tmp_path], stdin=pipe, stdout=pipe, text=True) as lives:
        assert lives.stdin is not None
        assert lives.stdout is not None
        for number in range(8):
            print(file=lives.stdin, flush=True)
            writer = int(lives.stdout.readline())
            wait_for_changes(tmp_path / "partition=0", 15 + 5 * number)  # a different moment each time
            os.kill(writer, signal.SIGKILL)
            assert lives.stdout.readline() == "ended\n"

            log = ClickLog(tmp_path)

            assert read_rows(log) == rows(0, log.ends[0])
            assert log.n_clicks == log.ends[0]


def wait_for_changes(folder: Path, count: int) -> None:
    """Wait until so many files have appeared in a folder."""
    files_seen = 0
    names: set[str] = set()
    deadline_s = time.monotonic() + DEADLINE_S
    while files_seen < count and time.monotonic() < deadline_s:
        now = {path.name for path in folder.glob("*")}
        files_seen += len(now - names)
        names |= now


def test_a_full_disk_is_one_line_and_the_log_ends_where_it_did(tmp_path: Path) -> None:
    """The error says what to do; the clicks are still in the buffer and in the topic."""
    log = ClickLog(tmp_path)
    log.append(0, 0, 4, rows(0, 5))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, hard))  # a write beyond 200 bytes fails, as on a full disk
    try:
        with pytest.raises(PermanentError, match="make room") as error:
            log.append(0, 5, 1_004, rows(5, 1_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert "\n" not in str(error.value)
    assert ClickLog(tmp_path).ends == log.ends == {0: 5}
    assert not list(tmp_path.rglob(".writing-*"))


def test_a_folder_that_cannot_be_one_is_refused(tmp_path: Path) -> None:
    """A file in its place."""
    (tmp_path / "log").write_text("in the way")

    with pytest.raises(PermanentError, match="expected to read and write the click log"):
        ClickLog(tmp_path / "log")


def test_files_that_overlap_are_refused(tmp_path: Path) -> None:
    """Two trainers must have written: better stop than count clicks twice."""
    log = ClickLog(tmp_path)
    log.append(0, 0, 4, rows(0, 5))
    os.link(log.files[0].path, path_of(tmp_path, 0, 3, 7))

    with pytest.raises(PermanentError, match="overlap"):
        ClickLog(tmp_path)


def test_the_buffer_writes_what_was_read_and_starts_anew(tmp_path: Path) -> None:
    """Rejected records are covered by the file's range; a partition without records gets no file."""
    bad = Rejected(RejectReason.BAD_JSON, "")
    buffer = ClickBuffer({0: 5, 1: 0, 2: 7})
    buffer.add([ReadRecord(0, row.offset, b"", (row.click,)) for row in rows(5, 2)])
    buffer.add([ReadRecord(2, 9, b"", bad)])
    log = ClickLog(tmp_path)

    assert buffer.n_clicks == 2
    buffer.write_to(log)
    buffer.write_to(log)

    assert buffer.n_clicks == 0
    assert log.ends == {0: 7, 2: 10}
    assert read_rows(log) == rows(5, 2)
    assert len(log.files) == 2
