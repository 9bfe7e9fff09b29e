"""The options `--broker`, `--config` and `--set`, which every command has that needs settings, and numbers."""

import functools
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from nextclick.schema.click_schema import ClickSchema
from nextclick.setting_sources import CONFIG_VARIABLE, given_settings
from nextclick.setting_values import Given
from nextclick.settings import Settings

config_option = click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help=f"Read settings from a TOML file ({CONFIG_VARIABLE}); variables and --set win.",
)
set_option = click.option(
    "--set", "assignments", multiple=True, metavar="NAME=VALUE", help="Override a setting; may be repeated."
)
_broker_option = click.option("--broker", metavar="HOST:PORT", help="Kafka's address (setting `broker`).")


class NumberRange(click.FloatRange):
    """Numbers of a range; NaN is in none, though click, which compares only, lets it pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number, as `FloatRange`."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is not a number", param, ctx)
        return number


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


def given_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--broker`, `--config` and `--set` to a command, which then gets one argument `given`: nothing is checked."""

    @functools.wraps(function)
    def with_given(
        *args: Any, broker: str | None, config: Path | None, assignments: tuple[str, ...], **options: Any
    ) -> Any:
        given = given_settings(os.environ, parse_assignments(assignments), config)
        if broker is not None:
            given["broker"] = Given(broker, "--broker", "command line")
        return function(*args, given=given, **options)

    return _broker_option(config_option(set_option(with_given)))


def settings_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--broker`, `--config` and `--set` to a command, which then gets one argument `settings`.

    A path, or a list of events, that cannot be read is refused by every command, and before anything else is looked at.
    """

    @functools.wraps(function)
    def with_settings(*args: Any, given: Mapping[str, Given], **options: Any) -> Any:
        settings = Settings.of(given)
        ClickSchema.of(settings)
        return function(*args, settings=settings, **options)

    return given_options(with_settings)
