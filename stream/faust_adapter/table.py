"""The table `user-state`, read and written in batches. Uses Faust's table and its changelog topic.

A state that was published but is not yet acknowledged by the broker is only in memory (`pending`): the local store
never knows more than the changelog.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import faust
from faust.types import TP

from nextclick.user_state import UserState, decode_state
from stream.faust_adapter.store import StateStore

TABLE_NAME = "user-state"


class StateTable(faust.Table):
    """User states by partition and key."""

    logger = logging.getLogger("faust")

    data: StateStore

    def _new_store_by_url(self, url: Any) -> StateStore:
        return StateStore(
            url,
            self.app,
            self,
            table_name=self.name,
            key_type=self.key_type,
            key_serializer=self.key_serializer,
            value_serializer=self.value_serializer,
            value_type=self.value_type,
            options=self.options,
        )

    def __post_init__(self) -> None:
        self._pending: dict[int, dict[bytes, bytes]] = {}
        self._complete_to: dict[int, int | None] = {}

    def own(self, complete_to: Mapping[int, int]) -> None:
        """Own these partitions and no others.

        Args:
            complete_to: by partition, the changelog offset up to which, not including, the local store has all.
        """
        self._pending = {partition: {} for partition in complete_to}
        self._complete_to = dict(complete_to)

    def disown(self) -> None:
        """Own nothing; whatever was pending is dropped."""
        self.own({})

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
            stored = self.data.get_many(partition, rest)
            found.update((key, decode_state(data)) for key, data in zip(rest, stored, strict=True) if data is not None)
        return found

    def remember(self, partition: int, states: Mapping[bytes, bytes]) -> None:
        """Keep states that are on their way to the changelog, so that the next chunk reads them."""
        self._pending[partition].update(states)

    def write(self, partition: int, states: Mapping[bytes, bytes], changelog: Sequence[range], fence: int) -> None:
        """Write states that the changelog has, in one atomic batch.

        Args:
            partition: of the states.
            states: by key.
            changelog: the offsets that they got, batch by batch.
            fence: the offset of the last click that any state of the partition knows.

        Raises:
            OSError: the disk is full or cannot be written.
            DamagedError: the store cannot be trusted.
        """
        self.wrote(partition, changelog)
        complete_to = self._complete_to[partition]
        self.data.put_many(partition, states, complete_to - 1 if complete_to is not None else None, fence)
        pending = self._pending[partition]
        for key, data in states.items():
            if pending.get(key) is data:  # else a newer state of the user is on its way
                del pending[key]

    def wrote(self, partition: int, changelog: Sequence[range]) -> None:
        """Note which offsets of the changelog are this worker's own.

        When somebody else's lie in between, an evicted worker has written late: the local store then counts as
        complete only up to there, and the next recovery reads what came in between.
        """
        for offsets in changelog:
            is_next = self._complete_to[partition] == offsets.start
            self._complete_to[partition] = offsets.stop if is_next else None

    def stored_offset(self, partition: int) -> int | None:
        """Give the changelog offset of the last record up to which the local store has all."""
        return self.data.persisted_offset(TP("", partition))

    def stored(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give the bytes of states in the local store."""
        return self.data.get_many(partition, keys)

    def highest_fence(self, partition: int) -> int:
        """Give the highest fence in the local store; -1 without any."""
        return self.data.highest_fence(partition)

    def restore(
        self, partition: int, states: Mapping[bytes, bytes | None], changelog_offset: int | None, fence: int
    ) -> None:
        """Write states from the changelog (None removes), in one atomic batch."""
        self.data.put_many(partition, states, changelog_offset, fence)
