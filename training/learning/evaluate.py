"""Next-click evaluation: every click of the newest part of the log is predicted from the user's clicks before it."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nextclick.network import Network
from nextclick.ranking_metrics import Ranks, mrr_at, ndcg_at, ranks_of_targets, recall_at
from training.learning.histories import Histories
from training.learning.sequences import Ints, Sequences, padded_rows
from training.learning.watch import Watch

K = 20  # of recall@20, MRR@20, NDCG@20: the length of a list by default
MISSED = np.iinfo(np.int64).max  # the rank of an item that the model does not know
_BATCH_WINDOWS = 128
_BATCH_SCORES = 20_000_000  # numbers in a score matrix (float32: 80 MB)
_WINDOW_PREDICTIONS = 50  # a user with more of them is cut: bounds the padding


class Quality(NamedTuple):
    """How good predictions were; each figure is a mean over predictions, from 0 to 1."""

    recall: float
    mrr: float
    ndcg: float
    n_predictions: int


class Predictions(NamedTuple):
    """What is predicted: rows of the sequences and the history that each is predicted from.

    Attributes:
        target: int64 (n,), the rows of the clicks, rising.
        history_first: int64 (n,), the row of the click from which the network starts, at the zero state.
    """

    target: Ints
    history_first: Ints

    def take(self, chosen: Ints | slice) -> "Predictions":
        """Give some of the predictions, in the order of `chosen`."""
        return Predictions(self.target[chosen], self.history_first[chosen])


def quality_of(ranks: Ranks) -> Quality:
    """Summarise the ranks of the clicked items."""
    return Quality(recall_at(ranks, K), mrr_at(ranks, K), ndcg_at(ranks, K), len(ranks))


def choose_predictions(
    sequences: Sequences, from_rank: int, until_rank: int, max_predictions: int, history: int
) -> Predictions:
    """Give clicks to predict: all of a part of the log but users' first ones, the newest when too many.

    Args:
        sequences: the clicks.
        from_rank: clicks with this `age_rank` or a higher one are predicted,
        until_rank: and with a lower one than this.
        max_predictions: the newest so many.
        history: clicks before the user's first prediction that the state is made of; as after a rebuild. From there
            on the state is carried, as the stream does.
    """
    first_row = sequences.first_row_of_user()
    inside = (sequences.age_rank >= from_rank) & (sequences.age_rank < until_rank)
    target = np.flatnonzero(inside & (np.arange(len(sequences)) != first_row))
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
    return Predictions(target, np.maximum(user_first, target[window_begin] - history))


def popularity_ranks(weights: npt.NDArray[np.float64], sequences: Sequences, predictions: Predictions) -> Ranks:
    """Rank the clicked items by popularity; an item without a click yet is missed.

    Args:
        weights: float64 (n_items,), by the sequences' items, as they were before the first prediction.
        sequences: the clicks.
        predictions: which of them are predicted.
    """
    rising = np.sort(weights)
    of_item = weights[sequences.item[predictions.target]]
    at_least_as_popular = len(rising) - np.searchsorted(rising, of_item, side="left")
    return np.where(of_item > 0.0, at_least_as_popular, MISSED).astype(np.int64)


def network_ranks(
    network: Network,
    index: Ints,
    sequences: Sequences,
    predictions: Predictions,
    fallback: Ranks,
    watch: Watch,
) -> Ranks:
    """Rank the clicked items by a network, with all that is mixed into it.

    Args:
        network: as served.
        index: int64 (n,), for every row its item in the network's vocabulary; -1 where it does not know one. Unknown
            items are passed over in a history, as the stream does, and are missed as targets.
        sequences: the clicks.
        predictions: which of them are predicted.
        fallback: ranks where the network knows nothing of the history: there the stream shows popular items.
        watch: can end the evaluation.

    Raises:
        TrainingStopped: it did.
    """
    histories = Histories(index, sequences)
    target = index[predictions.target]
    is_empty = steps_before(histories, predictions) == 0
    ranks = np.where(is_empty, fallback, MISSED)
    for chosen, features in features_before(network, index, sequences, histories, predictions, watch):
        chosen, features = chosen[target[chosen] >= 0], features[torch.from_numpy(target[chosen] >= 0)]
        for part in score_parts(network, len(chosen)):
            with torch.inference_mode():
                history = histories.before(predictions.target[chosen[part]])
                scores = network.probabilities(features[part], history)
            ranks[chosen[part]] = ranks_of_targets(scores.numpy(), target[chosen[part]])
    return ranks


def score_parts(network: Network, n: int) -> list[slice]:
    """Cut n predictions into parts whose score matrix has a bounded size."""
    batch = max(1, _BATCH_SCORES // network.config.n_items)
    return [slice(begin, begin + batch) for begin in range(0, n, batch)]


def steps_before(histories: Histories, predictions: Predictions) -> Ints:
    """Count the clicks of known items in each prediction's history: int64 (n,)."""
    before = histories.n_known_before
    steps: Ints = before[predictions.target] - before[predictions.history_first]
    return steps


def features_before(
    network: Network,
    index: Ints,
    sequences: Sequences,
    histories: Histories,
    predictions: Predictions,
    watch: Watch,
) -> Iterator[tuple[Ints, torch.Tensor]]:
    """Run a network over the histories of predictions, those that share one together.

    Args:
        network: as served.
        index: int64 (n,), for every row its item in the network's vocabulary; -1 where it does not know one.
        sequences: the clicks.
        histories: of the same rows.
        predictions: which clicks are predicted; those without a known click before them are left out.
        watch: asked between batches.

    Yields:
        Places in `predictions`, int64 (m,), and what the network says there, float32 (m, hidden_size).

    Raises:
        TrainingStopped: the watch said so.
    """
    steps = steps_before(histories, predictions)
    asked = np.flatnonzero(steps > 0)
    if len(asked) == 0:
        return
    first = histories.n_known_before[predictions.history_first]
    window_first, length, place = _windows(first[asked], steps[asked])
    by_place = np.argsort(place, kind="stable")
    begins = np.searchsorted(place[by_place], np.arange(0, len(window_first) + _BATCH_WINDOWS, _BATCH_WINDOWS))
    network.eval()
    for number, begin in enumerate(range(0, len(window_first), _BATCH_WINDOWS)):
        watch.check()
        batch = slice(begin, begin + _BATCH_WINDOWS)
        rows, _ = padded_rows(window_first[batch], length[batch])
        inside = by_place[begins[number] : begins[number + 1]]
        chosen = asked[inside]
        with torch.inference_mode():
            features = _run(network, index, sequences, histories.known_rows[rows])
            said = features[torch.from_numpy(place[inside] - begin), torch.from_numpy(steps[chosen] - 1)]
        yield chosen, said


def _windows(first: Ints, steps: Ints) -> tuple[Ints, Ints, Ints]:
    """Let predictions that begin at the same row share one run of the network.

    Returns:
        The windows' first rows and lengths, short windows first, and for each prediction its window.
    """
    window_first, window_of = np.unique(first, return_inverse=True)
    length = np.zeros(len(window_first), dtype=np.int64)
    np.maximum.at(length, window_of, steps)
    by_length = np.argsort(length, kind="stable")
    place_of_window = np.empty_like(by_length)
    place_of_window[by_length] = np.arange(len(by_length))
    return window_first[by_length], length[by_length], place_of_window[window_of]


def _run(network: Network, index: Ints, sequences: Sequences, rows: Ints) -> torch.Tensor:
    inputs = network.inputs(
        torch.from_numpy(index[rows]),
        torch.from_numpy(sequences.event_type[rows]),
        torch.from_numpy(sequences.gap_s[rows]),
    )
    hidden, _ = network.run(inputs, torch.zeros(len(rows), network.config.state_size))
    return network.features(hidden, inputs)
