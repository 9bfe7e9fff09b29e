"""The commands `nextclick stream` and `nextclick topics`."""

from typing import Literal

import click

from nextclick.settings import Settings
from tools.options import settings_options


@click.command()
@click.option("--start", type=click.Choice(["earliest", "latest"]), help="Where a new application begins.")
@click.option("--verbose", is_flag=True, help="Also the libraries' own log lines.")
@settings_options
def stream(settings: Settings, start: Literal["earliest", "latest"] | None, verbose: bool) -> None:
    """Run a stream worker: clicks in, recommendations out.

    Start as many as there are partitions, each with its own `--set data_dir=PATH`; the topics must exist
    (`nextclick topics`). SIGTERM finishes the batch and leaves; a worker that stops by itself has lost nothing and
    is to be started again.
    """
    import dataclasses

    from stream.worker import run_worker
    from tools.logs import set_up_logs

    set_up_logs("worker", verbose=verbose)
    run_worker(dataclasses.replace(settings, start=start) if start else settings)


@click.command()
@settings_options
def topics(settings: Settings) -> None:
    """Create the topics that are missing, and check those that exist as a starting worker does."""
    from stream.topics.topics import Topics
    from tools.logs import set_up_logs

    set_up_logs("topics")
    created = Topics(settings).create()
    click.echo(f"created: {', '.join(created) or 'nothing, all were there'}")
