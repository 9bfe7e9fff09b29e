"""The options `--broker` and `--set`, which every command has that needs settings."""

import functools
import os
from collections.abc import Callable, Sequence
from typing import Any

import click

from nextclick.settings import Settings


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

    @functools.wraps(function)
    def with_settings(*args: Any, broker: str | None, assignments: tuple[str, ...], **options: Any) -> Any:
        overrides = parse_assignments(assignments)
        if broker is not None:
            overrides["broker"] = broker
        return function(*args, settings=Settings.load(os.environ, overrides), **options)

    with_settings = click.option(
        "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Override a setting; may be repeated."
    )(with_settings)
    return click.option("--broker", metavar="HOST:PORT", help="Kafka's address (setting `broker`).")(with_settings)
