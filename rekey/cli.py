"""The command `nextclick rekey`."""

from typing import Literal

import click

from nextclick.settings import Settings
from tools.options import settings_options


@click.command()
@click.argument("source", metavar="SOURCE")
@click.option("--to", "destination", metavar="TOPIC", help="The topic that gets the copies (setting `clicks_topic`).")
@click.option("--once", is_flag=True, help="End when everything is copied that SOURCE has now.")
@click.option(
    "--start", type=click.Choice(["earliest", "latest"]), help="Where a new job begins; needed where TOPIC has records."
)
@click.option("--verbose", is_flag=True, help="Also the libraries' own log lines.")
@settings_options
def rekey(
    settings: Settings,
    source: str,
    destination: str | None,
    once: bool,
    start: Literal["earliest", "latest"] | None,
    verbose: bool,
) -> None:
    """Copy the records of a topic without a usable key to one that is keyed by user, each exactly once.

    A worker needs all clicks of a user in one partition. Where SOURCE has no key, or another one, this job finds the
    user in each record, by the settings for the schema of clicks (user_field, envelope, ...), and writes the record as
    it is, with its headers and its time, with the user as key, to the partition that the setting `partitioner` gives:

    \b
        nextclick topics --set clicks_topic=clicks
        nextclick rekey shop.events --to clicks --set user_field=visitor.id
        nextclick stream --set clicks_topic=clicks --set user_field=visitor.id

    An array with events of several users is divided into one record for each of them. What cannot be used goes to
    `rejected_topic` with its reason; events that are no clicks are passed over. Both are counted, and said.

    Run as many as SOURCE has partitions; they share them as the group APP-rekey (setting `app`: a copy to another topic
    needs another name). Killed at any moment, no record is lost or doubled for whoever reads committed
    records, as workers and trainers do. SIGTERM ends it; it goes on where it ended. Metrics, /healthz and /readyz are
    on the port of the setting `rekey_port`.
    """
    import dataclasses

    from rekey.process import run_rekey
    from tools.logs import set_up_logs

    set_up_logs("rekey", verbose=verbose)
    if start:
        settings = dataclasses.replace(settings, start=start)
    run_rekey(settings, source, destination or settings.clicks_topic, once=once, may_begin=start is not None)
