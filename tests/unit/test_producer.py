"""What becomes of batches when partitions come and go, in aiokafka's own queue and without a broker."""

import asyncio
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.producer.transaction_manager import TransactionManager

from stream.faust_adapter.producer import FOREVER_S, NO_COMPRESSION, LeasedAccumulator
from stream.protocol.assignment import Assignments
from stream.protocol.port import Dropped

UPDATES = TopicPartition("recommendations", 0)


class _Cluster:
    """One broker, which leads everything."""

    def leader_for_partition(self, _partition: TopicPartition) -> int:
        return 1


def _batch(accumulator: LeasedAccumulator, text: bytes) -> Any:
    builder = accumulator.create_builder()
    builder.append(timestamp=None, key=text, value=text)
    return builder


def test_a_batch_that_came_back_from_a_broker_and_is_dropped_does_not_stop_the_next_assignment() -> None:
    """It was on its way when its assignment ended, and the broker did not take it: the next one's batch follows."""

    async def scenario() -> list[Any]:
        loop = asyncio.get_running_loop()
        assignments = Assignments(10.0, 0.0)
        manager = TransactionManager(None, 60_000)
        manager.set_pid_and_epoch(7, 0)
        accumulator = LeasedAccumulator(
            assignments, _Cluster(), 1_000, NO_COMPRESSION, FOREVER_S, txn_manager=manager, loop=loop
        )
        assignments.current.lease.renew(float("inf"))
        late = accumulator.add_for(assignments.current, _batch(accumulator, b"late"), UPDATES)
        sent, _ = accumulator.drain_by_nodes(set())
        assignments.end_current(0.0)
        accumulator.drop_unsent()
        assignments.current.lease.renew(float("inf"))
        accumulator.reenqueue(sent[1][UPDATES])  # the broker did not take it
        accumulator.add_for(assignments.current, _batch(accumulator, b"next"), UPDATES)
        accumulator.drain_by_nodes(set())  # drops it, and waits for a new producer id
        manager.set_pid_and_epoch(8, 0)
        sent, _ = accumulator.drain_by_nodes(set())
        return [late, sent[1][UPDATES].record_count]

    late, n_sent = asyncio.run(scenario())

    assert n_sent == 1
    with pytest.raises(Dropped):
        late.result()
