"""The live association baseline: which clicks make a pair, what is guessed, and how memory stays bounded."""

import numpy as np
import pytest

import demo.live_score
from demo.live_score import LiveAssociation
from tests.simulated_clicks import NOW_MS, simulated
from training.evaluation.baselines.item_pairs import Association
from training.learning.sequences import ClickColumns, group_by_user

HOUR_MS = 3_600_000


def test_pairs_count_either_way_round_and_the_most_frequent_are_guessed() -> None:
    """b was near a twice, c once: of one guess after a it is b."""
    association = LiveAssociation(k=1)
    _send(association, "u", "ab")
    _send(association, "v", "ba")
    _send(association, "w", "ca")

    assert _send(association, "x", "ab") == [False, True]
    assert _send(association, "y", "ac") == [False, False]


def test_a_long_pause_ends_a_session() -> None:
    """What follows is guessed from the last item all the same, but makes no pair with it."""
    association = LiveAssociation(k=20)
    _send(association, "u", "ab")
    _send(association, "v", "a")
    hit = association.click("v", "b", NOW_MS + HOUR_MS)
    association.click("v", "c", NOW_MS + HOUR_MS)

    assert hit
    assert _send(association, "x", "ac") == [False, False]
    assert _send(association, "y", "bc") == [False, True]


def test_a_late_click_does_not_turn_the_clock_back() -> None:
    """Else the click after it would seem to begin a session."""
    association = LiveAssociation(k=20)
    association.click("u", "a", NOW_MS)
    association.click("u", "b", NOW_MS - HOUR_MS)
    association.click("u", "c", NOW_MS)

    assert _send(association, "x", "ac") == [False, True]


def test_the_counts_are_those_of_the_offline_baseline() -> None:
    """After the same simulated clicks, for every item."""
    clicks = simulated(6_000, seed=2)
    association = LiveAssociation(k=20)
    for user_id, item_id, timestamp_ms in clicks:
        association.click(user_id, item_id, timestamp_ms)
    users, items = [user_id for user_id, _, _ in clicks], [item_id for _, item_id, _ in clicks]
    user, (item_ids, item) = np.unique(users, return_inverse=True)[1], np.unique(items, return_inverse=True)
    same_time = np.zeros(len(clicks), dtype=np.int64)
    train = group_by_user(ClickColumns(user, item, same_time, same_time, item_ids.tolist()))
    offline = Association()
    offline.fit(train, len(item_ids))
    scores = offline.scores(train, np.arange(1, len(train) + 1))

    assert sum(map(len, association._counts.values())) > 10_000
    for row, row_scores in zip(train.item_index.tolist(), scores, strict=True):
        known = np.flatnonzero(row_scores > 0)
        counts = dict(zip(item_ids[known].tolist(), row_scores[known].tolist(), strict=True))
        assert association._counts.get(str(item_ids[row]), {}) == counts


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen once goes first; what was seen often stays known."""
    monkeypatch.setattr(demo.live_score, "_MAX_PAIRS", 50)
    association = LiveAssociation(k=20)
    for _ in range(8):
        _send(association, "u", "ab")
    for number in range(40):
        association.click(f"once-{number}", f"first-{number}", NOW_MS)
        association.click(f"once-{number}", f"second-{number}", NOW_MS)

    assert association._n_pairs == sum(map(len, association._counts.values())) <= 50
    assert _send(association, "x", "ab") == [False, True]


def _send(association: LiveAssociation, user_id: str, items: str) -> list[bool]:
    return [association.click(user_id, item_id, NOW_MS) for item_id in items]
