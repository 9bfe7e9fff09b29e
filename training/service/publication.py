"""Decides whether a new bundle is published. Pure."""

from typing import NamedTuple

from training.learning.validation import Quality


class Decision(NamedTuple):
    """Whether to publish, and why in a few words for the log."""

    publish: bool
    reason: str


def judge(new: Quality, current: Quality | None, popularity: Quality) -> Decision:
    """Publish what is better than popularity and not worse than the bundle that is served.

    Args:
        new: of the model that was just trained.
        current: of the bundle that is served, on the same predictions; None when there is none.
        popularity: of the popularity list, on the same predictions.
    """
    if new.n_predictions == 0:
        return Decision(False, "nothing to judge it by: no user clicked twice")
    if new.recall <= popularity.recall:
        return Decision(False, "not better than popularity")
    if current is not None and new.recall < current.recall:
        return Decision(False, "worse than the current bundle")
    return Decision(True, "better than popularity" + (", not worse than the current bundle" if current else ""))
