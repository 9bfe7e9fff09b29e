"""The click log: every click that was read, in Parquet files that are named after the offsets they cover.

    log_dir/partition=3/00000000000000000000-00000000000000000412.parquet

The names are the trainer's position: the next offset to read is one past the highest. A file appears whole or not at
all, so a crash neither loses nor doubles a row. A range without clicks (rejected records only, or clicks that were
removed for their age) is a file of no bytes. Nothing else knows files (`training.service.log_files` apart): an
object store can take their place.
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from nextclick.clicks import Click
from nextclick.errors import PermanentError
from training.service.log_files import (
    HIDDEN_PREFIX,
    SCHEMA,
    LogFile,
    count_rows,
    parse_name,
    read_file,
    sync_folder,
    write_file,
)

_SMALL_FILE_BYTES = 1_000_000  # files below it are merged; a flush every 30 s makes thousands a day
_MERGE_AT_FILES = 32  # so a row is rewritten once per so many flushes at most, until its file is no longer small
_DAY_S = 24 * 3600


class LogRow(NamedTuple):
    """A click and the offset of its record."""

    offset: int
    click: Click


class ClickLog:
    """The click log below one folder. One process at a time may write it (`training.service.log_lock`).

    Attributes:
        folder: where it is.
        n_clicks: rows in the log.
    """

    def __init__(self, folder: Path) -> None:
        """Open a log, or start one. What a crash left behind is passed over.

        Raises:
            PermanentError: the folder cannot be used, or its files do not fit together.
        """
        self.folder = folder
        with _plain_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            files = [parse_name(path) for path in folder.glob("partition=*/*.parquet") if not _is_hidden(path)]
            self._files, self._merged_parts = _without_merged(files)
            self.n_clicks = sum(count_rows(file.path) for file in self._files)
            self._ends = {file.partition: file.last + 1 for file in self._files}

    @property
    def ends(self) -> dict[int, int]:
        """The next offset to read of every partition that the log knows."""
        return dict(self._ends)

    @property
    def files(self) -> list[LogFile]:
        """The files, by partition and offset."""
        return list(self._files)

    def remove_leftovers(self) -> None:
        """Remove what a crash left behind. Only for the one that writes the log.

        Raises:
            PermanentError: the folder cannot be written.
        """
        with _plain_errors(self.folder):
            for path in (*self.folder.glob(f"partition=*/{HIDDEN_PREFIX}*"), *self._merged_parts):
                path.unlink()
            self._merged_parts = []
            sync_folder(self.folder)  # it may have been made just before the crash

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
            write_file(file.path, _table(partition, clicks) if clicks else None)
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
            return pa.concat_tables([read_file(file.path) for file in files] or [SCHEMA.empty_table()])

    def merge_small_files(self) -> None:
        """Join neighbouring small files where many have gathered, so that reading stays quick.

        Only files of one day are joined, so that `remove_old` can be exact to a day. A crash leaves the merged file
        beside its parts at worst.

        Raises:
            PermanentError: the folder cannot be read or written.
        """
        with _plain_errors(self.folder):
            for partition in self._ends:
                *closed, newest = self._runs_of_small_files(partition)
                for parts in closed:
                    if len(parts) > 1:
                        self._merge(parts)
                if len(newest) >= _MERGE_AT_FILES:
                    self._merge(newest)

    def remove_old(self, before_s: float, max_bytes: int) -> int:
        """Remove clicks by whole files, those that were written first before others.

        The last file of a partition is emptied instead: its name is the position.

        Args:
            before_s: files whose newest click was written earlier go; in seconds since 1970.
            max_bytes: more files go, until the rest takes no more than this.

        Returns:
            How many clicks were removed.

        Raises:
            PermanentError: the folder cannot be read or written.
        """
        removed = 0
        with _plain_errors(self.folder):
            status_of = {file: file.path.stat() for file in self._files}
            n_bytes = sum(status.st_size for status in status_of.values())
            for file in sorted(self._files, key=lambda file: (status_of[file].st_mtime, file)):
                status = status_of[file]
                if status.st_mtime >= before_s and n_bytes <= max_bytes:
                    break
                is_last = file.last + 1 == self._ends[file.partition]
                if is_last and status.st_size == 0:
                    continue
                removed += self._remove(file, is_last)
                n_bytes -= status.st_size
        return removed

    def _remove(self, file: LogFile, is_last: bool) -> int:
        n_clicks = count_rows(file.path)
        if is_last:
            write_file(file.path, None)
        else:
            file.path.unlink()
            self._files.remove(file)
        self.n_clicks -= n_clicks
        return n_clicks

    def _runs_of_small_files(self, partition: int) -> list[list[LogFile]]:
        """Group a partition's files; each group covers offsets without a gap and was written within one day."""
        runs: list[list[LogFile]] = [[]]
        before: tuple[int, float] | None = None  # where the last file ended, and its day
        for file in sorted(file for file in self._files if file.partition == partition):
            status = file.path.stat()
            is_small, day = status.st_size < _SMALL_FILE_BYTES, status.st_mtime // _DAY_S
            if not is_small or before != (file.first - 1, day):
                runs.append([])
            if is_small:
                runs[-1].append(file)
            before = (file.last, day)
        return runs

    def _merge(self, parts: list[LogFile]) -> None:
        partition, first, last = parts[0].partition, parts[0].first, parts[-1].last
        merged = LogFile(partition, first, last, self.path_of(partition, first, last))
        rows = pa.concat_tables([read_file(part.path) for part in parts])
        write_file(merged.path, rows if rows.num_rows else None, parts[-1].path.stat().st_mtime)
        self._files = [file for file in self._files if file not in parts] + [merged]
        for part in parts:
            part.path.unlink()


def _table(partition: int, clicks: Sequence[LogRow]) -> pa.Table:
    offsets = [logged.offset for logged in clicks]
    users, items, times, events = zip(*(logged.click for logged in clicks), strict=True)
    columns = [users, items, times, events, [partition] * len(clicks), offsets]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


def _is_hidden(path: Path) -> bool:
    return path.name.startswith(HIDDEN_PREFIX)


def _without_merged(files: list[LogFile]) -> tuple[list[LogFile], list[Path]]:
    """Set files apart whose range lies inside another's: a crash came between a merge and the removal of its parts."""
    kept: list[LogFile] = []
    merged_parts = []
    for file in sorted(files, key=lambda file: (file.partition, file.first, -file.last)):
        before = kept[-1] if kept and kept[-1].partition == file.partition else None
        if before is not None and file.last <= before.last:
            merged_parts.append(file.path)
        elif before is not None and file.first <= before.last:
            raise PermanentError(
                f"the click log expects files that do not overlap, found {before.path} and {file.path.name}; "
                "was it written by two trainers? Remove the newer one: the topic still has its clicks"
            )
        else:
            kept.append(file)
    return kept, merged_parts


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
