"""The table `user-state`, read and written in batches. Uses Faust's table, its RocksDB and its changelog recovery.

A state that was published but is not yet acknowledged by the broker is only in memory (`pending`): the local store
never knows more than the changelog.
"""

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import faust
import rocksdict

from nextclick.user_state import UserState, decode_state

TABLE_NAME = "user-state"

# RocksDB takes 2 GiB of cache per partition by default; these suit states of under 1 KB.
STORE_OPTIONS = {
    "driver": "rocksdict",
    "block_cache_size": 32 * 1024**2,
    "write_buffer_size": 16 * 1024**2,
    "max_open_files": 256,
}


class StateTable(faust.Table):
    """User states by partition and key."""

    logger = logging.getLogger("faust")

    on_failure: Callable[[Exception], None]  # set by `build_app`

    def apply_changelog_batch(self, batch: Any) -> None:
        """Restore states from the changelog. Faust only logs what goes wrong here and would go on without them."""
        try:
            super().apply_changelog_batch(batch)
        except Exception as error:
            self.on_failure(OSError(f"states could not be restored: {error}"))
            raise

    def __post_init__(self) -> None:
        self._pending: dict[int, dict[bytes, bytes]] = {}

    def take_partitions(self, partitions: Iterable[int]) -> None:
        """Own these partitions and no others; whatever was pending is dropped."""
        self._pending = {partition: {} for partition in partitions}

    def owns(self, partition: int) -> bool:
        """Tell whether this worker may read and write the partition's states."""
        return partition in self._pending

    def read(self, partition: int, keys: Collection[bytes]) -> dict[bytes, UserState]:
        """Give the newest states of users, without those that have none.

        Raises:
            CorruptStateError: the store holds bytes that are no state.
        """
        pending = self._pending[partition]
        found = {key: decode_state(pending[key]) for key in keys if key in pending}
        rest = [key for key in keys if key not in pending]
        if rest:
            stored: list[bytes | None] = self._rocksdb(partition).get(rest)
            found.update((key, decode_state(data)) for key, data in zip(rest, stored, strict=True) if data is not None)
        return found

    def remember(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        """Keep states that are on their way to the changelog, so that the next chunk reads them."""
        self._pending[partition].update(states)

    def write(self, partition: int, states: Mapping[bytes, bytes], changelog_offset: int) -> None:
        """Write states that the changelog has, with the offset of the last of them, in one atomic batch.

        Raises:
            OSError: the disk is full or cannot be written.
        """
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, data in states.items():
            batch.put(key, data)
        batch.put(self.data.offset_key, str(changelog_offset).encode())
        try:
            self._rocksdb(partition).write(batch)
        except Exception as error:  # rocksdict raises bare Exception for every failure of RocksDB
            raise OSError(f"the local store cannot be written: {error}") from error
        pending = self._pending[partition]
        for key, data in states.items():
            if pending.get(key) is data:  # else a newer state of the user is on its way
                del pending[key]

    def _rocksdb(self, partition: int) -> Any:
        return self.data._db_for_partition(partition)
