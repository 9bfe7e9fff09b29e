"""Which recorded clicks an evaluation is made on: the file, and how it becomes a training and a test part.

Also the part of a command line that says so.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import wraps
from typing import Any

import click

from tools.click_files.choices import ALL_EVENTS, ClickFile
from tools.click_files.options import click_file_options, conditions
from tools.options import NumberRange

_DAY_H = 24.0
_WEEK_H = 7 * _DAY_H


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How clicks become sessions, and these two parts. Of the first three exactly one is given."""

    test_where: Mapping[str, str] = field(default_factory=dict)  # the test part: rows with these values in columns
    test_hours: float | None = None  # the test part: sessions that end in the last so many hours
    test_share: float | None = None  # the test part: this share of the sessions, those that end last
    session_gap_minutes: float = 0.0  # a longer pause of a user begins a new session; 0: sessions as the file has them
    train_share: float = 1.0  # only so much of the training sessions, those that end last


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A file of clicks and the rule by which it is split."""

    file: ClickFile
    rule: SplitRule

    def configuration(self) -> dict[str, object]:
        """Give all that decides which clicks are in which part, in types that JSON has."""
        return {"file": asdict(self.file) | {"path": str(self.file.path)}, "split": asdict(self.rule)}


# Per format, what its literature does. Yoochoose: the last day (Hidasi et al. 2016, arXiv:1511.06939), which is the
# rule for all formats that are not listed. Diginetica: the last week (NARM, arXiv:1711.04725). RetailRocket: views,
# sessions with pauses of at most 30 minutes, days at the end (Ludewig and Jannach 2018, arXiv:1803.09587). OTTO: its
# competition tests on the week after the training data; views as for the others. MovieLens, and what else has the whole
# history of a user, is mostly split per user, which lets a model see the future of other users: here the last tenth of
# the users is predicted, and a user is a session, since one sitting can hold all ratings.
_LAST_USERS = SplitRule(test_share=0.1)
USUAL_RULES: Mapping[str, SplitRule] = {
    "retailrocket": SplitRule(test_hours=_WEEK_H, session_gap_minutes=30),
    "diginetica": SplitRule(test_hours=_WEEK_H),
    "otto": SplitRule(test_hours=_WEEK_H),
    "movielens": _LAST_USERS,
    "taobao": _LAST_USERS,
    "amazon": _LAST_USERS,
    "hm": _LAST_USERS,
    "lastfm": _LAST_USERS,
    "gowalla": _LAST_USERS,
    "mind": _LAST_USERS,
}
OTHER_RULE = SplitRule(test_hours=_DAY_H)
USUAL_EVENTS: Mapping[str, str] = {"retailrocket": "view", "otto": "view", "rees46": "view", "taobao": "view"}


Command = Callable[..., Any]


_SHARE = NumberRange(0, 1, min_open=True, max_open=True)
_GAP_OPTION = click.option(
    "--session-gap-minutes",
    type=NumberRange(0),
    help="A user's longer pause begins a new session; 0 for sessions as in the file (0; retailrocket: 30).",
)
_OPTIONS = (
    click.option(
        "--test-where", multiple=True, metavar="COLUMN=VALUE", help="Test on rows like this; may be repeated, all hold."
    ),
    click.option(
        "--test-hours",
        type=NumberRange(0, min_open=True),
        help="Test on sessions that end in the last hours (24; retailrocket, diginetica, otto: 168).",
    ),
    click.option(
        "--test-share",
        type=_SHARE,
        help="Test on the share of sessions that end last (movielens and others with whole users: 0.1).",
    ),
    _GAP_OPTION,
    click.option(
        "--train-share",
        type=NumberRange(0, 1, min_open=True),
        default=1.0,
        show_default=True,
        help="Train on the share of training sessions that end last.",
    ),
)
_OPTION_NAMES = ("test_where", "test_hours", "test_share", "session_gap_minutes", "train_share")


def data_options(function: Command) -> Command:
    """Add the argument DATA and its options to a command, which then gets one argument `source`, a `DataSource`."""

    @wraps(function)
    def with_source(*args: Any, click_file: ClickFile, **options: Any) -> Any:
        file_format = click_file.file_format
        rule = _rule(USUAL_RULES.get(file_format, OTHER_RULE), {name: options.pop(name) for name in _OPTION_NAMES})
        return function(*args, source=DataSource(file=_with_usual_events(click_file), rule=rule), **options)

    decorated: Command = with_source
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return click_file_options("DATA")(decorated)


def log_options(function: Command) -> Command:
    """Add the argument DATA and the options of a file that is not split.

    The command then gets `click_file` and `session_gap_minutes`, with what is usual for its format.
    """

    @wraps(function)
    def with_log(*args: Any, click_file: ClickFile, session_gap_minutes: float | None, **options: Any) -> Any:
        if session_gap_minutes is None:
            session_gap_minutes = USUAL_RULES.get(click_file.file_format, OTHER_RULE).session_gap_minutes
        click_file = _with_usual_events(click_file)
        return function(*args, click_file=click_file, session_gap_minutes=session_gap_minutes, **options)

    return click_file_options("DATA")(_GAP_OPTION(with_log))


def _with_usual_events(file: ClickFile) -> ClickFile:
    if file.choices.events is not None:
        return file
    return replace(file, choices=replace(file.choices, events=USUAL_EVENTS.get(file.file_format, ALL_EVENTS)))


def _rule(usual: SplitRule, options: dict[str, Any]) -> SplitRule:
    """Give the usual rule of a format with what the user chose instead."""
    rule = replace(usual, train_share=options["train_share"])
    test_part = {
        "test_where": conditions(options["test_where"], "--test-where"),
        "test_hours": options["test_hours"],
        "test_share": options["test_share"],
    }
    n_chosen = sum(bool(choice) for choice in test_part.values())
    if n_chosen > 1:
        raise click.UsageError("--test-where, --test-hours and --test-share exclude each other; choose one of them")
    if n_chosen:
        rule = replace(rule, **test_part)
    if options["session_gap_minutes"] is not None:
        rule = replace(rule, session_gap_minutes=options["session_gap_minutes"])
    return rule
