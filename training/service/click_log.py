"""The click log: every click that was read, in Parquet files that are named after the offsets they cover.

    log_dir/owner.json                                                              whose clicks these are
    log_dir/partition=3/00000000000000000000-00000000000000000412.parquet

The names are the trainer's position: the next offset to read is one past the highest. A file appears whole or not at
all, so a crash neither loses nor doubles a row. A range without clicks (rejected records only, or clicks that were
removed for their age) is a file without rows. Nothing else knows files (`training.service.log_files` apart).

Where the log is in an object store (`training.service.stored_log`), the folder has a copy of it, and whatever is done
is done there first: what this folder has and the store has not was never done.
"""

import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pyarrow as pa

from nextclick.clicks import Click, Decoded
from nextclick.errors import PermanentError, TemporaryError
from tools.files import HIDDEN_PREFIX, make_folder, sync, write_whole
from tools.object_store import StoreAway
from training.service.log_files import SCHEMA, LogFile, encode_file, look_at, path_of, read_rows, write_file
from training.service.log_owner import NOTE, LogOwner, read_owner, refuse_other_owner
from training.service.stored_log import StoredLog

_SMALL_FILE_BYTES = 1_000_000  # files below it are merged; a flush every 30 s makes thousands a day
_MERGED_BYTES = 8_000_000  # joined at once: one request writes it, and the loop waits for as long
_MERGE_AT_FILES = 32  # so a row is rewritten once per so many flushes at most, until its file is no longer small
_DAY_S = 24 * 3600
_log = logging.getLogger(__name__)


class LogRow(NamedTuple):
    """A click and the offset of its record."""

    offset: int
    click: Click


class ReadRecord(NamedTuple):
    """A record that was read.

    Attributes:
        clicks: none for offsets up to this one that hold nothing to be logged: the end of a transaction, or a copy that
            `nextclick repartition` made of a click in another partition.
    """

    partition: int
    offset: int
    key: bytes | None
    clicks: Decoded


class _Addition(NamedTuple):
    """A file that is to be in the log.

    Attributes:
        path: of it.
        content: of it.
        parts: files that it stands for.
    """

    path: Path
    content: bytes
    parts: Sequence[LogFile]


class ClickLog:
    """The click log below one folder. One process at a time may write it (`training.service.log_owner`).

    Attributes:
        folder: where it is.
        owner: whose clicks it holds; None when it is new, or an earlier version wrote it.
        n_clicks: rows in the log.
    """

    def __init__(
        self,
        folder: Path,
        clock: Callable[[], float] = time.time,
        stored: StoredLog | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Open a log, or start one. What a crash left behind is passed over.

        Args:
            folder: where it is.
            clock: gives the time, in seconds since 1970; the clicks that are written now are as old.
            stored: the log in an object store, which the folder then has a copy of; only for the one that writes it.
            tick: called again and again while files are fetched from there, or joined, which can take minutes.

        Raises:
            PermanentError: the folder cannot be used, or its files are damaged or do not fit together; or the object
                store refuses.
            StoreAway: the object store does not answer.
        """
        self.folder = folder
        self._clock = clock
        self._stored, self._tick = stored, tick
        with _plain_errors(folder):
            make_folder(folder)
            if stored is not None:
                stored.copy_to(folder, tick)
            self.owner = read_owner(folder)
            paths = [path for path in folder.glob("partition=*/*.parquet") if not path.name.startswith(HIDDEN_PREFIX)]
            files = [look_at(path, may_be_empty=self.owner is None) for path in paths]
        self._files, self._covered = _without_merged(files)
        self._unconfirmed: _Addition | None = None
        self.n_clicks = sum(file.n_clicks for file in self._files)
        self._ends = {file.partition: file.last + 1 for file in self._files}

    @property
    def ends(self) -> dict[int, int]:
        """The next offset to read of every partition that the log knows."""
        return dict(self._ends)

    @property
    def files(self) -> list[LogFile]:
        """The files, by partition and offset."""
        return list(self._files)

    def claim(self, owner: LogOwner) -> None:
        """Make the log this owner's, and remove what a crash left behind. Only for the one that writes the log.

        A log that an earlier version wrote does not say whose it is: it is taken for this owner's.

        Raises:
            PermanentError: it is another's, or the folder cannot be written; or the object store refuses.
            StoreAway: the object store does not answer.
        """
        refuse_other_owner(self.folder, self.owner, owner)
        if self._stored is not None:
            self._stored.claim(owner)
        with _plain_errors(self.folder):
            for pattern in (f"{HIDDEN_PREFIX}*", f"partition=*/{HIDDEN_PREFIX}*"):
                for path in self.folder.glob(pattern):
                    path.unlink(missing_ok=True)
            self._remove_covered()
            sync(self.folder)  # a folder of a partition may have been made just before the crash
            if self.owner is None:
                # From the note on a file of no bytes is a damaged one.
                for file in [file for file in self._files if file.n_bytes == 0]:
                    self._empty(file)
                write_whole(self.folder / NOTE, msgspec.json.encode(owner))
                self.owner = owner
                if self._files:
                    taken = "the click log %s did not say whose clicks it holds: taken for the application %s, topic %s"
                    _log.warning(taken, self.folder, owner.app, owner.clicks.topic)

    def append(self, partition: int, first: int, last: int, clicks: Sequence[LogRow]) -> None:
        """Write the clicks among the records [first, last] of a partition; durable on return.

        Args:
            partition: of all the records.
            first: where the log ends so far; only a new partition can begin anywhere.
            last: the last record that was read, whether it is among the clicks or not.
            clicks: in the order of their offsets.

        Raises:
            PermanentError: the folder cannot be written, or another trainer wrote these records to the object store.
                Nothing is lost: the log ends where it did.
            StoreAway: the object store does not answer; the log ends where it did, or behind what it was given before
                (`settle`).
        """
        with _plain_errors(self.folder):
            self.settle()
            if first != self._ends.get(partition, first) or last < first:
                raise ValueError(f"partition {partition} ends at {self._ends.get(partition)}, not at {first}-{last}")
            content = encode_file(_table(partition, clicks), self._clock())
            self._add(_Addition(path_of(self.folder, partition, first, last), content, ()))

    def settle(self) -> None:
        """Finish what the object store did not confirm. It may have done it, or do it yet: the same bytes are offered
        again, and nothing else is begun before.

        Raises:
            StoreAway, PermanentError: as from `append`.
        """
        unconfirmed, self._unconfirmed = self._unconfirmed, None
        if unconfirmed is not None:
            with _plain_errors(self.folder):
                self._add(unconfirmed)

    def read(self, files: Sequence[LogFile]) -> pa.Table:
        """Read the rows of some files, one file after the other.

        Raises:
            PermanentError: a file cannot be read, or is damaged.
        """
        with _plain_errors(self.folder):
            return pa.concat_tables([read_rows(file) for file in files] or [SCHEMA.empty_table()])

    def mend_copies(self) -> list[Path]:
        """Fetch those files again that are damaged here, if the log is in an object store; gives them. Reads the log.

        Raises:
            PermanentError: the folder cannot be written, or a file is damaged in the store, too.
            StoreAway: the object store does not answer.
        """
        if self._stored is None:
            return []
        with _plain_errors(self.folder):
            return self._stored.mend(self._files, self._tick)

    def merge_small_files(self) -> None:
        """Join neighbouring small files where many have gathered, so that reading stays quick.

        Only files of one day are joined, so that `remove_old` can be exact to a day. A crash leaves the merged file
        beside its parts at worst.

        Raises:
            PermanentError: the folder cannot be read or written, or a file is damaged.
            StoreAway: the object store does not answer: the rest is joined another time.
        """
        with _plain_errors(self.folder):
            self.settle()
            self._remove_covered()
            for partition in self._ends:
                self._tick()
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
            How many clicks were removed. What an object store that is away keeps goes another time.

        Raises:
            PermanentError: the folder cannot be written.
        """
        n_removed = 0
        with contextlib.suppress(TemporaryError), _plain_errors(self.folder):
            self.settle()
            self._remove_covered()
            n_bytes = sum(file.n_bytes for file in self._files)
            for file in sorted(self._files, key=lambda file: (file.written_s, file)):
                if file.written_s >= before_s and n_bytes <= max_bytes:
                    break
                self._tick()
                if file.last + 1 != self._ends[file.partition]:
                    self._remove([file.path])
                    self._files.remove(file)
                elif file.n_clicks:
                    self._empty(file)
                else:
                    continue
                self.n_clicks -= file.n_clicks
                n_removed += file.n_clicks
                n_bytes -= file.n_bytes
        return n_removed

    def _empty(self, file: LogFile) -> None:
        """Leave of a file what it covers."""
        content = encode_file(SCHEMA.empty_table(), file.written_s)
        if self._stored is not None:
            self._stored.replace(file.path, content)
        self._files[self._files.index(file)] = write_file(file.path, content)

    def _add(self, addition: _Addition) -> None:
        """Let a file be in the log, in the place of its parts. A training may read these: they are removed later."""
        path, content, parts = addition
        if self._stored is not None:
            try:
                self._stored.add(path, content)
            except StoreAway:
                self._unconfirmed = addition
                raise
        file = write_file(path, content)
        self._files = [each for each in self._files if each not in parts] + [file]
        self._covered += [part.path for part in parts]
        self._ends[file.partition] = max(file.last + 1, self._ends.get(file.partition, 0))
        self.n_clicks += file.n_clicks - sum(part.n_clicks for part in parts)

    def _remove_covered(self) -> None:
        """Remove the files that lie inside others, of a merge that a crash or the object store cut off, too."""
        self._remove(self._covered)
        self._covered = []

    def _remove(self, paths: Sequence[Path]) -> None:
        if self._stored is not None:
            self._stored.remove(paths)
        for path in paths:
            path.unlink(missing_ok=True)

    def _runs_of_small_files(self, partition: int) -> list[list[LogFile]]:
        """Group a partition's files; each group covers offsets without a gap and was written within one day."""
        runs: list[list[LogFile]] = [[]]
        n_bytes = 0  # of the last group
        before: tuple[int, float] | None = None  # where the last file ended, and its day
        for file in sorted(file for file in self._files if file.partition == partition):
            is_small, day = file.n_bytes < _SMALL_FILE_BYTES, file.written_s // _DAY_S
            if not is_small or before != (file.first - 1, day) or n_bytes + file.n_bytes > _MERGED_BYTES:
                runs.append([])
                n_bytes = 0
            if is_small:
                runs[-1].append(file)
                n_bytes += file.n_bytes
            before = (file.last, day)
        return runs

    def _merge(self, parts: list[LogFile]) -> None:
        path = path_of(self.folder, parts[0].partition, parts[0].first, parts[-1].last)
        rows = pa.concat_tables([read_rows(part) for part in parts])
        self._add(_Addition(path, encode_file(rows, max(part.written_s for part in parts)), parts))
        self._remove_covered()


class ClickBuffer:
    """Clicks that were read and wait to be written to the click log, and which records were read.

    Attributes:
        n_clicks: that wait.
    """

    def __init__(self, positions: dict[int, int]) -> None:
        """Start empty; `positions` says which record of each partition is read first."""
        self._first = dict(positions)
        self._next = dict(positions)
        self._clicks: dict[int, list[LogRow]] = {partition: [] for partition in positions}
        self.n_clicks = 0

    @property
    def logged(self) -> dict[int, int]:
        """Where the log ends: for each partition the first record that was not written to it. From any thread."""
        return dict(self._first)

    def add(self, records: Iterable[ReadRecord]) -> None:
        """Take records, in order per partition. What is no click counts as read too."""
        for partition, offset, _, clicks in records:
            self._next[partition] = offset + 1
            if isinstance(clicks, tuple):
                self._clicks[partition].extend(LogRow(offset, click) for click in clicks)
                self.n_clicks += len(clicks)

    def write_to(self, log: ClickLog) -> None:
        """Write everything; also where no click was among the records, so that the log's end moves on.

        Raises:
            StoreAway, PermanentError: as from `ClickLog.append`. What is logged by then does not wait any more.
        """
        log.settle()
        ends = log.ends
        for partition, end in self._next.items():
            self._forget(partition, ends.get(partition, 0))  # what an earlier try has logged after all
            if end > self._first[partition]:
                log.append(partition, self._first[partition], end - 1, self._clicks[partition])
                self._forget(partition, end)

    def _forget(self, partition: int, end: int) -> None:
        """Forget the records before an offset."""
        if end > self._first[partition]:
            clicks = self._clicks[partition]
            self._first[partition] = end
            self._clicks[partition] = [row for row in clicks if row.offset >= end]
            self.n_clicks -= len(clicks) - len(self._clicks[partition])


def _table(partition: int, clicks: Sequence[LogRow]) -> pa.Table:
    if not clicks:
        return SCHEMA.empty_table()
    offsets = [logged.offset for logged in clicks]
    users, items, times, events, hashes = zip(*(logged.click for logged in clicks), strict=True)
    columns = [users, items, times, events, [partition] * len(clicks), offsets, hashes]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, SCHEMA, strict=True)], SCHEMA)


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
    except OSError as error:
        raise PermanentError(
            f"expected to read and write the click log {folder}, found: {error.strerror or error}; make room or "
            "correct the permissions. No click is lost: the next start goes on where the log ends"
        ) from error
