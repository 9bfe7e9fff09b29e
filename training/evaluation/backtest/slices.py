"""The clicks of a backtest: what was known at the beginning of each round, and the slice that is predicted then."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

from nextclick.errors import PermanentError
from tools.click_files.recorded import RecordedClicks
from training.evaluation.backtest.slice_rule import SliceRule
from training.evaluation.offline_data import click_columns
from training.learning.sequences import ClickColumns, Ints, Sequences, flat_ranges, group_by_user
from training.learning.validation import Predictions, choose_predictions

_HOUR_MS = 3_600_000


class Slice(NamedTuple):
    """The clicks that are predicted in a round, with all that their users clicked before.

    Attributes:
        sequences: clicks of the users who are predicted, up to the slice's end; `item_index` is that of the whole log.
        predictions: which of them are predicted: in the slice, and not a user's first.
        item_ids: the outside ids, by item index.
    """

    sequences: Sequences
    predictions: Predictions
    item_ids: list[str]

    @property
    def target_item(self) -> Ints:
        """The item of each predicted click: int64 (n,)."""
        return self.sequences.item_index[self.predictions.target]

    def with_decoys(self, chosen: Ints, n_decoys: int, rng: np.random.Generator) -> tuple["Slice", Ints]:
        """Give some of the predictions, each among others that nobody made.

        Each of them becomes a user whose last click is the predicted one, and so does each of its decoys: the same
        clicks, with a last one on an item that somebody else clicked. Who knows nothing but what was clicked before
        ranks the real ones as ever.

        Args:
            chosen: int64 (n,), places in `predictions`.
            n_decoys: of each.
            rng: draws the items of the decoys.

        Returns:
            The slice, and the places of the real predictions in it, in the order of `chosen`.
        """
        copied = np.repeat(chosen, 1 + n_decoys)
        target = self.predictions.target[copied]
        first = self.sequences.first_row_of_user()[target]
        length = target - first + 1
        rows, starts = flat_ranges(first, length), np.append(0, np.cumsum(length))
        item_index = self.sequences.item_index[rows]
        real = np.arange(0, len(copied), 1 + n_decoys)
        is_decoy = np.ones(len(copied), dtype=bool)
        is_decoy[real] = False
        item_index[starts[1:][is_decoy] - 1] = rng.choice(self.target_item, int(is_decoy.sum()))
        sequences = Sequences(
            item_index, self.sequences.event_type[rows], self.sequences.gap_s[rows], np.arange(len(rows)), starts
        )
        predictions = Predictions(starts[1:] - 1, starts[:-1] + self.predictions.context_first[copied] - first)
        return self._replace(sequences=sequences, predictions=predictions), real


def log_of(recorded: RecordedClicks, session_gap_minutes: float) -> ClickColumns:
    """Give recorded clicks as the trainer would have them in its log, oldest first; a session is a user.

    Raises:
        PermanentError: sessions are to be cut, and the clicks have no times.
    """
    clicks = click_columns(recorded, session_gap_minutes)
    # Numbered by their beginnings: when a session will end is of the future.
    _, first, dense = np.unique(clicks.user, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return clicks._replace(user=number[dense])


def newest_clicks(log: ClickColumns, share: float) -> ClickColumns:
    """Give the newest share of a log, at least one click."""
    rows = slice(len(log.item_index) - max(1, round(len(log.item_index) * share)), None)
    columns = (log.user[rows], log.item_index[rows], log.timestamp_ms[rows], log.event_type[rows])
    return ClickColumns(*columns, log.item_ids)


def slice_borders(log: ClickColumns, has_times: bool, rule: SliceRule) -> Ints:
    """Say where the slices begin: int64 (n_rounds + 1,), places in the log; the last one is its end.

    A slice without a click is none; the last slice may be shorter than the others.

    Raises:
        PermanentError: the clicks have no times, or there is no slice at all.
    """
    n = len(log.item_index)
    first = max(1, round(n * rule.first_share))
    if rule.clicks:
        borders = np.append(np.arange(first, n, rule.clicks), n)
    elif rule.rounds:
        borders = np.linspace(first, n, rule.rounds + 1).astype(np.int64)
    elif not has_times:
        raise PermanentError(
            "these clicks have no times, so a round cannot begin every few hours; name their column with --time, or "
            "say --every CLICKS or --rounds N"
        )
    else:
        step_ms = round((rule.hours or 0.0) * _HOUR_MS)
        now_ms = np.maximum.accumulate(log.timestamp_ms)
        times = np.arange(now_ms[first - 1] + step_ms, now_ms[-1] + step_ms, step_ms)
        borders = np.concatenate([[first], np.searchsorted(now_ms, times, side="right"), [n]])
    borders = np.unique(borders.clip(first, n))
    if len(borders) < 2:
        raise PermanentError(
            f"all of the {n:,} clicks are learnt by the first bundle, so there is nothing to predict; give a smaller "
            "--first-share"
        )
    return borders


def first_clicks(log: ClickColumns, n: int) -> ClickColumns:
    """Give the oldest n clicks of a log."""
    return ClickColumns(log.user[:n], log.item_index[:n], log.timestamp_ms[:n], log.event_type[:n], log.item_ids)


def slice_between(
    log: ClickColumns, begin: int, end: int, max_predictions: int, max_context: int, rng: np.random.Generator
) -> tuple[Slice, Ints]:
    """Give the clicks [begin, end) of the log as a slice.

    Args:
        log: all clicks.
        begin: the first click of the slice.
        end: the first click behind it.
        max_predictions: about so many at most; of more, users are drawn, each with all of its clicks.
        max_context: clicks before a user's first prediction that a network's state is made of, as after a rebuild.
        rng: draws the users.

    Returns:
        The slice, and the user of each of its predictions, int64 (n,).
    """
    is_predicted = _not_first(log.user[:end])
    is_predicted[:begin] = False
    user, n_predicted = np.unique(log.user[:end][is_predicted], return_counts=True)
    drawn = rng.permutation(len(user))
    drawn = drawn[np.cumsum(n_predicted[drawn]) - n_predicted[drawn] < max_predictions]
    place = np.flatnonzero(np.isin(log.user[:end], user[drawn]))
    of_users = ClickColumns(
        log.user[place], log.item_index[place], log.timestamp_ms[place], log.event_type[place], log.item_ids
    )
    sequences = group_by_user(of_users)
    first_rank = int(np.searchsorted(place, begin))
    predictions = choose_predictions(sequences, first_rank, len(sequences), len(sequences), max_context)
    user_of_row = of_users.user[sequences.age_rank]
    return Slice(sequences, predictions, log.item_ids), user_of_row[predictions.target]


def _not_first(user: Ints) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    is_later = np.ones(len(user), dtype=bool)
    is_later[np.unique(user, return_index=True)[1]] = False
    return is_later


def rounds_of(borders: Ints) -> list[tuple[int, int]]:
    """Give the beginning and the end of each slice."""
    return [(int(begin), int(end)) for begin, end in pairwise(borders)]
