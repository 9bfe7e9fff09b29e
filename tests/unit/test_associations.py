"""Association counts: by hand, and against a slow count."""

import dataclasses
import math

import numpy as np
import pytest

from nextclick.network_config import SESSION_GAP_S
from training.learning import associations
from training.learning.associations import MAX_DISTANCE, AssociationCounts, count_pairs, session_starts
from training.learning.sequences import ClickColumns, Sequences, group_by_user

BACKWARD, SHRINKAGE, HALF_LIFE_SHARE = 0.7, 5.0, 0.3


def sequences(clicks: list[tuple[int, int, int]]) -> Sequences:
    """Clicks (user, item, time in s), in log order."""
    user, item, time_s = np.array(clicks, dtype=np.int64).reshape(-1, 3).T
    return group_by_user(ClickColumns(user, item, time_s * 1_000, item * 0, [str(i) for i in range(99)]))


def counted(clicks: list[tuple[int, int, int]], n_items: int = 4) -> AssociationCounts:
    grouped = sequences(clicks)
    return count_pairs(grouped, n_items, len(grouped))


def by_pair(counts: AssociationCounts) -> dict[tuple[int, int], float]:
    return dict(zip(zip(counts.item_index.tolist(), counts.neighbour.tolist(), strict=True), counts.count, strict=True))


def random_log(n_clicks: int = 400, n_items: int = 12, unknown_share: float = 0.2) -> Sequences:
    """Few users over a long time, so that sessions have all lengths; some items unknown."""
    rng = np.random.default_rng(3)
    pause_s = rng.choice([10, 600, SESSION_GAP_S // 3, 5_000], size=n_clicks, p=[0.6, 0.2, 0.15, 0.05])
    columns = (rng.integers(4, size=n_clicks), rng.integers(n_items, size=n_clicks), np.cumsum(pause_s) * 1_000)
    grouped = group_by_user(ClickColumns(*columns, columns[0] * 0, [str(i) for i in range(n_items)]))
    item_index = np.where(rng.random(n_clicks) < unknown_share, -1, grouped.item_index)
    return dataclasses.replace(grouped, item_index=item_index)


def slow_counts(grouped: Sequences, before: int) -> dict[tuple[int, int], float]:
    """Every pair of every session, one after the other, as they count at the end of the oldest clicks."""
    half_life = max(HALF_LIFE_SHARE * before, 1.0)
    counts: dict[tuple[int, int], float] = {}
    session: list[tuple[int, int]] = []
    for row in range(len(grouped)):
        if row in grouped.user_starts or grouped.gap_s[row] > SESSION_GAP_S:
            session = []
        if grouped.item_index[row] < 0 or grouped.age_rank[row] >= before:
            continue
        time, item = int(grouped.age_rank[row]), int(grouped.item_index[row])
        for distance, other in enumerate(reversed(session[-MAX_DISTANCE:]), 1):
            if other[0] != item:
                fading = 2 ** (-(before - time) / half_life)
                for pair, weight in (((other[0], item), 1.0), ((item, other[0]), BACKWARD)):
                    counts[pair] = counts.get(pair, 0.0) + weight / distance * fading
        session.append((item, time))
    return counts


def test_pairs_count_by_distance_and_less_backwards() -> None:
    """Three clicks of one session; each pair is as old as its later click."""
    counts = counted([(0, 0, 0), (0, 1, 10), (0, 2, 20)])

    one, two = 0.5**2, 0.5**1  # age: a half-life is 0.3 of the 3 clicks, but at least 1 click; the end is place 3
    assert by_pair(counts) == pytest.approx(
        {(0, 1): one, (1, 0): 0.7 * one, (1, 2): two, (2, 1): 0.7 * two, (0, 2): two / 2, (2, 0): 0.7 * two / 2}
    )
    assert counts.total.tolist() == pytest.approx([one + two / 2, 0.7 * one + two, 0.7 * two * 1.5, 0.0])


def test_an_item_is_no_neighbour_of_itself() -> None:
    """A click again on the same item stands between the others all the same."""
    counts = counted([(0, 0, 0), (0, 0, 10), (0, 1, 20)])

    assert by_pair(counts) == pytest.approx({(0, 1): 0.5 * 1.5, (1, 0): 0.7 * 0.5 * 1.5})


@pytest.mark.parametrize(("gap_s", "n_pairs"), [(SESSION_GAP_S, 2), (SESSION_GAP_S + 1, 0)])
def test_clicks_of_two_sessions_or_users_are_no_pair(gap_s: int, n_pairs: int) -> None:
    """A session ends with a pause of more than half an hour, and with the user."""
    assert len(counted([(0, 0, 0), (0, 1, gap_s)]).item_index) == n_pairs
    assert len(counted([(0, 0, 0), (1, 1, 0)]).item_index) == 0


def test_sessions_begin_at_users_first_clicks_and_after_pauses() -> None:
    """For every row the first one of its session."""
    grouped = sequences([(0, 0, 0), (0, 1, 10), (0, 2, 5_000), (0, 3, 5_001), (1, 0, 0)])

    assert session_starts(grouped).tolist() == [0, 0, 2, 2, 4]


def test_clicks_that_are_far_apart_are_no_pair() -> None:
    """The last distance that counts, and the first that does not."""
    counts = counted([(0, place, place) for place in range(MAX_DISTANCE + 2)], MAX_DISTANCE + 2)

    assert (0, MAX_DISTANCE) in by_pair(counts)
    assert (0, MAX_DISTANCE + 1) not in by_pair(counts)


def test_rows_that_are_not_counted_are_passed_over() -> None:
    """They take no place between the others."""
    grouped = sequences([(0, 0, 0), (0, 9, 10), (0, 1, 20)])

    counts = count_pairs(dataclasses.replace(grouped, item_index=np.array([0, -1, 1])), 2, 3)

    assert by_pair(counts) == pytest.approx({(0, 1): 0.5, (1, 0): 0.35})


def test_counts_equal_a_slow_count() -> None:
    """At the end, with unknown items, sessions of all lengths and four users at once."""
    grouped = random_log()

    counts = count_pairs(grouped, 12, len(grouped))

    expected = slow_counts(grouped, len(grouped))
    assert by_pair(counts) == pytest.approx(expected)
    total = [sum(count for pair, count in expected.items() if pair[0] == item) for item in range(12)]
    assert counts.total.tolist() == pytest.approx(total)


@pytest.mark.parametrize("n_clicks", [0, 1, 37, 200, 399, 400])
def test_what_is_known_of_the_oldest_clicks_equals_a_slow_count_of_them(n_clicks: int) -> None:
    """Shares of rows that are shrunk, and the support of the rows: nothing of the clicks that are newer."""
    grouped = random_log()
    counts = count_pairs(grouped, 12, n_clicks)
    item, neighbour = (side.ravel() for side in np.meshgrid(np.arange(12), np.arange(12)))

    share, support = counts.known(item, neighbour)

    expected = slow_counts(grouped, n_clicks)
    for place, pair in enumerate(zip(item.tolist(), neighbour.tolist(), strict=True)):
        total = sum(count for other, count in expected.items() if other[0] == pair[0])
        assert share[place] == pytest.approx(expected.get(pair, 0.0) / (total + SHRINKAGE))
        assert support[place] == pytest.approx(math.log1p(total))


def test_pairs_that_were_never_seen_are_known_with_0() -> None:
    """Also where nothing was seen at all, and past the last pair that was."""
    nothing, something = counted([(0, 0, 0)]), counted([(0, 0, 0), (0, 1, 1)])

    for counts in (nothing, something):
        share, _ = counts.known(np.array([3, 0]), np.array([3, 2]))
        assert share.tolist() == [0.0, 0.0]
    assert nothing.known(np.array([0]), np.array([1]))[1].tolist() == [0.0]


def test_neighbour_lists_are_the_best_neighbours_of_each_item() -> None:
    """Sorted, cut to the length, shares of the whole row that is shrunk, zeros where an item has fewer."""
    grouped = random_log()
    counts = count_pairs(grouped, 13, len(grouped))

    lists = counts.neighbour_lists(5)

    expected = slow_counts(grouped, len(grouped))
    assert (lists.neighbours.dtype, lists.shares.dtype, lists.support.dtype) == (np.int32, np.float32, np.float32)
    for item in range(12):
        row = sorted(((count, pair[1]) for pair, count in expected.items() if pair[0] == item), reverse=True)
        total = sum(count for count, _ in row)
        assert lists.neighbours[item].tolist() == [neighbour for _, neighbour in row[:5]]
        assert lists.shares[item].tolist() == pytest.approx([count / (total + SHRINKAGE) for count, _ in row[:5]])
        assert lists.support[item] == pytest.approx(math.log1p(total))
    assert not lists.neighbours[12].any()
    assert not lists.shares[12].any()
    assert lists.support[12] == 0


def test_lists_longer_than_there_are_neighbours_end_with_shares_of_0() -> None:
    """A row's sum stays below 1."""
    lists = counted([(0, 0, 0), (0, 1, 10)]).neighbour_lists(3)

    assert lists.neighbours.tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert lists.shares[0].tolist() == pytest.approx([0.5 / 5.5, 0, 0])
    assert lists.shares[1].tolist() == pytest.approx([0.35 / 5.35, 0, 0])
    assert (lists.shares.sum(1) < 1).all()


def test_counts_of_no_clicks_are_empty() -> None:
    """Nothing in, empty lists out."""
    lists = counted([]).neighbour_lists(2)

    assert not lists.shares.any()
    assert lists.neighbours.shape == (4, 2)


def test_blocks_of_users_are_all_users_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small the blocks are, the counts are the same: sessions are never cut."""
    grouped = random_log()
    whole = count_pairs(grouped, 12, 350)

    for n_clicks in (1, 60, 399, 1_000):
        monkeypatch.setattr(associations, "_BLOCK_CLICKS", n_clicks)
        counts = count_pairs(grouped, 12, 350)
        assert by_pair(counts) == pytest.approx(by_pair(whole))
        assert counts.total.tolist() == pytest.approx(whole.total.tolist())


def test_no_more_pairs_are_kept_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The largest counts stay, the others are known with 0, and all of them count in the sums."""
    grouped = random_log()
    whole = count_pairs(grouped, 12, len(grouped))

    counts = count_pairs(grouped, 12, len(grouped), most_pairs=50)

    largest = dict(sorted(by_pair(whole).items(), key=lambda pair: -pair[1])[:40])
    assert by_pair(counts) == pytest.approx(largest)
    assert counts.total.tolist() == pytest.approx(whole.total.tolist())
    dropped = next(iter(by_pair(whole).keys() - largest.keys()))
    assert counts.known(np.array(dropped[:1]), np.array(dropped[1:]))[0] == 0.0
    monkeypatch.setattr(associations, "_BLOCK_CLICKS", 100)
    assert len(count_pairs(grouped, 12, len(grouped), most_pairs=50).count) <= 50


def test_normalised_counts_times_a_matrix_are_the_dense_product() -> None:
    """Each count is divided by the roots of both items' sums."""
    counts = count_pairs(random_log(), 13, 400)
    dense, matrix = np.zeros((13, 13)), np.random.default_rng(1).normal(size=(13, 5)).astype(np.float32)
    dense[counts.item_index, counts.neighbour] = counts.count
    root = np.sqrt(counts.total + 5.0)

    products = counts.normalised_times(matrix, 5.0)

    np.testing.assert_allclose(products, dense / np.outer(root, root) @ matrix, rtol=1e-4, atol=1e-6)
