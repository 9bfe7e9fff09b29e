"""The one command line. Each command is imported only when it is asked for, so that `--help` is instant."""

import os
import sys
from collections.abc import Callable

import click

import nextclick
from nextclick.errors import NextclickError

# Read when numpy is imported. Its products are small here: threads would wait for one another most of the time.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _stream() -> click.Command:
    from stream.cli import stream

    return stream


def _train() -> click.Command:
    from training.service.cli import train

    return train


def _evaluate() -> click.Command:
    from training.evaluation.evaluate_cli import evaluate

    return evaluate


def _backtest() -> click.Command:
    from training.evaluation.backtest.cli import backtest

    return backtest


def _models() -> click.Command:
    from training.service.models_cli import models

    return models


def _topics() -> click.Command:
    from stream.cli import topics

    return topics


def _repartition() -> click.Command:
    from stream.cli import repartition

    return repartition


def _rekey() -> click.Command:
    from rekey.cli import rekey

    return rekey


def _feed() -> click.Command:
    from feed.cli import feed

    return feed


def _replay() -> click.Command:
    from demo.cli import replay

    return replay


def _simulate() -> click.Command:
    from demo.cli import simulate

    return simulate


def _send() -> click.Command:
    from demo.cli import send

    return send


def _kafka() -> click.Command:
    from demo.cli import kafka

    return kafka


def _demo() -> click.Command:
    from demo.cli import demo

    return demo


def _doctor() -> click.Command:
    from doctor.cli import doctor

    return doctor


def _items() -> click.Command:
    from cli.items_command import items

    return items


def _capacity() -> click.Command:
    from cli.capacity_command import capacity

    return capacity


def _settings() -> click.Command:
    from cli.settings_command import settings

    return settings


# Name -> (what gives the command, what --help says).
COMMANDS: dict[str, tuple[Callable[[], click.Command], str]] = {
    "stream": (_stream, "Run a stream worker: clicks in, recommendations out."),
    "train": (_train, "Run the trainer: logs clicks, fine-tunes, publishes bundles."),
    "models": (_models, "Look at bundles, try one on some users, promote, roll back, pin."),
    "evaluate": (_evaluate, "Train and compare models on recorded clicks."),
    "backtest": (_backtest, "Live through recorded clicks round by round, and compare ways to keep up to date."),
    "topics": (_topics, "Create the topics, or check those that exist."),
    "repartition": (_repartition, "After the clicks topic has grown: move the states to their users' partitions."),
    "rekey": (_rekey, "Copy a topic without a usable key to one that is keyed by user, exactly once."),
    "items": (_items, "Say what the shop offers: withdraw items, publish them at a time, boost them."),
    "feed": (_feed, "Serve users' lists over HTTP, and take clicks."),
    "replay": (_replay, "Send the clicks of a data set."),
    "simulate": (_simulate, "Send an endless, realistic stream of clicks."),
    "send": (_send, "Send one click and print the list that comes back."),
    "kafka": (_kafka, "Run a local Apache Kafka."),
    "demo": (_demo, "See it all at work: broker, worker, trainer, feed, simulator, and a page."),
    "doctor": (_doctor, "Say what does not fit, and which settings would mend it."),
    "capacity": (_capacity, "Say what a load needs: workers, brokers, disks, a trainer."),
    "settings": (_settings, "List every setting, its value and where that comes from."),
}


class _LazyCommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        load, _ = COMMANDS[cmd_name]
        return load()

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


@click.group(cls=_LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(nextclick.__version__, prog_name="nextclick")
def nextclick_command() -> None:
    """Clicks in, next-click recommendations out, within milliseconds, from a model that keeps learning.

    Start with `nextclick demo`. Every part runs alone; settings come from a file (`--config`), from NEXTCLICK_<NAME>
    variables or from `--set name=value`, and `nextclick settings` lists them.
    """


def main() -> None:
    """Run the command line; a user's mistake ends with one line and status 1, never with a stack trace."""
    try:
        nextclick_command(prog_name="nextclick", standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except NextclickError as error:
        click.echo(f"nextclick: {error}", err=True)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
