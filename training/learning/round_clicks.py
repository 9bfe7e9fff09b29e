"""Which clicks a continual round looks at: the new ones, what their users clicked before, and a sample of older users.

Older clicks are taken from a pool that is bounded by the new ones (`training.learning.training_data` reads it from the
click log), so that a round costs the same however long the log is.
"""

from typing import NamedTuple

import numpy as np

from nextclick.settings import Settings
from training.learning.sequences import ClickColumns, Ints

RECENT_FACTOR = 2  # older clicks that are read for each new one: the newest,
OLDER_FACTOR = 2  # and some from anywhere in the window
LEAST_READ = 2_000  # of each, however few are new
_REPLAY_SHARE = 0.5  # older clicks that are learnt once more, for each new one
_STRETCHES = 8  # pieces of the log that those from anywhere come in


class RoundClicks(NamedTuple):
    """The clicks of a round.

    Attributes:
        clicks: oldest first: older ones that are looked back on or learnt once more, then the new ones.
        n_new: the last so many are new.
    """

    clicks: ClickColumns
    n_new: int

    @property
    def n_old(self) -> int:
        """How many are older."""
        return len(self.clicks.item_index) - self.n_new


def round_clicks(log: ClickColumns, n_seen: int, settings: Settings, rng: np.random.Generator) -> RoundClicks:
    """Choose from a log in memory, as a round does from the click log.

    Args:
        log: all clicks until now, oldest first.
        n_seen: the oldest so many were there in the round before.
        settings: of the trainer.
        rng: draws the sample.
    """
    n_new = len(log.item_index) - n_seen
    window_begin = max(0, n_seen - int(settings.recent_window_clicks * (1.0 + settings.replay_share)))
    recent_begin = max(window_begin, n_seen - max(LEAST_READ, RECENT_FACTOR * n_new))
    is_read = np.zeros(n_seen, dtype=bool)
    if recent_begin > window_begin:
        length = max(LEAST_READ, OLDER_FACTOR * n_new) // _STRETCHES
        for begin in rng.integers(window_begin, recent_begin, size=_STRETCHES).tolist():
            is_read[begin : begin + length] = True
    is_read[recent_begin:] = True
    rows = np.append(np.flatnonzero(is_read), np.arange(n_seen, len(log.item_index)))
    n_older = int(is_read[:recent_begin].sum())
    return chosen_clicks(log.take(rows), n_older, n_new, settings.recent_clicks, rng)


def chosen_clicks(
    read: ClickColumns, n_older: int, n_new: int, n_context: int, rng: np.random.Generator
) -> RoundClicks:
    """Choose from what was read.

    Args:
        read: in the order of the log: older clicks from anywhere, the newest ones before the new ones, and these.
        n_older: the first so many are from anywhere: what lies between them was not read.
        n_new: the last so many are new.
        n_context: clicks of a user that are looked back on.
        rng: draws the sample.
    """
    n_old = len(read.item_index) - n_new
    old_user = read.user[:n_old]
    is_of_new = np.isin(old_user, read.user[n_old:])
    is_chosen = is_of_new & (_places_from_end(old_user) < n_context) & (np.arange(n_old) >= n_older)
    others, of_other = np.unique(old_user[~is_of_new], return_inverse=True)
    drawn = rng.permutation(len(others))
    n_so_far = np.cumsum(np.bincount(of_other, minlength=len(others))[drawn])
    is_drawn = np.zeros(len(others), dtype=bool)
    is_drawn[drawn[: np.searchsorted(n_so_far, int(_REPLAY_SHARE * n_new))]] = True
    is_chosen[np.flatnonzero(~is_of_new)[is_drawn[of_other]]] = True
    rows = np.append(np.flatnonzero(is_chosen), np.arange(n_old, len(read.item_index)))
    return RoundClicks(read.take(rows), n_new)


def _places_from_end(user: Ints) -> Ints:
    """For every click, how many of its user follow it: int64 (n,)."""
    by_user = np.argsort(user, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(user[by_user])) + 1, len(user))
    places = np.empty(len(user), dtype=np.int64)
    places[by_user] = np.repeat(ends, np.diff(ends, prepend=0)) - 1 - np.arange(len(user))
    return places
