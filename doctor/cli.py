"""The command `nextclick doctor`."""

import sys
from collections.abc import Mapping
from typing import Any

import click

from nextclick.settings import Settings, setting_kinds
from tools.options import settings_options


@click.command()
@click.option(
    "--records",
    "n_records",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    show_default=True,
    help="How many of the newest records of the clicks topic to look at.",
)
@click.option("--json", "json_wanted", is_flag=True, help="One JSON object instead of lines.")
@settings_options
def doctor(settings: Settings, n_records: int, json_wanted: bool) -> None:
    """Look at broker, topics, clicks, clocks, groups, bundles and disks, and say what does not fit and what to do.

    Where clicks would be lost, it looks for settings under which they can be used, and prints the command line with
    them. It joins no group, writes nothing and creates nothing. Names of fields and of events are shown, never what a
    click holds.

    Exit status: 0 nothing is wrong (there can be notes), 3 there are warnings, 1 there are errors: a program would not
    start, or no click be answered.
    """
    from rich.console import Console

    from doctor.diagnosis import diagnose
    from doctor.findings import STATUS, worst
    from doctor.report import as_json, print_report
    from tools.logs import set_up_logs

    set_up_logs("doctor")
    diagnosis = diagnose(settings, n_records, repeated_options(click.get_current_context().params))
    if json_wanted:
        click.echo(as_json(diagnosis))
    else:
        print_report(diagnosis, Console())
    sys.exit(STATUS[worst(diagnosis.findings)])


def repeated_options(params: Mapping[str, Any]) -> list[str]:
    """Repeat the settings that the command line gave, but for passwords."""
    options = ["--broker", params["broker"]] if params["broker"] else []
    if params["config"]:
        options += ["--config", str(params["config"])]
    for assignment in params["assignments"]:
        if not setting_kinds()[assignment.partition("=")[0].strip()].is_secret:
            options += ["--set", assignment]
    return options
