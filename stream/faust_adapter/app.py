"""Builds the Faust app of a worker: the table, the agent, and what happens when partitions come and go. Uses Faust."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import faust

from nextclick.popularity import Popularity
from nextclick.settings import Settings
from stream.agent import ClickAgent
from stream.faust_adapter.clients import faust_broker_options
from stream.faust_adapter.consumer import ChunkSchema, chunks, use_chunks
from stream.faust_adapter.store import STORE_OPTIONS
from stream.faust_adapter.table import TABLE_NAME, StateTable
from stream.metrics import WorkerMetrics
from stream.models import CATCH_UP_S, ServedBundle
from stream.protocol.lease import Lease, now_s
from stream.protocol.publisher import Durable
from stream.states.recovery import StateRecovery, StateTables

_log = logging.getLogger(__name__)

DRAIN_S = 5.0  # how long a revoked partition's unfinished chunks are waited for
REQUEST_S = 30.0  # a broker that has not answered a request by then is asked again
MAX_BATCH_BYTES = 900_000  # below the broker's default limit of 1 MB for a batch


class StreamApp(faust.App):
    """A Faust app with the parts of the worker that outlive a chunk.

    Attributes:
        durable: publishes results.
        lease: how long the partitions are this worker's.
        recovery: restores the states.
    """

    logger = logging.getLogger("faust")

    durable: Durable
    lease: Lease
    recovery: StateRecovery


def build_app(
    settings: Settings,
    n_partitions: int,
    instance_id: str,
    metrics: WorkerMetrics,
    served: ServedBundle,
    popularity: Popularity,
    models_caught_up: asyncio.Event,
    on_failure: Callable[[Exception], None],
) -> StreamApp:
    """Build the app of one worker.

    Args:
        settings: of the worker.
        n_partitions: of the clicks topic.
        instance_id: names this worker in the consumer group over its restarts.
        metrics: where everything is counted.
        served: the bundle that is served.
        popularity: what is served without one.
        models_caught_up: set when the last announced bundle is served; the first chunk waits for it a little.
        on_failure: called with what stops the worker.
    """
    app = StreamApp(settings.app, **_app_options(settings, n_partitions, instance_id))
    app.lease = Lease(settings.session_timeout_s)
    use_chunks(app, settings, app.lease)
    table = StateTable(
        app,
        name=TABLE_NAME,
        partitions=n_partitions,
        key_type=bytes,
        value_type=bytes,
        options=dict(STORE_OPTIONS),  # Faust changes it
    )
    app.tables.add(table)
    app.durable = Durable(app, settings, table, on_failure)
    app.recovery = StateRecovery(app, settings, table, app.durable, metrics, on_failure)
    app.tables._recovery = app.recovery
    agent = ClickAgent(settings, n_partitions, table, served, popularity, app.durable, metrics)
    schema = ChunkSchema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
    clicks_topic = app.topic(settings.clicks_topic, schema=schema, partitions=n_partitions)

    @app.agent(clicks_topic, name="clicks")
    async def advance_users(stream: Any) -> None:
        try:
            await _wait_a_little(models_caught_up)
            await agent.run(chunks(stream), lambda: app.consumer_generation_id)
        except Exception as error:
            on_failure(error)

    async def revoked(_: Any, partitions: Any, **__: Any) -> None:
        await app.recovery.stop_reading()
        if app.lease.is_held(now_s()):
            try:
                async with asyncio.timeout(DRAIN_S):
                    await app.durable.drain()
                    await app.consumer.commit_all()
            except TimeoutError:
                _log.warning("unfinished clicks are left to the next owner of their partitions")
        app.durable.abandon()
        table.disown()
        metrics.partitions.set(0)

    async def assigned(_: Any, partitions: Any, **__: Any) -> None:
        own = sorted(tp.partition for tp in partitions if tp.topic == settings.clicks_topic)
        metrics.partitions.set(len(own))
        _log.info("partitions assigned", extra={"fields": {"partitions": own}})

    app.on_partitions_revoked.connect(revoked, weak=False)
    app.on_partitions_assigned.connect(assigned, weak=False)
    return app


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
        # Unfinished chunks are drained by `revoked`; Faust counts single events and would wait for the wrong thing.
        "stream_wait_empty": False,
        "stream_recovery_delay": 0.0,
        "consumer_group_instance_id": instance_id,
        "table_standby_replicas": settings.standby_replicas,
        "consumer_auto_offset_reset": "earliest",  # `perform_seek` knows where to begin
        "broker_commit_interval": settings.commit_interval_s,
        "broker_session_timeout": settings.session_timeout_s,
        "broker_heartbeat_interval": settings.session_timeout_s / 10,  # also how soon a rebalance is noticed
        "broker_max_poll_records": settings.max_chunk_records,
        "consumer_max_fetch_size": 4 * 1024**2,
        "producer_max_batch_size": MAX_BATCH_BYTES,
        "producer_max_request_size": 4 * MAX_BATCH_BYTES,
        "producer_request_timeout": REQUEST_S,
        "producer_linger": 0.0,  # a batch is complete when it is handed over: waiting only adds latency
    }
