"""The part of a command line that says which file of clicks is meant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tools.click_files.choices import AUTO, Choices
from tools.click_files.layouts import FORMATS

Command = Callable[..., Any]

_FORMAT_HELP = (
    "csv: any file with a click a line and a separator; jsonl: JSON lines, as a dump of a topic; parquet; the others "
    "are data sets as they are published. auto: told from the file's beginning."
)
_OPTIONS = (
    click.option(
        "--format",
        "file_format",
        type=click.Choice([AUTO, *FORMATS]),
        default=AUTO,
        show_default=True,
        help=_FORMAT_HELP,
    ),
    click.option(
        "--user",
        metavar="COLUMN",
        help="The user's column, else one with a usual name (user_id, visitorId, ...). In JSON a path like visitor.id. "
        "a|b: the first that is not empty.",
    ),
    click.option("--item", metavar="COLUMN", help="The item's column, in the same way."),
    click.option("--time", metavar="COLUMN", help="The time's column; '' for none: the order of the file holds."),
    click.option("--event", metavar="COLUMN", help="The event type's column; '' for none."),
    click.option(
        "--events",
        metavar="LIST",
        help="Only these event types, with :TYPE behind a name that the model knows by another, as in the setting "
        "events: view,add_to_cart:cart,purchase. all: every event (replay: all; evaluate: view for retailrocket, otto, "
        "rees46 and taobao).",
    ),
    click.option(
        "--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows like this; may be repeated, all hold."
    ),
    click.option("--no-header", is_flag=True, help="The first line is a click; columns are numbers, from 1 on."),
    click.option("--separator", metavar="TEXT", help="What stands between values, \\t for a tab; else it is told."),
    click.option("--no-quotes", is_flag=True, help='A double quote is a letter like others, as in 7" tablet.'),
    click.option("--skip-bad", is_flag=True, help="Go on past lines that cannot be read; they are counted."),
)
_CHOSEN = ("user", "item", "time", "event", "events")


def click_file_options(argument: str) -> Callable[[Command], Command]:
    """Add an argument for a file or a data set's folder, and options; the command then gets `click_file`.

    Args:
        argument: what the help calls it.
    """

    def decorate(function: Command) -> Command:
        def with_click_file(*args: Any, **options: Any) -> Any:
            from tools.click_files.recognise import recognise  # only a command that runs needs Arrow

            path, file_format = options.pop("path"), options.pop("file_format")
            file = recognise(path, file_format, _choices(options))
            return function(*args, click_file=file, **options)

        with_click_file.__name__, with_click_file.__doc__ = function.__name__, function.__doc__
        with_click_file.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        decorated: Command = with_click_file
        for option in reversed(_OPTIONS):
            decorated = option(decorated)
        return click.argument("path", metavar=argument, type=click.Path(path_type=Path))(decorated)

    return decorate


def _choices(options: dict[str, Any]) -> Choices:
    """Take this module's options out of a command's."""
    chosen = {name: options.pop(name) for name in _CHOSEN}
    separator = options.pop("separator")
    return Choices(
        **chosen,
        where=conditions(options.pop("where"), "--where"),
        separator=separator.replace("\\t", "\t") if separator else None,
        has_header=not options.pop("no_header"),
        has_quotes=not options.pop("no_quotes"),
        skip_bad=options.pop("skip_bad"),
    )


def conditions(where: tuple[str, ...], option: str) -> dict[str, str]:
    """Turn COLUMN=VALUE texts into a mapping."""
    values = {}
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise click.BadParameter(f"expected column=value, found {condition!r}", param_hint=option)
        values[column] = value
    return values
