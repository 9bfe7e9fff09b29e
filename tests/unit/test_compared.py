"""Two networks on the same predictions: what is called worse, and how often that is wrong."""

import numpy as np
import pytest

from bench.gate import comparison, is_published, other_network, predictions
from training.learning.compared import Compared
from training.learning.validation import MISSED


def test_between_equal_ranks_there_is_no_difference() -> None:
    """Not one that chance makes, either: both see the same draws."""
    ranks, user = predictions(np.random.default_rng(0))

    assert all(difference == (0.0, 0.0, 0.0) for difference in comparison(ranks, ranks, user))


@pytest.mark.parametrize("seed", range(5))
def test_the_interval_is_around_the_difference_and_turns_with_the_order(seed: int) -> None:
    """What one network is ahead, the other is behind."""
    rng = np.random.default_rng(seed)
    ranks, user = predictions(rng)
    other = other_network(ranks, 0.2, 0.1, rng)

    forth, back = comparison(ranks, other, user), comparison(other, ranks, user)

    for difference, opposite in zip(forth, back, strict=True):
        assert difference.low < difference.mean < difference.high
        assert difference == pytest.approx((-opposite.mean, -opposite.high, -opposite.low))


def test_of_networks_as_good_as_the_champion_few_are_refused() -> None:
    """Expected are 3 to 5 of 100: two figures, each worse by chance with a probability of 2.5%."""
    rng = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        ranks, user = predictions(rng)
        new, champion = (other_network(ranks, 0.1, 0.1, rng) for _ in range(2))
        refused += not is_published(new, champion, user)

    assert refused <= 12


def test_of_networks_that_are_clearly_worse_few_are_published() -> None:
    """By three and a half standard deviations of the difference: with these users .05 of Recall@20."""
    rng = np.random.default_rng(2)
    published = 0
    for _ in range(100):
        champion, user = predictions(rng)
        published += is_published(other_network(champion, 0.17, 0.07, rng), champion, user)

    assert published <= 10


def test_a_few_users_are_no_reason_to_publish_anything() -> None:
    """Then it is predictions that are drawn."""
    ranks = np.ones(40, dtype=np.int64)

    assert not is_published(np.full(40, MISSED), ranks, np.zeros(40, dtype=np.int64))


def test_without_predictions_nothing_is_compared() -> None:
    """And nothing fails."""
    nothing = np.zeros(0, dtype=np.int64)
    compared = Compared({"new": nothing, "champion": nothing, "counts": nothing}, nothing, 0)

    assert compared.over("champion") is None
    assert compared.lead() is None


def test_the_lead_is_the_ratio_to_counts() -> None:
    """Of Recall@20 + MRR@20: twice as much is log 2, without error where users are alike."""
    user = np.arange(100)
    new, counts = np.ones(100, dtype=np.int64), np.where(user % 2 == 0, 1, MISSED)

    lead = Compared({"new": new, "counts": counts}, user, 0).lead()

    assert lead is not None
    assert lead.value == pytest.approx(np.log(2.0))
    assert lead.error == pytest.approx(0.1, abs=0.01)
