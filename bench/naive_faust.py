"""The straightforward Faust program: one event, one table write, one awaited send. The same work as the worker's."""

import os
from typing import Any, NamedTuple

import faust

from bench.work import Work
from nextclick.settings import Settings


class Parts(NamedTuple):
    """What both Faust programs are made of."""

    app: Any
    clicks: Any
    updates: Any
    states: Any
    work: Work


def parts(settings: Settings, **tuning: Any) -> Parts:
    """Make an app with its topics and its table; `tuning` goes to the app."""
    app = faust.App(
        settings.app,
        broker=f"kafka://{settings.broker}",
        store="rocksdb://",
        datadir=str(settings.data_dir),
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        consumer_auto_offset_reset="earliest",
        web_enabled=False,
        **tuning,
    )
    clicks = app.topic(settings.clicks_topic, key_type=bytes, value_type=bytes, value_serializer="raw")
    updates = app.topic(settings.recommendations_topic, key_type=bytes, value_type=bytes, value_serializer="raw")
    states = app.Table("user-state", key_type=bytes, value_type=bytes, partitions=settings.partitions)
    return Parts(app, clicks, updates, states, Work(settings))


def build(settings: Settings) -> Any:
    """Build the app: as a tutorial would, but for the work that is done per event."""
    app, clicks, updates, states, work = parts(settings)

    @app.agent(clicks)  # type: ignore[untyped-decorator]
    async def on_click(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            user = (message.partition, message.key)
            logged = work.read(user, message.offset, int(message.timestamp * 1000), message.value, message.headers)
            if logged is not None:
                states[message.key], update = work.answer(logged, states.get(message.key))
                await updates.send(key=message.key, value=update)

    return app


if __name__ == "__main__":
    faust.Worker(build(Settings.load(os.environ)), loglevel="WARN").execute_from_commandline()
