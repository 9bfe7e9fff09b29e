"""The local copy of the user states: one RocksDB per partition, through Faust's store. One that is damaged is removed,
and the recovery builds it again.
"""

import gc
import logging
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import rocksdict
from faust.stores import rocksdb

from stream.protocol.port import DamagedStore

_log = logging.getLogger(__name__)

# RocksDB takes 2 GiB of cache per partition by default; these suit states of under 1 KB.
STORE_OPTIONS = {
    "driver": "rocksdict",
    "block_cache_size": 32 * 1024**2,
    "write_buffer_size": 16 * 1024**2,
    "max_open_files": 256,
}
FENCE_KEY = b"__nextclick\0fence__"  # beside the states, like Faust's offset: no user's id holds a NUL
_N_OWN_KEYS = 2  # that and Faust's
_DAMAGED = "Corruption"  # in what RocksDB says when its files cannot be trusted any more


class RocksDBStateStore(rocksdb.Store):
    """Faust's RocksDB store, with batched access per partition."""

    logger = logging.getLogger("faust")

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give the values of keys; None for those that are not there.

        Raises:
            DamagedStore: the files cannot be trusted; they are removed the next time that they would be opened.
            OSError: the disk cannot be used.
        """
        with self._explained(partition):
            values: list[bytes | None] = self._db_for_partition(partition).get(list(keys))
        return values

    def put_many(
        self, partition: int, values: Mapping[bytes, bytes | None], changelog_offset: int | None, fence: int
    ) -> None:
        """Write values (None removes) in one atomic batch.

        Args:
            partition: whose store it is.
            values: by key.
            changelog_offset: up to which all is there; None leaves what is noted.
            fence: the highest one of all states.

        Raises:
            DamagedStore: the files cannot be trusted; they are removed the next time that they would be opened.
            OSError: the disk is full or cannot be written.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, value in values.items():
            if value is None:
                batch.delete(key)
            else:
                batch.put(key, value)
        if changelog_offset is not None:
            batch.put(self.offset_key, str(changelog_offset).encode())
        batch.put(FENCE_KEY, str(fence).encode())
        with self._explained(partition):
            self._db_for_partition(partition).write(batch)

    def highest_fence(self, partition: int) -> int:
        """Give the highest fence of all states; -1 without any."""
        fence = self.get_many(partition, [FENCE_KEY])[0]
        return int(fence) if fence is not None else -1

    def changelog_offset(self, partition: int) -> int | None:
        """Give the last changelog offset up to which all is there; a damaged store is removed, and has nothing."""
        try:
            offset = self.get_many(partition, [self.offset_key])[0]
        except DamagedStore as error:
            _log.warning("local states are built again: %s", error)
            self.remove(partition)
            return None
        return int(offset) if offset is not None else None

    def n_users(self) -> int:
        """Estimate how many users have a state. From any thread."""
        n_keys = 0
        for store in list(self._dbs.values()):
            with suppress(Exception):  # it was closed just now
                n_keys += max(0, (store.property_int_value("rocksdb.estimate-num-keys") or 0) - _N_OWN_KEYS)
        return n_keys

    def remove(self, partition: int) -> None:
        """Delete a partition's files; nothing may be using them."""
        self._dbs.pop(partition, None)
        gc.collect()  # RocksDB closes when the last reference goes
        shutil.rmtree(self.partition_path(partition), ignore_errors=True)
        self._damage_mark(partition).unlink(missing_ok=True)

    def _open_for_partition(self, partition: int) -> Any:
        if self._damage_mark(partition).exists():
            self.remove(partition)
        try:
            with self._explained(partition):
                return super()._open_for_partition(partition)
        except DamagedStore as error:
            _log.warning("local states are built again: %s", error)
            self.remove(partition)
            return super()._open_for_partition(partition)

    def _damage_mark(self, partition: int) -> Path:
        path: Path = self.partition_path(partition)
        return path.with_name(f"{path.name}.damaged")

    @contextmanager
    def _explained(self, partition: int) -> Iterator[None]:
        """Turn rocksdict's errors, which are all bare Exceptions, into those that say what can be done."""
        try:
            yield
        except Exception as error:
            if type(error) is not Exception or "LOCK:" in str(error):  # Faust waits for a lock by itself
                raise
            if _DAMAGED in str(error):
                self._damage_mark(partition).touch()
                raise DamagedStore(partition, error) from error
            raise OSError(f"the local store cannot be used: {error}") from error
