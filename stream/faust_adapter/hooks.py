"""Every private hook of Faust and aiokafka that the stream uses, in one list that a worker checks at its start.

Faust's own delivery brings one record at a time. Chunks need a few of its inner methods, which another version may
rename; then a worker must refuse to start with a clear message, not lose data in silence.
"""

import importlib
import inspect
from typing import Any

from aiokafka.codec import has_lz4, has_snappy, has_zstd

from nextclick.errors import PermanentError

# module, class, attribute, and what it is needed for
HOOKS = (
    ("faust.transport.consumer", "Consumer", "_drain_messages", "chunks: the loop that delivers records"),
    ("faust.transport.consumer", "Consumer", "_commit_handler", "chunks: Faust commits nothing"),
    (
        "faust.transport.consumer",
        "Consumer",
        "_commit_livelock_detector",
        "chunks: a check that expects single records",
    ),
    ("faust.transport.drivers.aiokafka", "Consumer", "_new_consumer_thread", "chunks: the thread of the client"),
    (
        "faust.transport.drivers.aiokafka",
        "AIOKafkaConsumerThread",
        "_create_worker_consumer",
        "chunks: read_committed, shorter waits",
    ),
    (
        "faust.transport.drivers.aiokafka",
        "AIOKafkaConsumerThread",
        "_ensure_consumer",
        "chunks: the client of the thread",
    ),
    ("faust.transport.drivers.aiokafka", "Producer", "_producer", "producer: the client behind Faust's producer"),
    ("faust.transport.drivers.aiokafka", "Producer", "_settings_extra", "producer: acks=all and idempotence"),
    ("faust.transport.drivers.aiokafka", "Producer", "_producer_type", "producer: batches wait for the lease"),
    ("faust.tables.base", "Collection", "_new_store_by_url", "table: a store that heals"),
    ("faust.stores.rocksdb", "Store", "_db_for_partition", "store: the RocksDB of a partition"),
    ("faust.stores.rocksdb", "Store", "_open_for_partition", "store: heals what is damaged"),
    ("faust.stores.rocksdb", "Store", "offset_key", "store: where the changelog offset is kept"),
    ("faust.tables.manager", "TableManager", "_update_channels", "recovery: a start without a wait"),
    ("aiokafka.consumer.group_coordinator", "GroupCoordinator", "_do_heartbeat", "lease: follows the heartbeats"),
    ("aiokafka.consumer.group_coordinator", "GroupCoordinator", "_send_req", "lease: follows the group"),
    ("aiokafka.consumer.group_coordinator", "GroupCoordinator", "_do_rejoin_group", "lease: follows the group"),
    ("aiokafka.producer.message_accumulator", "MessageAccumulator", "drain_by_nodes", "producer: waits for the lease"),
    ("aiokafka.producer.message_accumulator", "MessageAccumulator", "_wakeup", "producer: waits for the lease"),
    ("aiokafka", "AIOKafkaProducer", "create_batch", "producer: one batch per partition and topic"),
    ("aiokafka.client", "AIOKafkaClient", "_wait_on_metadata", "producer: hands batches over"),
    ("aiokafka.producer.message_accumulator", "MessageAccumulator", "_append_batch", "producer: hands batches over"),
    ("aiokafka.consumer.fetcher", "Fetcher", "_create_fetch_waiter", "chunks: waits for the next fetched records"),
    (
        "aiokafka.consumer.group_coordinator",
        "GroupCoordinator",
        "fetch_committed_offsets",
        "seek: one question for all partitions",
    ),
    ("faust.app.base", "App", "_fetcher", "chunks: begins to deliver"),
    ("mode.threads", "ServiceThread", "_crash", "failures: told in each thread's own event loop"),
    ("mode.threads", "ServiceThread", "_thread_running", "failures: told in each thread's own event loop"),
)
# Attributes that only instances have: looked for in the source of the constructor.
INSTANCE_HOOKS = (
    ("faust.stores.rocksdb", "Store", "_dbs", "store: closes what is damaged"),
    ("aiokafka", "AIOKafkaProducer", "_loop", "producer: waits for the lease"),
    ("aiokafka", "AIOKafkaProducer", "_metadata", "producer: waits for the lease"),
    ("aiokafka", "AIOKafkaProducer", "_message_accumulator", "producer: waits for the lease"),
    ("aiokafka", "AIOKafkaProducer", "_sender", "producer: waits for the lease"),
    ("aiokafka", "AIOKafkaProducer", "_txn_manager", "producer: goes on as a new one"),
    ("aiokafka.producer.sender", "Sender", "_message_accumulator", "producer: waits for the lease"),
    ("aiokafka.consumer.group_coordinator", "GroupCoordinator", "_group_instance_id", "chunks: leaves the group"),
    ("aiokafka.producer.message_accumulator", "MessageAccumulator", "_batches", "producer: drops what waits"),
    ("aiokafka.producer.message_accumulator", "MessageAccumulator", "_closed", "producer: waits for the lease"),
    ("aiokafka.producer.message_accumulator", "MessageAccumulator", "_exception", "producer: waits for the lease"),
    ("aiokafka.producer.message_accumulator", "MessageAccumulator", "_pending_batches", "producer: drops what waits"),
    ("aiokafka.producer.message_accumulator", "MessageAccumulator", "_waiter_future", "producer: waits for the lease"),
    ("aiokafka.producer.message_accumulator", "BatchBuilder", "_builder", "producer: fills batches"),
    ("aiokafka.producer.message_accumulator", "BatchBuilder", "_relative_offset", "producer: fills batches"),
    ("aiokafka.producer.message_accumulator", "MessageBatch", "_drain_waiter", "producer: drops what waits"),
    ("aiokafka.producer.transaction_manager", "TransactionManager", "_pid_and_epoch", "producer: goes on as a new one"),
    ("aiokafka.producer.transaction_manager", "TransactionManager", "_pid_waiter", "producer: goes on as a new one"),
    (
        "aiokafka.producer.transaction_manager",
        "TransactionManager",
        "_sequence_numbers",
        "producer: goes on as a new one",
    ),
    ("faust.transport.consumer", "ThreadDelegateConsumer", "_thread", "chunks: the thread of the client"),
    ("aiokafka", "AIOKafkaConsumer", "_client", "topic: notices that a partition was gone"),
    ("aiokafka", "AIOKafkaConsumer", "_coordinator", "lease: follows the group"),
    ("aiokafka", "AIOKafkaConsumer", "_fetcher", "chunks: how the broker gathers"),
    ("aiokafka", "AIOKafkaConsumer", "_isolation_level", "chunks: read_committed"),
    ("aiokafka", "AIOKafkaConsumer", "_fetch_max_wait_ms", "chunks: a shorter wait at the broker"),
    ("aiokafka.consumer.fetcher", "Fetcher", "_records", "chunks: of which partitions something has come"),
    ("aiokafka.consumer.fetcher", "Fetcher", "_fetch_max_wait_ms", "chunks: how long the broker gathers"),
    ("aiokafka.consumer.fetcher", "Fetcher", "_fetch_min_bytes", "chunks: how much the broker gathers"),
    ("aiokafka", "AIOKafkaConsumer", "_subscription", "chunks: where a fetch begins and ends"),
)
TESTED_VERSIONS = "faust-streaming 0.15.3, mode-streaming 0.7.1, aiokafka 0.14.0"


def missing_hooks() -> list[str]:
    """Describe the hooks that the installed versions lack."""
    missing = []
    for module, owner, attribute, purpose in HOOKS:
        if not hasattr(_class(module, owner), attribute):
            missing.append(f"{module}.{owner}.{attribute} ({purpose})")
    for module, owner, attribute, purpose in INSTANCE_HOOKS:
        found = _class(module, owner)
        if found is None or f"self.{attribute}" not in inspect.getsource(found.__init__):
            missing.append(f"{module}.{owner}().{attribute} ({purpose})")
    return missing


def check_hooks() -> None:
    """Refuse to go on with versions that lack a hook.

    Raises:
        PermanentError: naming the hooks.
    """
    if missing := missing_hooks():
        raise PermanentError(
            f"expected {TESTED_VERSIONS}, found versions without {', '.join(missing)}; "
            "install the versions of constraints.txt"
        )


def check_codecs() -> None:
    """Refuse to go on without the library with which aiokafka reads what producers have compressed.

    Raises:
        PermanentError: it is not installed.
    """
    if not (has_snappy() and has_lz4() and has_zstd()):
        raise PermanentError(
            "clicks that are compressed with snappy, lz4 or zstd cannot be read, because the package cramjam is not "
            "installed; install nextclick again, with all that it depends on"
        )


def _class(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
