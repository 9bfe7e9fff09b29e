"""The same work in Bytewax: a stateful map between its Kafka connectors, one worker.

It has no changelog: states are kept in SQLite files in a folder, a snapshot of what changed every few seconds.
"""

import os
from datetime import timedelta
from typing import Any

import bytewax.operators as op
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kafka
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from bench.work import Work
from nextclick.advance import LoggedClick
from nextclick.settings import Settings

_SNAPSHOT_EVERY = timedelta(seconds=5)  # as often as Quix Streams and Faust commit


def build(settings: Settings) -> Any:
    """Build the flow; what is not said here is as Bytewax has it."""
    flow = Dataflow("clicks")
    work = Work(settings)

    def read(message: Any) -> LoggedClick | None:
        user = (message.partition, message.key)
        return work.read(user, message.offset, message.timestamp[1], message.value, message.headers)

    def on_click(before: bytes | None, logged: LoggedClick) -> tuple[bytes, Any]:
        after, update = work.answer(logged, before)
        return after, KafkaSinkMessage(logged.user[1], update)

    brokers = [settings.broker]
    clicks = kafka.input("clicks", flow, brokers=brokers, topics=[settings.clicks_topic])
    logged = op.filter_map("read", clicks.oks, read)
    keyed = op.key_on("user", logged, lambda logged: logged.user[1].decode())
    answered = op.map("update", op.stateful_map("answer", keyed, on_click), lambda keyed: keyed[1])
    kafka.output(
        "updates",
        answered,
        brokers=brokers,
        topic=settings.recommendations_topic,
        add_config={"partitioner": settings.partitioner, "acks": "all"},
    )
    return flow


def main() -> None:
    """Run the flow, with its states kept."""
    settings = Settings.load(os.environ)
    folder = settings.data_dir / "recovery"
    folder.mkdir(parents=True)
    init_db_dir(folder, 1)
    cli_main(build(settings), epoch_interval=_SNAPSHOT_EVERY, recovery_config=RecoveryConfig(str(folder)))


if __name__ == "__main__":
    main()
