"""Builds the Faust app of a worker, and the protocol on top of it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import faust

from nextclick.settings import Settings
from stream.agent import ClickAgent, Serving
from stream.faust_adapter.client_thread import run_in
from stream.faust_adapter.clients import faust_broker_options
from stream.faust_adapter.clock import now_s
from stream.faust_adapter.consumer import ChunkSchema, connect
from stream.faust_adapter.port import FaustPort
from stream.faust_adapter.producer import FOREVER_S
from stream.faust_adapter.store import STORE_OPTIONS, RocksDBStateStore
from stream.faust_adapter.tables import TABLE_NAME, StateTable, StateTables
from stream.protocol.assignment import Assignments
from stream.protocol.membership import Membership
from stream.protocol.publisher import Publisher
from stream.protocol.reader import ClickReader
from stream.protocol.topic_check import TopicCheck
from stream.protocol.watchdog import Watchdog
from tools.kafka import TopicIdentity

_log = logging.getLogger(__name__)

CATCH_UP_S = 5.0  # how long a starting worker waits for the last announcement before it serves what it has
REQUEST_S = 30.0  # a broker that has not answered a request by then is asked again
MAX_BATCH_BYTES = 900_000  # below the broker's default limit of 1 MB for a batch


class StreamApp(faust.App):
    """A Faust app."""

    logger = logging.getLogger("faust")

    async def crash(self, reason: BaseException) -> None:
        """Stop for a reason; the client's thread calls it, too, as its own `crash`."""
        await run_in(self.loop, super().crash(reason))


class WorkerParts(NamedTuple):
    """What a worker is made of.

    Attributes:
        app: carries the application: group, table, agent.
        assignments: what is assigned now.
        membership: what happens when partitions come and go.
        watchdog: notices what stands still.
        port: to Kafka.
        store: the local states.
    """

    app: StreamApp
    assignments: Assignments
    membership: Membership
    watchdog: Watchdog
    port: FaustPort
    store: RocksDBStateStore


class Topic(NamedTuple):
    """The clicks topic that the states were made with.

    Attributes:
        partitions: how many it had.
        judge: is told what it is now; raises what the worker ends with if that is another one.
    """

    partitions: int
    judge: Callable[[TopicIdentity], None]


def build_worker(
    settings: Settings,
    topic: Topic,
    instance_id: str,
    serving: Serving,
    models_caught_up: asyncio.Event,
    on_failure: Callable[[Exception], None],
) -> WorkerParts:
    """Build a worker; nothing of it runs yet.

    Args:
        settings: of the worker.
        topic: that its states were made with.
        instance_id: names this worker in the consumer group over its restarts.
        serving: what lists are made from, and what is counted.
        models_caught_up: set when the last announced bundle is served; the first chunk waits for it a little.
        on_failure: called once with what stops the worker.
    """
    app = StreamApp(settings.app, **_app_options(settings, topic.partitions, instance_id))
    assignments = Assignments(settings.session_timeout_s, now_s())
    table = StateTable(
        app,
        name=TABLE_NAME,
        partitions=topic.partitions,
        key_type=bytes,
        value_type=bytes,
        options=dict(STORE_OPTIONS),  # Faust changes it
    )
    port = FaustPort(app, settings, table.data)
    topic_check = TopicCheck(port, topic.judge)
    reader = ClickReader(port, assignments, topic_check, settings.clicks_topic, serving.metrics.lost.inc)
    publisher = Publisher(port, table.data, settings, on_failure)
    membership = Membership(port, table.data, settings, reader, publisher, topic_check)
    membership.on_restored = serving.metrics.recovery.observe
    connect(app, settings, membership, reader)
    app.tables.add(table)
    agent = ClickAgent(settings, topic.partitions, table.data, publisher, topic_check, serving)
    schema = ChunkSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")

    @app.agent(app.topic(settings.clicks_topic, schema=schema, partitions=topic.partitions), name="clicks")
    async def advance_users(stream: Any) -> None:
        try:
            await _wait_a_little(models_caught_up)
            async for event in stream.noack().events():
                await agent.process(event.value)
        except Exception as error:
            publisher.fail(error)

    shop = serving.shop
    watchdog = Watchdog(port, assignments, topic_check, settings, lambda: shop is not None and shop.is_waited_for)
    return WorkerParts(app, assignments, membership, watchdog, port, table.data)


async def _wait_a_little(event: asyncio.Event) -> None:
    try:
        await asyncio.wait_for(event.wait(), CATCH_UP_S)
    except TimeoutError:
        _log.warning("the models topic does not answer: serving what is here until it does")


def _app_options(settings: Settings, n_partitions: int, instance_id: str) -> dict[str, Any]:
    return faust_broker_options(settings) | {
        "datadir": str(settings.data_dir / "faust"),
        "store": "rocksdb://",
        "TableManager": StateTables,
        "topic_partitions": n_partitions,
        # Topics are ours to declare, and tables hold user data: nothing of Faust's web server or its leader topic.
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "web_enabled": False,
        # The protocol waits for unfinished chunks; Faust counts single events and would wait for the wrong thing.
        "stream_wait_empty": False,
        "consumer_group_instance_id": instance_id,
        "table_standby_replicas": settings.standby_replicas,
        "consumer_auto_offset_reset": "earliest",  # the protocol knows where to begin
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.session_timeout_s / 10,  # also how soon a rebalance is noticed
        # Who fetches nothing for a while restores, or waits for a broker: whether it stands still the watchdog judges.
        "broker_max_poll_interval": FOREVER_S,
        "consumer_max_fetch_size": 4 * 1024**2,
        "producer_max_batch_size": MAX_BATCH_BYTES,
        "producer_max_request_size": 4 * MAX_BATCH_BYTES,
        "producer_request_timeout": REQUEST_S,
        "producer_linger": 0.0,  # a batch is complete when it is handed over: waiting only adds latency
    }
