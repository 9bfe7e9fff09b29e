"""The click log: every click that was read, in Parquet files that are named after the offsets they cover.

    log_dir/partition=3/00000000000000000000-00000000000000000412.parquet

The names are the trainer's position: the next offset to read is one past the highest. A file appears whole or not at
all (hidden name, fsync, rename, fsync of the folder), so a crash neither loses nor doubles a row. A range without
clicks (rejected records only) is a file of no bytes. This is the only module that knows files: an object store can
take its place.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from nextclick.clicks import Click
from nextclick.errors import PermanentError

SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("timestamp_ms", pa.int64()),
        ("event_type", pa.uint8()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
    ]
)
_HIDDEN_PREFIX = ".writing-"
_SMALL_FILE_BYTES = 1_000_000  # files below it are merged; a flush every 30 s makes thousands a day
_MERGE_AT_FILES = 32  # so a row is rewritten once per so many flushes at most, until its file is no longer small


class LogFile(NamedTuple):
    """A file of the log and the offsets that it covers, both inclusive."""

    partition: int
    first: int
    last: int
    path: Path


class LogRow(NamedTuple):
    """A click and the offset of its record."""

    offset: int
    click: Click


class ClickLog:
    """The click log below one folder. One process at a time may write it (`training.log_lock`).

    Attributes:
        folder: where it is.
        n_clicks: rows in the log.
    """

    def __init__(self, folder: Path) -> None:
        """Open a log, or start one, and remove what a crash left behind.

        Raises:
            PermanentError: the folder cannot be used, or its files do not fit together.
        """
        self.folder = folder
        with _plain_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"partition=*/{_HIDDEN_PREFIX}*"):
                leftover.unlink()
            files = sorted(_parse_name(path) for path in folder.glob("partition=*/*.parquet"))
            self._files = _without_merged(files)
            self.n_clicks = sum(_n_rows(file.path) for file in self._files)
            self._ends = {file.partition: file.last + 1 for file in self._files}

    @property
    def ends(self) -> dict[int, int]:
        """The next offset to read of every partition that the log knows."""
        return dict(self._ends)

    @property
    def files(self) -> list[LogFile]:
        """The files, by partition and offset."""
        return list(self._files)

    def append(self, partition: int, first: int, last: int, clicks: Sequence[LogRow]) -> None:
        """Write the clicks among the records [first, last] of a partition; durable on return.

        Args:
            partition: of all the records.
            first: where the log ends so far; only a new partition can begin anywhere.
            last: the last record that was read, whether it is among the clicks or not.
            clicks: in the order of their offsets.

        Raises:
            PermanentError: the folder cannot be written. Nothing is lost: the log ends where it did.
        """
        if first != self._ends.get(partition, first) or last < first:
            raise ValueError(f"partition {partition} ends at {self._ends.get(partition)}, not at {first}-{last}")
        file = LogFile(partition, first, last, self.path_of(partition, first, last))
        with _plain_errors(self.folder):
            _write(file.path, _table(partition, clicks) if clicks else None)
        self._files.append(file)
        self._ends[partition] = last + 1
        self.n_clicks += len(clicks)

    def path_of(self, partition: int, first: int, last: int) -> Path:
        """Give the path of the file that covers these offsets."""
        return self.folder / f"partition={partition}" / f"{first:020d}-{last:020d}.parquet"

    def read(self, files: Sequence[LogFile]) -> pa.Table:
        """Read the rows of some files, one file after the other.

        Raises:
            PermanentError: a file cannot be read.
        """
        with _plain_errors(self.folder):
            return pa.concat_tables([_read(file.path) for file in files] or [SCHEMA.empty_table()])

    def merge_small_files(self) -> None:
        """Join neighbouring small files where many have gathered, so that reading stays quick.

        A crash leaves the merged file beside its parts at worst; the parts go at the next start.
        """
        with _plain_errors(self.folder):
            for partition in self._ends:
                small = self._small_files_at_the_end(partition)
                if len(small) >= _MERGE_AT_FILES:
                    self._merge(small)

    def _small_files_at_the_end(self, partition: int) -> list[LogFile]:
        small: list[LogFile] = []
        for file in sorted((file for file in self._files if file.partition == partition), reverse=True):
            touches = not small or file.last + 1 == small[-1].first
            if not touches or file.path.stat().st_size >= _SMALL_FILE_BYTES:
                break
            small.append(file)
        return small[::-1]

    def _merge(self, parts: list[LogFile]) -> None:
        partition, first, last = parts[0].partition, parts[0].first, parts[-1].last
        merged = LogFile(partition, first, last, self.path_of(partition, first, last))
        rows = pa.concat_tables([_read(part.path) for part in parts])
        _write(merged.path, rows if rows.num_rows else None)
        self._files = [file for file in self._files if file not in parts] + [merged]
        for part in parts:
            part.path.unlink()


def _table(partition: int, clicks: Sequence[LogRow]) -> pa.Table:
    offsets = [logged.offset for logged in clicks]
    users, items, times, events = zip(*(logged.click for logged in clicks), strict=True)
    columns = [users, items, times, events, [partition] * len(clicks), offsets]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


def _write(path: Path, table: pa.Table | None) -> None:
    """Let a file appear whole: what a power cut leaves is either nothing under this name, or all of it."""
    is_new_folder = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    hidden = path.with_name(_HIDDEN_PREFIX + path.name)
    try:
        with hidden.open("wb") as file:
            if table is not None:
                pq.write_table(table, file, compression="zstd")
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            hidden.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)
    if is_new_folder:
        _sync_folder(path.parent.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> pa.Table:
    if path.stat().st_size == 0:
        return SCHEMA.empty_table()
    with path.open("rb") as file:  # an open file: given a path, the folder's name would become a column
        return pq.read_table(file, schema=SCHEMA)


def _n_rows(path: Path) -> int:
    return pq.read_metadata(path).num_rows if path.stat().st_size else 0


def _parse_name(path: Path) -> LogFile:
    try:
        partition = int(path.parent.name.removeprefix("partition="))
        first, last = (int(part) for part in path.stem.split("-"))
    except ValueError:
        raise PermanentError(
            f"the click log expects files named partition=N/FIRST-LAST.parquet, found {path}; move it elsewhere"
        ) from None
    return LogFile(partition, first, last, path)


def _without_merged(files: list[LogFile]) -> list[LogFile]:
    """Remove files whose range lies inside another's: a crash came between a merge and the removal of its parts."""
    kept: list[LogFile] = []
    for file in sorted(files, key=lambda file: (file.partition, file.first, -file.last)):
        before = kept[-1] if kept and kept[-1].partition == file.partition else None
        if before is not None and file.last <= before.last:
            file.path.unlink()
        elif before is not None and file.first <= before.last:
            raise PermanentError(
                f"the click log expects files that do not overlap, found {before.path} and {file.path.name}; "
                "was it written by two trainers? Remove the newer one: the topic still has its clicks"
            )
        else:
            kept.append(file)
    return kept


@contextlib.contextmanager
def _plain_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except pa.ArrowInvalid as error:
        raise PermanentError(
            f"the click log {folder} expects Parquet files, found another: {error}; restore it, or remove it if it is "
            "the newest of its partition: its clicks are read again"
        ) from error
    except OSError as error:
        raise PermanentError(
            f"expected to read and write the click log {folder}, found: {error.strerror or error}; make room or "
            "correct the permissions. No click is lost: the next start goes on where the log ends"
        ) from error
