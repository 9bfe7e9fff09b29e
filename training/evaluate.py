"""Next-click evaluation: every click of the newest part of the log is predicted from the user's clicks before it."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from nextclick.network import Network
from nextclick.ranking_metrics import Ranks, mrr_at, ndcg_at, ranks_of_targets, recall_at
from training.sequences import Ints, Sequences, padded_rows
from training.watch import Watch

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


def quality_of(ranks: Ranks) -> Quality:
    """Summarise the ranks of the clicked items."""
    return Quality(recall_at(ranks, K), mrr_at(ranks, K), ndcg_at(ranks, K), len(ranks))


def choose_predictions(sequences: Sequences, from_rank: int, max_predictions: int, history: int) -> Predictions:
    """Give the newest clicks to predict: all from `from_rank` on but users' first ones, the newest when too many.

    Args:
        sequences: the clicks.
        from_rank: clicks with this `age_rank` or a higher one are predicted.
        max_predictions: the newest so many.
        history: clicks before the user's first prediction that the state is made of; as after a rebuild. From there
            on the state is carried, as the stream does.
    """
    first_row = sequences.first_row_of_user()
    target = np.flatnonzero((sequences.age_rank >= from_rank) & (np.arange(len(sequences)) != first_row))
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
    item_index: Ints,
    sequences: Sequences,
    predictions: Predictions,
    fallback: Ranks,
    watch: Watch,
) -> Ranks:
    """Rank the clicked items by a network.

    Args:
        network: as served.
        item_index: int64 (n_items,), the sequences' items in the network's vocabulary; -1 where it does not know one.
            Unknown items are passed over in a history, as the stream does, and are missed as targets.
        sequences: the clicks.
        predictions: which of them are predicted.
        fallback: ranks where the network knows nothing of the history: there the stream shows popular items.
        watch: can end the evaluation.

    Raises:
        TrainingStopped: it did.
    """
    index = item_index[sequences.item]
    known_rows = np.flatnonzero(index >= 0)
    n_known_before = np.concatenate([[0], np.cumsum(index >= 0)])
    first, steps = n_known_before[predictions.history_first], n_known_before[predictions.target]
    steps = steps - first  # clicks of known items in each prediction's history
    target = index[predictions.target]
    ranks = np.where(steps == 0, fallback, MISSED)
    asked = np.flatnonzero((steps > 0) & (target >= 0))
    if len(asked) == 0:
        return ranks
    window_first, length, place = _windows(first[asked], steps[asked])
    network.eval()
    with torch.inference_mode():
        for begin in range(0, len(window_first), _BATCH_WINDOWS):
            watch.check()
            batch = slice(begin, begin + _BATCH_WINDOWS)
            rows, _ = padded_rows(window_first[batch], length[batch])
            outputs = _run(network, index, sequences, known_rows[rows])
            inside = np.flatnonzero((place >= begin) & (place < begin + len(rows)))
            chosen = asked[inside]
            said = outputs[torch.from_numpy(place[inside] - begin), torch.from_numpy(steps[chosen] - 1)]
            ranks[chosen] = _ranks(network, said, target[chosen])
    return ranks


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
    outputs, _ = network.run(inputs, torch.zeros(len(rows), network.config.state_size))
    return outputs


def _ranks(network: Network, outputs: torch.Tensor, target: Ints) -> Ranks:
    batch = max(1, _BATCH_SCORES // network.config.n_items)
    parts = [
        ranks_of_targets(network.scores(outputs[begin : begin + batch]).numpy(), target[begin : begin + batch])
        for begin in range(0, len(target), batch)
    ]
    return np.concatenate(parts)
