"""The commands `nextclick stream`, `nextclick topics` and `nextclick repartition`."""

from typing import Literal

import click

from nextclick.settings import Settings
from tools.options import NumberRange, settings_options


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


@click.command()
@click.option(
    "--producers-refresh-s",
    type=NumberRange(0),
    default=300.0,
    show_default=True,
    help="How long producers may go on with the old number (their metadata.max.age.ms); 0: all know the new one.",
)
@settings_options
def repartition(settings: Settings, producers_refresh_s: float) -> None:
    """Bring states and unanswered clicks to their users' new partitions after the clicks topic has grown.

    Stop all workers first, and give the producers time to hear of the new partitions. Interrupted, it is to be run
    again, and goes on; workers refuse to start until it has ended. data_dir must have room for the states of one
    partition.
    """
    from stream.repartition.command import repartition as run
    from tools.logs import set_up_logs

    set_up_logs("repartition")
    done = run(settings, producers_refresh_s)
    for before, after, n_clicks, n_states in done:
        click.echo(f"{before} -> {after} partitions: {n_clicks:,} clicks copied, {n_states:,} states written anew")
    click.echo("done: start the workers" if done else f"nothing to do: {settings.clicks_topic} has not grown")
