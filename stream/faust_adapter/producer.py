"""The producer: loses nothing, doubles nothing, and keeps what it has to itself while the worker may be evicted.

Records of a worker that was paused past its eviction would come after those of whoever took over. So a batch leaves
only while the lease is held; and when partitions are taken away, batches that have not left are dropped: their clicks
are not acknowledged, and are read again by the partition's next owner. Uses aiokafka.
"""

import asyncio
from collections.abc import Collection, Sequence
from copy import copy
from typing import Any

import aiokafka
from aiokafka import TopicPartition
from aiokafka.errors import ProducerClosed, UnknownTopicOrPartitionError
from aiokafka.producer.message_accumulator import MessageAccumulator
from aiokafka.producer.transaction_manager import NO_PRODUCER_EPOCH, NO_PRODUCER_ID, PidAndEpoch

from stream.faust_adapter.clock import now_s
from stream.protocol.assignment import Assignment, Assignments
from stream.protocol.port import Dropped, Record

FOREVER_S = 7 * 24 * 3600.0  # a broker that is away is waited for, not failed at
RECHECK_S = 0.05
NO_COMPRESSION = 0


class LeasedAccumulator(MessageAccumulator):
    """aiokafka's queue of batches per partition; its sender takes nothing from it while the lease is not held."""

    def __init__(self, assignments: Assignments, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._assignments = assignments
        self._dropped_in_flight: set[Any] = set()

    def add_for(self, assignment: Assignment, builder: Any, tp: TopicPartition) -> "asyncio.Future[Any]":
        """Queue a batch behind those of its partition that have not left; how many may wait is the protocol's to say.

        Raises:
            Dropped: the assignment has ended.
            KafkaError: the client is closed, or has failed for good.
        """
        if assignment.is_over:
            raise Dropped
        if self._closed:
            raise ProducerClosed
        if self._exception is not None:
            raise copy(self._exception)
        delivery: asyncio.Future[Any] = self._append_batch(builder, tp).future
        return delivery

    def drain_by_nodes(self, ignore_nodes: Any, muted_partitions: Collection[Any] = frozenset()) -> Any:
        """Give the sender the next batch of every partition, by broker; none without the lease."""
        for tp in [tp for tp, batches in self._batches.items() if batches[0] in self._dropped_in_flight]:
            self._drop(self._batches[tp].popleft())
            if not self._batches[tp]:
                del self._batches[tp]
        # Without a producer id the sender has to fetch one first: the one before went with a dropped batch.
        if self._assignments.current.lease.is_held(now_s()) and self._txn_manager.has_pid():
            return super().drain_by_nodes(ignore_nodes, muted_partitions)
        nothing = super().drain_by_nodes(ignore_nodes, set(self._batches))
        self._loop.call_later(RECHECK_S, self._wakeup, self._waiter_future)
        return nothing

    def drop_unsent(self) -> None:
        """Drop what waits; what is on its way to a broker is dropped unless the broker takes it this time."""
        self._dropped_in_flight = set(self._pending_batches)
        for batches in list(self._batches.values()):
            for batch in batches:
                self._drop(batch)
        self._batches.clear()

    def _drop(self, batch: Any) -> None:
        self._dropped_in_flight.discard(batch)
        if batch.retry_count:
            # It has a sequence number, and the broker would wait for it: go on as a new producer.
            manager = self._txn_manager
            manager._pid_and_epoch = PidAndEpoch(NO_PRODUCER_ID, NO_PRODUCER_EPOCH)
            manager._sequence_numbers.clear()
            manager._pid_waiter = asyncio.get_running_loop().create_future()
            self._pending_batches.add(batch)  # aiokafka takes it out when the future is done
        batch.failure(Dropped())
        for future in (batch.future, batch._drain_waiter):
            future.exception()  # seen: asyncio need not complain


class LeasedProducer(aiokafka.AIOKafkaProducer):
    """aiokafka's producer with a `LeasedAccumulator`."""

    def __init__(self, *, assignments: Assignments, **options: Any) -> None:
        super().__init__(**options)
        self._message_accumulator = LeasedAccumulator(
            assignments,
            self._metadata,
            options["max_batch_size"],
            NO_COMPRESSION,
            FOREVER_S,
            txn_manager=self._txn_manager,
            loop=self._loop,
            linger_ms=options["linger_ms"],
        )
        self._sender._message_accumulator = self._message_accumulator

    async def send_for(self, assignment: Assignment, batch: Any, topic: str, partition: int) -> "asyncio.Future[Any]":
        """Hand a batch over, in order per partition; gives the future of its delivery.

        Args:
            assignment: asked at the last moment: the wait for a broker can be long, and the partition taken away.
            batch: from `create_batch`.
            topic: where it goes.
            partition: where it goes.

        Raises:
            Dropped: the assignment has ended.
        """
        while not await self._is_known(topic):
            if assignment.is_over:
                raise Dropped
        return self._message_accumulator.add_for(assignment, batch, TopicPartition(topic, partition))

    async def _is_known(self, topic: str) -> bool:
        try:
            await self.client._wait_on_metadata(topic)
        except UnknownTopicOrPartitionError:  # what aiokafka calls a broker that is away for longer than a request, too
            return False
        return True

    def drop_unsent(self) -> None:
        """Forget the batches that have not left."""
        self._message_accumulator.drop_unsent()


def fill(batch: Any, records: Sequence[Record]) -> int:
    """Put records into a batch until it is full; gives how many. Two for every click: aiokafka's own way costs more."""
    append, n_taken = batch._builder.append, 0
    for key, value, headers in records:
        if append(n_taken, None, key=key, value=value, headers=headers) is None:
            break
        n_taken += 1
    batch._relative_offset = n_taken
    return n_taken
