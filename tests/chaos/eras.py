"""Where a click stands when the clicks topic has grown and its users have moved: one log per user, in one order.

`nextclick repartition` divides the clicks of a partition into eras: before and after the end that its plan names. What
was not answered before the end is copied behind it, and then the copy counts, not the original. A copy that says that
its user's state contains the click already is only an answer to the original. So every click counts in one place, and
that place is given an offset that rises from era to era, in the partition that its user has in the end. Without a
growth, every place is what it is.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
from confluent_kafka import Message

from nextclick.clicks import APPLIED_HEADER, FORWARDED_HEADER
from nextclick.hashing import partition_of
from nextclick.settings import Settings
from nextclick.user_state import UserState
from stream.repartition.plan import Plan
from stream.topics.identity import REPARTITION_KEY
from tools.records import headers_of

ERA = 10**12  # more than any offset, times
PARTITIONS = 1_000  # more than any partition

Place = tuple[int, int]  # partition and offset of a record of the clicks topic


class Growth(NamedTuple):
    """A repartition.

    Attributes:
        partitions: how many there are after it.
        ends: by partition, the offset at which the era before it ends.
    """

    partitions: int
    ends: Mapping[int, int]


class Eras:
    """The eras of a clicks topic."""

    def __init__(self, settings: Settings, first_partitions: int, growths: Sequence[Growth]) -> None:
        self._partitioner = settings.partitioner
        self._counts = [first_partitions, *(growth.partitions for growth in growths)]
        self._growths = growths
        self._counted: dict[Place, Place] = {}  # a record that does not count to the one in its place
        self._undone: set[Place] = set()
        self.real_places: dict[Place, Place] = {}  # of all that `lasting` has given

    @classmethod
    def of(cls, settings: Settings, partitions: int, changelog: Iterable[Message], clicks: Iterable[Message]) -> "Eras":
        """Find them.

        Args:
            settings: of the application.
            partitions: of the clicks topic now.
            changelog: the first record of each of its partitions.
            clicks: all of their records.
        """
        plans = {}
        for message in changelog:
            if message.key() == REPARTITION_KEY:
                plan = msgspec.json.decode(message.value(), type=Plan)
                plans[plan.before] = plan
        eras = cls(
            settings,
            min(plans, default=partitions),
            [Growth(plans[before].partitions, plans[before].ends) for before in sorted(plans)],
        )
        if plans:
            eras._find_copies(clicks)
        return eras

    def era(self, place: Place) -> int:
        """Tell how many repartitions were before a record."""
        partition, offset = place
        return sum(partition >= len(growth.ends) or offset >= growth.ends[partition] for growth in self._growths)

    def counted(self, place: Place) -> Place:
        """Give the record that counts in the place of this one."""
        while place in self._counted:
            place = self._counted[place]
        return place

    def is_undone(self, place: Place) -> bool:
        """Tell whether a record was copied to be applied anew: what was made of it before has no state behind it."""
        return place in self._undone

    def is_home(self, place: Place, key: bytes) -> bool:
        """Tell whether a record is where its key belonged in its era."""
        return self._home(key, self.era(place)) == place[0]

    def lasting(self, place: Place, key: bytes) -> Place:
        """Give the place of a click in the one log of its user."""
        if not self._growths:
            return place
        counted = self.counted(place)
        lasting = self._home(key, len(self._growths)), self.era(counted) * ERA + counted[1] * PARTITIONS + counted[0]
        self.real_places[lasting] = counted
        return lasting

    def moved_in(self, key: bytes, state: UserState) -> int | None:
        """Give the era that a state was written for by a repartition; None if a worker wrote it."""
        for era in range(len(self._growths), 0, -1):
            ends = self._growths[era - 1].ends
            if ends.get(state.partition) == state.offset + 1 and self._home(key, era) == state.partition:
                return era
        return None

    def _home(self, key: bytes, era: int) -> int:
        return partition_of(key, self._counts[era], self._partitioner)

    def _find_copies(self, clicks: Iterable[Message]) -> None:
        for message in clicks:
            headers = dict(headers_of(message))
            if FORWARDED_HEADER not in headers:
                continue
            partition, _, offset = headers[FORWARDED_HEADER].decode().partition("/")
            original, copy = (int(partition), int(offset)), (message.partition(), message.offset())
            if APPLIED_HEADER in headers:
                self._counted[copy] = original
            else:
                self._counted[original] = copy
                self._undone.add(original)
