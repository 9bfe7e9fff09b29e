"""Kafka in memory, as far as a worker can tell it from the real one: topics, and a consumer group with its coordinator.

Held to the contract of `tests.protocol.test_port_contract`, as the real one.
"""

import heapq
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple, Protocol

from tests.protocol.virtual_time import Clock
from tools.records import Header


class MemoryRecord(NamedTuple):
    """A record, as a client gets it."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[Header]


@dataclass(slots=True)
class Log:
    """A partition of a topic. None stands for the marker of a transaction: an offset without a record.

    Attributes:
        first: the oldest offset that is there.
        open_from: where a transaction begins that has not ended; None without one.
    """

    entries: list[MemoryRecord | None] = field(default_factory=list)
    first: int = 0
    open_from: int | None = None
    has_leader: bool = True

    @property
    def end(self) -> int:
        return len(self.entries)

    @property
    def readable_end(self) -> int:
        """The offset after the last one that may be read."""
        return self.end if self.open_from is None else self.open_from

    def records(self, first: int, end: int) -> list[MemoryRecord]:
        return [entry for entry in self.entries[max(first, self.first) : end] if entry is not None]


class Member(Protocol):
    """What the coordinator tells a member of the group."""

    def joined(self, generation: int, active: Collection[int], standby: Collection[int]) -> None: ...


class MemoryKafka:
    """One cluster with one consumer group."""

    def __init__(self, clock: Clock, clicks_topic: str, n_partitions: int, session_timeout_s: float) -> None:
        self.clock = clock
        self.clicks_topic = clicks_topic
        self.n_partitions = n_partitions
        self.topic_id = "first"
        self.is_away = False
        self.logs: defaultdict[tuple[str, int], Log] = defaultdict(Log)
        self.committed: dict[int, int] = {}
        self.generation = 0
        self.n_standbys = 1
        self._session_timeout_s = session_timeout_s
        self._members: dict[str, float] = {}  # when each was heard of last
        self._joining: dict[str, Member] | None = None  # who has joined the generation that is being formed
        self._owned: dict[int, str] = {}
        self._assigned_partitions = n_partitions
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = count()
        self._waiters: list[Callable[[], None]] = []
        self.turn = 0  # who gets the first partition; a test changes it

    # Time.

    def later(self, delay_s: float, what: Callable[[], None]) -> None:
        """Let something happen after a while, whoever is paused or dead by then."""
        heapq.heappush(self._events, (self.clock.now_s + delay_s, next(self._numbers), what))

    @property
    def next_event_s(self) -> float:
        """When something happens next; infinity if nothing does."""
        return self._events[0][0] if self._events else float("inf")

    def happen(self) -> None:
        """Let all happen whose time has come."""
        while self._events and self._events[0][0] <= self.clock.now_s:
            heapq.heappop(self._events)[2]()

    def when_something_comes(self, tell: Callable[[], None]) -> None:
        """Call back when a record is added anywhere, or the cluster comes back."""
        self._waiters.append(tell)

    def wake(self) -> None:
        """Tell everybody who waits for something."""
        waiters, self._waiters = self._waiters, []
        for tell in waiters:
            tell()

    # Topics.

    def log(self, topic: str, partition: int) -> Log:
        return self.logs[topic, partition]

    def append(
        self, topic: str, partition: int, records: Sequence[tuple[bytes | None, bytes | None, Sequence[Header]]]
    ) -> range:
        """Add records; gives their offsets."""
        log = self.log(topic, partition)
        first = log.end
        for key, value, headers in records:
            timestamp_ms = int(self.clock.now_s * 1000)
            log.entries.append(MemoryRecord(topic, partition, log.end, timestamp_ms, key, value, headers))
        self.wake()
        return range(first, log.end)

    def append_marker(self, topic: str, partition: int) -> None:
        """Add what the end of a transaction leaves."""
        self.log(topic, partition).entries.append(None)
        self.wake()

    def answers(self, topic: str, partitions: Collection[int]) -> bool:
        """Tell whether requests about partitions are answered now."""
        return not self.is_away and all(self.log(topic, partition).has_leader for partition in partitions)

    # The group.

    def heartbeat(self, name: str, generation: int) -> str:
        """Give `ok`, `unknown` for a member that was evicted, or `rebalancing`."""
        self._evict()
        if name not in self._members:
            return "unknown"
        self._members[name] = self.clock.now_s
        return "rebalancing" if self._joining is not None or generation != self.generation else "ok"

    def join(self, name: str, member: Member) -> None:
        """Take part in the next generation; `member.joined` is called when it is formed."""
        self._evict()
        if self._joining is None:
            self._joining = {}
        self._members[name] = self.clock.now_s
        self._joining[name] = member
        self._form()

    def leave(self, name: str) -> None:
        """Go for good."""
        if self._members.pop(name, None) is not None:
            self._begin_rebalance()
            self._form()

    def owns(self, name: str, generation: int) -> bool:
        """Tell whether a member may commit."""
        self._evict()
        return name in self._members and generation == self.generation

    def commit(self, name: str, generation: int, offsets: Mapping[int, int]) -> bool:
        """Commit, if the member is one of the present generation."""
        if not self.owns(name, generation):
            return False
        self.committed.update(offsets)
        return True

    def grow(self, n_partitions: int) -> None:
        """Add partitions to the clicks topic; clients notice later (`notice_growth`)."""
        self.n_partitions = n_partitions

    def create_anew(self) -> None:
        """Delete the clicks topic, and create it again at once: offsets begin again, those that were committed go."""
        self.topic_id = "second"
        for partition in range(self.n_partitions):
            del self.logs[self.clicks_topic, partition]
        self.committed.clear()
        self.wake()

    def notice_growth(self) -> None:
        """Let the members' metadata be renewed: the group forms anew, over all partitions."""
        self._assigned_partitions = self.n_partitions
        self._begin_rebalance()

    def check_sessions(self) -> None:
        """Evict who has not been heard of, as the coordinator does by itself."""
        if not self.is_away:
            self._evict()
            self._form()

    def _begin_rebalance(self) -> None:
        if self._joining is None and self._members:
            self._joining = {}

    def _evict(self) -> None:
        silent = [n for n, heard_s in self._members.items() if self.clock.now_s - heard_s > self._session_timeout_s]
        for name in silent:
            del self._members[name]
            if self._joining is not None:
                self._joining.pop(name, None)
        if silent:
            self._begin_rebalance()

    def _form(self) -> None:
        """Form the generation when every member has joined."""
        if self._joining is None or not self._joining or set(self._joining) != set(self._members):
            return
        joined, self._joining = self._joining, None
        self.generation += 1
        names = sorted(joined)
        owner = {p: names[(p + self.turn) % len(names)] for p in range(self._assigned_partitions)}
        for index, name in enumerate(names):
            self._members[name] = self.clock.now_s
            before = names[index - 1] if self.n_standbys and len(names) > 1 else None
            joined[name].joined(
                self.generation,
                [p for p, owner_name in owner.items() if owner_name == name],
                [p for p, owner_name in owner.items() if owner_name == before],
            )
