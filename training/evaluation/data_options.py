"""The part of a command line that says which data set is meant and how it is split."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import click

from tools.click_files.layouts import ClickFile
from tools.click_files.options import click_file_options, conditions
from training.evaluation.source import USUAL_RULES, DataSource, SplitRule

Command = Callable[..., Any]

_ALL_EVENTS = "all"


class NumberRange(click.FloatRange):
    """Numbers of a range; NaN is in none, though click, which compares only, lets it pass."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read a number, as `FloatRange`."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"expected a number, found {value!r}", param, ctx)
        return number


_SHARE = NumberRange(0, 1, min_open=True, max_open=True)
_OPTIONS = (
    click.option(
        "--test-where", multiple=True, metavar="COLUMN=VALUE", help="Test on rows like this; may be repeated, all hold."
    ),
    click.option(
        "--test-hours",
        type=NumberRange(0, min_open=True),
        help="Test on sessions that end in the last hours (24; retailrocket, diginetica, otto: 168).",
    ),
    click.option("--test-share", type=_SHARE, help="Test on the share of sessions that end last (movielens: 0.1)."),
    click.option(
        "--session-gap-minutes",
        type=NumberRange(0),
        help="A user's longer pause begins a new session; 0 for sessions as in the file (0; retailrocket: 30).",
    ),
    click.option(
        "--events",
        metavar="LIST",
        help="Only these event types, like view,cart, or all (all; retailrocket, otto: view).",
    ),
    click.option(
        "--train-share",
        type=NumberRange(0, 1, min_open=True),
        default=1.0,
        show_default=True,
        help="Train on the share of training sessions that end last.",
    ),
)


def data_options(function: Command) -> Command:
    """Add the argument DATA and its options to a command, which then gets one argument `source`, a `DataSource`."""

    def with_source(
        *args: Any,
        click_file: ClickFile,
        test_where: tuple[str, ...],
        test_hours: float | None,
        test_share: float | None,
        session_gap_minutes: float | None,
        events: str | None,
        train_share: float,
        **options: Any,
    ) -> Any:
        rule = replace(USUAL_RULES[click_file.file_format], train_share=train_share)
        rule = _with_test_part(rule, conditions(test_where, "--test-where"), test_hours, test_share)
        if session_gap_minutes is not None:
            rule = replace(rule, session_gap_minutes=session_gap_minutes)
        if events is not None:
            rule = replace(rule, events=() if events == _ALL_EVENTS else tuple(events.split(",")))
        return function(*args, source=DataSource(file=click_file, rule=rule), **options)

    with_source.__name__, with_source.__doc__ = function.__name__, function.__doc__
    with_source.__click_params__ = getattr(function, "__click_params__", [])  # type: ignore[attr-defined]
    decorated: Command = with_source
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return click_file_options("DATA")(decorated)


def _with_test_part(rule: SplitRule, where: dict[str, str], hours: float | None, share: float | None) -> SplitRule:
    """Give the rule with the test part that the user chose, if any."""
    n_chosen = bool(where) + (hours is not None) + (share is not None)
    if n_chosen > 1:
        raise click.UsageError("expected one of --test-where, --test-hours and --test-share, found several; choose one")
    if n_chosen:
        return replace(rule, test_where=where, test_hours=hours, test_share=share)
    return rule
