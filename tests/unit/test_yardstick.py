"""The recommender that learns nothing: ranks by counts, held to a plain sum."""

import numpy as np
import torch

from nextclick.mixture import Mixture
from tests.networks import fill
from training.learning.sequences import ClickColumns, group_by_user
from training.learning.validation import MISSED, Contexts, choose_predictions
from training.learning.yardstick import counts_ranks

N_ITEMS = 40


def test_ranks_are_those_of_the_plain_sum_over_the_last_clicks() -> None:
    """Neighbours of five clicks and these clicks, each .7 of the one after it; unknown items are passed over."""
    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    mixture = Mixture(N_ITEMS, 6)
    fill(mixture)
    item = rng.integers(-1, N_ITEMS, 600)
    clicks = ClickColumns(rng.integers(20, size=600), item, np.arange(600) * 1_000, item * 0, [])
    sequences = group_by_user(clicks)
    predictions = choose_predictions(sequences, 300, 600, 1_000, 20)
    fallback = np.full(len(predictions.target), 7, dtype=np.int64)

    ranks = counts_ranks(mixture, sequences, predictions, fallback)

    context = Contexts(sequences).of(predictions.target).item_index.numpy()[:, :5]
    for rank, clicked, target in zip(ranks, context, sequences.item_index[predictions.target], strict=True):
        scores = np.zeros(N_ITEMS)
        for age, one in enumerate(clicked):
            if one >= 0:
                np.add.at(scores, mixture.neighbours[one].numpy(), 0.7**age * mixture.shares[one].numpy())
                scores[one] += 0.4 * 0.7**age
        if clicked[0] < 0:
            assert rank == 7
        elif target < 0 or scores[target] == 0.0:
            assert rank == MISSED
        else:
            assert abs(rank - (scores >= scores[target] - 1e-9).sum()) == 0
    assert {7, MISSED} < set(ranks.tolist())
