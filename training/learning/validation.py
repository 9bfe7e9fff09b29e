"""Next-click validation: clicks of a part of the log are predicted from the user's clicks before them, and ranked.

It judges a finished network, and shows the mixture, while that is fitted, clicks that the network has not seen. What
the network sees of a user's past is the context of a prediction: the same as the stream would have at that moment.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nextclick.mixture import Context
from nextclick.network import Network
from nextclick.network_config import MAX_SESSION_CLICKS, N_AGES
from nextclick.popularity import DAY_HOURS, HOUR_MS, MAX_HOURS
from nextclick.ranking_metrics import Quality, Ranks, mrr_at, ndcg_at, ranks_of_targets, recall_at
from training.learning.associations import session_starts
from training.learning.cancellation import Cancellation
from training.learning.sequences import ClickColumns, Ints, Sequences, now_of, padded_rows

K = 20  # of recall@20, MRR@20, NDCG@20: the length of a list by default
MISSED = np.iinfo(np.int64).max  # the rank of an item that the model does not know
_BATCH_WINDOWS = 128
# Numbers in a score matrix, 8 MB of float32: more leave the cache, and take 15 % longer. But so many rows at least, for
# the items come from memory for each matrix.
_BATCH_SCORES, _LEAST_ROWS = 2_000_000, 20
_WINDOW_PREDICTIONS = 50  # a user with more of them is cut, which bounds the padding


class Predictions(NamedTuple):
    """Which clicks are predicted, and from where on their contexts begin.

    Attributes:
        target: int64 (n,), the rows of the clicks, rising.
        context_first: int64 (n,), the row of the click from which the network starts, at the zero state.
    """

    target: Ints
    context_first: Ints

    def take(self, chosen: Ints | slice) -> "Predictions":
        """Give some of the predictions, in the order of `chosen`."""
        return Predictions(self.target[chosen], self.context_first[chosen])


def choose_predictions(
    sequences: Sequences, from_rank: int, until_rank: int, max_predictions: int, max_context: int
) -> Predictions:
    """Give clicks to predict: all of a part of the log but users' first ones, the newest when there are too many.

    Args:
        sequences: the clicks.
        from_rank: clicks with this `age_rank` or a higher one are predicted,
        until_rank: and with a lower one than this.
        max_predictions: the newest so many.
        max_context: clicks before the user's first prediction that the state is made of, as after a rebuild. From
            there on the state is carried, as the stream does.
    """
    first_row = sequences.first_row_of_user()
    is_inside = (sequences.age_rank >= from_rank) & (sequences.age_rank < until_rank)
    target = np.flatnonzero(is_inside & (np.arange(len(sequences)) != first_row))
    if len(target) > max_predictions:
        newest = np.argpartition(sequences.age_rank[target], -max_predictions)[-max_predictions:]
        target = np.sort(target[newest])
    # Each user's predictions lie together; every so many of them start a new window.
    user_first = first_row[target]
    starts_user = np.ones(len(target), dtype=bool)
    starts_user[1:] = user_first[1:] != user_first[:-1]
    user_begin = np.maximum.accumulate(np.where(starts_user, np.arange(len(target)), 0))
    place = np.arange(len(target)) - user_begin
    window_begin = user_begin + place // _WINDOW_PREDICTIONS * _WINDOW_PREDICTIONS
    return Predictions(target, np.maximum(user_first, target[window_begin] - max_context))


def quality_of(ranks: Ranks) -> Quality:
    """Summarise the ranks of the clicked items."""
    return Quality(recall_at(ranks, K), mrr_at(ranks, K), ndcg_at(ranks, K), len(ranks))


def popularity_weights(clicks: ClickColumns, n_clicks: int, half_life_s: float) -> npt.NDArray[np.float64]:
    """Weigh each item's clicks among the oldest `n_clicks`: 1 for the newest click, half of it a half-life earlier.

    A user counts once per item and hour, in at most `MAX_HOURS` hours of a day, as in `nextclick.popularity`. A click
    that is more than a half-life after all others weighs as if it were one.

    Returns:
        float64 (n_items,).
    """
    counted = popularity_clicks(clicks, n_clicks)
    timestamp_ms = clicks.timestamp_ms[counted]
    weights = popularity_shares(timestamp_ms, now_of(timestamp_ms), half_life_s)
    weights /= weights.max(initial=np.finfo(np.float64).tiny)
    summed = np.bincount(clicks.item_index[counted], weights, minlength=len(clicks.item_ids))
    return summed.astype(np.float64)  # bincount gives whole numbers when there are none


def popularity_shares(timestamp_ms: Ints, now_ms: int, half_life_s: float) -> npt.NDArray[np.float64]:
    """Weigh clicks by their age, int64 (n,): 1 now, half of it a half-life earlier, and 2 at most."""
    shares: npt.NDArray[np.float64] = np.exp2(np.minimum((timestamp_ms - now_ms) / (1000.0 * half_life_s), 1.0))
    return shares


def popularity_clicks(clicks: ClickColumns, n_clicks: int) -> Ints:
    """Give the places of the clicks, among the oldest `n_clicks`, that count for popularity."""
    user, item = clicks.user[:n_clicks], clicks.item_index[:n_clicks]
    hour = clicks.timestamp_ms[:n_clicks] // HOUR_MS
    order = np.lexsort((hour, item, user))
    user, item, hour = user[order], item[order], hour[order]

    def changes(*columns: Ints) -> npt.NDArray[np.bool_]:
        first: npt.NDArray[np.bool_] = np.ones(len(order), dtype=bool)
        first[1:] = np.any([column[1:] != column[:-1] for column in columns], axis=0)
        return first

    begins_hour, begins_day = changes(user, item, hour), changes(user, item, hour // DAY_HOURS)
    nth_hour = np.cumsum(begins_hour)
    hours_before = np.maximum.accumulate(np.where(begins_day, nth_hour - 1, 0))
    return order[begins_hour & (nth_hour - hours_before <= MAX_HOURS)]


def popularity_ranks(weights: npt.NDArray[np.float64], sequences: Sequences, predictions: Predictions) -> Ranks:
    """Rank the clicked items by popularity; an item without a click yet is missed.

    Args:
        weights: float64 (n_items,), by item index, as they were before the first prediction.
        sequences: the clicks; every item is known.
        predictions: which of them are predicted.
    """
    rising = np.sort(weights)
    of_target = weights[sequences.item_index[predictions.target]]
    at_least_as_popular = len(rising) - np.searchsorted(rising, of_target, side="left")
    return np.where(of_target > 0.0, at_least_as_popular, MISSED).astype(np.int64)


def network_ranks(
    network: Network, sequences: Sequences, predictions: Predictions, fallback: Ranks, cancellation: Cancellation
) -> Ranks:
    """Rank the clicked items by a network, with all that is mixed into it.

    Args:
        network: as served.
        sequences: the clicks. Items that the network does not know (-1) are passed over in a context, as the stream
            does, and are missed as targets.
        predictions: which of the clicks are predicted.
        fallback: ranks where the network knows nothing of the context: there the stream shows popular items.
        cancellation: asked between batches.

    Raises:
        TrainingCancelled: the end was requested.
    """
    contexts = Contexts(sequences)
    target = sequences.item_index[predictions.target]
    ranks = np.where(contexts.n_steps(predictions) == 0, fallback, MISSED)
    for chosen, features in features_before(network, contexts, predictions, cancellation):
        is_known = target[chosen] >= 0
        chosen, features = chosen[is_known], features[torch.from_numpy(is_known)]
        for part in score_parts(network, len(chosen)):
            with torch.inference_mode():
                context = contexts.of(predictions.target[chosen[part]])
                probabilities = network.probabilities(features[part], context)
            ranks[chosen[part]] = ranks_of_targets(probabilities.numpy(), target[chosen[part]])
    return ranks


def score_parts(network: Network, n: int) -> list[slice]:
    """Cut n predictions into parts whose score matrix has a bounded size."""
    batch = max(_LEAST_ROWS, _BATCH_SCORES // network.config.n_items)
    return [slice(begin, begin + batch) for begin in range(0, n, batch)]


class Contexts:
    """What is known of a user before any click of some sequences: the clicks on known items, as the stream has them.

    Attributes:
        sequences: the clicks.
        known_rows: int64 (n_known,), the rows with items that the network knows, rising.
        n_known_before: int64 (n + 1,), how many of them stand before each row.
    """

    def __init__(self, sequences: Sequences) -> None:
        is_known = sequences.item_index >= 0
        self.sequences = sequences
        self.known_rows = np.flatnonzero(is_known)
        self.n_known_before = np.concatenate([[0], np.cumsum(is_known)])
        self._clock_s = np.cumsum(sequences.gap_s)  # differences within a user are what counts
        self._session_start = session_starts(sequences)
        self._user_first = sequences.first_row_of_user()

    def n_steps(self, predictions: Predictions) -> Ints:
        """Count the steps that the network takes before each prediction, one for each known click: int64 (n,)."""
        before = self.n_known_before
        steps: Ints = before[predictions.target] - before[predictions.context_first]
        return steps

    def of(self, rows: Ints) -> Context:
        """Give what the mixture sees before the clicks in some rows.

        Args:
            rows: int64 (batch,), none a user's first.
        """
        newest = self.n_known_before[rows] - 1
        places = newest[:, None] - np.arange(N_AGES)  # (batch, N_AGES), into known_rows
        is_there = places >= self.n_known_before[self._user_first[rows]][:, None]
        places = np.where(is_there, places, 0)
        clicked_rows = self.known_rows[places] if len(self.known_rows) else places
        last_row = rows - 1
        age_s = np.where(is_there, self._clock_s[last_row][:, None] - self._clock_s[clicked_rows], 0)
        n_session = self.n_known_before[rows] - self.n_known_before[self._session_start[last_row]]
        return Context(
            torch.from_numpy(np.where(is_there, self.sequences.item_index[clicked_rows], -1)),
            torch.from_numpy(age_s.astype(np.float32)),
            torch.from_numpy(np.minimum(n_session, MAX_SESSION_CLICKS).astype(np.float32)),
        )


def features_before(
    network: Network, contexts: Contexts, predictions: Predictions, cancellation: Cancellation
) -> Iterator[tuple[Ints, torch.Tensor]]:
    """Run a network over the contexts of predictions, those that share one together.

    Args:
        network: as served.
        contexts: of the sequences that the predictions are of.
        predictions: which clicks are predicted; those without a known click before them are left out.
        cancellation: asked between batches.

    Yields:
        Places in `predictions`, int64 (m,), and the network's features there, float32 (m, hidden_size).

    Raises:
        TrainingCancelled: the end was requested.
    """
    n_steps = contexts.n_steps(predictions)
    with_context = np.flatnonzero(n_steps > 0)
    if len(with_context) == 0:
        return
    first = contexts.n_known_before[predictions.context_first]
    window_first, length, window_of = _shared_windows(first[with_context], n_steps[with_context])
    by_window = np.argsort(window_of, kind="stable")
    begins = np.searchsorted(window_of[by_window], np.arange(0, len(window_first) + _BATCH_WINDOWS, _BATCH_WINDOWS))
    network.eval()
    for number, begin in enumerate(range(0, len(window_first), _BATCH_WINDOWS)):
        cancellation.check()
        batch = slice(begin, begin + _BATCH_WINDOWS)
        places, _ = padded_rows(window_first[batch], length[batch])
        in_batch = by_window[begins[number] : begins[number + 1]]
        chosen = with_context[in_batch]
        with torch.inference_mode():
            features = _features(network, contexts.sequences, contexts.known_rows[places])
            at_target = features[torch.from_numpy(window_of[in_batch] - begin), torch.from_numpy(n_steps[chosen] - 1)]
        yield chosen, at_target


def _shared_windows(first: Ints, n_steps: Ints) -> tuple[Ints, Ints, Ints]:
    """Let predictions whose contexts begin at the same row share one run of the network.

    Returns:
        The windows' first rows and lengths, short windows first, and for each prediction its window.
    """
    window_first, window_of = np.unique(first, return_inverse=True)
    length = np.zeros(len(window_first), dtype=np.int64)
    np.maximum.at(length, window_of, n_steps)
    by_length = np.argsort(length, kind="stable")
    place_of_window = np.empty_like(by_length)
    place_of_window[by_length] = np.arange(len(by_length))
    return window_first[by_length], length[by_length], place_of_window[window_of]


def _features(network: Network, sequences: Sequences, rows: Ints) -> torch.Tensor:
    """Run the network over rows, int64 (batch, steps), from the zero state: float32 (batch, steps, hidden_size)."""
    inputs = network.inputs(
        torch.from_numpy(sequences.item_index[rows]),
        torch.from_numpy(sequences.event_type[rows]),
        torch.from_numpy(sequences.gap_s[rows]),
    )
    hidden, _ = network.run(inputs, torch.zeros(len(rows), network.config.state_size))
    return network.features(hidden, inputs)
