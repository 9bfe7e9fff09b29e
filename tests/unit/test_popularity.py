"""Recency-weighted popularity: how clicks fade, how items are ordered, how memory and time stay bounded."""

import itertools
import json
import random
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nextclick.popularity
from nextclick.hashing import item_hash
from nextclick.popularity import MAX_HOURS, MAX_ITEMS, MAX_LIST, CountedUsers, Popularity, Weights, prepare_seed
from nextclick.updates import POPULAR

# Measured: 4 ms at most, on one core of a slow machine. Before, a list took 50 ms and a bundle swap 1.7 s.
MAX_CALL_S = 0.02

DAY_MS = 86_400_000
HOUR_MS = DAY_MS // 24


def test_a_click_one_half_life_later_weighs_twice() -> None:
    """That is what a half-life means, whichever came first."""
    popularity = Popularity(half_life_s=10.0)
    _click(popularity, "now", 1_000_000)
    _click(popularity, "later", 1_010_000)
    _click(popularity, "before", 990_000)

    shares = _shares(popularity)
    assert shares["later"] == pytest.approx(2 * shares["now"])
    assert shares["before"] == pytest.approx(shares["now"] / 2)


def test_clicks_of_an_item_add_up() -> None:
    """Two clicks now equal one click a half-life later."""
    popularity = Popularity(half_life_s=10.0)
    _click(popularity, "twice", 0)
    _click(popularity, "twice", 0)
    _click(popularity, "later", 10_000)

    shares = _shares(popularity)
    assert shares["twice"] == pytest.approx(shares["later"])


@pytest.mark.parametrize(
    ("half_life_s", "first_ms", "now_ms"),
    [
        (1.0, 0, 650_000),  # 650 half-lives after the first click
        (1.0, 0, 3_600_000),
        (86_400.0, 0, 1_700_000_000_000),  # one click that claims to be from 1970, then today's
    ],
)
def test_clicks_fade_however_far_apart(half_life_s: float, first_ms: int, now_ms: int) -> None:
    """A worker runs for years, and a single click of long ago must not stop the clock."""
    half_life_ms = int(half_life_s * 1000)
    popularity = Popularity(half_life_s)
    _click(popularity, "long ago", first_ms)
    _click(popularity, "a half-life ago", now_ms - half_life_ms)
    _click(popularity, "now", now_ms)

    shares = _shares(popularity)
    assert shares["now"] == pytest.approx(2 * shares["a half-life ago"])
    assert shares["long ago"] < 1e-9 * shares["now"]
    assert _ranked(popularity, 3)[0][0] == "now"


def test_a_click_of_long_ago_weighs_nothing_and_breaks_nothing() -> None:
    """Time may go back by any distance."""
    popularity = Popularity(half_life_s=1.0)
    _click(popularity, "now", 1_700_000_000_000)
    _click(popularity, "long ago", 0)

    assert _shares(popularity)["long ago"] < 1e-9 * _shares(popularity)["now"]


def test_years_of_clicks_keep_every_number_finite() -> None:
    """No number overflows, and shares stay shares."""
    popularity = Popularity(half_life_s=1.0)
    for step in range(3_000):
        _click(popularity, f"i{step % 7}", step * 1_000)

    shares = [share for _, share in _ranked(popularity, 7)]
    assert sum(shares) == pytest.approx(1.0)
    assert shares == sorted(shares, reverse=True)
    assert shares[0] == pytest.approx(0.5, rel=0.02)


def test_the_most_popular_come_first_with_their_share() -> None:
    """The score is the share of all weight: the chance that the next click is this item's."""
    popularity = Popularity(half_life_s=DAY_MS)
    for item_id in "cbbaaaa":
        _click(popularity, item_id, 0)

    ranked = popularity.ranked(2)

    assert ranked.strategy == POPULAR
    assert [item_id for item_id, _ in _ranked(popularity, 2)] == ["a", "b"]
    assert [share for _, share in _ranked(popularity, 2)] == pytest.approx([4 / 7, 2 / 7])
    assert ranked.shown == struct.pack("<2I", *(item_hash(item_id) & 0xFFFFFFFF for item_id in "ab"))


@pytest.mark.parametrize("order", ["abc", "cba", "bca"])
def test_equal_items_are_ordered_by_id(order: str) -> None:
    """Two workers that saw the same clicks show the same list."""
    popularity = Popularity(half_life_s=1.0)
    for item_id in order:
        _click(popularity, item_id, 0)

    assert [item_id for item_id, _ in _ranked(popularity, 3)] == ["a", "b", "c"]


def test_nothing_seen_gives_an_empty_list() -> None:
    """Not an error: the first click of all has nothing before it."""
    ranked = Popularity(half_life_s=1.0).ranked(5)

    assert json.loads(bytes(ranked.items)) == []
    assert ranked.shown == b""


def test_a_list_is_as_long_as_there_are_items() -> None:
    """Asking for more is no error, and another length is another list."""
    popularity = Popularity(half_life_s=1.0)
    _click(popularity, "a", 0)
    _click(popularity, "b", 0)

    assert len(_ranked(popularity, 20)) == 2
    assert len(_ranked(popularity, 1)) == 1
    assert len(_ranked(popularity, 2)) == 2


def test_a_list_is_shared_until_enough_has_changed() -> None:
    """With 100 items the list is made anew after every 5th click."""
    popularity = Popularity(half_life_s=DAY_MS)
    for number in range(100):
        _click(popularity, f"i{number:02}", 0)
    before = popularity.ranked(1)
    lists = []
    for _ in range(5):
        _click(popularity, "i99", 0)
        lists.append(popularity.ranked(1))

    assert lists[3] is before
    assert json.loads(bytes(lists[4].items))[0]["item_id"] == "i99"


def test_a_seed_is_what_is_shown_until_clicks_take_over() -> None:
    """A worker that starts with a bundle begins with the popularity that the bundle knows."""
    popularity = Popularity(half_life_s=1.0)
    popularity.seed(_seed({"known": 3.0, "rare": 1.0}))

    assert _ranked(popularity, 2) == [("known", 0.75), ("rare", 0.25)]

    _click(popularity, "new", 5_000)
    _click(popularity, "new", 10_000)

    assert _ranked(popularity, 2)[0][0] == "new"


def test_a_seed_replaces_an_empty_list() -> None:
    """The list that was made before the seed is not served after it."""
    popularity = Popularity(half_life_s=1.0)
    popularity.ranked(2)

    popularity.seed(_seed({"known": 1.0}))

    assert [item_id for item_id, _ in _ranked(popularity, 2)] == ["known"]


def test_a_seed_never_takes_back_what_was_counted() -> None:
    """A bundle that arrives later knows less of the present than the worker."""
    popularity = Popularity(half_life_s=1.0)
    _click(popularity, "counted", 0)

    popularity.seed(_seed({"known": 1_000.0}))

    assert set(_shares(popularity)) == {"counted"}


def test_a_newer_seed_replaces_one_that_nothing_was_added_to() -> None:
    """Until the first click the newest bundle knows best."""
    popularity = Popularity(half_life_s=1.0)
    popularity.seed(_seed({"older": 1.0}))

    popularity.seed(_seed({"newer": 1.0}))

    assert set(_shares(popularity)) == {"newer"}


def test_items_that_nobody_clicked_come_last_in_a_seed() -> None:
    """A bundle knows items of weight 0; they are shown where there is nothing better, and a click lifts one."""
    popularity = Popularity(half_life_s=1.0)
    popularity.seed(_seed({"a": 0.0, "clicked": 2.0, "b": 0.0}))

    assert _ranked(popularity, 3) == [("clicked", 1.0), ("a", 0.0), ("b", 0.0)]

    _click(popularity, "b", 1_000)

    assert [item_id for item_id, _ in _ranked(popularity, 3)] == ["clicked", "b", "a"]


def test_beyond_the_bound_the_least_popular_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays bounded however many item ids come along, and what is popular survives."""
    monkeypatch.setattr(nextclick.popularity, "MAX_ITEMS", 10)
    popularity = Popularity(half_life_s=DAY_MS)
    for _ in range(3):
        _click(popularity, "popular", 0)
    for number in range(100):
        _click(popularity, f"i{number}", 0)

        assert len(popularity) <= 10

    assert _ranked(popularity, 1) == [("popular", pytest.approx(3 / 103))]  # of all clicks, also forgotten ones


def test_new_items_after_many_clicks_on_old_ones_exceed_the_bound_by_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worst order of events: every weight in the heap is untrue when the forgetting begins."""
    monkeypatch.setattr(nextclick.popularity, "MAX_ITEMS", 3_000)
    popularity = Popularity(half_life_s=DAY_MS)
    longest = 0
    for _ in range(5):
        for number in range(3_000):
            _click(popularity, f"old-{number}", 0)
    for number in range(10_000):
        _click(popularity, f"new-{number}", 0)
        longest = max(longest, len(popularity))

    assert longest <= 3_000 * 16 / 15 + 1
    assert len(popularity) == 3_000
    assert [item_id for item_id, _ in _ranked(popularity, 2)] == ["old-0", "old-1"]


def test_a_large_seed_is_cut_to_the_most_popular(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle may know millions of items; the shares stay shares of all of their weight."""
    monkeypatch.setattr(nextclick.popularity, "MAX_ITEMS", 10)
    popularity = Popularity(half_life_s=1.0)
    popularity.seed(_seed({f"i{number:02}": float(number) for number in range(100)}))

    assert len(popularity) == 10
    assert _ranked(popularity, 2) == [("i99", pytest.approx(99 / 4_950)), ("i98", pytest.approx(98 / 4_950))]


@given(
    seed=st.dictionaries(st.integers(0, 40), st.integers(0, 9), max_size=40),
    clicks=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6)), max_size=200),
)
def test_the_list_is_that_of_a_count_of_everything(seed: dict[int, int], clicks: list[tuple[int, int]]) -> None:
    """What is kept to find the first ones quickly never leaves one out, in whatever order the clicks come."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nextclick.popularity, "MAX_LIST", 3)
        popularity = Popularity(half_life_s=1.0)
        popularity.seed(_seed({f"i{item}": float(weight) for item, weight in seed.items()}))
        counted = {f"i{item}": float(weight) for item, weight in seed.items()}
        for item, seconds in clicks:
            _click(popularity, f"i{item}", seconds * 1_000)
            counted[f"i{item}"] = counted.get(f"i{item}", 0.0) + 2.0 ** (seconds - clicks[0][1])
            ranked = _ranked(popularity, 3)

        ranked = _ranked(popularity, 3)
    total = sum(counted.values()) or 1.0
    expected = sorted((weight / total for weight in counted.values()), reverse=True)[:3]
    assert [share for _, share in ranked] == pytest.approx(expected)
    assert all(share == pytest.approx(counted[item_id] / total) for item_id, share in ranked)


@pytest.mark.parametrize("n_items", [200_000, 1_000_000])
def test_no_call_on_the_event_loop_takes_long(n_items: int) -> None:
    """A bundle of many items is swapped in, then they are clicked, and new ones. CPU time: others do not count."""
    draw = random.Random(0)
    popularity = Popularity(half_life_s=86_400.0)
    seed = prepare_seed([f"i{number}" for number in range(n_items)], np.arange(n_items, dtype=np.float64))
    took_s = [_cpu_s(lambda: popularity.seed(seed))]
    for number in range(2 * MAX_ITEMS):
        item_id = f"i{draw.randrange(2 * n_items)}"
        took_s.append(_cpu_s(lambda i=item_id, n=number: _click(popularity, i, n)))
        if number % 1_000 == 0:
            took_s.append(_cpu_s(lambda: popularity.ranked(MAX_LIST)))

    assert sorted(took_s)[-3] < MAX_CALL_S  # the machine takes a moment of its own now and then
    assert len(popularity) <= MAX_ITEMS * 16 / 15


@pytest.mark.parametrize(
    ("times_ms", "n_counted"),
    [
        ([0, 1, HOUR_MS - 1], 1),
        ([0, HOUR_MS, 2 * HOUR_MS - 1], 2),
        ([HOUR_MS, 0, HOUR_MS, 0, HOUR_MS], 1),
        ([number * HOUR_MS for number in range(24)], MAX_HOURS),
        ([number * HOUR_MS for number in range(26)], MAX_HOURS + 2),
        ([(23 + number % 2) * HOUR_MS for number in range(50)], 2),
    ],
    ids=["an hour", "two hours", "to and fro", "a day", "into the next day", "to and fro over midnight"],
)
def test_a_user_counts_once_per_item_and_hour(times_ms: list[int], n_counted: int) -> None:
    """However often it clicks there, and in a few hours of a day only; another item and another user count."""
    popularity = Popularity(half_life_s=1e12)
    for timestamp_ms in times_ms:
        popularity.add("crawler", "a", timestamp_ms)
    popularity.add("crawler", "b", 0)
    popularity.add("visitor", "b", 0)

    shares = _shares(popularity)
    assert shares["a"] / shares["b"] == pytest.approx(n_counted / 2)


@pytest.mark.parametrize("n_bot_items", [1, 20, 5_000])
def test_one_user_does_not_choose_the_list_of_all_new_users(n_bot_items: int) -> None:
    """5,000 of 7,000 clicks of a day are a crawler's; shown is what the others click."""
    draw = random.Random(0)
    clicks = [(f"visitor-{draw.randrange(500)}", f"item-{int(300 * draw.random() ** 3)}") for _ in range(2_000)]
    clicks += [("crawler", f"crawled-{number % n_bot_items}") for number in range(5_000)]
    draw.shuffle(clicks)
    popularity = Popularity(half_life_s=86_400.0)
    for number, (user, item_id) in enumerate(clicks):
        popularity.add(user, item_id, DAY_MS * number // len(clicks))

    assert not [item_id for item_id, _ in _ranked(popularity, 20) if item_id.startswith("crawled")]


def test_who_counted_is_remembered_while_the_memory_turns_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bounded number of pairs; a user who goes on clicking stays among them, one who counts again waited long."""
    monkeypatch.setattr(nextclick.popularity, "_REMEMBERED_PAIRS", 10)
    counted = CountedUsers()
    n_busy, n_late = 0, 0
    for number in range(1_000):
        n_busy += counted.counts("busy", "a", 0)
        n_late += counted.counts("late", "a", 0) if number % 30 == 0 else 0
        counted.counts(number, "a", 0)

        assert len(counted) <= 20

    assert n_busy == 1
    assert n_late == 34  # it was forgotten each time


_new_users = itertools.count()


def _click(popularity: Popularity, item_id: str, timestamp_ms: int) -> None:
    """Let a user click who never did before."""
    popularity.add(next(_new_users), item_id, timestamp_ms)


def _cpu_s(call: Callable[[], object]) -> float:
    began_s = time.thread_time()
    call()
    return time.thread_time() - began_s


def _seed(weights: dict[str, float]) -> Weights:
    return prepare_seed(list(weights), np.array(list(weights.values()), dtype=np.float64))


def _shares(popularity: Popularity) -> dict[str, float]:
    return dict(_ranked(popularity, MAX_LIST))


def _ranked(popularity: Popularity, k: int) -> list[tuple[str, float]]:
    items = json.loads(bytes(popularity.ranked(k).items))
    return [(item["item_id"], item["score"]) for item in items]
