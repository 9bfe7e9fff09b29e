"""How a chunk's results become durable. One call publishes state changes, updates and rejects, waits until the broker
has them all, writes the local store, and only then acknowledges the clicks: in order per partition, or not at all.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from nextclick.settings import Settings
from stream.faust_adapter.producer import DroppedError, LeasedProducer
from stream.faust_adapter.table import StateTable

MAX_CHUNKS_IN_FLIGHT = 8  # published and not yet acknowledged; more only adds memory and latency

Record = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]  # key, value, headers
NO_HEADERS: list[tuple[str, bytes]] = []  # shared by all records without: never changed


@dataclass(slots=True)
class PartitionResults:
    """What a run of clicks of one partition leads to.

    Attributes:
        partition: of the clicks, and so of everything that follows from them.
        next_offset: the offset after the last click of the run.
        states: key to the bytes of the user's newest state.
        updates: records for `recommendations`, in order.
        rejected: records for `clicks-rejected`.
    """

    partition: int
    next_offset: int
    states: dict[bytes, bytes] = field(default_factory=dict)
    updates: list[Record] = field(default_factory=list)
    rejected: list[Record] = field(default_factory=list)


class Durable:
    """Publishes results, in order, a few chunks at a time."""

    def __init__(self, app: Any, settings: Settings, table: StateTable, on_failure: Callable[[Exception], None]):
        """Make a publisher.

        Args:
            app: the Faust app, for its producer and consumer.
            settings: for topic names.
            table: where states are written in the end.
            on_failure: called once with what went wrong; nothing is acknowledged from then on.
        """
        self._app = app
        self._settings = settings
        self._table = table
        self._on_failure = on_failure
        self._room = asyncio.Semaphore(MAX_CHUNKS_IN_FLIGHT)
        self._last: asyncio.Task[None] | None = None
        self._epoch = 0
        self._failed = False

    @property
    def epoch(self) -> int:
        """Changes whenever partitions are taken away: results of an older epoch are not published."""
        return self._epoch

    async def publish(self, results: Sequence[PartitionResults], epoch: int, on_durable: Callable[[], None]) -> None:
        """Hand a chunk's results to the broker; they are acknowledged in the background, after all earlier ones.

        Args:
            results: of one chunk, at most one per partition.
            epoch: as it was when the chunk was taken.
            on_durable: called when the broker has them all and the clicks are acknowledged.
        """
        await self._room.acquire()
        sent = []
        try:
            for result in results:
                if self._failed or epoch != self._epoch:
                    self._room.release()
                    return
                self._table.remember(result.partition, result.states)
                sent.append(await self._send(result, epoch))
        except DroppedError:  # the partitions were taken away while the batch waited for its turn
            self._room.release()
            return
        self._last = asyncio.create_task(self._finish(results, sent, self._last, epoch, on_durable))

    async def drain(self) -> None:
        """Wait until everything that was published is acknowledged or has failed."""
        if self._last is not None:
            await asyncio.wait([self._last])

    async def write_again(self, partition: int, states: Mapping[bytes, bytes], epoch: int) -> None:
        """Write states to the changelog that the local store has already, and return when the broker has them.

        Raises:
            DroppedError: the partition was taken away meanwhile.
            KafkaError: the broker refuses.
        """
        records: list[Record] = [(key, data, NO_HEADERS) for key, data in states.items()]
        sent = await self._send_batches(self._settings.changelog_topic, partition, records, epoch)
        await asyncio.gather(*(delivery for delivery, _ in sent))
        if epoch != self._epoch:
            raise DroppedError
        self._table.wrote(partition, [_offsets(delivery.result(), count) for delivery, count in sent])

    def abandon(self) -> None:
        """Forget what is unfinished: the partitions may belong to another worker now."""
        self._epoch += 1
        self._app.producer._producer.drop_unsent()

    async def _send(self, result: PartitionResults, epoch: int) -> "_Sent":
        settings, partition = self._settings, result.partition
        states: list[Record] = [(key, data, NO_HEADERS) for key, data in result.states.items()]
        # Side by side: if only the update gets out, its click is read again, and answered with the same sequence.
        changelog = await self._send_batches(settings.changelog_topic, partition, states, epoch)
        updates = await self._send_batches(settings.recommendations_topic, partition, result.updates, epoch)
        rejected = await self._send_batches(settings.rejected_topic, partition, result.rejected, epoch)
        return _Sent(changelog, updates + rejected)

    async def _send_batches(
        self, topic: str, partition: int, records: Iterable[Record], epoch: int
    ) -> "list[tuple[asyncio.Future[Any], int]]":
        """Send records in as few batches as fit; gives each batch's delivery future and number of records."""
        producer = self._app.producer._producer
        batches = []
        batch, count = producer.create_batch(), 0
        for key, value, headers in records:
            if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                batches.append((await self._send_batch(batch, topic, partition, epoch), count))
                batch, count = producer.create_batch(), 0
                if batch.append(timestamp=None, key=key, value=value, headers=headers) is None:
                    raise ValueError(f"a record for {topic} is larger than a whole batch")
            count += 1
        if count:
            batches.append((await self._send_batch(batch, topic, partition, epoch), count))
        return batches

    async def _send_batch(self, batch: Any, topic: str, partition: int, epoch: int) -> "asyncio.Future[Any]":
        producer: LeasedProducer = self._app.producer._producer
        delivery = await producer.send_wanted(batch, topic, partition, lambda: epoch == self._epoch)
        # Of a batch that is dropped with its epoch nobody asks what became of it.
        delivery.add_done_callback(lambda done: done.cancelled() or done.exception())
        return delivery

    async def _finish(
        self,
        results: Sequence[PartitionResults],
        sent: "Sequence[_Sent]",
        previous: "asyncio.Task[None] | None",
        epoch: int,
        on_durable: Callable[[], None],
    ) -> None:
        try:
            await asyncio.gather(*(delivery for one in sent for delivery, _ in one.changelog + one.others))
            if previous is not None:
                await asyncio.wait([previous])
            if self._failed or epoch != self._epoch:
                return
            for result, one in zip(results, sent, strict=True):
                if one.changelog:
                    offsets = [_offsets(delivery.result(), count) for delivery, count in one.changelog]
                    self._table.write(result.partition, result.states, offsets, result.next_offset - 1)
                self._app.consumer.acknowledge(result.partition, result.next_offset)
            on_durable()
        except Exception as error:
            if not self._failed and epoch == self._epoch:
                self._failed = True
                self._on_failure(error)
        finally:
            self._room.release()


def _offsets(metadata: Any, count: int) -> range:
    return range(metadata.offset, metadata.offset + count)


@dataclass(frozen=True, slots=True)
class _Sent:
    changelog: "list[tuple[asyncio.Future[Any], int]]"
    others: "list[tuple[asyncio.Future[Any], int]]"
