"""Faust as its documentation advises where it must be fast: uvloop, sends that nobody awaits, large batches.

What it cannot do without reaching inside it: read or write a table for a whole `take()` at once, because a table's
changelog follows the current event, and a `take()` has none. So it is one event at a time here, too.
"""

import os
from typing import Any

import faust

from bench.naive_faust import parts
from nextclick.settings import Settings


def build(settings: Settings) -> Any:
    """Build the app, with the settings that its documentation names for throughput."""
    app, clicks, updates, states, work = parts(
        settings,
        stream_buffer_maxsize=32_768,
        stream_wait_empty=False,
        broker_max_poll_records=2_000,
        broker_commit_interval=5.0,
        consumer_max_fetch_size=4 * 1024**2,
        producer_linger=0.005,
        producer_max_batch_size=256 * 1024,
        producer_max_request_size=1024**2,
    )

    @app.task  # type: ignore[untyped-decorator]
    async def without_statistics() -> None:
        app.sensors.remove(app.monitor)  # that are kept of every event

    @app.agent(clicks)  # type: ignore[untyped-decorator]
    async def on_click(stream: Any) -> None:
        async for event in stream.events():
            message = event.message
            user = (message.partition, message.key)
            logged = work.read(user, message.offset, int(message.timestamp * 1000), message.value, message.headers)
            if logged is not None:
                states[message.key], update = work.answer(logged, states.get(message.key))
                updates.send_soon(key=message.key, value=update)

    return app


if __name__ == "__main__":
    # The loop is chosen on the command line: `--loop uvloop`.
    faust.Worker(build(Settings.load(os.environ)), loglevel="WARN").execute_from_commandline()
