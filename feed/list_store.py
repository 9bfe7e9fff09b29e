"""The local copy of the lists: the newest update of every user, and up to where the topic was read.

One RocksDB, one writer, any number of readers. It is a cache: one that is damaged is removed and read again from the
topic.
"""

import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec
import rocksdict

from nextclick.errors import PermanentError, TemporaryError
from tools.files import make_folder
from tools.kafka import TopicIdentity

_log = logging.getLogger(__name__)

# Beside the lists: no user's id holds a NUL.
_TOPIC_KEY, _POPULAR_KEY, _POSITION_PREFIX = b"\0topic", b"\0popular", b"\0position/"
_FIRST_KEY, _BEHIND_LAST_KEY = b"", b"\xff" * 300  # users' ids are at most 256 bytes of UTF-8, which has no 0xff
_WRITE_BUFFER_BYTES = 16 * 1024**2
_MAX_OPEN_FILES = 512
_BLOOM_BITS = 10  # of a key: one in a hundred users nobody knows costs a read of the disk
_DAMAGED, _LOCKED = "Corruption", "LOCK:"  # in what RocksDB says


class DamagedLists(TemporaryError):
    """The files cannot be trusted. They are removed at the next start, which reads the topic again."""


class ListStore:
    """The lists in a folder, which no other process may use."""

    def __init__(self, folder: Path, cache_bytes: int, keep_s: float) -> None:
        """Open the store; one that is damaged is begun anew.

        Args:
            folder: is made if it is not there.
            cache_bytes: memory for what is read often, with the indices of all files.
            keep_s: what was not written again for so long is removed, when RocksDB next compacts its files.

        Raises:
            PermanentError: another process has it, or it cannot be written.
        """
        self._folder, self._cache_bytes, self._keep_s = folder, cache_bytes, keep_s
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

    def list_of(self, user_id: str) -> bytes | None:
        """Give a user's newest update; None if there is none, as of any text that is no user's id.

        Raises:
            DamagedLists: the files cannot be trusted.
            TemporaryError: the disk cannot be read.
        """
        return None if "\0" in user_id else self._get(user_id.encode(errors="replace"))

    def get_many(self, users: Sequence[bytes]) -> list[bytes | None]:
        """Give users' newest updates, by the keys of their records."""
        with self._explained():
            found: list[bytes | None] = self._db.get(list(users))  # type: ignore[assignment]
        return found

    @property
    def popular(self) -> bytes | None:
        """The newest update with the popular list, of whichever user."""
        return self._get(_POPULAR_KEY)

    @property
    def topic(self) -> TopicIdentity | None:
        """The topic that the lists are from; None: there are none yet."""
        found = self._get(_TOPIC_KEY)
        return msgspec.json.decode(found, type=TopicIdentity) if found is not None else None

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
        with self._explained():
            self._db.write(batch)

    def renew(self, n_partitions: int) -> None:
        """Write again what must outlive `keep_s`: the topic, the positions, and what is popular.

        Raises:
            TemporaryError: the disk is full or cannot be written.
        """
        keys = [_TOPIC_KEY, _POPULAR_KEY, *map(_position_key, range(n_partitions))]
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in zip(keys, self.get_many(keys), strict=True):
            if value is not None:
                batch.put(key, value)
        with self._explained():
            self._db.write(batch)

    def begin(self, topic: TopicIdentity) -> None:
        """Remove everything, and note which topic is read from now on.

        Raises:
            TemporaryError: the disk is full or cannot be written.
        """
        with self._explained():
            self._db.delete_range(_FIRST_KEY, _BEHIND_LAST_KEY)
            self._db.put(_TOPIC_KEY, msgspec.json.encode(topic))
            self._db.compact_range(None, None)

    def n_users(self) -> int:
        """Estimate how many users have a list."""
        with self._explained():
            return int(self._db.property_int_value("rocksdb.estimate-num-keys") or 0)

    def n_bytes(self) -> int:
        """Give the bytes of the files."""
        with self._explained():
            return int(self._db.property_int_value("rocksdb.total-sst-files-size") or 0)

    def close(self) -> None:
        """Close; what was written is on its way to the disk."""
        self._db.close()

    def _get(self, key: bytes) -> bytes | None:
        with self._explained():
            found: bytes | None = self._db.get(key)
        return found

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        self._damage_mark.unlink(missing_ok=True)

    def _opened(self) -> rocksdict.Rdict:
        with self._explained():
            return rocksdict.Rdict(
                str(self._folder), self._options(), access_type=rocksdict.AccessType.with_ttl(int(self._keep_s))
            )

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
            if _DAMAGED in str(error):
                self._damage_mark.touch()
                raise DamagedLists(
                    f"the lists in {self._folder} are damaged ({error}); the next start reads them from the topic again"
                ) from error
            raise TemporaryError(f"the store of lists cannot be used: {error}") from error


def _position_key(partition: int) -> bytes:
    return _POSITION_PREFIX + str(partition).encode()
