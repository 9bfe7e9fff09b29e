"""The command `nextclick train`."""

from typing import Literal

import click

from nextclick.settings import Settings
from tools.options import settings_options


@click.command()
@click.option("--once", is_flag=True, help="Read to the present end of the topic, train once, and leave.")
@click.option("--start", type=click.Choice(["earliest", "latest"]), help="Where a new click log begins.")
@click.option("--skip-lost", is_flag=True, help="Go on past clicks that the topic removed before they were logged.")
@click.option(
    "--give-up-champion",
    "given_up",
    default="",
    metavar="BUNDLE_ID",
    help="Train and publish as if this bundle had not been announced: its folder is lost, say.",
)
@click.option("--verbose", is_flag=True, help="Also a line per pass, and the libraries' own log lines.")
@settings_options
def train(
    settings: Settings,
    once: bool,
    start: Literal["earliest", "latest"] | None,
    skip_lost: bool,
    given_up: str,
    verbose: bool,
) -> None:
    """Run the trainer: logs clicks, fine-tunes, publishes bundles.

    One per application, wherever they run: a second one waits. The topics must exist (`nextclick topics`). SIGTERM
    writes the clicks that were read to the click log and leaves; a training that is under way is given up.

    Exit status: 0 after SIGTERM; with --once, 0 if a bundle was published, or if there was honestly nothing to publish:
    too few clicks, or a bundle that is not better. 1 with one line that says why: what was asked for could not be done
    (with --once also that the training failed, that the broker did not answer, or that SIGTERM came first).
    """
    import dataclasses

    from tools.logs import set_up_logs
    from training.service.trainer_process import run_trainer

    set_up_logs("trainer", verbose=verbose)
    if start:
        settings = dataclasses.replace(settings, start=start)
    run_trainer(settings, once=once, skip_lost=skip_lost, given_up=given_up)
