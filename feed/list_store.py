"""The local copy of the lists: the newest update of every user, and up to where the topic was read.

One RocksDB, one writer, any number of readers. It is a cache: one that is damaged is removed and read again from the
topic. On a full disk it is read all the same, and written again once there is room.
"""

import logging
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import rocksdict

from nextclick.errors import PermanentError, TemporaryError
from tools.files import make_folder
from tools.kafka import TopicIdentity

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

# Beside the lists: no user's id holds a NUL.
_OWN_PREFIX = b"\0"
_TOPIC_KEY, _POPULAR_KEY, _POSITION_PREFIX = b"\0topic", b"\0popular", b"\0position/"
_FIRST_KEY, _BEHIND_LAST_KEY = b"", b"\xff" * 300  # users' ids are at most 256 bytes of UTF-8, which has no 0xff
_WRITE_BUFFER_BYTES = 16 * 1024**2
_MAX_OPEN_FILES = 512
_BLOOM_BITS = 10  # of a key: one in a hundred users nobody knows costs a read of the disk
_TIME_BYTES = 4  # RocksDB puts the time behind each value that has a lifetime; read-only, it gives both
_CLOSE_TRIES, _CLOSE_AGAIN_S = 20, 0.05
# In what RocksDB says. A file that is missing is named with the system's words.
_DAMAGED, _LOCKED = ("Corruption", "No such file or directory"), "LOCK:"


class DamagedLists(TemporaryError):
    """The files cannot be trusted. They are removed at the next start, which reads the topic again."""


class _Database(NamedTuple):
    """What is open: one object, for readers must not meet one with the other's properties."""

    rocks: rocksdict.Rdict
    is_read_only: bool

    def values(self, keys: Sequence[bytes]) -> list[bytes | None]:
        """Read values, without what RocksDB has put behind them."""
        found: Any = self.rocks.get(list(keys))
        return [value[:-_TIME_BYTES] if self.is_read_only and value is not None else value for value in found]


class ListStore:
    """The lists in a folder, which no other process may use."""

    def __init__(self, folder: Path, cache_bytes: int, keep_s: float) -> None:
        """Open the store; one that is damaged is begun anew, and one on a full disk is only read.

        Args:
            folder: is made if it is not there.
            cache_bytes: memory for what is read often, with the indices of all files.
            keep_s: what was not written again for so long is removed, when RocksDB next compacts its files; 0: never.

        Raises:
            PermanentError: another process has it, or its folder cannot be made.
            TemporaryError: it can neither be written nor read.
        """
        self._folder, self._cache_bytes, self._keep_s = folder, cache_bytes, keep_s
        self._replacing, self._is_closing = threading.Lock(), False
        self._damage_mark = folder.with_name(f"{folder.name}.damaged")
        try:
            make_folder(folder.parent)
            if self._damage_mark.exists():
                self._remove()
        except OSError as error:
            raise PermanentError(
                f"feed_dir {folder.parent} cannot be used: {error.strerror}; correct --set feed_dir=PATH"
            ) from error
        try:
            self._db = self._opened()
        except DamagedLists as error:
            _log.warning("%s", error)
            self._remove()
            self._db = self._opened()
        except TemporaryError as error:
            self._db = self._opened_to_read(error)
            _log.warning("%s; what is stored is answered", error)

    def list_of(self, user_id: str) -> bytes | None:
        """Give a user's newest update; None if there is none, as of any text that is no user's id.

        Raises:
            DamagedLists: the files cannot be trusted.
            TemporaryError: the disk cannot be read.
        """
        return None if "\0" in user_id else self._get(user_id.encode(errors="replace"))

    def get_many(self, users: Sequence[bytes]) -> list[bytes | None]:
        """Give users' newest updates, by the keys of their records."""
        return self._read(lambda database: database.values(users))

    def entries(self) -> Iterator[tuple[bytes, bytes]]:
        """Give everything but what is kept beside it, in the order of the keys; for the one that writes."""
        database = self._db
        for key, value in database.rocks.items():
            if not key.startswith(_OWN_PREFIX):  # type: ignore[union-attr,arg-type]
                yield key, value[:-_TIME_BYTES] if database.is_read_only else value  # type: ignore[misc]

    @property
    def popular(self) -> bytes | None:
        """The newest update with the popular list, of whichever user."""
        return self._get(_POPULAR_KEY)

    @property
    def topic(self) -> TopicIdentity | None:
        """The topic that the lists are from; None: there are none yet."""
        found = self._get(_TOPIC_KEY)
        return msgspec.json.decode(found, type=TopicIdentity) if found is not None else None

    @property
    def has_lists(self) -> bool:
        """Whether anything of the topic was stored."""
        topic = self.topic
        return topic is not None and any(offset is not None for offset in self.positions(topic.partitions))

    def positions(self, n_partitions: int) -> list[int | None]:
        """Give the next offset to read of each partition; None: it was never read."""
        found = self.get_many([_position_key(partition) for partition in range(n_partitions)])
        return [int(offset) if offset is not None else None for offset in found]

    def write(
        self, lists: Mapping[bytes, bytes | None], positions: Mapping[int, int], popular: bytes | None = None
    ) -> None:
        """Write all of it or nothing.

        Written to the system, not synced: a killed process loses nothing, and what a crashed machine loses is read
        again, for positions and lists are lost together.

        Args:
            lists: by user, None removes.
            positions: the next offset to read, by partition.
            popular: a newer popular list, if there is one.

        Raises:
            TemporaryError: the disk is full or cannot be written.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for user, value in lists.items():
            if value is None:
                batch.delete(user)
            else:
                batch.put(user, value)
        for partition, offset in positions.items():
            batch.put(_position_key(partition), str(offset).encode())
        if popular is not None:
            batch.put(_POPULAR_KEY, popular)
        with self._writing() as rocks:
            rocks.write(batch)

    def renew(self, n_partitions: int) -> None:
        """Write again what must outlive `keep_s`: the topic, the positions, and what is popular.

        Raises:
            TemporaryError: the disk is full or cannot be written.
        """
        keys = [_TOPIC_KEY, _POPULAR_KEY, *map(_position_key, range(n_partitions))]
        stored = zip(keys, self.get_many(keys), strict=True)
        self.write({key: value for key, value in stored if value is not None}, {})

    def begin(self, topic: TopicIdentity) -> None:
        """Remove everything, and note which topic is read from now on.

        Raises:
            TemporaryError: the disk is full or cannot be written.
        """
        with self._writing() as rocks:
            rocks.delete_range(_FIRST_KEY, _BEHIND_LAST_KEY)
            rocks.put(_TOPIC_KEY, msgspec.json.encode(topic))
            rocks.compact_range(None, None)

    def n_users(self) -> int:
        """Estimate how many users have a list."""
        return self._read(lambda database: database.rocks.property_int_value("rocksdb.estimate-num-keys") or 0)

    def n_bytes(self) -> int:
        """Give the bytes of the files."""
        return self._read(lambda database: database.rocks.property_int_value("rocksdb.total-sst-files-size") or 0)

    def close(self) -> None:
        """Close; what was written is on its way to the disk. Never fails: what could not be written is read again."""
        _close(self._db.rocks)

    def _get(self, key: bytes) -> bytes | None:
        return self._read(lambda database: database.values([key]))[0]

    def _read(self, read: Callable[[_Database], _T]) -> _T:
        """Read; again, if what was open has been replaced meanwhile, and maybe its files with it."""
        while True:
            if self._is_closing:
                with self._replacing:
                    pass
            database = self._db
            try:
                return read(database)
            except Exception:
                with self._replacing:  # waits for who does it
                    if database is self._db:
                        with self._explained():
                            raise

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._damage_mark.unlink(missing_ok=True)

    def _opened(self) -> _Database:
        access = rocksdict.AccessType.with_ttl(int(self._keep_s))
        with self._explained():
            # Without families by name: of those that it finds, rocksdict 0.3 sets a lifetime that is over for all there
            # is (it overflows), and each compaction of a store that was opened again would remove every list.
            rocks = rocksdict.Rdict(str(self._folder), self._options(), column_families={}, access_type=access)
        return _Database(rocks, False)

    def _opened_to_read(self, why: TemporaryError) -> _Database:
        """Open the files without writing.

        Raises:
            TemporaryError: `why`, for they cannot be read either.
        """
        access = rocksdict.AccessType.read_only()
        try:
            return _Database(rocksdict.Rdict(str(self._folder), self._options(), access_type=access), True)
        except Exception:
            raise why from None

    @contextmanager
    def _writing(self) -> Iterator[rocksdict.Rdict]:
        """Give what is written to.

        RocksDB never writes again after a failure, also when the disk has room: it is opened anew, and until that
        succeeds, what is stored is read without it.
        """
        if self._db.is_read_only:
            with self._replacing:
                before, self._db = self._db, self._opened()
                _close(before.rocks)
        try:
            with self._explained():
                yield self._db.rocks
        except DamagedLists:
            raise
        except TemporaryError as error:
            with self._replacing:
                self._is_closing = True  # else readers that come one after the other would keep it from closing
                try:
                    # Closed first: it may still move lists from file to file, and would let no other one write.
                    _close(self._db.rocks)
                    self._db = self._db._replace(is_read_only=True)
                    self._db = self._opened_to_read(error)
                finally:
                    self._is_closing = False
            raise

    def _options(self) -> rocksdict.Options:
        table = rocksdict.BlockBasedOptions()
        table.set_block_cache(rocksdict.Cache(self._cache_bytes))
        table.set_bloom_filter(_BLOOM_BITS, False)
        # In the cache, and so within its bounds: of ten million users they take dozens of megabytes.
        table.set_cache_index_and_filter_blocks(True)
        table.set_pin_l0_filter_and_index_blocks_in_cache(True)
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_block_based_table_factory(table)
        options.set_compression_type(rocksdict.DBCompressionType.lz4())
        options.set_write_buffer_size(_WRITE_BUFFER_BYTES)
        options.set_max_open_files(_MAX_OPEN_FILES)
        options.set_keep_log_file_num(2)
        return options

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn rocksdict's errors, which are all bare Exceptions, into those that say what can be done."""
        try:
            yield
        except Exception as error:
            if type(error) is not Exception:
                raise
            if _LOCKED in str(error):
                raise PermanentError(
                    f"{self._folder} is used by another process; give each feed a folder of its own (feed_dir)"
                ) from error
            if any(words in str(error) for words in _DAMAGED):
                with suppress(OSError):  # a full disk: the next start finds the damage itself, or a reader does
                    self._damage_mark.touch()
                raise DamagedLists(
                    f"the lists in {self._folder} are damaged ({error}); the next start reads them from the topic again"
                ) from error
            raise TemporaryError(f"the store of lists cannot be used: {error}") from error


def _position_key(partition: int) -> bytes:
    return _POSITION_PREFIX + str(partition).encode()


def _close(rocks: rocksdict.Rdict) -> None:
    """Close a database; one that somebody still uses is waited for for a second, and then left to the process's end."""
    for _ in range(_CLOSE_TRIES):
        try:
            rocks.close()
            return
        except RuntimeError:  # it is read or compacted at this moment
            time.sleep(_CLOSE_AGAIN_S)
        except Exception as error:  # RocksDB's
            _log.warning("the store of lists was closed with an error (%s): what it does not have is read again", error)
            return
    _log.warning("the store of lists is still in use: it is closed with the process")
