"""What a repartition is going to do, and where a record belongs when it is done. Asks no broker."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from nextclick.hashing import partition_of
from nextclick.user_state import UserState


class Plan(msgspec.Struct, frozen=True):
    """One growth of the clicks topic, as it was when the repartition began; a killed one is continued by it.

    Attributes:
        before: how many partitions the states were made with.
        partitions: how many they get.
        ends: by partition, the offset after the last click that is copied. Later ones are in the right place.
        copied_to: by partition, the offset up to which the unanswered clicks are copied.
    """

    before: int
    partitions: int
    ends: dict[int, int]
    copied_to: dict[int, int]

    @property
    def clicks_left(self) -> int:
        """How many offsets are still to be copied."""
        return sum(self.ends.values()) - sum(self.copied_to.values())

    def copied(self, positions: Mapping[int, int]) -> "Plan":
        """Give the plan after more clicks were copied, up to positions by partition."""
        return msgspec.structs.replace(self, copied_to=self.copied_to | dict(positions))

    def moved(self, state: UserState, partition: int) -> UserState:
        """Give a state as its user's new partition gets it.

        Its fence says that the clicks of the partition are applied up to the end of the plan: those that were not are
        copied behind it.
        """
        return state._replace(partition=partition, offset=self.ends[partition] - 1)


@dataclass(frozen=True, slots=True)
class Homes:
    """Which partition a key belonged to before the growth, and which it belongs to after it."""

    partitioner: str
    before: int
    after: int

    def of(self, key: bytes) -> tuple[int, int]:
        """Give the partition before and after."""
        both = partition_of(key, math.lcm(self.before, self.after), self.partitioner)  # hashed once
        return both % self.before, both % self.after

    def destination(self, partition: int, key: bytes | None) -> int:
        """Give the partition that a record of this one goes to: its key's, unless it was in a wrong one before."""
        if key is None:
            return partition
        before, after = self.of(key)
        return after if partition == before else partition
