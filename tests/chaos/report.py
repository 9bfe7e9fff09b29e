"""What a verification found: what must not be, what is known to happen, and a few places of each."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.eras import Place

MAX_EXAMPLES = 3  # of each violation; partition and offset only, never a user


@dataclass
class Report:
    """What was found. Everything in `violations` must be zero.

    Attributes:
        lost: clicks that their user's newest state does not contain.
        doubled: clicks that a newest state contains once more than they were sent.
        unanswered: clicks without an update of their user that contains them.
        out_of_order: updates that contain fewer clicks than one of the same user before them, and repeat none.
        wrong_updates: updates that contain fewer clicks than the one that caused them, or that no click caused.
        wrong_states: changelog records that are not the state after the click that their fence names.
        corrupt_states: changelog records that are no states; places in the changelog.
        wrong_hidden: users whose newest `hidden` an offline run does not reproduce.
        missing_rejects: bad records without a dead letter.
        wrong_rejects: dead letters of valid clicks.
        not_logged: clicks that the click log lacks.
        logged_twice: rows of the click log beyond the first of a click.
        wrongly_logged: rows of the click log that are no click of the topic, or the copy of one.
        repeated_updates: updates whose sequence their user had had before: consumers drop them.
        repeated_older: updates that repeat, after a newer one, what their user had had before: consumers drop them.
        answered_by_later: clicks whose first own update contains later clicks too, or that have none of their own.
        other_bundle: clicks whose bundle in the chain of states is named by no update of theirs (see
            `offline_hidden`).
        late_states: changelog records that stand after one with a higher fence.
        undone: updates without a state behind them, whose clicks were applied anew after a growth.
        repeated_rejects: dead letters beyond the first of a record.
        examples: a few places in the clicks topic for each of these.
        real: the records that places stand for, where they differ.
    """

    users: int = 0
    clicks: int = 0
    bad_records: int = 0
    updates: int = 0
    states: int = 0
    lost: int = 0
    doubled: int = 0
    unanswered: int = 0
    out_of_order: int = 0
    wrong_updates: int = 0
    wrong_states: int = 0
    corrupt_states: int = 0
    wrong_hidden: int = 0
    missing_rejects: int = 0
    wrong_rejects: int = 0
    not_logged: int = 0
    logged_twice: int = 0
    wrongly_logged: int = 0
    repeated_updates: int = 0
    repeated_older: int = 0
    answered_by_later: int = 0
    other_bundle: int = 0
    late_states: int = 0
    undone: int = 0
    repeated_rejects: int = 0
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    real: Mapping[Place, Place] = field(default_factory=dict)

    VIOLATIONS = (
        "lost",
        "doubled",
        "unanswered",
        "out_of_order",
        "wrong_updates",
        "wrong_states",
        "corrupt_states",
        "wrong_hidden",
        "missing_rejects",
        "wrong_rejects",
        "not_logged",
        "logged_twice",
        "wrongly_logged",
    )

    @property
    def violations(self) -> dict[str, int]:
        """What went wrong, and how often; empty after a good run."""
        return {name: getattr(self, name) for name in self.VIOLATIONS if getattr(self, name)}

    def count(self, name: str, place: Place, times: int = 1) -> None:
        """Note something at a place of the clicks topic."""
        if times:
            setattr(self, name, getattr(self, name) + times)
            if len(self.examples[name]) < MAX_EXAMPLES:
                partition, offset = self.real.get(place, place)
                self.examples[name].append(f"{partition}/{offset}")

    def as_dict(self) -> dict[str, Any]:
        """Figures and examples, for JSON."""
        figures = {name: value for name, value in vars(self).items() if name != "real"}
        return figures | {"examples": dict(self.examples)}
