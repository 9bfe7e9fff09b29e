"""The part of a command line that says which file of clicks is meant."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tools.click_files.layouts import FORMATS, ChosenColumns
from tools.click_files.recognise import AUTO, recognise

Command = Callable[..., Any]

_FORMAT_HELP = (
    "As the data sets are published: csv (with a header), yoochoose (yoochoose-clicks.dat), retailrocket (events.csv), "
    "diginetica (train-item-views.csv), movielens (ratings.csv, ratings.dat, u.data), otto (JSON lines). "
    "auto: told from the first line."
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
    click.option("--user", metavar="COLUMN", help="The user's column (csv: user_id, else session_id)."),
    click.option("--item", metavar="COLUMN", help="The item's column (csv: item_id)."),
    click.option("--time", metavar="COLUMN", help="The time's column (csv: timestamp); '' for none."),
    click.option("--event", metavar="COLUMN", help="The event type's column (csv: event_type); '' for none."),
    click.option(
        "--where", multiple=True, metavar="COLUMN=VALUE", help="Only rows like this; may be repeated, all hold."
    ),
)


def click_file_options(argument: str) -> Callable[[Command], Command]:
    """Add an argument for a file or a data set's folder, and options; the command then gets `click_file`.

    Args:
        argument: what the help calls it.
    """

    def decorate(function: Command) -> Command:
        def with_click_file(*args: Any, path: Path, file_format: str, where: tuple[str, ...], **options: Any) -> Any:
            names = {name: options.pop(name) for name in ("user", "item", "time", "event")}
            file = recognise(path, file_format, ChosenColumns(**names), conditions(where, "--where"))
            return function(*args, click_file=file, **options)

        with_click_file.__name__, with_click_file.__doc__ = function.__name__, function.__doc__
        with_click_file.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
        decorated: Command = with_click_file
        for option in reversed(_OPTIONS):
            decorated = option(decorated)
        return click.argument("path", metavar=argument, type=click.Path(path_type=Path))(decorated)

    return decorate


def conditions(where: tuple[str, ...], option: str) -> dict[str, str]:
    """Turn COLUMN=VALUE texts into a mapping."""
    values = {}
    for condition in where:
        column, equals, value = condition.partition("=")
        if not equals:
            raise click.BadParameter(f"expected column=value, found {condition!r}", param_hint=option)
        values[column] = value
    return values
