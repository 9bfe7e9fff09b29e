"""Evaluation: what is predicted, from what, and that it ranks as the stream would."""

from threading import Event
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from nextclick.hashing import item_hash
from nextclick.network import Network
from nextclick.network_config import NetworkConfig
from nextclick.popularity import MAX_HOURS
from nextclick.ranking_metrics import ranks_of_targets
from nextclick.user_state import with_recent
from nextclick.vocabulary import Vocabulary
from tests.networks import probabilities, random_network, served_model
from training.learning.cancellation import Cancellation, TrainingCancelled
from training.learning.sequences import ClickColumns, Sequences, group_by_user
from training.learning.validation import (
    MISSED,
    Predictions,
    choose_predictions,
    network_ranks,
    popularity_ranks,
    popularity_weights,
    quality_of,
)

CANCELLATION = Cancellation(Event())
N_ITEMS = 30
FULL = {"skip": True, "normalised": True, "n_neighbours": 6}


def random_clicks(n_clicks: int = 600, n_users: int = 25) -> ClickColumns:
    rng = np.random.default_rng(1)
    return ClickColumns(
        rng.integers(n_users, size=n_clicks),
        rng.integers(N_ITEMS, size=n_clicks),
        np.cumsum(rng.integers(90_000, size=n_clicks)),
        rng.integers(3, size=n_clicks),
        [f"item-{number}" for number in range(N_ITEMS)],
    )


def network(form: dict[str, Any] | None = None) -> Network:
    made = random_network(msgspec.convert({"n_items": N_ITEMS, "hidden_size": 16} | (form or {}), NetworkConfig), 2)
    with torch.no_grad():
        made.item_embedding.weight.normal_()  # far apart: ranks do not hang on the last bit
    made.normalise()
    return made


def test_predicted_is_every_click_of_the_newest_part_but_users_first_ones() -> None:
    """History begins so many clicks before a user's first prediction, and not before the user's first click."""
    item = np.arange(8)
    user = np.array([0, 0, 0, 1, 0, 1, 0, 2])
    sequences = group_by_user(ClickColumns(user, item, item * 1_000, item * 0, [str(i) for i in item]))

    predictions = choose_predictions(sequences, from_rank=4, until_rank=8, max_predictions=100, max_context=2)

    assert sequences.item_index[predictions.target].tolist() == [4, 6, 5]
    assert sequences.item_index[predictions.context_first].tolist() == [1, 1, 3]


def test_predictions_end_before_what_may_not_be_seen() -> None:
    """The held part of a training lies between what is learnt first and what judges the bundle."""
    item = np.arange(8)
    user = np.array([0, 0, 0, 1, 0, 1, 0, 2])
    sequences = group_by_user(ClickColumns(user, item, item * 1_000, item * 0, [str(i) for i in item]))

    predictions = choose_predictions(sequences, from_rank=2, until_rank=6, max_predictions=100, max_context=20)

    assert sequences.item_index[predictions.target].tolist() == [2, 4, 5]


def test_with_too_many_predictions_the_newest_are_kept() -> None:
    """A round stays quick however long the log is."""
    sequences = group_by_user(random_clicks())

    predictions = choose_predictions(sequences, from_rank=100, until_rank=600, max_predictions=50, max_context=20)

    kept = sequences.age_rank[predictions.target]
    everything = choose_predictions(sequences, 100, 600, 10_000, 20)
    assert len(kept) == 50
    assert kept.min() == np.sort(sequences.age_rank[everything.target])[-50]


@pytest.mark.parametrize("form", [{}, FULL], ids=["plain", "full"])
def test_ranks_are_those_of_the_served_model_step_by_step(form: dict[str, Any]) -> None:
    """With unknown items passed over, histories carried on, and users with many predictions cut into windows."""
    sequences, model_network = group_by_user(random_clicks(600, 4)), network(form)
    known = np.arange(N_ITEMS) % 5 != 0
    sequences = sequences.renumbered(np.where(known, np.arange(N_ITEMS), -1))
    predictions = choose_predictions(sequences, from_rank=250, until_rank=600, max_predictions=300, max_context=20)
    fallback = np.full(len(predictions.target), 7, dtype=np.int64)

    ranks = network_ranks(model_network, sequences, predictions, fallback, CANCELLATION)

    expected = _ranks_as_served(model_network, sequences, predictions)
    # The served state is rounded to float16 after every click: a rank can move by a place.
    assert np.abs(np.minimum(ranks, 99) - np.minimum(expected, 99)).max() <= 2
    assert (ranks == expected).mean() > 0.95
    assert {7, MISSED} < set(expected)


def _ranks_as_served(network: Network, sequences: Sequences, predictions: Predictions) -> list[int]:
    """Advance each user's state click by click, as the stream does, and rank before each click that is predicted."""
    served = served_model("1" * 16, network, Vocabulary([f"i{i}" for i in range(N_ITEMS)], np.ones(N_ITEMS)))
    ranks, user_first = [], sequences.first_row_of_user()
    state, recent, next_row, context_first = b"", b"", -1, -1
    for first, target in zip(predictions.context_first, predictions.target, strict=True):
        if first != context_first:
            state, recent, next_row, context_first = b"", b"", user_first[target], first
        for row in range(next_row, target):
            known, gap_s, event_type = (
                int(column[row]) for column in (sequences.item_index, sequences.gap_s, sequences.event_type)
            )
            recent = with_recent(recent, item_hash(f"i{known}" if known >= 0 else "unknown"), gap_s, event_type, 255)
            if known >= 0 and row >= first:
                [state] = served.run([state], [[(known, gap_s, event_type)]])
        next_row = target
        item_index = sequences.item_index[[target]]
        if not state:
            ranks.append(7)
        elif item_index[0] < 0:
            ranks.append(int(MISSED))
        else:
            ranks.append(int(ranks_of_targets(probabilities(served, network, [state], [recent]), item_index)[0]))
    return ranks


def test_where_the_network_knows_nothing_popularity_answers() -> None:
    """As in the stream; with a known history an unknown target is missed."""
    item = np.array([0, 1, 2])
    sequences = group_by_user(ClickColumns(item * 0, item, item * 1_000, item * 0, ["a", "b", "c"]))
    predictions = choose_predictions(sequences, 1, 3, 10, 20)

    ranks = network_ranks(
        network(), sequences.renumbered(np.array([-1, 1, -1])), predictions, np.array([5, 6]), CANCELLATION
    )

    assert ranks.tolist() == [5, MISSED]


def test_popularity_counts_ties_against_itself_and_misses_what_was_never_clicked() -> None:
    """Like every other ranking here."""
    item = np.array([0, 1, 2, 3])
    sequences = group_by_user(ClickColumns(item * 0, item, item * 1_000, item * 0, list("abcd")))
    predictions = Predictions(np.array([0, 1, 2, 3]), np.array([0, 0, 0, 0]))

    ranks = popularity_ranks(np.array([3.0, 2.0, 2.0, 0.0]), sequences, predictions)

    assert ranks.tolist() == [1, 3, 3, MISSED]


def test_popularity_halves_with_every_half_life_and_sees_only_the_clicks_before() -> None:
    """The newest click counts 1."""
    item = np.array([0, 1, 1, 2])
    clicks = ClickColumns(np.arange(4), item, np.array([0, 60_000, 60_000, 120_000]), item * 0, list("abc"))

    assert popularity_weights(clicks, 3, half_life_s=60.0).tolist() == [0.5, 2.0, 0.0]
    assert popularity_weights(clicks, 0, half_life_s=60.0).tolist() == [0.0, 0.0, 0.0]


def test_popularity_counts_a_user_once_per_item_and_hour() -> None:
    """As the worker does: 24 hours of a crawler are as many clicks as of three visitors."""
    hour_ms = 3_600_000
    crawler = [(0, 0, number * hour_ms // 100) for number in range(2_400)]
    visitors = [(1, 1, 0), (1, 1, 1), (1, 1, hour_ms), (2, 1, 0), (2, 2, 0), (1, 2, 25 * hour_ms), (1, 2, 25 * hour_ms)]
    user, item, time_ms = np.array([*crawler, *visitors]).T
    clicks = ClickColumns(user, item, time_ms, item * 0, list("abc"))

    weights = popularity_weights(clicks, len(user), half_life_s=1e12)

    assert weights.tolist() == pytest.approx([MAX_HOURS, 3, 2])


def test_a_click_of_2099_does_not_fade_all_others() -> None:
    """It weighs two clicks of now, and the others weigh what they did."""
    time_ms = np.arange(1_000) * 60_000
    item = np.arange(1_000) % 3
    right = ClickColumns(np.arange(1_000), item, time_ms, item * 0, list("abc"))
    wrong = right._replace(timestamp_ms=np.where(np.arange(1_000) == 500, 4_070_908_800_000, time_ms))

    of_right, of_wrong = (popularity_weights(clicks, 1_000, half_life_s=3_600.0) for clicks in (right, wrong))

    shares = [weights / weights.sum() for weights in (of_right, of_wrong)]
    assert shares[1] == pytest.approx(shares[0], abs=0.02)


def test_quality_is_zero_without_predictions() -> None:
    """And no warning of an empty mean."""
    assert quality_of(np.zeros(0, dtype=np.int64)) == (0.0, 0.0, 0.0, 0)


def test_a_requested_stop_ends_an_evaluation() -> None:
    """Within a batch."""
    stop = Event()
    stop.set()
    sequences = group_by_user(random_clicks())
    predictions = choose_predictions(sequences, 300, 600, 1_000, 20)

    with pytest.raises(TrainingCancelled):
        network_ranks(network(), sequences, predictions, np.ones(len(predictions.target)), Cancellation(stop))
