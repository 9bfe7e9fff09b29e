"""What aiokafka is told of the group's coordinator."""

import asyncio
from functools import partial
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from stream.faust_adapter.client_thread import ClientThread

CLICKS = TopicPartition("clicks", 0)
LOADS, IS_NONE = 14, 16  # Kafka's error codes: reads its groups, is not the coordinator


class _Coordinator(GroupCoordinator):
    """aiokafka's own, with the answers of a broker."""

    def __init__(self, *answers: OffsetFetchResponse_v3) -> None:
        self.group_id = "app"
        self._retry_backoff_ms = 1
        self._answers = list(answers)
        self.deaths = 0
        thread = object.__new__(ClientThread)
        self._send_req = partial(thread._send, self, self._answer)

    async def _answer(self, _request: Any) -> OffsetFetchResponse_v3:
        return self._answers.pop(0)

    async def ensure_coordinator_known(self) -> None:
        """It is."""

    def coordinator_dead(self) -> None:
        """Count it."""
        self.deaths += 1


def test_partitions_that_come_while_the_app_stops_do_not_close_the_client_from_another_thread() -> None:
    """Faust would: in the worker's event loop, where the connections are not at home."""

    class _Consumer:
        _closed = False

    thread = object.__new__(ClientThread)
    thread._consumer = _Consumer()
    thread.close()

    assert not thread._consumer._closed


@pytest.mark.parametrize(("code", "deaths"), [(LOADS, 0), (IS_NONE, 1)])
def test_a_coordinator_that_cannot_say_what_is_committed_is_asked_again(code: int, deaths: int) -> None:
    """Else a broker that has just started would make a worker begin where an application without offsets does."""
    found = OffsetFetchResponse_v3(0, [("clicks", [(0, 7_000, "", 0)])], 0)
    coordinator = _Coordinator(OffsetFetchResponse_v3(0, [], code), found)

    committed = asyncio.run(coordinator.fetch_committed_offsets([CLICKS]))

    assert committed[CLICKS].offset == 7_000
    assert coordinator.deaths == deaths
