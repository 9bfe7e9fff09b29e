"""Faust's consumer and producer, made to carry chunks and to follow the protocol. A chunk travels through Faust, to the
agent, as a single message; Faust commits nothing by itself.
"""

from typing import Any

import faust
import uvloop
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage
from mode import Service

from nextclick.settings import Settings
from stream.faust_adapter.client_thread import ClientThread, faust_log
from stream.faust_adapter.producer import LeasedProducer
from stream.faust_adapter.second_reader import SecondReader
from stream.protocol.assignment import Assignments
from stream.protocol.membership import Membership
from stream.protocol.reader import Chunk, ClickReader


class ChunkConsumer(driver.Consumer):
    """Faust's consumer, delivering the clicks topic in chunks. The changelog is read by another client."""

    logger = faust_log

    settings: Settings  # this and the next three are set by `connect`
    assignments: Assignments
    membership: Membership
    reader: ClickReader
    _thread: ClientThread

    @property
    def client(self) -> ClientThread:
        """The thread of the aiokafka client."""
        return self._thread

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and end the assignment before Faust takes the partitions from its tables and agents."""
        await self.membership.revoked()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Let Faust give the partitions to its tables, which tell the protocol."""
        self._thread.leave_out([tp for tp in assigned if tp.topic != self.settings.clicks_topic])
        await super().on_partitions_assigned(assigned, generation_id)

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Do nothing: the protocol commits."""
        return False

    @Service.task
    async def _commit_handler(self) -> None:
        """Do nothing: the protocol commits."""

    @Service.task
    async def _commit_livelock_detector(self) -> None:
        """Do nothing: Faust's check counts single events and would raise false alarms about chunks."""

    def _new_consumer_thread(self) -> ClientThread:
        thread = type(
            "ClientThread",
            (ClientThread,),
            {
                "assignments": self.assignments,
                "clicks_topic": self.settings.clicks_topic,
                "gather_ms": self.settings.gather_ms,
                "max_records": self.settings.max_chunk_records,
                "second_reader": SecondReader(self.settings, self.settings.clicks_topic),
            },
        )
        made: ClientThread = thread(self, loop=self.loop, beacon=self.beacon, thread_loop=uvloop.new_event_loop())
        return made

    async def _drain_messages(self, fetcher: Any) -> None:
        try:
            async for chunk in self.reader.chunks():
                await self.callback(self._message(chunk))
        except self.consumer_stopped_errors:
            if not self.transport.app.should_stop:
                raise

    def _message(self, chunk: Chunk) -> ConsumerMessage:
        number, run = next(iter(chunk.runs.items()))  # Faust routes by a message's partition: any of them will do
        topic = self.settings.clicks_topic
        return ConsumerMessage(
            topic, number, run.end - 1, 0.0, 0, None, None, chunk, None, 0, 0, TP(topic, number),
            generation_id=self.app.consumer_generation_id,
        )  # fmt: skip


class DurableProducer(driver.Producer):
    """Faust's producer, made to lose nothing: every replica acknowledges, and a retry cannot double a record."""

    logger = faust_log

    assignments: Assignments  # set by `connect`

    def _settings_extra(self) -> dict[str, Any]:
        return {"acks": "all", "enable_idempotence": True, "assignments": self.assignments}

    async def flush(self) -> None:
        """Do nothing: Faust flushes before it tells that partitions are taken away, and without a lease that ends
        only afterwards. What is unfinished is waited for, and dropped, by the protocol.
        """

    @property
    def _producer_type(self) -> type[LeasedProducer]:
        return LeasedProducer


class ChunkSchema(faust.Schema):
    """Passes a chunk through Faust as it is."""

    def compile(self, app: Any, **options: Any) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Any:
            return app.create_event(None, message.value, None, message)

        return decode


def connect(app: Any, settings: Settings, membership: Membership, reader: ClickReader) -> None:
    """Make an app follow the protocol. Must be called before anything touches `app.consumer`."""
    assignments = reader.assignments
    consumer = type(
        "ChunkConsumer",
        (ChunkConsumer,),
        {"settings": settings, "assignments": assignments, "membership": membership, "reader": reader},
    )
    producer = type("DurableProducer", (DurableProducer,), {"assignments": assignments})
    transport = type("ChunkTransport", (driver.Transport,), {"Consumer": consumer, "Producer": producer})
    app.transport = transport(app.conf.broker_consumer, app)
    app.producer_transport = transport(app.conf.broker_producer, app)
    app.tables.membership, app.tables.clicks_topic = membership, settings.clicks_topic
