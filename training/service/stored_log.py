"""The click log in an object store, of which `log_dir` has a copy: the same names, the same files.

    owner.json                                                              whose clicks these are; the first one counts
    partition=3/00000000000000000000-00000000000000000412.parquet

A file is a statement: these are the clicks among these records of this topic. It is written by one request, under a
name that nobody has taken, and what its records were never changes. So two trainers that write at once, because one
was paused and does not know yet that another took its place, do no harm: what their files say twice is the same.

**A file is removed only when a larger one that covers all of it is there.** Should that one be removed, a still larger
one is there: so no order of requests, pauses and deaths loses a record. Many small files become one in this order: the
one is added, then the small ones are removed. A trainer that begins finds what others left, and goes on by the same
rule: what lies inside another file is removed; two files of which each has records that the other lacks become one.
Then no two files overlap, and the folder gets what it lacks. Only clicks that are too old go without such a file.
"""

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from nextclick.errors import PermanentError
from tools.files import HIDDEN_PREFIX, write_whole
from tools.object_store import ObjectMissing, ObjectStore, StoreAway, StoredObject
from training.service.log_files import (
    LogFile,
    decode_rows,
    encode_file,
    look_at,
    parse_name,
    path_of,
    read_rows,
    write_file,
    written_s_of,
)
from training.service.log_owner import NOTE, LogOwner, read_owner, refuse_other_owner

_COPY_NOTE = "copy-of"  # in the folder: the address that it has a copy of
_FILES = "partition=*/*.parquet"
_TRIES = 3  # of a file that comes whole and is damaged: on its way, or where it lies


class _Range(NamedTuple):
    """What a file covers. Sorts so that of files which begin together the longest comes first."""

    partition: int
    first: int
    minus_last: int

    @property
    def last(self) -> int:
        """The last offset that it covers."""
        return -self.minus_last

    def path(self, folder: Path) -> Path:
        """Give the path of its copy."""
        return path_of(folder, self.partition, self.first, self.last)


class StoredLog:
    """One click log in an object store. Every call blocks."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    def add(self, path: Path, content: bytes) -> None:
        """Write a file that is not there yet; on return it is whole and stays.

        Args:
            path: of the copy.
            content: of both.

        Raises:
            StoreAway: the store does not answer. The file may be there all the same.
            PermanentError: another trainer has written a file of this name; or the store refuses.
        """
        if not self._store.create(_name_of(path), content):
            raise PermanentError(
                f"another trainer has written {_name_of(path)} to the click log {self._store.address}: this one ends, "
                "and goes on behind it when it is started again. Is there one application for each click log?"
            )

    def replace(self, path: Path, content: bytes) -> None:
        """Write a file in the place of one that says more: its clicks are removed for their age.

        Raises:
            StoreAway, PermanentError: the store does not answer, or refuses.
        """
        self._store.write(_name_of(path), content)

    def remove(self, paths: Sequence[Path]) -> None:
        """Remove files, those of them that are there.

        Raises:
            StoreAway, PermanentError: the store does not answer, or refuses. Some may be removed all the same.
        """
        self._store.remove([_name_of(path) for path in paths])

    def refuse_other_owner(self, owner: LogOwner) -> None:
        """Refuse to go on with the log of another application or topic, before anything of it is fetched or joined.

        Raises:
            StoreAway: the store does not answer.
            PermanentError: it is another's; or the store refuses.
        """
        refuse_other_owner(self._store.address, self._owner(), owner)

    def claim(self, owner: LogOwner) -> None:
        """Make the log an owner's. Of several that try one wins.

        Raises:
            StoreAway: the store does not answer.
            PermanentError: it is another's; or the store refuses.
        """
        if not self._store.create(NOTE, msgspec.json.encode(owner)):
            self.refuse_other_owner(owner)

    def copy_to(self, folder: Path, tick: Callable[[], None]) -> None:
        """Let a folder have what the store has. A log that was in the folder alone becomes the store's.

        Args:
            folder: of the copy.
            tick: called before each file.

        Raises:
            StoreAway: the store does not answer.
            PermanentError: the folder has another log; a file is damaged; or the store refuses.
            OSError: the folder cannot be written.
        """
        owner, objects = self._owner(), self._files()
        self._adopt(folder, owner, objects, tick)
        objects = self._files()
        while self._mend_overlaps(folder, objects, tick):
            objects = self._files()  # another trainer may have written meanwhile, too
        for path in _files_in(folder):
            if _name_of(path) not in objects:
                path.unlink()
        for name, stored in objects.items():
            self._fetch(folder / name, stored.n_bytes, tick)
        if owner is not None:
            write_whole(folder / NOTE, msgspec.json.encode(owner))

    def mend(self, files: Iterable[LogFile], tick: Callable[[], None]) -> list[Path]:
        """Fetch those copies again that are damaged, wherever that is: all of them are read.

        Args:
            files: of the log.
            tick: called before each.

        Returns:
            Those that were damaged.

        Raises:
            StoreAway: the store does not answer.
            PermanentError: a file is damaged in the store, too; or the store refuses.
            OSError: the folder cannot be written.
        """
        damaged = []
        for file in files:
            tick()
            try:
                read_rows(file)
            except (PermanentError, OSError):
                write_file(file.path, self._read(file.path, file.n_bytes))
                damaged.append(file.path)
        return damaged

    def _files(self) -> dict[str, StoredObject]:
        """Give the files of the log, and nothing else that lies below the address."""
        objects = self._store.list()
        return {name: objects[name] for name in objects if PurePosixPath(name).match(_FILES) and name.count("/") == 1}

    def _adopt(self, folder: Path, owner: LogOwner | None, objects: Collection[str], tick: Callable[[], None]) -> None:
        """Make sure that the folder has a copy of this log, and no other log; upload one that was in it alone.

        Raises:
            PermanentError: folder and store have two logs; or the store has lost what the folder has a copy of.
        """
        noted = read_owner(folder)
        if _copied_address(folder) == self._store.address:
            if owner is None and noted is not None:
                raise PermanentError(
                    f"the click log {self._store.address} is not there any more, and log_dir {folder} has a copy: "
                    f"restore it, or remove {folder / _COPY_NOTE}, and the copy is uploaded"
                )
            return
        if owner is None:
            for path in _files_in(folder):
                tick()
                self.add(path, path.read_bytes())
            if noted is not None:
                self.claim(noted)
        elif any(_name_of(path) not in objects for path in _files_in(folder)):
            raise PermanentError(
                f"log_dir {folder} has a click log of its own, and so has {self._store.address}: move one away, or "
                "choose another folder with --set log_dir=PATH. With click_log the folder has a copy only"
            )
        write_whole(folder / _COPY_NOTE, self._store.address.encode())

    def _mend_overlaps(self, folder: Path, objects: Mapping[str, StoredObject], tick: Callable[[], None]) -> bool:
        """Remove what lies inside other files, and join the first two that overlap; tells whether anything was done."""
        covered = []
        before: _Range | None = None
        for each in sorted(_range_of(name) for name in objects):
            if before is None or before.partition != each.partition or each.first > before.last:
                before = each
            elif each.last <= before.last:
                covered.append(each)
            else:
                tick()
                self._join(folder, before, each, objects)
                return True
        self.remove([each.path(folder) for each in covered])
        return bool(covered)

    def _join(self, folder: Path, one: _Range, other: _Range, objects: Mapping[str, StoredObject]) -> None:
        """Add a file that covers two which overlap."""
        tables, times = [], []
        for each, behind in ((one, -1), (other, one.last)):
            path = each.path(folder)
            stored = objects[_name_of(path)]
            content = self._read(path, stored.n_bytes)
            times.append(written_s_of(path, content, stored.modified_s))
            rows = decode_rows(path, content)
            tables.append(rows.filter(pc.greater(rows["offset"], behind)))
        both = _Range(one.partition, one.first, other.minus_last)
        # One of this name that another trainer has added says the same.
        self._store.create(_name_of(both.path(folder)), encode_file(pa.concat_tables(tables), max(times)))

    def _fetch(self, path: Path, n_bytes: int, tick: Callable[[], None]) -> None:
        """Have a file in the folder; another size tells that its clicks were removed for their age meanwhile."""
        try:
            is_there = look_at(path, may_be_empty=True).n_bytes == n_bytes
        except (PermanentError, OSError):  # damaged, or not there
            is_there = False
        if not is_there:
            tick()
            write_file(path, self._read(path, n_bytes))

    def _read(self, path: Path, n_bytes: int) -> bytes:
        tries_left = _TRIES
        while True:
            content = BytesIO()
            try:
                self._store.download(_name_of(path), n_bytes, content)
            except ObjectMissing as missing:
                raise StoreAway(f"another trainer has changed {self._store.address} meanwhile: {missing}") from missing
            try:
                decode_rows(path, content.getvalue())
                return content.getvalue()
            except PermanentError:
                tries_left -= 1
                if not tries_left:
                    raise

    def _owner(self) -> LogOwner | None:
        try:
            return msgspec.json.decode(self._store.read(NOTE), type=LogOwner)
        except ObjectMissing:
            return None
        except msgspec.DecodeError as error:
            raise PermanentError(
                f"{NOTE} of the click log {self._store.address} should say whose it is, but cannot be read: {error}. "
                "Restore it; or remove it, if you know that the log is this application's"
            ) from error


def _range_of(name: str) -> _Range:
    partition, first, last = parse_name(Path(name))
    return _Range(partition, first, -last)


def _name_of(path: Path) -> str:
    """Give an object's name by the path of its copy."""
    return str(PurePosixPath(path.parent.name, path.name))


def _files_in(folder: Path) -> list[Path]:
    """Give the files of the log that a folder has, by partition and offset."""
    return sorted(path for path in folder.glob(_FILES) if not path.name.startswith(HIDDEN_PREFIX))


def _copied_address(folder: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return (folder / _COPY_NOTE).read_text()
    return ""
