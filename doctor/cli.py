"""The command `nextclick doctor`."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import click

from doctor.findings import STATUS, Finding, Level, worst
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
    from doctor.report import as_json, print_report
    from tools.logs import set_up_logs

    set_up_logs("doctor")
    params = click.get_current_context().params
    diagnosis = diagnose(settings, n_records, repeated_options(params))
    diagnosis.findings += reminders(params["assignments"], diagnosis.findings)
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
        if not _is_secret(assignment):
            options += ["--set", assignment]
    return options


def reminders(assignments: Sequence[str], findings: Sequence[Finding]) -> list[Finding]:
    """Say which settings of the command line the lines that are to be pasted lack, if there are such lines."""
    names = [assignment.partition("=")[0].strip() for assignment in assignments if _is_secret(assignment)]
    if not names or not any("nextclick " in each.advice and "--set " in each.advice for each in findings):
        return []
    found = f"the lines above are without {' and '.join(names)}, which the command line gave"
    return [Finding(Level.NOTE, "passwords", found, "paste them with your passwords, or have these in the environment")]


def _is_secret(assignment: str) -> bool:
    return setting_kinds()[assignment.partition("=")[0].strip()].is_secret
