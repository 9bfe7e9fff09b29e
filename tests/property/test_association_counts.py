"""Counting on is counting anew, whatever the log and wherever it is cut."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from training.learning.associations import AssociationCounts, count_pairs
from training.learning.sequences import ClickColumns, group_by_user

N_ITEMS, CONTEXT = 6, 10
logs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(-1, N_ITEMS - 1), st.integers(0, 2_000)), min_size=1, max_size=60
)


def columns(log: list[tuple[int, int, int]]) -> ClickColumns:
    """Clicks of (user, item, seconds since the one before); -1: an item that nobody knows."""
    user, item, gap_s = (np.array(column, dtype=np.int64) for column in zip(*log, strict=True))
    return ClickColumns(user, item, np.cumsum(gap_s) * 1_000, user * 0, [])


def by_pair(counts: AssociationCounts) -> dict[int, float]:
    """Pairs and what they count."""
    return dict(zip(counts.code.tolist(), counts.count.tolist(), strict=True))


@settings(deadline=None)  # the first one compiles
@given(log=logs, cuts=st.lists(st.integers(0, 60), max_size=4), half_life=st.floats(0.5, 1e6))
def test_adding_is_counting_anew(log: list[tuple[int, int, int]], cuts: list[int], half_life: float) -> None:
    """Also with fading; of what was there before, only the last clicks of each user are looked at again."""
    clicks = columns(log)
    nothing = AssociationCounts(N_ITEMS, np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(N_ITEMS))
    whole = nothing.later(group_by_user(clicks), range(len(log)), half_life)

    parts, n_old = nothing, 0
    for end in sorted({min(cut, len(log)) for cut in cuts} | {len(log)}):
        place = np.arange(end)
        n_later = np.array([(clicks.user[p + 1 : n_old] == clicks.user[p]).sum() for p in place[:n_old]], dtype=int)
        rows = np.append(place[:n_old][n_later < CONTEXT], place[n_old:])
        some = group_by_user(clicks.take(rows))
        n_context = len(rows) - (end - n_old)
        parts = parts.later(some, range(n_context, len(rows)), half_life)
        n_old = end

    expected, found = by_pair(whole), by_pair(parts)
    assert expected.keys() == found.keys()
    np.testing.assert_allclose([found[code] for code in expected], list(expected.values()), rtol=1e-9)
    np.testing.assert_allclose(parts.total, whole.total, rtol=1e-9)


@settings(deadline=None)  # the first one compiles
@given(log=logs, gone=st.sets(st.integers(0, N_ITEMS - 1)))
def test_an_item_that_left_is_in_no_count(log: list[tuple[int, int, int]], gone: set[int]) -> None:
    """Nor in a sum; the counts of the others are as they were."""
    stay = [item for item in range(N_ITEMS) if item not in gone]
    new_row = np.full(N_ITEMS + 1, -1, dtype=np.int64)  # the last one for -1
    new_row[stay] = np.arange(len(stay))
    sequences = group_by_user(columns(log))

    found = count_pairs(sequences, N_ITEMS, len(log)).renumbered(new_row[:-1], len(stay))

    pairs = count_pairs(sequences, N_ITEMS, len(log))
    left = {
        new_row[one] * len(stay) + new_row[other]: count
        for one, other, count in zip(pairs.item_index, pairs.neighbour, pairs.count, strict=True)
        if one not in gone and other not in gone
    }
    assert by_pair(found) == left
    totals = np.zeros(len(stay))
    for code, count in left.items():
        totals[code // len(stay)] += count
    np.testing.assert_allclose(found.total, totals, rtol=1e-6, atol=1e-9)
