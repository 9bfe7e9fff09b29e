"""An assignment: the partitions that the consumer group gave to this worker, and all that is true only while it lasts.

Chunks, results, seeks and recoveries carry the assignment that they belong to. Whatever is kept for a partition (where
the next run must begin, what is acknowledged, states that are on their way) is kept inside it, so that work which was
begun under an assignment that has ended can do no harm: it changes an object that nobody reads any more. Whether an
assignment is the current one is asked in one place, `Assignment.check`. Watchdog and health probes read its phase.

The time is handed in. All of it belongs to the event loop, but for the lease, which the thread
of the Kafka client renews.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum

from stream.protocol.backlog import Backlog
from stream.protocol.chunk_rules import MAX_WAITING_CHUNKS, Pace, Room

# Of the session timeout: time for what was sent just before the end to reach the broker.
LEASE_MARGIN = 0.1


class Phase(Enum):
    """What happens to an assignment, in this order; a phase can be left out, and each can end in GONE."""

    JOINING = "waiting for the consumer group"
    RESTORING = "restoring states"
    SEEKING = "going back to the committed clicks"
    SERVING = "serving"
    DRAINING = "giving partitions back"
    GONE = "given back"


class Superseded(Exception):
    """The assignment that this work belongs to has ended: the work is dropped, and whoever has the partitions now
    does it again.
    """


class Lease:
    """How long a worker may still believe that its partitions are its own.

    The broker gives a worker's partitions to another when it has not heard of it for the session timeout. A worker
    that was paused for so long finds out with its next heartbeat, but would by then have written. So it counts for
    itself: from the moment it sent a heartbeat that was answered, and it sends nothing when that is too long ago.
    """

    def __init__(self, session_timeout_s: float) -> None:
        self._duration_s = session_timeout_s * (1 - LEASE_MARGIN)
        self._renewed_s = float("-inf")

    def renew(self, sent_s: float) -> None:
        """Hold it from the time at which a heartbeat was sent that the broker answered. From any thread."""
        self._renewed_s = max(self._renewed_s, sent_s)

    def void(self, now_s: float) -> None:
        """Give it up: the broker does not know this worker any more. From any thread."""
        self._renewed_s = min(self._renewed_s, now_s - self._duration_s)

    def is_held(self, now_s: float) -> bool:
        """Tell whether it is held. From any thread."""
        return self.lost_for_s(now_s) < 0

    def lost_for_s(self, now_s: float) -> float:
        """Give for how long it has not been held; below 0 while it is, infinity if it never was."""
        return now_s - (self._renewed_s + self._duration_s)


@dataclass(slots=True)
class Partition:
    """Where the worker stands in one partition, as long as the assignment lasts. Offsets without a unit are of clicks.

    Attributes:
        position: where the next run of clicks must begin.
        acknowledged: clicks below it are durable, with all that follows from them; only this is ever committed.
        committed: what the broker has of that; None before the first commit of the application.
        changelog_end: the changelog offset up to which, not including, the local store has everything; None when an
            evicted worker's records lie in between, so that the store cannot be trusted beyond what it has noted.
        pending: states by key that are on their way to the changelog and not yet in the local store.
        backlog: what is not answered yet.
    """

    changelog_end: int | None
    position: int = 0
    acknowledged: int = 0
    committed: int | None = None
    pending: dict[bytes, bytes] = field(default_factory=dict)
    backlog: Backlog = field(default_factory=Backlog)

    def note_own_records(self, batches: Collection[range]) -> None:
        """Note the changelog offsets that this worker's own records got, batch by batch.

        When somebody else's lie in between, an evicted worker has written late: the local store then counts as
        complete only up to there, and the next recovery reads what came in between.
        """
        for offsets in batches:
            self.changelog_end = offsets.stop if self.changelog_end == offsets.start else None

    def acknowledge(self, first: int, end: int) -> None:
        """Note that the clicks of a run, [first, end), are durable with all that follows from them.

        Raises:
            RuntimeError: the run does not begin where the last one ended: a commit would jump over clicks.
        """
        if first != self.acknowledged:
            raise RuntimeError(f"clicks are acknowledged up to {self.acknowledged}, and then a run from {first} was")
        self.acknowledged = end
        self.backlog.note_answered(end)


class Assignment:
    """One assignment, from the wait for the group to its end.

    Attributes:
        partitions: of the clicks topic, by number; empty until they are restored.
        active: the numbers of the partitions that are this worker's.
        standby: the numbers of the partitions whose states it keeps a copy of, for another worker.
        phase: what happens now.
        lease: how long the partitions are this worker's.
        restore_left: changelog records that a recovery still has to read.
        publishing: held while a chunk's results are handed to the broker.
        room: for chunks that are published and not yet acknowledged.
        last_publication: of the chunk that was published last; ends when that one is acknowledged, or has failed.
        committing: held by the one commit that is under way.
        ended: set when it has.
        pace: what a chunk is expected to take.
    """

    def __init__(self, session_timeout_s: float, now_s: float) -> None:
        self.partitions: dict[int, Partition] = {}
        self.active: frozenset[int] = frozenset()
        self.standby: frozenset[int] = frozenset()
        self.lease = Lease(session_timeout_s)
        self.phase = Phase.JOINING
        self.restore_left = 0
        self.publishing = asyncio.Lock()
        self.room = Room()
        self.last_publication: asyncio.Task[None] | None = None
        self.committing = asyncio.Lock()
        self.ended = asyncio.Event()
        self.pace = Pace()
        self._waiting_chunks = 0
        self._news = asyncio.Event()
        self._moved_s = now_s

    def enter(self, phase: Phase, now_s: float) -> None:
        """Go on to a later phase.

        Raises:
            Superseded: the assignment has ended.
        """
        self.check()
        self.phase = phase
        self._moved_s = now_s
        self._news.set()

    def end(self) -> None:
        """Nothing of it counts any more."""
        self.phase = Phase.GONE
        self.ended.set()
        self._news.set()

    async def wait_for_room(self) -> None:
        """Return when the agent can take another chunk, or the assignment has ended."""
        while not (self.is_over or (self.serves and self._waiting_chunks < MAX_WAITING_CHUNKS)):
            await self._something_new()

    async def take_room(self, n_records: int) -> None:
        """Count a chunk with so many updates, when there is room for it.

        Raises:
            Superseded: partitions are given back, or the assignment has ended.
        """
        while self.serves and not self.room.has(n_records):
            await self._something_new()
        if not self.serves:
            raise Superseded
        self.room.take(n_records)

    def leave_room(self, n_records: int) -> None:
        """A chunk with so many updates is acknowledged, or never will be."""
        self.room.leave(n_records)
        self._news.set()

    async def _something_new(self) -> None:
        self._news.clear()
        await self._news.wait()

    def chunk_delivered(self) -> None:
        """Count a chunk that waits for the agent."""
        self._waiting_chunks += 1

    def chunk_taken(self) -> None:
        """The agent has taken one."""
        self._waiting_chunks -= 1
        self._news.set()

    def moved(self, now_s: float) -> None:
        """Something happened that the present phase waits for: its deadline begins anew."""
        self._moved_s = now_s

    def still_for_s(self, now_s: float) -> float:
        """Give for how long nothing has moved in the present phase."""
        return now_s - self._moved_s

    @property
    def serves(self) -> bool:
        """Whether clicks may be taken up."""
        return self.phase is Phase.SERVING

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self.phase is Phase.GONE

    def check(self) -> None:
        """Go on only if the assignment lasts.

        Raises:
            Superseded: it has ended.
        """
        if self.is_over:
            raise Superseded

    def committable(self) -> dict[int, int]:
        """Give what the broker does not have yet of what is acknowledged: partition to offset."""
        return {
            number: partition.acknowledged
            for number, partition in self.partitions.items()
            if partition.committed is None or partition.acknowledged > partition.committed
        }

    @property
    def has_nothing_committed(self) -> bool:
        """Whether the application has not committed yet in one of the partitions."""
        return any(partition.committed is None for partition in self.partitions.values())

    def was_committed(self, offsets: Mapping[int, int]) -> None:
        """Note what the broker has taken."""
        for number, offset in offsets.items():
            partition = self.partitions[number]
            partition.committed = max(offset, partition.committed if partition.committed is not None else offset)


class Assignments:
    """Holds the current assignment. There is always one: the next one begins, joining, when one ends.

    Attributes:
        current: the one that lasts.
        n_given: how often the group has given partitions, or none.
    """

    def __init__(self, session_timeout_s: float, now_s: float) -> None:
        self._session_timeout_s = session_timeout_s
        self.n_given = 0
        self.current = Assignment(session_timeout_s, now_s)

    def end_current(self, now_s: float) -> None:
        """End the current assignment and wait for the next one."""
        self.current.end()
        self.current = Assignment(self._session_timeout_s, now_s)
