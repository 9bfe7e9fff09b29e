"""The thread of the group's aiokafka client: options that Faust does not pass on, and the lease that follows what the
group's coordinator answers. Uses Faust and aiokafka.
"""

import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, NotCoordinatorForGroupError, for_code
from aiokafka.protocol.commit import OffsetFetchRequest
from aiokafka.protocol.group import SyncGroupRequest
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream.protocol.lease import now_s

faust_log = logging.getLogger("faust")  # services log their life under it, at the level of a library

IDLE_WAIT_S = 1.0  # without traffic a fetch waits so long for its first record
GROUP_CHECK_S = 1.0  # how soon it is noticed that the group does not take this worker
GATHER_BYTES = 64 * 1024  # with so much at the broker there is nothing to gather: a backlog is fetched at once


class ClientThread(driver.AIOKafkaConsumerThread):
    """The thread of the aiokafka client, with options that Faust does not pass on."""

    logger = faust_log

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"  # a backend may produce its clicks in transactions
        consumer._fetch_max_wait_ms = int(IDLE_WAIT_S * 1000)
        return consumer

    async def on_start(self) -> None:
        await super().on_start()
        coordinator = self._ensure_consumer()._coordinator
        self._synced_s = float("-inf")
        coordinator._send_req = partial(self._send, coordinator, coordinator._send_req)
        coordinator._do_heartbeat = partial(self._heartbeat, coordinator, coordinator._do_heartbeat)
        coordinator._do_rejoin_group = partial(self._rejoin, coordinator._do_rejoin_group)
        self.add_future(self._watch_group(coordinator))

    async def _watch_group(self, coordinator: Any) -> None:
        """End the worker when the group does not take it: aiokafka tells only who fetches, and that needs partitions.

        Raises:
            KafkaError: trying again will not help.
        """
        while not self.should_stop:
            await self.sleep(GROUP_CHECK_S)
            try:
                coordinator.check_errors()
            except KafkaError as error:
                if not error.retriable:
                    raise

    async def _heartbeat(self, coordinator: Any, beat: Callable[[], Awaitable[bool]]) -> bool:
        """Send aiokafka's heartbeat, and let the lease follow the answer."""
        lease = self.consumer.lease
        sent_s = now_s()
        answered = await beat()
        if coordinator.generation < 0:  # the broker does not know this member
            lease.void()
        elif answered and (lease.is_held(sent_s) or await self._is_member(coordinator)):
            lease.renew(sent_s)
        return answered

    async def _rejoin(self, join: Callable[[Any], Awaitable[bool]], subscription: Any) -> bool:
        joined = await join(subscription)
        if joined:  # that waited for the other members: the broker counts from the last request of it
            self.consumer.lease.renew(self._synced_s)
        return joined

    async def _send(self, coordinator: Any, send: Callable[[Any], Awaitable[Any]], request: Any) -> Any:
        if isinstance(request, SyncGroupRequest):
            self._synced_s = now_s()
        response = await send(request)
        if isinstance(request, OffsetFetchRequest) and response.error_code:
            # A coordinator that still reads its groups, or is none any more, names no partitions. aiokafka looks only
            # at those, and would take the group for one that has committed nothing; of an error it asks again.
            error = for_code(response.error_code)
            if error is NotCoordinatorForGroupError:
                coordinator.coordinator_dead()
            raise error(coordinator.group_id)
        return response

    async def _is_member(self, coordinator: Any) -> bool:
        """Ask for the assignment of this generation, which only a member gets.

        A coordinator that has just started and still reads its groups answers every heartbeat with yes. While the
        lease is held that does no harm: it then begins to count anew. Afterwards another may own the partitions.
        """
        request = SyncGroupRequest(
            coordinator.group_id, coordinator.generation, coordinator.member_id, coordinator._group_instance_id, []
        )
        try:
            response = await coordinator._send_req(request)
        except KafkaError:
            return False
        return bool(response.error_code == 0)

    def leave_out(self, partitions: Collection[TP]) -> None:
        """Fetch nothing of these partitions: the changelog is assigned with the clicks, but read by another client."""
        self._ensure_consumer().pause(*(TopicPartition(tp.topic, tp.partition) for tp in partitions))

    def leave_group_on_stop(self) -> None:
        self._ensure_consumer()._coordinator._group_instance_id = None

    def gather(self, wait_ms: float | None) -> None:
        """Say how the broker shall answer the next fetches.

        While clicks keep coming it gathers them for `wait_ms`, because every fetch costs the same whether it brings
        one click or fifty. With None it answers with the first one: the click after a silence never waits.
        """
        fetcher = self._ensure_consumer()._fetcher
        fetcher._fetch_min_bytes = 1 if wait_ms is None else GATHER_BYTES
        fetcher._fetch_max_wait_ms = int(IDLE_WAIT_S * 1000 if wait_ms is None else wait_ms)
