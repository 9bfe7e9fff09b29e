"""Ranks by neighbour counts alone, with fixed weights: a recommender in which nothing is learnt, to measure others by.

It takes what was clicked near each of the last clicks, and these clicks themselves. With less, say the last click
alone, it would be moved by what users do at the time (how often they come back to an item) and not by what is known of
the items: over 8 rounds of recorded clicks the network's lead over it then varied twenty times as much.
"""

import numpy as np

from nextclick.mixture import Mixture
from nextclick.ranking_metrics import Ranks
from training.learning.sequences import Ints, Sequences
from training.learning.validation import MISSED, Contexts, Predictions

_AGES = 5  # clicks that are looked back on
_FADING = 0.7  # of an older click's weight
_RECLICK = 0.4  # a click itself, beside its neighbours, whose shares add up to 1 at most
_BLOCK = 2_000  # predictions at a time, of some hundred items each


def counts_ranks(mixture: Mixture, sequences: Sequences, predictions: Predictions, fallback: Ranks) -> Ranks:
    """Rank the clicked items by counts.

    Args:
        mixture: has them.
        sequences: the clicks, with the items of the mixture; -1 where it does not know them.
        predictions: which are predicted.
        fallback: ranks where no click before is on a known item.
    """
    clicked = Contexts(sequences).of(predictions.target).item_index[:, :_AGES].numpy()
    target = sequences.item_index[predictions.target]
    ranks = np.where(clicked[:, 0] >= 0, MISSED, fallback)
    chosen = np.flatnonzero((clicked[:, 0] >= 0) & (target >= 0))
    for begin in range(0, len(chosen), _BLOCK):
        block = chosen[begin : begin + _BLOCK]
        ranks[block] = _ranks(mixture, clicked[block], target[block])
    return ranks


def _ranks(mixture: Mixture, clicked: Ints, target: Ints) -> Ranks:
    """Rank among the items that counts speak of; others are missed.

    Args:
        mixture: has the counts.
        clicked: int64 (n, _AGES), the newest first; -1 where there is none.
        target: int64 (n,).
    """
    n, n_items = len(target), len(mixture.shares)
    weight = np.where(clicked >= 0, _FADING ** np.arange(clicked.shape[1]), 0.0)  # (n, ages)
    of_neighbours = weight[:, :, None] * mixture.shares.numpy()[clicked]  # (n, ages, n_neighbours)
    neighbours = mixture.neighbours.numpy()[clicked]
    items = np.concatenate([neighbours.reshape(n, -1), np.maximum(clicked, 0)], axis=1)
    scores = np.concatenate([of_neighbours.reshape(n, -1), _RECLICK * weight], axis=1)
    is_there = scores > 0.0
    codes = (np.arange(n)[:, None] * n_items + items)[is_there]
    codes, place = np.unique(codes, return_inverse=True)
    score, prediction = np.bincount(place, scores[is_there]), codes // n_items
    of_target = np.full(n, np.inf)
    is_target = codes % n_items == target[prediction]
    of_target[prediction[is_target]] = score[is_target]
    n_above = np.bincount(prediction[score >= of_target[prediction]], minlength=n)
    return np.where(np.isfinite(of_target), n_above, MISSED).astype(np.int64)
