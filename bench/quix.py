"""The same work in Quix Streams: a stateful function over a topic, its state in RocksDB with a changelog."""

import os
from typing import Any

from quixstreams import Application, State, message_context

from bench.work import Work
from nextclick.settings import Settings

_STATE = "state"


def build(settings: Settings) -> Any:
    """Build the application; what is not said here is as Quix has it."""
    app = Application(
        broker_address=settings.broker,
        consumer_group=settings.app,
        auto_offset_reset="earliest",
        state_dir=str(settings.data_dir),
        loglevel="WARNING",
    )
    clicks = app.topic(settings.clicks_topic, key_deserializer="bytes", value_deserializer="bytes")
    updates = app.topic(settings.recommendations_topic, key_serializer="bytes", value_serializer="bytes")
    work = Work(settings)

    def on_click(value: bytes, key: bytes, timestamp_ms: int, headers: Any, state: State) -> bytes | None:
        context = message_context()
        logged = work.read((context.partition, key), context.offset, timestamp_ms, value, headers or ())
        if logged is None:
            return None
        after, update = work.answer(logged, state.get_bytes(_STATE))
        state.set_bytes(_STATE, after)
        return update

    answered = app.dataframe(clicks).apply(on_click, stateful=True, metadata=True)
    answered.filter(lambda update: update is not None).to_topic(updates)
    return app


if __name__ == "__main__":
    build(Settings.load(os.environ)).run()
