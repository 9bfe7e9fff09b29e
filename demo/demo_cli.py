"""The command `nextclick demo`."""

import os
import sys
from pathlib import Path

import click

from nextclick.settings import Settings
from tools.options import settings_options


@click.command()
@click.option("--seconds", type=click.FloatRange(min=1), help="End by itself, with a summary; else Ctrl-C ends it.")
@click.option("--rate", type=click.IntRange(min=1), default=200, show_default=True, help="Simulated clicks per second.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the simulator.")
@settings_options
def demo(seconds: float | None, rate: int, seed: int, settings: Settings) -> None:
    """See it all at work: broker, worker, trainer and simulator, with a live view.

    Starts an Apache Kafka of its own (or uses the one that --broker or KAFKA_BOOTSTRAP names, with topics of its own
    that are deleted at the end). Nothing is left behind. With --seconds, the exit status is 0 only when
    recommendations came, a trained bundle was swapped in, and it hit more often than popularity.
    """
    from demo.demo import Demo
    from tools.logs import set_up_logs

    set_up_logs("demo")

    given = click.get_current_context().params
    named = given["broker"] or any(assignment.startswith("broker=") for assignment in given["assignments"])
    named = named or os.environ.get("KAFKA_BOOTSTRAP") or os.environ.get("NEXTCLICK_BROKER")
    kafka_home = os.environ.get("KAFKA_HOME")
    run = Demo(settings, not named, rate, seed, Path(kafka_home) if kafka_home else None)
    succeeded = run.run(seconds, os.environ)
    if seconds is not None and not succeeded:
        sys.exit(1)
