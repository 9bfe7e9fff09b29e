"""Which recorded clicks an evaluation is made on: the file, and how it becomes a training and a test part."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from tools.click_files.layouts import ClickFile

_DAY_H = 24.0
_WEEK_H = 7 * _DAY_H


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRule:
    """How clicks become sessions, and these two parts. Of the first three exactly one is given."""

    test_where: Mapping[str, str] = field(default_factory=dict)  # the test part: rows with these values in columns
    test_hours: float | None = None  # the test part: sessions that end in the last so many hours
    test_share: float | None = None  # the test part: this share of the sessions, those that end last
    session_gap_minutes: float = 0.0  # a longer pause of a user begins a new session; 0: sessions as the file has them
    events: tuple[str, ...] = ()  # only clicks of these types; empty: of all
    train_share: float = 1.0  # only so much of the training sessions, those that end last


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSource:
    """A file of clicks and the rule by which it is split."""

    file: ClickFile
    rule: SplitRule

    def configuration(self) -> dict[str, object]:
        """Give all that decides which clicks are in which part, in types that JSON has."""
        return {"file": asdict(self.file) | {"path": str(self.file.path)}, "split": asdict(self.rule)}


# Per format, what its literature does. Yoochoose: the last day (Hidasi et al. 2016, arXiv:1511.06939). Diginetica: the
# last week (NARM, arXiv:1711.04725). RetailRocket: views, sessions with pauses of at most 30 minutes, days at the end
# (Ludewig and Jannach 2018, arXiv:1803.09587). OTTO: its competition tests on the week after the training data; views
# as for the others. MovieLens is mostly split per user, which lets a model see the future of other users: here the
# last tenth of the users is predicted, and a user is a session, since one sitting can hold all ratings.
USUAL_RULES: Mapping[str, SplitRule] = {
    "csv": SplitRule(test_hours=_DAY_H),
    "yoochoose": SplitRule(test_hours=_DAY_H),
    "retailrocket": SplitRule(test_hours=_WEEK_H, session_gap_minutes=30, events=("view",)),
    "diginetica": SplitRule(test_hours=_WEEK_H),
    "movielens": SplitRule(test_share=0.1),
    "otto": SplitRule(test_hours=_WEEK_H, events=("view",)),
}
