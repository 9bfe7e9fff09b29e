"""The one command line. Parts are found by name and imported only when they run, so that `--help` is instant."""

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

import nextclick
from nextclick.errors import NextclickError
from nextclick.settings import Settings

# Name -> (module:function, what --help says). Each function is a click command.
COMMANDS = {
    "stream": ("stream.cli:stream", "Run a stream worker: clicks in, recommendations out."),
    "train": ("training.cli:train", "Run the trainer: logs clicks, fine-tunes, publishes bundles."),
    "evaluate": ("training.offline.evaluate_cli:evaluate", "Train and compare models on recorded clicks."),
    "topics": ("stream.cli:topics", "Create the topics, or check those that exist."),
    "replay": ("demo.feed_cli:replay", "Send the clicks of a data set."),
    "simulate": ("demo.feed_cli:simulate", "Send an endless, realistic stream of clicks."),
    "send": ("demo.feed_cli:send", "Send one click and print the list that comes back."),
    "kafka": ("demo.kafka_cli:kafka", "Run a local Apache Kafka."),
    "demo": ("demo.demo_cli:demo", "See it all at work: broker, worker, trainer and simulator."),
    "settings": ("nextclick.cli:settings", "List every setting, its default and its reason."),
}


class _LazyCommands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, function = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), function)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


@click.group(cls=_LazyCommands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(nextclick.__version__, prog_name="nextclick")
def nextclick_command() -> None:
    """Clicks in, next-click recommendations out, within milliseconds, from a model that keeps learning.

    Start with `nextclick demo`. Every part runs alone; settings come from NEXTCLICK_<NAME> variables or from
    `--set name=value`, and `nextclick settings` lists them.
    """


def parse_assignments(assignments: Sequence[str]) -> dict[str, str]:
    """Read what was given with `--set`.

    Raises:
        click.BadParameter: one is not of the form name=value.
    """
    overrides: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals:
            raise click.BadParameter(f"expected name=value, found {assignment!r}", param_hint="--set")
        overrides[name.strip()] = value
    return overrides


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--broker` and `--set` to a command, which then gets one argument `settings`."""

    def with_settings(*args: Any, broker: str | None, assignments: tuple[str, ...], **options: Any) -> Any:
        overrides = parse_assignments(assignments)
        if broker is not None:
            overrides["broker"] = broker
        return function(*args, settings=Settings.load(os.environ, overrides), **options)

    with_settings.__name__, with_settings.__doc__ = function.__name__, function.__doc__
    with_settings.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    with_settings = click.option(
        "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Override a setting; may be repeated."
    )(with_settings)
    return click.option("--broker", metavar="HOST:PORT", help="Kafka's address (setting `broker`).")(with_settings)


@click.command()
def settings() -> None:
    """List every setting, its default, its unit and its reason."""
    for name, default, unit, reason in Settings.describe():
        click.echo(f"{name} = {default or '(empty)'}{f'  [{unit}]' if unit else ''}\n    {reason}")


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
