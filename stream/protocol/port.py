"""What the protocol of a worker needs of Kafka and of the local store, and nothing else.

There are two implementations, held to the same contract tests: `stream.faust_adapter.port`, on Faust and aiokafka, and
the one of the tests, in memory and with a virtual clock, on which whole protocols run in thousands of orders of events.

Everything is called from the event loop. What is `async` waits for a broker for as long as it is away, unless its
docstring says otherwise; a caller that has a deadline sets it. What is not `async` returns at once.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from stream.protocol.assignment import Assignment
from tools.kafka import TopicIdentity
from tools.records import Header

Record = tuple[bytes | None, bytes | None, Sequence[Header]]  # key, value, headers


class ClickRecord(Protocol):
    """A record of the clicks topic, as the client gives it."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...
    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[Header]: ...


class Run(NamedTuple):
    """What was fetched of one partition: all records of the offsets [first, end) that there are to be read.

    Attributes:
        first: where the client stood before.
        records: in log order; fewer than offsets where transactions have left their markers.
        end: where it stands now.
    """

    first: int
    records: Sequence[ClickRecord]
    end: int


class Place(NamedTuple):
    """A partition of the clicks topic, as the broker knows it.

    Attributes:
        committed: where the application goes on; None before its first commit.
        first: the oldest offset that is there.
        end: the offset after the last readable one.
    """

    committed: int | None
    first: int
    end: int


class Restored(NamedTuple):
    """What a recovery did to a partition.

    Attributes:
        changelog_end: the changelog offset up to which, not including, the local store has all.
        outdated: keys whose newest state is not what the changelog ends with: to be written again.
    """

    changelog_end: int
    outdated: Collection[bytes]


class Dropped(Exception):
    """A batch was dropped before the broker acknowledged it, because its assignment has ended."""


class BrokerAway(Exception):
    """The broker does not answer in time."""


Delivery = asyncio.Future[range]  # the offsets that a batch got; its exception is Dropped, or what the broker said


class Port(Protocol):
    """Kafka, as the protocol sees it."""

    def now_s(self) -> float:
        """Give a time in seconds that never goes back and goes on while the machine sleeps."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""

    async def fetch(self, assignment: Assignment) -> Mapping[int, Run]:
        """Give what has come since the last fetch; waits for about a second for something, and may give nothing.

        It is taken from the partitions in turn: a backlog in one does not hold up the others. It is bounded in records
        (`max_chunk_records`) and in bytes.
        Nothing is given for an assignment that has ended, nor before its positions were sought.

        Raises:
            PermanentError: what comes next in a partition cannot be read; all before it was given.
        """

    async def places(self, assignment: Assignment, partitions: Collection[int]) -> Mapping[int, Place]:
        """Ask the broker for active partitions of an assignment; nothing is given for one that has ended."""

    async def seek(self, assignment: Assignment, positions: Mapping[int, int]) -> None:
        """Let the next fetch of an assignment begin at these offsets; does nothing for one that has ended."""

    async def commit(self, assignment: Assignment, offsets: Mapping[int, int]) -> bool:
        """Commit; tells whether the broker has taken it. It takes nothing from a worker that it has evicted.

        Gives up when the assignment ends.
        """

    async def send(
        self, assignment: Assignment, topic: str, partition: int, records: Iterable[Record]
    ) -> Sequence[Delivery]:
        """Hand records over, in order per topic and partition; returns when they are queued.

        Batches leave only while the assignment lasts and its lease is held, each after those before it. How many may be
        queued is for the caller to bound.

        Returns:
            The deliveries, batch by batch; one that nobody awaits may fail without a complaint.

        Raises:
            Dropped: the assignment has ended.
        """

    def drop_unsent(self) -> None:
        """Forget the batches that have not left."""

    async def restore(self, partitions: Collection[int], on_progress: Callable[[int], None]) -> Mapping[int, Restored]:
        """Bring the states of partitions into the local store, up to the present end of the changelog.

        Cancelling it is allowed; `stop_reading` then waits for its end.

        Args:
            partitions: of the changelog.
            on_progress: told how many offsets are left, down to 0; also from another thread.

        Raises:
            DamagedStore: the local store of a partition cannot be trusted.
            StalledChangelog: the broker answers, but the end is not reached.
            PermanentError: the changelog and the store, or the clicks, do not fit together.
        """

    def follow(self, partitions: Collection[int], on_failure: Callable[[Exception], None]) -> None:
        """Keep the local states of standby partitions up to date, until `stop_reading`.

        Args:
            partitions: of the changelog.
            on_failure: told once what ended it before.
        """

    async def stop_reading(self) -> None:
        """Return when nothing reads the changelog any more: only then may a local store be closed."""

    async def ends(self, assignment: Assignment) -> Mapping[int, int]:
        """Ask for the ends of the active partitions, as far as they are readable; bounded in time.

        A partition that has no leader now is left out.

        Raises:
            BrokerAway: none of them has an answer.
        """

    def doubts_topic(self) -> bool:
        """Tell, once, whether the clicks topic may be another one than at the last question: a partition was gone, or
        not where it was. What is fetched from another one was fetched after that.
        """

    async def identity(self) -> TopicIdentity:
        """Ask the broker what the clicks topic is now; bounded in time.

        Raises:
            BrokerAway: no answer.
            PermanentError: there is no such topic any more.
        """

    async def resume(self, assignment: Assignment) -> None:
        """Let clicks flow."""

    async def leave(self) -> None:
        """Leave the group for good, so that the partitions are free at once."""


class DamagedStore(Exception):
    """The local store of a partition cannot be trusted; building it again from the changelog helps.

    Attributes:
        partition: whose store it is.
    """

    def __init__(self, partition: int, reason: object) -> None:
        super().__init__(f"partition {partition} cannot be read: {reason}")
        self.partition = partition


class StalledChangelog(Exception):
    """The broker answers, but the changelog's end is not reached.

    Attributes:
        partition: of the changelog.
    """

    def __init__(self, partition: int, reason: str) -> None:
        super().__init__(reason)
        self.partition = partition


class StateStore(Protocol):
    """The local copy of the user states, by partition. Blocks for as long as the disk takes."""

    def get_many(self, partition: int, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give the values of keys; None for those that are not there.

        Raises:
            DamagedStore: the files cannot be trusted.
            OSError: the disk cannot be used.
        """

    def put_many(
        self, partition: int, values: Mapping[bytes, bytes | None], changelog_offset: int | None, fence: int
    ) -> None:
        """Write values (None removes) in one atomic batch.

        Args:
            partition: whose store it is.
            values: by key.
            changelog_offset: the last one up to which all is there; None leaves what is noted.
            fence: the highest one of all states.

        Raises:
            DamagedStore: the files cannot be trusted.
            OSError: the disk is full or cannot be written.
        """

    def changelog_offset(self, partition: int) -> int | None:
        """Give the last changelog offset up to which all is there; None for an empty store."""

    def highest_fence(self, partition: int) -> int:
        """Give the highest fence of all states; -1 without any."""

    def remove(self, partition: int) -> None:
        """Delete a partition's files; nothing may be using them."""
