"""The protocol's port on Faust and aiokafka."""

import asyncio
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from faust.types import TP

from nextclick.errors import PermanentError
from nextclick.settings import Settings
from stream.faust_adapter.client_thread import ENDS_S
from stream.faust_adapter.clock import now_s
from stream.faust_adapter.consumer import ChunkConsumer
from stream.faust_adapter.producer import LeasedProducer, fill
from stream.protocol.assignment import Assignment
from stream.protocol.port import BrokerAway, Delivery, Place, Record, Restored, Run, StateStore
from stream.states.changelog_reader import ChangelogReader
from tools.client_config import librdkafka_config
from tools.kafka import ANSWER_S, Failure, TopicIdentity, describe_topic, failure_of


class FaustPort:
    """Implements `stream.protocol.port.Port`; what each method does and waits for is said there."""

    def __init__(self, app: Any, settings: Settings, store: StateStore) -> None:
        """Make a port.

        Args:
            app: the Faust app.
            settings: of the worker.
            store: the local states.
        """
        self._app = app
        self._settings = settings
        self._reader = ChangelogReader(settings, store)
        self._executor = ThreadPoolExecutor(1, "changelog")
        self._reading: asyncio.Future[Any] | None = None
        self._stop_reading = threading.Event()
        self._admin = AdminClient(librdkafka_config(settings))

    @property
    def _consumer(self) -> ChunkConsumer:
        consumer: ChunkConsumer = self._app.consumer
        return consumer

    @property
    def _producer(self) -> LeasedProducer:
        producer: LeasedProducer = self._app.producer._producer
        return producer

    def now_s(self) -> float:
        return now_s()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def fetch(self, assignment: Assignment) -> Mapping[int, Run]:
        return await self._consumer.client.fetch(assignment)

    async def places(self, assignment: Assignment, partitions: Collection[int]) -> Mapping[int, Place]:
        return await self._consumer.client.places(assignment, partitions)

    async def seek(self, assignment: Assignment, positions: Mapping[int, int]) -> None:
        await self._consumer.client.seek(assignment, positions)

    async def commit(self, assignment: Assignment, offsets: Mapping[int, int]) -> bool:
        committing = asyncio.ensure_future(self._consumer.client.commit_offsets(assignment, offsets))
        ended = asyncio.ensure_future(assignment.ended.wait())
        try:
            await asyncio.wait([committing, ended], return_when=asyncio.FIRST_COMPLETED)
            return committing.result() if committing.done() else False
        finally:  # also for a caller that gives up: aiokafka would go on, and commit for the next assignment
            committing.cancel()
            ended.cancel()

    async def send(
        self, assignment: Assignment, topic: str, partition: int, records: Iterable[Record]
    ) -> Sequence[Delivery]:
        deliveries: list[Delivery] = []
        rest = list(records)
        while rest:
            batch = self._producer.create_batch()
            n_taken = fill(batch, rest)
            if not n_taken:
                raise ValueError(f"a record for {topic} is larger than a whole batch")
            deliveries.append(await self._send_batch(assignment, batch, topic, partition))
            rest = rest[n_taken:]
        return deliveries

    async def _send_batch(self, assignment: Assignment, batch: Any, topic: str, partition: int) -> Delivery:
        count = batch.record_count()
        delivery: Delivery = asyncio.get_running_loop().create_future()

        def delivered(sent: "asyncio.Future[Any]") -> None:
            if sent.cancelled() or delivery.done():
                delivery.cancel()
            elif (error := sent.exception()) is not None:
                delivery.set_exception(error)
                delivery.exception()  # of one whose assignment has ended nobody asks what became of it
            else:
                first = sent.result().offset
                delivery.set_result(range(first, first + count))

        (await self._producer.send_for(assignment, batch, topic, partition)).add_done_callback(delivered)
        return delivery

    def drop_unsent(self) -> None:
        if self._app.producer.started:
            self._producer.drop_unsent()

    async def restore(self, partitions: Collection[int], on_progress: Callable[[int], None]) -> Mapping[int, Restored]:
        await self.stop_reading()
        stop = self._stop_reading
        # Shielded: when the caller is cancelled the thread goes on for a moment, and `stop_reading` waits for its end.
        restored: Mapping[int, Restored] = await asyncio.shield(
            self._run(lambda: self._reader.restore(partitions, on_progress, stop))
        )
        return restored

    def follow(self, partitions: Collection[int], on_failure: Callable[[Exception], None]) -> None:
        stop = self._stop_reading

        def ended(following: "asyncio.Future[Any]") -> None:
            if not following.cancelled() and (error := following.exception()) is not None:
                on_failure(error if isinstance(error, Exception) else RuntimeError(repr(error)))

        self._run(lambda: self._reader.follow(partitions, stop)).add_done_callback(ended)

    def _run(self, job: Callable[[], Any]) -> "asyncio.Future[Any]":
        self._reading = asyncio.get_running_loop().run_in_executor(self._executor, job)
        return self._reading

    def standby_lag(self) -> Mapping[int, int]:
        """Give how many records the copy of each standby partition does not have yet. From any thread."""
        return self._reader.behind

    async def stop_reading(self) -> None:
        self._stop_reading.set()
        reading = self._reading
        if reading is not None:
            await asyncio.wait([reading])
            if not reading.cancelled():
                reading.exception()  # seen: asyncio need not complain
        self._reading, self._stop_reading = None, threading.Event()

    async def ends(self, assignment: Assignment) -> Mapping[int, int]:
        try:
            async with asyncio.timeout(ENDS_S + 1):  # the client's thread may hang, too
                return await self._consumer.client.ends(assignment)
        except TimeoutError as error:
            raise BrokerAway from error

    def doubts_topic(self) -> bool:
        return self._consumer.client.doubts_topic()

    async def identity(self) -> TopicIdentity:
        try:
            async with asyncio.timeout(ANSWER_S + 1):
                return await asyncio.to_thread(describe_topic, self._admin, self._settings.clicks_topic)
        except TimeoutError as error:
            raise BrokerAway from error
        except KafkaException as error:
            match failure_of(error.args[0]):
                case Failure.PASSING:
                    raise BrokerAway from error
                case Failure.GONE:
                    topic, broker = self._settings.clicks_topic, self._settings.broker
                    raise PermanentError(
                        f"topic {topic} is not there any more at {broker}: create it, or correct clicks_topic"
                    ) from error
            raise

    async def resume(self, assignment: Assignment) -> None:
        app = self._app
        await app.on_rebalance_complete.send()
        self._consumer.resume_partitions({TP(self._settings.clicks_topic, number) for number in assignment.active})
        app.flow_control.resume()
        self._consumer.resume_flow()
        await app._fetcher.maybe_start()
        app.on_rebalance_end()

    async def leave(self) -> None:
        self._consumer.client.leave_group_on_stop()
