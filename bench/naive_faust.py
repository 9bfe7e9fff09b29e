"""The straightforward Faust program: one event, one table write, one awaited send. The same work as the worker's."""

import os
import time
from typing import Any

import faust

from nextclick.advance import Limits, LoggedClick, advance
from nextclick.hashing import item_hash
from nextclick.popularity import Popularity
from nextclick.schema.click_schema import ClickSchema
from nextclick.schema.decoder import click_decoder
from nextclick.settings import Settings
from nextclick.updates import AnsweredClick, encode_update
from nextclick.user_state import decode_state, encode_state


def build(settings: Settings) -> Any:
    """Build the app: as a tutorial would, but for the work that is done per event."""
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
    )
    clicks = app.topic(settings.clicks_topic, key_type=bytes, value_type=bytes, value_serializer="raw")
    updates = app.topic(settings.recommendations_topic, key_type=bytes, value_type=bytes, value_serializer="raw")
    states = app.Table("user-state", key_type=bytes, value_type=bytes, partitions=settings.partitions)
    decode = click_decoder(ClickSchema.of(settings))
    limits = Limits(settings.recent_clicks, settings.list_length)
    popularity = Popularity(settings.popularity_half_life_s)

    @app.agent(clicks)  # type: ignore[untyped-decorator]
    async def on_click(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            timestamp_ms = int(message.timestamp * 1000)
            clicks = decode(message.key, message.value, message.headers, timestamp_ms, int(time.time() * 1000))
            if not isinstance(clicks, tuple):
                continue
            (click,) = clicks
            popularity.add(click.user_id, click.item_id, click.timestamp_ms)
            user = (message.partition, message.key)
            before = states.get(message.key)
            known = {user: decode_state(before)} if before is not None else {}
            logged = LoggedClick(user, message.offset, timestamp_ms, click, item_hash(click.item_id))
            [outcome] = advance(None, popularity.ranked(limits.list_length), known, [logged], limits)
            states[message.key] = encode_state(outcome.state)
            answered = AnsweredClick(message.partition, message.offset, timestamp_ms)
            sequence, now_ms = outcome.sequence, int(time.time() * 1000)
            update = encode_update(click.user_id, outcome.ranked, "", sequence, answered, now_ms)
            await updates.send(key=message.key, value=update)

    return app


if __name__ == "__main__":
    faust.Worker(build(Settings.load(os.environ)), loglevel="WARN").execute_from_commandline()
