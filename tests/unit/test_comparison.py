"""Intervals and significance: what they say of equal, better and few results."""

import numpy as np
import pytest

from training.learning import comparison
from training.learning.comparison import N_RESAMPLES, interval, p_value, resampled_means


def hits(n_sessions: int, chance: float, seed: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Hits among three predictions of each session."""
    return np.random.default_rng(seed).binomial(3, chance, n_sessions).astype(np.float64)


def test_means_are_over_predictions_not_over_sessions() -> None:
    """A session of 9 predictions, all hits, and one of 1, a miss: .9 in the middle, not .5."""
    sums, counts = np.tile([[9.0], [0.0]], (500, 1)), np.tile([9.0, 1.0], 500)

    means = resampled_means(sums, counts, seed=0)

    assert means.shape == (N_RESAMPLES, 1)
    assert means.mean() == pytest.approx(0.9, abs=0.005)
    # Of its own predictions a resample has a mean of exactly 1 where all hit, however long the sessions in it are.
    assert resampled_means(counts[:, None], counts, seed=0)[:, 0].tolist() == [1.0] * N_RESAMPLES


def test_an_interval_is_as_wide_as_theory_says() -> None:
    """1,000 sessions with independent predictions: 1.96 standard errors of a share of .4 among 3,000."""
    means = resampled_means(hits(1_000, 0.4, 1)[:, None], np.full(1_000, 3.0), seed=0)
    low, high = interval(means[:, 0])

    assert (high - low) / 2 == pytest.approx(1.96 * (0.4 * 0.6 / 3_000) ** 0.5, rel=0.1)
    assert low < 0.4 < high


def test_predictions_of_a_session_go_together() -> None:
    """Sessions that hit always or never say as little as one prediction each: the interval is sqrt(3) times as wide."""
    together = 3.0 * (np.random.default_rng(2).random(1_000) < 0.4)
    means = resampled_means(np.stack([hits(1_000, 0.4, 1), together], axis=1), np.full(1_000, 3.0), seed=0)
    apart, joined = interval(means[:, 0]), interval(means[:, 1])

    assert (joined.high - joined.low) / (apart.high - apart.low) == pytest.approx(3**0.5, rel=0.1)


def test_equal_models_are_not_different() -> None:
    """p = 1: no resample tells them apart."""
    sums = np.tile(hits(300, 0.4, 1)[:, None], (1, 2))
    means = resampled_means(sums, np.full(300, 3.0), seed=0)

    assert p_value(means[:, 0] - means[:, 1]) == 1.0


def test_a_clearly_better_model_is() -> None:
    """p < .01, and from both sides the same."""
    sums = np.stack([hits(300, 0.5, 1), hits(300, 0.35, 2)], axis=1)
    means = resampled_means(sums, np.full(300, 3.0), seed=0)
    difference = means[:, 0] - means[:, 1]

    assert p_value(difference) < 0.01
    assert p_value(-difference) == p_value(difference) == pytest.approx(2 / (N_RESAMPLES + 1))


def test_pairs_see_the_same_draws() -> None:
    """A model that hits once more in every twelfth session is surely better, though the intervals overlap."""
    base = hits(300, 0.4, 1)
    better = base + (np.arange(300) % 12 == 0)
    means = resampled_means(np.stack([better, base], axis=1), np.full(300, 3.0), seed=0)

    assert interval(means[:, 0]).low < interval(means[:, 1]).high
    assert p_value(means[:, 0] - means[:, 1]) < 0.01
    assert interval(means[:, 0] - means[:, 1]).low > 0


def test_between_chance_and_certainty() -> None:
    """Of 999 differences 40 are below zero: 2 x 41 / 1,000."""
    differences = np.concatenate([np.full(40, -1.0), np.full(959, 1.0)])

    assert p_value(differences) == pytest.approx(0.082)


def test_the_seed_decides() -> None:
    """The same seed gives the same draws, another one others."""
    sums, counts = hits(50, 0.4, 1)[:, None], np.full(50, 3.0)

    assert resampled_means(sums, counts, 1).tolist() == resampled_means(sums, counts, 1).tolist()
    assert resampled_means(sums, counts, 1).tolist() != resampled_means(sums, counts, 2).tolist()


@pytest.mark.parametrize("at_once", [1, 70, 10**9])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    """However many numbers are drawn at once, the draws are the same and complete."""
    sums, counts = hits(50, 0.4, 1)[:, None], np.full(50, 3.0)
    usual = resampled_means(sums, counts, 1)
    monkeypatch.setattr(comparison, "_BLOCK_NUMBERS", at_once)

    assert resampled_means(sums, counts, 1)[:, 0].tolist() == pytest.approx(usual[:, 0].tolist())
