"""The command `nextclick settings`."""

import sys
from collections.abc import Mapping

import click

from nextclick.setting_values import Given
from nextclick.settings_in_force import SettingInForce, settings_in_force
from tools.options import given_options

TITLES = {
    "broker": "The broker, and how every client speaks to it",
    "application": "The application and its topics",
    "clicks": "The records of the clicks topic",
    "worker": "The worker (`nextclick stream`)",
    "trainer": "The trainer (`nextclick train`)",
    "feed": "The feed (`nextclick feed`)",
}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON array with an object for each setting.")
@given_options
def settings(as_json: bool, given: Mapping[str, Given]) -> None:
    """List every setting by program: its value in force, where that comes from, its unit and its reason.

    A value comes from its default, a file (--config), a variable (NEXTCLICK_<NAME>) or --set; a later one wins. What is
    not a default is marked with *. Passwords are never shown. What is wrong is told at the end, with exit status 1.
    """
    in_force, mistakes = settings_in_force(given)
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode([setting._asdict() for setting in in_force])))
    else:
        _print(in_force)
    for mistake in mistakes:
        click.echo(f"nextclick: {mistake}", err=True)
    if mistakes:
        sys.exit(1)


def _print(in_force: list[SettingInForce]) -> None:
    program = ""
    for setting in in_force:
        if setting.program != program:
            click.echo(("\n" if program else "") + click.style(TITLES[setting.program], underline=True))
            program = setting.program
        is_given = setting.source != "default"
        value = click.style(f"{setting.name} = {_text(setting.value)}", bold=is_given)
        takes = f"  [{setting.takes}]" if setting.takes else ""
        origin = f"  * from {setting.where}; default: {_text(setting.default)}" if is_given else ""
        click.echo(f"{value}{takes}{origin}\n    {setting.reason}")


def _text(value: object) -> str:
    return "(empty)" if value == "" else str(value)
