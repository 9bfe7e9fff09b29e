"""The baselines, on sessions so small that their scores can be worked out by hand."""

import math

import numpy as np
import pytest

from training.evaluation.baselines import item_pairs
from training.evaluation.baselines.item_pairs import Association, MarkovChain
from training.evaluation.baselines.popularity import Popularity, SessionPopularity
from training.evaluation.baselines.session_neighbours import SessionIndex, SessionKnn, Stan, context_before
from training.evaluation.models import MODELS
from training.evaluation.recommender import Recommender
from training.learning.sequences import ClickColumns, Sequences, group_by_user

NONE = -math.inf
COUNTING = [name for name, model in MODELS.items() if not model.is_seeded]


def sessions(*items: list[int]) -> Sequences:
    """One session after another, in log order."""
    item = np.concatenate([np.array(session, np.int64) for session in items])
    user = np.repeat(np.arange(len(items)), [len(session) for session in items])
    return group_by_user(ClickColumns(user, item, np.arange(len(item)) * 1_000, item * 0, []))


def random_sessions(n_sessions: int, n_items: int, seed: int) -> Sequences:
    """Sessions of 2 to 12 clicks, some items more often."""
    rng = np.random.default_rng(seed)
    return sessions(*(list((n_items * rng.random(rng.integers(2, 13)) ** 2).astype(int)) for _ in range(n_sessions)))


def scores(recommender: Recommender, train: Sequences, n_items: int, session: list[int]) -> list[float]:
    """What is said after all clicks of a session; one more click makes the row that is predicted."""
    recommender.fit(train, n_items)
    (found,) = recommender.scores(sessions([0, 1], [*session, 0]), np.array([2 + len(session)]))
    return [float(score) for score in found]


def test_popularity_counts_clicks() -> None:
    """Item 0 is clicked twice, 1 three times, 2 never."""
    train = sessions([0, 1], [1, 1, 0])

    assert scores(Popularity(), train, 3, [2]) == [2, 3, 0]


def test_recent_popularity_halves_with_age() -> None:
    """Four clicks have the ages 3/4, 2/4, 1/4, 0; with a half-life of 1/4 they weigh 1/8, 1/4, 1/2, 1."""
    train = sessions([0, 1], [0, 2])

    assert scores(Popularity(half_life=0.25), train, 3, [2]) == [1 / 8 + 1 / 2, 1 / 4, 1]


def test_session_popularity_counts_in_the_session_first() -> None:
    """Training clicks 3, 2, 1, 0 of at most 3 give 3/4, 2/4, 1/4, 0; each click in the session adds 1."""
    train = sessions([0, 0, 0], [1, 1, 2])

    assert scores(SessionPopularity(), train, 4, [2, 3, 2]) == [0.75, 0.5, 2.25, 1]


def test_session_popularity_newest_first() -> None:
    """Items of the session score the place of their last click: 2 is at places 1 and 3, 3 at place 2."""
    train = sessions([0, 0, 0], [1, 1, 2])

    assert scores(SessionPopularity(newest_first=True), train, 4, [2, 3, 2]) == [0.75, 0.5, 3, 2]


def test_markov_chain_counts_what_came_next() -> None:
    """After 1 came 2 twice and 0 once, 1 itself once; what came before it, or in another session, is no matter."""
    train = sessions([3, 1, 2], [1, 1, 2], [1, 0], [3, 1], [3, 3])

    assert scores(MarkovChain(), train, 4, [3, 1]) == [1, 1, 2, NONE]


def test_association_counts_items_of_the_same_sessions() -> None:
    """1 is with 3 once, with 2 twice, with itself in both orders once each; 0 only in another session."""
    train = sessions([3, 1, 2], [1, 1], [2, 1], [0, 3])

    assert scores(Association(), train, 4, [0, 1]) == [NONE, 2, 2, 1]


def test_association_ends_at_a_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within one click of 1 there are 0 and 2, but not 3."""
    monkeypatch.setattr(item_pairs, "_MAX_DISTANCE", 1)

    assert scores(Association(), sessions([0, 1, 2, 3]), 4, [1]) == [1, NONE, 1, NONE]


def test_association_is_the_same_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """However few clicks are counted at once."""
    train = random_sessions(40, 15, 1)
    whole = [scores(Association(), train, 15, [item]) for item in range(15)]
    monkeypatch.setattr(item_pairs, "_BLOCK_CLICKS", 3)

    assert [scores(Association(), train, 15, [item]) for item in range(15)] == whole


def test_session_knn_lets_similar_sessions_vote() -> None:
    """Of the session 0 1, item 0 weighs 1/2 and item 1 weighs 2/2.

    0 1 shares 1.5; 1 2 3 shares 1; 0 4 shares 1/2, and as 0 is the last but one of the session it votes with half of
    that, 1/4. So: item 0 has 1.5 + 1/4, 1 has 1.5 + 1, 2 and 3 have 1, 4 has 1/4, 5 nothing.
    """
    train = sessions([0, 1], [1, 2, 3], [0, 4], [5, 5])
    knn = SessionKnn(k=10, sample_size=10, place_power=1, match_power=1, idf_weight=0)

    assert scores(knn, train, 6, [0, 1]) == [1.75, 2.5, 1, 1, 0.25, NONE]


def test_session_knn_takes_the_nearest_and_of_equals_the_newest() -> None:
    """With k = 2: 0 1 shares both items; of 1 2 and 1 3, which share one, 1 3 is newer."""
    train = sessions([0, 1], [1, 2], [1, 3])
    knn = SessionKnn(k=2, sample_size=10, place_power=1, match_power=1, idf_weight=0)

    assert scores(knn, train, 4, [0, 1]) == [1.5, 2.5, NONE, 1]


def test_session_knn_samples_the_newest() -> None:
    """With a sample of 1 only 1 3 is looked at, though 0 1 is nearer."""
    train = sessions([0, 1], [1, 2], [1, 3])
    knn = SessionKnn(k=2, sample_size=1, place_power=1, match_power=1, idf_weight=0)

    assert scores(knn, train, 4, [0, 1]) == [NONE, 1, NONE, 1]


def test_session_knn_prefers_rare_items() -> None:
    """Of three sessions, item 0 has one click and 1 two: weighed with 1 + 2 log 3 and 1 + 2 log 1.5."""
    train = sessions([0, 1], [1, 2], [2, 2])
    knn = SessionKnn(k=1, sample_size=10, place_power=1, match_power=1, idf_weight=2)

    assert scores(knn, train, 3, [0]) == pytest.approx([1 + 2 * math.log(3), 1 + 2 * math.log(1.5), NONE])


def test_stan_decays_in_three_ways() -> None:
    """All decays are 1. Of the session 0 1, item 0 weighs 1/e and 1 weighs 1.

    0 1 ends with click 2 of 5, so its age is 3/5: it votes with (1/e + 1) exp(-3/5) / sqrt(2). 1 2 3 ends the log: it
    votes with 1 / sqrt(3). The newest shared item is 1 in both; items at a distance of j clicks get exp(-j) of a vote.
    """
    train = sessions([0, 1], [1, 2, 3])
    older, newer = (math.exp(-1) + 1) * math.exp(-0.6) / math.sqrt(2), 1 / math.sqrt(3)
    expected = [older * math.exp(-1), older + newer, newer * math.exp(-1), newer * math.exp(-2), NONE]

    found = scores(Stan(k=10, sample_size=10, place_decay=1, age_decay=1, distance_decay=1), train, 5, [0, 1])

    assert found == pytest.approx(expected)


def test_stan_chooses_by_age_too() -> None:
    """With k = 1 and a fast decay the newest session wins over the one that shares more."""
    train = sessions([0, 1], [1, 2])

    found = scores(Stan(k=1, sample_size=10, place_decay=1, age_decay=0.01, distance_decay=9), train, 3, [0, 1])

    assert np.isfinite(found).tolist() == [False, True, True]


@pytest.mark.parametrize("sample_size", [1, 3, 7, 1_000])
def test_the_index_finds_the_newest_sessions_with_a_shared_item(sample_size: int) -> None:
    """As a search through all of them does, with the overlap of each."""
    train, present = random_sessions(60, 12, 2), sessions([3, 5, 3, 1, 0])
    context = context_before(present, 4)
    weight = np.array([0.5, 1.0, 0.25])
    index = SessionIndex(train, 12)

    found = index.matches(context, weight, sample_size)

    past = [
        set(train.item_index[begin:end].tolist())
        for begin, end in zip(train.user_starts, train.user_starts[1:], strict=False)
    ]
    sharing = [number for number, items in enumerate(past) if items & {1, 3, 5}][-sample_size:]
    weight_of = dict(zip(context.item_index.tolist(), weight.tolist(), strict=True))
    assert context.item_index.tolist() == [5, 3, 1]
    assert context.place.tolist() == [2, 3, 4]
    assert found.session.tolist() == sharing
    assert found.overlap.tolist() == [sum(weight_of[item] for item in past[number] & {1, 3, 5}) for number in sharing]


@pytest.mark.parametrize("name", COUNTING)
def test_a_prediction_depends_on_the_clicks_before_it_alone(name: str) -> None:
    """Not on the other rows that are asked for, not on later clicks, not on other sessions."""
    from nextclick.settings import Settings

    test = random_sessions(8, 12, 4)
    rows = np.setdiff1d(np.arange(len(test)), test.user_starts[:-1])
    recommender = MODELS[name].make(Settings(), {})
    recommender.fit(random_sessions(50, 12, 3), 12)
    together = recommender.scores(test, rows)

    for place, row in enumerate(rows.tolist()):
        first = int(test.first_row_of_user()[row])
        alone = recommender.scores(sessions([*test.item_index[first:row].tolist(), 11]), np.array([row - first]))
        assert alone[0].tolist() == together[place].tolist()


@pytest.mark.parametrize("name", COUNTING)
def test_scores_have_the_form_that_the_evaluator_expects(name: str) -> None:
    """float32, a row for each click, a column for each item; every baseline says something."""
    from nextclick.settings import Settings

    recommender = MODELS[name].make(Settings(), {})
    recommender.fit(random_sessions(50, 12, 3), 12)
    found = recommender.scores(sessions([2, 3, 4]), np.array([1, 2]))

    assert found.dtype == np.float32
    assert found.shape == (2, 12)
    assert not np.isnan(found).any()
    assert np.isfinite(found).any(axis=1).all()
