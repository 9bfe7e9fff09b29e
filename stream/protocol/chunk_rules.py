"""How much is read at once, how long clicks are gathered for, and what is computed where: pure rules, without a clock.

Small chunks while the worker is idle, large ones under a backlog: a chunk costs about the same whatever is in it, but
whoever comes behind it waits for all of it.
"""

from collections.abc import Hashable, Iterable
from typing import TypeVar

MAX_WAITING_CHUNKS = 2  # delivered to the agent and not yet taken by it: enough to never let it wait
MAX_UNFINISHED_CHUNKS = 32  # published and not yet acknowledged; more only adds memory and latency
MAX_UNFINISHED_RECORDS = 16_000  # updates of these; a single chunk may have more
MAX_CHUNK_BYTES = 512 * 1024  # of values: a record can hold hundreds of clicks, and a chunk of them would take minutes
SLICE_RECORDS = 1_000  # are taken at most before their bytes are counted
QUICK_S = 0.003  # what takes no longer is computed on the event loop: handing it to a thread costs a tenth of that
# A chunk costs the same whether it brings one click or fifty, and three times what its computation takes: fetching,
# sending, acknowledging. A worker that began again as soon as it is done would take all of a core at any rate.
GATHERED_CHUNKS = 8
KNOWN_BUNDLES = 2  # the champion, and one that is tried on some users beside it
NEWEST = 0.2  # how much the newest chunk weighs in what the next one is expected to take
_Partition = TypeVar("_Partition", bound=Hashable)


class Room:
    """Counts what is published and not yet acknowledged."""

    def __init__(self) -> None:
        self._n_chunks = self._n_records = 0

    def has(self, n_records: int) -> bool:
        """Tell whether there is room for a chunk with so many updates."""
        if not self._n_chunks:
            return True
        return self._n_chunks < MAX_UNFINISHED_CHUNKS and self._n_records + n_records <= MAX_UNFINISHED_RECORDS

    def take(self, n_records: int) -> None:
        """Count a chunk with so many updates."""
        self._n_chunks, self._n_records = self._n_chunks + 1, self._n_records + n_records

    def leave(self, n_records: int) -> None:
        """A chunk with so many updates is acknowledged, or never will be."""
        self._n_chunks, self._n_records = self._n_chunks - 1, self._n_records - n_records


class Cut:
    """Says where a chunk ends: at so many records, or so many bytes. Partitions take turns.

    A client would go on with the partition that it has begun: whoever is in another one would wait until the backlog
    of that one is done. So a partition that had more than a chunk could take comes last from then on.
    """

    def __init__(self, max_records: int, max_bytes: int = MAX_CHUNK_BYTES) -> None:
        self._max_records, self._max_bytes = max_records, max_bytes
        self._record_bytes = max_bytes  # expected while none was seen
        self._cut_short: dict[Hashable, int] = {}  # by partition, the last chunk that left some of it
        self._n_chunks = 0
        self._left = self._left_bytes = 0

    def begin(self, partitions: Iterable[_Partition]) -> list[_Partition]:
        """Begin a chunk; gives partitions in the order in which they are to be read."""
        self._n_chunks += 1
        self._left, self._left_bytes = self._max_records, self._max_bytes
        return sorted(partitions, key=lambda partition: self._cut_short.get(partition, 0))

    def wanted(self) -> int:
        """Give how many records are to be taken next, 0 when the chunk is full; by the size of those before."""
        if self._left <= 0 or self._left_bytes <= 0:
            return 0
        return max(1, min(SLICE_RECORDS, self._left, self._left_bytes // self._record_bytes))

    def took(self, n_records: int, n_bytes: int) -> None:
        """Count records that were taken.

        Args:
            n_records: how many.
            n_bytes: of their values.
        """
        self._left -= n_records
        self._left_bytes -= n_bytes
        if n_records:
            self._record_bytes = max(1, n_bytes // n_records, self._record_bytes // 2)

    def is_full(self, partition: Hashable) -> bool:
        """Tell whether the chunk ends here, within a partition, which then comes last from now on."""
        if self.wanted():
            return False
        self._cut_short[partition] = self._n_chunks
        return True


class Pace:
    """What a chunk is expected to take, by those before it. All in seconds.

    Attributes:
        chunk_s: from the beginning of its computation until it is handed on.
    """

    def __init__(self) -> None:
        self.chunk_s = 0.0
        # By bundle, of those computed with last; in it by the binary digits of how many users and clicks there were.
        self._computed_s: dict[str, dict[tuple[int, int], float]] = {}

    def chunk_took(self, seconds: float) -> None:
        """Note how long a chunk took.

        After a backlog clicks must not go on being gathered as if there were one: what is quicker is believed at once.
        """
        self.chunk_s = min(seconds, self.chunk_s + NEWEST * (seconds - self.chunk_s))

    def computed(self, bundle_id: str, n_users: int, n_clicks: int, seconds: float) -> None:
        """Note how much CPU time it took to compute so many clicks of so many users with a bundle, on one thread.

        By size: a single user costs more than one of many.
        """
        if bundle_id not in self._computed_s and len(self._computed_s) >= KNOWN_BUNDLES:
            del self._computed_s[next(iter(self._computed_s))]
        computed_s = self._computed_s.setdefault(bundle_id, {})
        size = n_users.bit_length(), n_clicks.bit_length()
        before_s = computed_s.get(size, seconds)
        computed_s[size] = before_s + NEWEST * (seconds - before_s)

    def is_quick(self, bundle_id: str, n_users: int, n_clicks: int) -> bool:
        """Tell whether so many clicks can be computed on the event loop without holding anything up.

        Of a bundle and a size that nothing was computed with yet nobody knows.
        """
        size = n_users.bit_length(), n_clicks.bit_length()
        return self._computed_s.get(bundle_id, {}).get(size, QUICK_S) < QUICK_S

    def gather_s(self, at_most_s: float) -> float:
        """Give for how long the broker gathers clicks after some were read: a few times what a chunk of now takes."""
        return min(GATHERED_CHUNKS * self.chunk_s, at_most_s)
