"""An evaluation counts under the shop's rules, and means by them what a worker does."""

import numpy as np
import pytest

from nextclick.hashing import item_hash
from nextclick.network_config import SESSION_GAP_S
from nextclick.rules import PURCHASE, Exclude, excluded_hashes
from nextclick.settings import Settings
from nextclick.user_state import with_recent
from training.evaluation.offline_data import OfflineData
from training.evaluation.recommender import Floats
from training.evaluation.runs import NEVER, run
from training.evaluation.shop_rules import OfflineRules, left_aside, rules_followed
from training.learning.sequences import Ints, Sequences

N_ITEMS, RECENT = 30, 5
RNG = np.random.default_rng(3)


def some_clicks(n_users: int = 40) -> Sequences:
    lengths = RNG.integers(2, 12, size=n_users)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    n = int(starts[-1])
    gaps_s = RNG.choice([3, SESSION_GAP_S, SESSION_GAP_S + 1], size=n)
    gaps_s[starts[:-1]] = 0
    types = RNG.choice([0, 1, PURCHASE], size=n)
    return Sequences(RNG.integers(N_ITEMS, size=n), types, gaps_s, np.arange(n), starts)


def data_of(clicks: Sequences) -> OfflineData:
    times = np.zeros(len(clicks), np.int64)
    return OfflineData(clicks, clicks, [f"i{number}" for number in range(N_ITEMS)], times, times)


class Fixed:
    """Scores items by their number, whatever was clicked."""

    def fit(self, train: Sequences, n_items: int) -> None:
        """Learn nothing."""

    def scores(self, clicks: Sequences, rows: Ints) -> Floats:
        return np.tile(-np.arange(N_ITEMS, dtype=np.float32), (len(rows), 1))


@pytest.mark.parametrize("exclude", ["none", "last", "session", "recent", "purchased"])
def test_the_same_items_are_left_out_as_in_a_worker(exclude: Exclude) -> None:
    """For every click: those that its user's state excluded before it."""
    clicks = some_clicks()
    rules = OfflineRules(exclude, RECENT, np.zeros(0, np.int64))
    rows = np.setdiff1d(np.arange(len(clicks)), clicks.user_starts[:-1])

    predictions, items = rules.excluded(clicks, rows)

    for number, row in enumerate(rows):
        first = clicks.first_row_of_user()[row]
        packed = b""
        for before in range(first, row):
            hashed = item_hash(f"i{clicks.item_index[before]}")
            packed = with_recent(packed, hashed, int(clicks.gap_s[before]), int(clicks.event_type[before]), RECENT)
        found = {item_hash(f"i{item}") for item in items[predictions == number]}
        assert found == excluded_hashes(packed, exclude)


def test_a_click_on_what_is_left_out_is_a_miss_and_others_move_up() -> None:
    """However few items there are; what is left out counts for no list either."""
    clicks = Sequences(
        np.array([4, 4, 6]), np.zeros(3, np.int64), np.zeros(3, np.int64), np.arange(3), np.array([0, 3])
    )
    data, plain = data_of(clicks), run(Fixed(), data_of(clicks), "plain")

    under = run(Fixed(), data, "rules", OfflineRules.of(Settings(exclude="last"), data))

    assert plain.rank.tolist() == [5, 7]
    assert under.rank.tolist() == [NEVER, 6]
    assert under.shown[4] == 0.0


def test_pinned_items_stand_first() -> None:
    """In their order, unless they are left out; those that the training part does not know are passed over."""
    clicks = Sequences(
        np.array([9, 7, 9]), np.zeros(3, np.int64), np.zeros(3, np.int64), np.arange(3), np.array([0, 3])
    )
    data = data_of(clicks)

    under = run(Fixed(), data, "rules", OfflineRules.of(Settings(pinned="i9,unknown,i7", exclude="last"), data))

    assert under.rank.tolist() == [1, 1]  # i9 is left out before i7; then i7 is
    assert run(Fixed(), data, "pins", OfflineRules.of(Settings(pinned="i9,i7"), data)).rank.tolist() == [2, 1]


def test_what_is_counted_under_is_said() -> None:
    """And what an evaluation cannot follow."""
    settings = Settings(exclude="session", pinned="a,b", explore=0.1, max_per_category=2)

    assert rules_followed(settings) == {"exclude": "session", "pinned": "a,b"}
    assert left_aside(settings) == ["max_per_category", "explore"]
    assert rules_followed(Settings()) == {}
