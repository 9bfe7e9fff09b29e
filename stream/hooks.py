"""Every private hook of Faust and aiokafka that the stream uses, in one list that a worker checks at its start.

Faust's own delivery brings one record at a time. Chunks need a few of its inner methods, which another version may
rename; then a worker must refuse to start with a clear message, not lose data in silence.
"""

import importlib
import inspect
from typing import Any

from nextclick.errors import PermanentError

# module, class, attribute, and what it is needed for
HOOKS = (
    ("faust.transport.consumer", "Consumer", "_drain_messages", "chunks: the loop that delivers records"),
    ("faust.transport.consumer", "Consumer", "_wait_next_records", "chunks: waits for the next fetched records"),
    ("faust.transport.consumer", "Consumer", "_filter_tps_with_pending_acks", "chunks: what a commit looks at"),
    ("faust.transport.consumer", "Consumer", "_new_offset", "chunks: the offset that a commit writes"),
    ("faust.transport.consumer", "Consumer", "perform_seek", "chunks: goes back to what was committed"),
    ("faust.transport.consumer", "Consumer", "verify_event_path", "chunks: a check that expects single records"),
    ("faust.transport.drivers.aiokafka", "Consumer", "_new_consumer_thread", "chunks: the thread of the client"),
    ("faust.transport.drivers.aiokafka", "Consumer", "_to_message", "chunks: records of the changelog"),
    (
        "faust.transport.drivers.aiokafka",
        "AIOKafkaConsumerThread",
        "_create_worker_consumer",
        "chunks: read_committed, shorter waits",
    ),
    ("faust.transport.drivers.aiokafka", "Producer", "_settings_extra", "durable: acks=all and idempotence"),
    ("faust.tables.base", "Collection", "apply_changelog_batch", "table: errors of a recovery"),
    ("faust.stores.rocksdb", "Store", "_db_for_partition", "table: the RocksDB of a partition"),
    ("faust.stores.rocksdb", "Store", "offset_key", "table: where the changelog offset is kept"),
    ("aiokafka", "AIOKafkaProducer", "create_batch", "durable: one batch per partition and topic"),
    ("aiokafka", "AIOKafkaProducer", "send_batch", "durable: one batch per partition and topic"),
)
# Attributes that only instances have: looked for in the source of the constructor.
INSTANCE_HOOKS = (
    ("faust.transport.consumer", "Consumer", "_read_offset", "chunks: not to deliver twice"),
    ("aiokafka", "AIOKafkaConsumer", "_isolation_level", "chunks: read_committed"),
    ("aiokafka", "AIOKafkaConsumer", "_fetch_max_wait_ms", "chunks: a shorter wait at the broker"),
    ("aiokafka.consumer.fetcher", "Fetcher", "_fetch_max_wait_ms", "chunks: how long the broker gathers"),
    ("aiokafka.consumer.fetcher", "Fetcher", "_fetch_min_bytes", "chunks: how much the broker gathers"),
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


def _class(module: str, name: str) -> Any:
    try:
        return getattr(importlib.import_module(module), name, None)
    except ImportError:
        return None
